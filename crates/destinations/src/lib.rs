//! Destinations: `batch -> stage -> commit -> publish`, one file a kind.
#![forbid(unsafe_code)]

mod java_time;
pub mod object_key;
