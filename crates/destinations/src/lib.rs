//! Destinations: `batch -> stage -> commit -> publish`, one file a kind.
#![forbid(unsafe_code)]

mod java_time;
pub mod object_key;
pub mod s3;

pub use s3::sweep::{OpenUpload, OpenUploads, Page, Verdict, due, verdict};
pub use s3::{BackupSettings, LostObject, S3, S3Settings};
