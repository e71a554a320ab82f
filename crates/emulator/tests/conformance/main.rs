//! The emulator as the real SDK clients see it, in process under a paused clock, and once over TCP.
//!
//! The same checks can be pointed at other servers: they ask only for what the services document.

mod dynamodb;
mod faults;
mod kinesis;
mod kinesis_list;
mod kinesis_read;
mod restart;
mod s3;
mod s3_uploads;
mod support;
mod tcp;
