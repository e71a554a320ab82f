//! The Redshift Data API, JSON 1.1: shapes of requests and answers, and what is kept of statements for 24 hours.

pub(crate) mod answer;
pub(crate) mod calls;
pub(crate) mod exception;
pub(crate) mod request;
pub(crate) mod statements;
