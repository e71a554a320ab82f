//! Destinations: `batch -> stage -> commit -> publish`, one file a kind.
#![forbid(unsafe_code)]

pub mod endpoint;
#[cfg(test)]
mod fixtures;
pub mod http;
mod java_time;
pub mod object_key;
mod offloaded;
pub mod opensearch;
pub mod redshift;
pub mod s3;

pub use redshift::{CopyInto, ErrorManifest, Redriven, Redshift, RedshiftSettings, Warehouse};
pub use s3::sweep::{Leftover, Leftovers, Page, Verdict, due, verdict};
pub use s3::{BackupSettings, LostObject, Publish, S3, S3Settings};
