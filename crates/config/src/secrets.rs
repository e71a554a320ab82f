//! Implements, of the arrow `what the user wrote -> what it means`: where a secret is, and the secret itself when asked.
//!
//! A secret is named, not held: `{ env: NAME }` or `{ file: PATH }` is read each time it is used, so that it may rotate.
//! A literal works and is told apart, so that it can be warned about.
//! Never: prints a secret, in `Debug`, an error or a log; keeps a copy that is not wiped.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};

use crate::limits;
use crate::variables::Env;

/// Where a secret is.
#[derive(Clone, JsonSchema)]
#[schemars(untagged)]
pub enum SecretRef {
    /// The secret itself, in the file.
    Literal(#[schemars(with = "String")] SecretString),
    /// `{ env: NAME }`: an environment variable.
    Env {
        /// Its name.
        env: String,
    },
    /// `{ file: PATH }`: a file, without the newline at its end.
    File {
        /// Its path.
        file: PathBuf,
    },
}

/// Why a secret cannot be read now; none of them holds a part of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Set the variable.
    #[error("the environment variable `{name}` is not set, or empty")]
    Unset {
        /// The variable.
        name: String,
    },
    /// Make the file readable.
    #[error("cannot read the secret in {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Put one line of text into the file.
    #[error("{} holds no secret: {reason}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: &'static str,
    },
}

impl SecretRef {
    /// Reads the secret from where it is now.
    pub fn read(&self, env: Env<'_>) -> Result<SecretString, SecretError> {
        match self {
            Self::Literal(secret) => Ok(secret.clone()),
            Self::Env { env: name } => match env(name) {
                Some(secret) if !secret.is_empty() => Ok(secret.into()),
                _ => Err(SecretError::Unset { name: name.clone() }),
            },
            Self::File { file } => {
                let unusable = |reason| Err(SecretError::Unusable { file: file.clone(), reason });
                let unreadable = |source| SecretError::Unreadable { file: file.clone(), source };
                let mut bytes = Zeroizing::new(Vec::new());
                let opened = std::fs::File::open(file).map_err(unreadable)?;
                opened.take(limits::SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
                if bytes.len() as u64 > limits::SECRET_BYTES_MAX {
                    return unusable("it is larger than 64 KiB");
                }
                match std::str::from_utf8(&bytes) {
                    Ok(text) => match text.trim_end_matches(['\r', '\n']) {
                        "" => unusable("it is empty"),
                        secret => Ok(secret.into()),
                    },
                    Err(_) => unusable("it is not UTF-8"),
                }
            }
        }
    }

    /// Whether the secret stands in the configuration itself, which deserves a warning.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        matches!(self, Self::Literal(_))
    }
}

/// Whether two stand for the same place, or hold the same text.
impl PartialEq for SecretRef {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Literal(one), Self::Literal(two)) => one.expose_secret() == two.expose_secret(),
            (Self::Env { env: one }, Self::Env { env: two }) => one == two,
            (Self::File { file: one }, Self::File { file: two }) => one == two,
            _ => false,
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("[a literal secret]"),
            Self::Env { env } => write!(f, "{{ env: {env} }}"),
            Self::File { file } => write!(f, "{{ file: {} }}", file.display()),
        }
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RefVisitor;

        impl<'de> Visitor<'de> for RefVisitor {
            type Value = SecretRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret: `{ env: NAME }` or `{ file: PATH }`")
            }
            fn visit_str<E>(self, text: &str) -> Result<SecretRef, E> {
                Ok(SecretRef::Literal(text.into()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
                let expected = || de::Error::custom("a secret is `{ env: NAME }` or `{ file: PATH }`");
                let secret = match map.next_key::<String>()?.as_deref() {
                    Some("env") => SecretRef::Env { env: map.next_value()? },
                    Some("file") => SecretRef::File { file: map.next_value::<String>()?.into() },
                    Some(kind @ ("secretsmanager" | "ssm")) => {
                        return Err(de::Error::custom(format!("`{kind}` is not built yet")));
                    }
                    _ => return Err(expected()),
                };
                if map.next_key::<String>()?.is_some() { Err(expected()) } else { Ok(secret) }
            }
        }

        deserializer.deserialize_any(RefVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{DecodeError, decode};
    use crate::source::Sources;

    fn secret(text: &str) -> Result<SecretRef, DecodeError> {
        let mut sources = Sources::default();
        let file = sources.add("test.yaml", text);
        decode(&crate::tree::parse(&sources, file).expect("YAML"))
    }
    fn env(name: &str) -> Option<String> {
        (name == "TOKEN").then(|| "hunter2".to_owned())
    }

    #[test]
    fn a_secret_is_read_from_where_it_is() {
        let read = |text: &str| {
            let secret = secret(text).expect("a reference").read(&env).expect("a secret");
            secret.expose_secret().to_owned()
        };
        assert_eq!(read("hunter2"), "hunter2");
        assert_eq!(read("{ env: TOKEN }"), "hunter2");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "hunter2\n").expect("written");
        let reference = format!("{{ file: {} }}", file.display());
        assert_eq!(read(&reference), "hunter2");
        std::fs::write(&file, "rotated\n").expect("written");
        assert_eq!(read(&reference), "rotated", "it is read again");
        std::fs::write(&file, "\n").expect("written");
        assert!(secret(&reference).expect("a reference").read(&env).is_err());
        std::fs::write(&file, vec![b'x'; 65 << 10]).expect("written");
        assert!(secret(&reference).expect("a reference").read(&env).is_err());
    }

    #[test]
    fn what_is_not_there_is_an_error_and_what_is_not_built_says_so() {
        assert!(secret("{ env: OTHER }").expect("a reference").read(&env).is_err());
        assert!(secret("{ file: /no/such/file }").expect("a reference").read(&env).is_err());
        let error = secret("{ secretsmanager: a/b, key: token }").expect_err("not built").message;
        assert_eq!(error, "`secretsmanager` is not built yet");
        assert!(secret("{ env: A, file: b }").is_err() && secret("{}").is_err() && secret("[a]").is_err());
    }

    #[test]
    fn nothing_prints_it() {
        let literal = secret("hunter2").expect("a literal");
        let read = literal.read(&env).expect("a secret");
        assert!(literal.is_literal());
        assert!(!format!("{literal:?}{read:?}").contains("hunter2"));
    }
}
