//! Loads that were given up, as people find and redrive them: their manifests in the staging bucket.
//!
//! Never: loads anything by itself ([`Redshift::redrive`] does); forgets a manifest that was not loaded.

use standpipe_flow::{DeliveryError, Millis};

use super::Redshift;
use super::manifest::ErrorManifest;
use crate::s3::Listed;

/// Manifests that are looked at in one go; those beyond are found the next time.
const MANIFESTS_MAX: usize = 10_000;
/// The largest manifest that is read: 10,000 objects of long keys take less.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// A manifest of a load that was given up.
#[derive(Clone, Debug)]
pub struct GivenUp {
    /// Where it is: `s3://BUCKET/KEY`.
    pub url: String,
    key: String,
    /// What it says, or why it cannot be understood.
    pub manifest: Result<ErrorManifest, String>,
}

impl Redshift {
    /// The manifests that stand in the staging bucket, oldest first (their keys begin with the hour), and S3's own time.
    ///
    /// # Errors
    /// As S3's.
    pub async fn given_up(&self) -> Result<(Vec<GivenUp>, Millis), DeliveryError> {
        let (listed, now) = self.objects().list(&self.given_up_prefix(), MANIFESTS_MAX).await?;
        let mut found = Vec::new();
        for object in listed {
            if let Some(manifest) = self.read_given_up(&object).await? {
                let url = format!("s3://{}/{}", self.objects().bucket_name(), object.key);
                found.push(GivenUp { url, key: object.key, manifest });
            }
        }
        Ok((found, now))
    }

    async fn read_given_up(&self, object: &Listed) -> Result<Option<Result<ErrorManifest, String>>, DeliveryError> {
        if object.size > MANIFEST_BYTES_MAX {
            return Ok(Some(Err(format!("it has {} bytes: no manifest of ours is so large", object.size))));
        }
        let read = self.objects().read(object).await?;
        Ok(read.map(|bytes| ErrorManifest::parse(&bytes)))
    }

    /// Deletes a manifest whose records are in the table, or come by another way. Its objects stay.
    ///
    /// # Errors
    /// As S3's.
    pub async fn forget(&self, given_up: &GivenUp) -> Result<(), DeliveryError> {
        self.objects().delete(&given_up.key).await
    }
}
