//! The emulator as the real SDK clients see it, in process under a paused clock, and once over TCP.

mod dynamodb;
mod faults;
mod kinesis;
mod kinesis_fan_out;
mod kinesis_list;
mod kinesis_read;
mod restart;
mod s3;
mod s3_uploads;
mod subject;
mod support;
mod tcp;
