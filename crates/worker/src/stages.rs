//! The stages of a pipeline one by one, each as a worker runs it: for `standpipe bench`, which says what each costs.
//!
//! Never here: reading, delivery, or asking a service.

use std::sync::Arc;

use standpipe_config::config;
use standpipe_convert::{Compression, CurrentRows, Format};
use standpipe_flow::{DestinationId, Transform};
use standpipe_source::Unpack;

use crate::errors::WorkerError;
use crate::platform::Platform;
use crate::{assemble, formats, transforms};

/// What a record of a pipeline goes through.
#[derive(Debug)]
pub struct Stages {
    /// How records of the stream become user records.
    pub unpack: Unpack,
    /// The transforms, in order.
    pub transforms: Vec<OneTransform>,
    /// The destinations of files in S3, in the order of the config.
    pub destinations: Vec<OneDestination>,
    /// Destinations of other kinds: what they make of records is not known here.
    pub others: Vec<DestinationId>,
}

/// One transform alone.
#[derive(Debug)]
pub struct OneTransform {
    /// Its name in the config.
    pub name: &'static str,
    /// `None`: a function outside.
    pub transform: Option<Arc<dyn Transform>>,
}

/// What is particular to a destination.
#[derive(Debug)]
pub struct OneDestination {
    /// Its id.
    pub id: DestinationId,
    /// `when` and `partition_by`; `None` without either.
    pub transform: Option<Arc<dyn Transform>>,
    /// What its objects hold.
    pub format: Format,
    /// How they are compressed, if they are lines.
    pub compression: Compression,
}

/// The stages of a pipeline. `rows` stands in for what the Glue Data Catalog would say.
///
/// # Errors
/// Findings that only building them shows.
pub fn stages(
    pipeline: &config::Pipeline,
    platform: &Platform,
    rows: Option<&CurrentRows>,
) -> Result<Stages, WorkerError> {
    let (mut destinations, mut others) = (Vec::new(), Vec::new());
    for destination in &pipeline.destinations {
        let config::Destination::S3(s3) = destination else {
            others.push(destination.id().clone());
            continue;
        };
        destinations.push(OneDestination {
            id: s3.id.clone(),
            transform: transforms::of_destination(pipeline, destination, platform)?,
            format: formats::format(s3, rows.cloned()).map_err(WorkerError::Findings)?,
            compression: formats::compression(s3.compression),
        });
    }
    let transforms = transforms::one_by_one(pipeline, platform)?;
    Ok(Stages { unpack: assemble::unpack(&pipeline.source), transforms, destinations, others })
}
