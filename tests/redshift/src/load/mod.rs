//! COPY, from the manifest in S3 to rows in PostgreSQL, within the transaction that is open.
//!
//! manifest -> objects -> unpacked bytes -> rows -> `COPY ... FROM STDIN`. Objects are read and their rows made by a thread
//! of their own, so that PostgreSQL and it work at the same time; a channel of a few batches is all that lies between.
//! Rows that cannot be made, and rows that PostgreSQL does not take, are load errors; MAXERROR decides what they cost.

pub(crate) mod columns;
mod delimited;
pub(crate) mod errors;
mod json;
mod manifest;
mod object;
mod parquet;
pub(crate) mod rows;
mod run;
pub(crate) mod s3;

pub(crate) use self::run::{Origin, load};
