//! What the user wrote -> what it means: one strict YAML file, or several, to a [`Config`] with every default filled in.
//!
//! `file.rs` holds what may be written and `config.rs` what it means; `resolve.rs` is the step between them. Everything
//! that is wrong is found at once and drawn at its line, with the nearest valid name.
//!
//! Never here: the environment (it comes in as a function), a clock, the network, or a secret in any message.
#![forbid(unsafe_code)]

mod address;
pub mod checks;
pub mod config;
mod copy_options;
mod decode;
mod errors;
mod file;
pub mod java_pattern;
pub mod limits;
mod load;
mod names;
mod nearest;
mod not_built;
mod presets;
mod resolve;
mod resolve_http;
mod resolve_opensearch;
mod resolve_redshift;
mod resolve_s3;
mod resolve_table;
mod resolve_transforms;
pub mod schema;
pub mod secrets;
mod shape;
mod source;
mod sql_names;
pub mod template;
mod text;
mod tree;
pub mod units;
mod variables;

pub use checks::{Checks, TextError, Unchecked};
pub use config::Config;
pub use errors::{ConfigError, ConfigErrors};
pub use load::{load, parse};
pub use variables::Env;

#[cfg(test)]
mod tests;
