//! The heart: `batch -> stage -> commit -> publish`, for every destination alike. No AWS here.
//!
//! - [`protocol`]: the commit protocol as a pure state machine.

pub mod protocol;
