//! The one place that reads the environment, beside clap's twins of flags and the AWS SDK's own chain.

/// A variable's value; `None` when it is not set, or is not UTF-8.
#[allow(clippy::disallowed_methods, reason = "this is the place")]
pub fn get(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
