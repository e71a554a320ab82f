//! `connection -> connection over TLS`: 1.2 and up, chains and names always checked.
//!
//! Never here: a way to leave a check out. A server with a certificate of one's own needs its CA's in a file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, crypto::aws_lc_rs, version};

use super::causes;
use super::dial::BoxStream;

/// Bytes of a file of certificates. The largest bundles have a few hundred thousand.
const CA_BYTES_MAX: u64 = 4 << 20;

/// Whom to trust.
#[derive(Clone)]
pub struct Trust(TlsConnector);

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

/// Why a connection is not to be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TrustError {
    /// It broke.
    Broken(String),
    /// The server does not prove to be who it should be, or speaks nothing that is safe.
    Distrusted(String),
}

impl Trust {
    /// Trusts the machine's own CAs, or only those in a file.
    ///
    /// # Errors
    /// A text for the user: the file cannot be read, or holds no certificate.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match ca_file {
            Some(file) => {
                for certificate in certificates(file)? {
                    roots.add(certificate).map_err(|error| format!("{}: {error}", file.display()))?;
                }
                if roots.is_empty() {
                    return Err(format!("{} holds no certificate", file.display()));
                }
            }
            None => {
                // A machine may have some that nobody can read; one without any cannot speak to anybody over TLS.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|error| error.to_string())?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Speaks TLS to the host at the other end.
    pub(super) async fn secured(&self, host: &str, stream: BoxStream) -> Result<BoxStream, TrustError> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| TrustError::Distrusted("the host's name cannot be in a certificate".to_owned()))?;
        match self.0.connect(name, stream).await {
            Ok(secured) => Ok(Box::new(secured)),
            Err(error) => {
                let distrusted = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some();
                let cause = causes(&error);
                Err(if distrusted { TrustError::Distrusted(cause) } else { TrustError::Broken(cause) })
            }
        }
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |why: String| format!("cannot read {}: {why}", PathBuf::from(file).display());
    let size = std::fs::metadata(file).map_err(|error| unreadable(error.to_string()))?.len();
    if size > CA_BYTES_MAX {
        return Err(unreadable("it is larger than 4 MiB".to_owned()));
    }
    let text = std::fs::read(file).map_err(|error| unreadable(error.to_string()))?;
    CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|error| unreadable(error.to_string()))
}
