//! What tests of stages share.

use bytes::Bytes;
use standpipe_flow::{Millis, Record};

use crate::stage::{Fault, Made, Stage};

/// A record as it was read.
pub(crate) fn record(data: impl Into<Bytes>) -> Record {
    Record {
        data: data.into(),
        partition_key: "key".into(),
        sequence: 7.into(),
        sub: 0,
        arrival: Millis(1_000),
        transformed: None,
        partition: None,
    }
}

/// What became of one record.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Made(Vec<Record>),
    Failed(Fault),
}

/// Sends one record through one stage.
pub(crate) fn outcome(stage: &dyn Stage, record: Record) -> Outcome {
    let mut made = Made::default();
    match stage.apply(record, &mut made) {
        Ok(()) => Outcome::Made(made.take()),
        Err(fault) => Outcome::Failed(fault),
    }
}

impl Outcome {
    pub(crate) fn records(self) -> Vec<Record> {
        match self {
            Self::Made(records) => records,
            Self::Failed(fault) => panic!("rejected: {fault:?}"),
        }
    }

    pub(crate) fn fault(self) -> Fault {
        match self {
            Self::Made(records) => panic!("not rejected: {records:?}"),
            Self::Failed(fault) => fault,
        }
    }

    /// The text of the one record that was made.
    pub(crate) fn text(self) -> String {
        let [record] = self.records().try_into().expect("one record");
        String::from_utf8(record.data.to_vec()).expect("text")
    }
}
