//! The headers of a signature, for requests that another client sends, and the credentials behind it, kept while they last.
//!
//! Never here: a request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use aws_types::SdkConfig;
use standpipe_flow::Clock;

use crate::{BoxError, CREDENTIALS_SPARE, CallError, causes};

/// Signs requests to one service in one region. Clones share credentials.
#[derive(Clone, Debug)]
pub struct Signer {
    provider: Option<SharedCredentialsProvider>,
    kept: Arc<Mutex<Option<Credentials>>>,
    clock: Arc<dyn Clock>,
    service: &'static str,
    region: String,
}

/// A request, before it is signed.
#[derive(Clone, Copy, Debug)]
pub struct Signable<'a> {
    /// The method.
    pub method: &'a str,
    /// Scheme, host (with its port where that is not the scheme's own), path and query.
    pub url: &'a str,
    /// Headers that are to be signed, beside `host`.
    pub headers: &'a [(String, String)],
    /// The body as it is sent.
    pub body: &'a [u8],
}

impl Signer {
    /// `service` is its name in signatures: `es`, `aoss`.
    pub fn new(sdk: &SdkConfig, service: &'static str, region: &str, clock: Arc<dyn Clock>) -> Self {
        let (provider, region) = (sdk.credentials_provider(), region.to_owned());
        Self { provider, kept: Arc::default(), clock, service, region }
    }

    /// Credentials, as long as they last.
    ///
    /// # Errors
    /// When nobody gives any.
    pub async fn credentials(&self) -> Result<Credentials, CallError> {
        let soon = UNIX_EPOCH + Duration::from_millis(self.clock.wall().0) + CREDENTIALS_SPARE;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(kept) = kept.filter(|kept| kept.expiry().is_none_or(|expiry| expiry > soon)) {
            return Ok(kept);
        }
        let nobody = || CallError::NoCredentials("nobody gives credentials".to_owned());
        let asked = self.provider.as_ref().ok_or_else(nobody)?.provide_credentials().await;
        let credentials = asked.map_err(|error| CallError::NoCredentials(causes(&error)))?;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(credentials.clone());
        Ok(credentials)
    }

    /// Forgets the credentials: they may have been taken back.
    pub fn forget(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The headers to be added, `x-amz-content-sha256` among them. Long work for a large body: it is hashed.
    ///
    /// # Errors
    /// When the address or a key cannot be what a request needs.
    pub fn headers(&self, credentials: Credentials, of: Signable<'_>) -> Result<Vec<(String, String)>, CallError> {
        self.signed(credentials, of).map_err(|error| CallError::Unsignable(causes(error.as_ref())))
    }

    fn signed(&self, credentials: Credentials, of: Signable<'_>) -> Result<Vec<(String, String)>, BoxError> {
        let identity = credentials.into();
        let mut settings = SigningSettings::default();
        // OpenSearch Serverless refuses a request without it.
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service)
            .time(UNIX_EPOCH + Duration::from_millis(self.clock.wall().0))
            .settings(settings)
            .build()?
            .into();
        let headers = of.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let signable = SignableRequest::new(of.method, of.url, headers, SignableBody::Bytes(of.body))?;
        let (signature, _) = sign(signable, &params)?.into_parts();
        Ok(signature.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

#[cfg(test)]
mod tests {
    use aws_credential_types::provider::SharedCredentialsProvider;
    use standpipe_flow::Millis;

    use super::*;

    #[derive(Debug)]
    struct Fixed;

    impl Clock for Fixed {
        fn wall(&self) -> Millis {
            Millis(1_790_000_000_000)
        }

        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[tokio::test]
    async fn a_signature_covers_the_body_and_says_so() {
        let keys = Credentials::new("AKID", "hunter2", Some("token".to_owned()), None, "test");
        let sdk = SdkConfig::builder().credentials_provider(SharedCredentialsProvider::new(keys)).build();
        let signer = Signer::new(&sdk, "aoss", "eu-west-1", Arc::new(Fixed));
        let headers = [("content-type".to_owned(), "application/x-ndjson".to_owned())];
        let of = |body| Signable {
            method: "POST",
            url: "https://c.eu-west-1.aoss.amazonaws.com/_bulk",
            headers: &headers,
            body,
        };
        let credentials = signer.credentials().await.expect("credentials");
        let signed = signer.headers(credentials.clone(), of(b"{}\n")).expect("signed");
        let header = |name: &str| signed.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let sum = "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356";
        assert_eq!(header("x-amz-content-sha256").as_deref(), Some(sum));
        assert_eq!(header("x-amz-security-token").as_deref(), Some("token"));
        let authorization = header("authorization").expect("a signature");
        assert!(authorization.contains("/20260921/eu-west-1/aoss/aws4_request"), "{authorization}");
        assert!(authorization.contains("x-amz-content-sha256"), "{authorization}");
        let other = signer.headers(credentials, of(b"{ }\n")).expect("signed");
        assert_ne!(other, signed, "another body has another signature");
        assert!(!format!("{signer:?}").contains("hunter2"), "{signer:?}");
    }
}
