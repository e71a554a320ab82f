//! The embedded AWS endpoints: Kinesis, DynamoDB, S3 and Lambda as one core, for tests, the simulation and the demo.
//!
//! The core is an [`Emulator`]. The real SDK clients reach it in process through a [`Connection`] (an HTTP client
//! without a socket, fit for a paused clock) or over TCP through [`serve`]. [`Faults`] go wrong by name.
//! Time comes from the clock in [`Options`] and from tokio's timer, randomness from the seed in [`Options`]: one seed
//! and one order of calls give one run. The idempotency tokens of DynamoDB alone live by real time.

mod call;
mod dynamodb;
mod fault;
mod http;
mod in_process;
mod kinesis;
pub mod lambda;
mod s3;
mod serve;
mod trace;

mod emulator;

pub use self::call::{Call, Service};
pub use self::emulator::{Clock, Emulator, OpenError, Options, RepeatComplete};
pub use self::fault::{Fault, Faults, Latency, Rule};
pub use self::in_process::Connection;
pub use self::kinesis::{KinesisError, Placed};
pub use self::s3::{BucketError, ObjectSummary, UploadSummary};
pub use self::serve::{serve, serve_by_key};
pub use self::trace::TraceEntry;
