//! SQL as Redshift reads it: words, the dialect, and the one statement that PostgreSQL does not know, COPY from S3.
//!
//! Pure: text in, text or a parsed COPY out. Nothing here talks to a server.

pub(crate) mod copy;
pub(crate) mod dialect;
pub(crate) mod token;

use std::fmt;

/// A statement that cannot be run, in the words of Redshift's parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Refused {
    /// `syntax error at or near "x"`, or `at end of input`.
    pub(crate) fn near(token: Option<&token::Token<'_>>) -> Self {
        match token {
            Some(token) => Self(format!("syntax error at or near \"{}\"", token.value())),
            None => Self("syntax error at end of input".to_owned()),
        }
    }
}
