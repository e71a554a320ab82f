//! Beside `batch -> stage`: what a person is told of the buckets before anything runs.
//!
//! Never: writes. Rights to write objects, and keys of KMS, show with the first object.

use standpipe_flow::Look;

use super::S3;
use super::requests::{self, Bucket, Head};

/// A line or two a bucket.
pub(super) async fn buckets(s3: &S3, seen: &mut Vec<Look>) {
    bucket(&s3.bucket, s3.settings.expected_owner.as_deref(), seen).await;
    let backup = s3.backup.as_ref().map(|backup| &backup.bucket).filter(|backup| backup.name != s3.bucket.name);
    if let Some(backup) = backup {
        let owner = s3.settings.backup.as_ref().and_then(|settings| settings.expected_owner.as_deref());
        bucket(backup, owner, seen).await;
    }
}

async fn bucket(bucket: &Bucket, owner: Option<&str>, seen: &mut Vec<Look>) {
    let what = format!("bucket {}", bucket.name);
    let region = match requests::head_bucket(bucket).await {
        Head::There(region) => region,
        Head::Missing => {
            seen.push(Look::wrong(what, "there is none of that name").hint("make it, or name another"));
            return;
        }
        Head::Elsewhere(region) => {
            let region = region.unwrap_or_else(|| "another region".to_owned());
            let look = Look::wrong(what, format!("it is in {region}, and is asked for elsewhere"));
            seen.push(look.hint("`aws.region`, or a bucket in the region of the worker"));
            return;
        }
        Head::Denied(cause) => {
            let mut hint =
                format!("`s3:ListBucket` on arn:aws:s3:::{}, in the policy of the role or of the bucket", bucket.name);
            if let Some(owner) = owner {
                hint.push_str(&format!("; or it does not belong to {owner} (`bucket_owner`)"));
            }
            seen.push(Look::denied(what, cause).hint(hint));
            return;
        }
        Head::Failed(error) => {
            seen.push(Look::failed(what, error));
            return;
        }
    };
    let place = region.map_or_else(|| "there".to_owned(), |region| format!("there, in {region}"));
    seen.push(match requests::lists_uploads(bucket).await {
        Ok(Some(())) => Look::fine(what, place),
        Ok(None) => Look::note(what, format!("{place}; it lists no uploads"))
            .hint("what crashed workers leave open stays until a rule of the server's ends it"),
        Err((Some(401 | 403), error)) => Look::denied(what, error.to_string())
            .hint(format!("`s3:ListBucketMultipartUploads` on arn:aws:s3:::{}", bucket.name)),
        Err((_, error)) => Look::failed(what, error),
    });
    if let Some(key) = &bucket.kms {
        let says = format!("{key} is used with the first object, and was not asked for");
        let look = Look::note(format!("key of bucket {}", bucket.name), says);
        seen.push(look.hint("it needs `kms:GenerateDataKey` and `kms:Decrypt`"));
    }
}
