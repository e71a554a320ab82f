//! Configuration: what the user wrote -> what it means.
#![forbid(unsafe_code)]

pub mod java_pattern;
pub mod limits;
mod nearest;
pub mod template;
