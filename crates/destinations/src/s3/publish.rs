//! `commit -> publish`: every upload of a receipt is completed, by anyone, any number of times.
//!
//! CompleteMultipartUpload answers NoSuchUpload for an upload that was aborted and, at some servers, for one that was
//! completed. Which it was is looked up in this order: the object stands there with our size and sum; a bucket with
//! versions knows a version or a deletion of it; the configuration says what to assume. Commit protocol 4.5.
//! Never: aborts what was committed; reads a receipt again (the caller does, before it believes that something is lost).

use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use futures_util::future::join_all;
use standpipe_flow::{Checksum, DeliveryError, Millis, Output, Published, Receipt};

use super::requests::{self, NotCompleted, PartSums};
use super::{LostObject, S3};

/// Requests under way at once for one receipt.
const AT_ONCE_MAX: usize = 16;
/// How long after the commit a missing object may be taken for read and deleted.
const ASSUMED_FOR: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    Visible,
    Gone,
}

/// Publishes every output. All are tried, whatever becomes of one; of several errors the one for a human is reported.
pub(super) async fn receipt(s3: &S3, receipt: &Receipt) -> Result<Published, DeliveryError> {
    for output in &receipt.outputs {
        s3.own(&output.bucket)?;
    }
    let mut gone = Vec::new();
    let mut published = false;
    let mut failed = None;
    for outputs in receipt.outputs.chunks(AT_ONCE_MAX) {
        let found = join_all(outputs.iter().map(|output| publish(s3, receipt, output))).await;
        for (output, found) in outputs.iter().zip(found) {
            match found {
                Ok(Found::Visible) => published = true,
                Ok(Found::Gone) => gone.push(output.clone()),
                Err(error) => failed = Some(graver(failed, error)),
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None if gone.is_empty() => Ok(Published::All),
        None => Ok(Published::Gone { outputs: gone, published }),
    }
}

/// Aborts every upload; one that is not there is fine.
pub(super) async fn discard(s3: &S3, dead: &[Output]) -> Result<(), DeliveryError> {
    for output in dead {
        s3.own(&output.bucket)?;
    }
    let mut failed = None;
    for outputs in dead.chunks(AT_ONCE_MAX) {
        let abort = |output: &'_ Output| {
            let Output { bucket, key, upload_id, .. } = output.clone();
            async move { requests::abort(&s3.client, &bucket, &key, &upload_id).await }
        };
        for error in join_all(outputs.iter().map(abort)).await.into_iter().filter_map(Result::err) {
            failed = Some(graver(failed, error));
        }
    }
    failed.map_or(Ok(()), Err)
}

fn graver(before: Option<DeliveryError>, error: DeliveryError) -> DeliveryError {
    match before {
        Some(halt @ DeliveryError::Halt { .. }) => halt,
        _ => error,
    }
}

async fn publish(s3: &S3, receipt: &Receipt, output: &Output) -> Result<Found, DeliveryError> {
    match complete(s3, output).await {
        Ok(()) => Ok(Found::Visible),
        Err(NotCompleted::NoUpload) => look_for(s3, receipt, output).await,
        // The object itself is the proof that the answer is not.
        Err(NotCompleted::Unproven(error)) => match requests::head(&s3.client, output).await? {
            (Some(object), _) if matches(&object, output) => Ok(Found::Visible),
            _ => Err(error),
        },
        Err(NotCompleted::Failed(error)) => Err(error),
        Err(NotCompleted::WithoutSums) => Err(DeliveryError::Halt {
            cause: "CompleteMultipartUpload: refused, and the server lists no sums".to_owned(),
        }),
    }
}

/// Completes an upload as this server wants it. A refusal for want of the parts' sums has changed nothing, so that asking
/// with them is no repetition.
async fn complete(s3: &S3, output: &Output) -> Result<(), NotCompleted> {
    let sums = match (&output.parts[..], &output.checksum) {
        ([part], Checksum::Crc64Nvme(sum) | Checksum::Crc32(sum)) => PartSums::from([(part.number, sum.clone())]),
        (_, Checksum::Crc64Nvme(_)) if !s3.part_sums.load(Ordering::Relaxed) => {
            match requests::complete(&s3.client, output, &PartSums::new()).await {
                Err(NotCompleted::WithoutSums) => s3.part_sums.store(true, Ordering::Relaxed),
                completed => return completed,
            }
            list_sums(s3, output).await?
        }
        _ => list_sums(s3, output).await?,
    };
    requests::complete(&s3.client, output, &sums).await
}

async fn list_sums(s3: &S3, output: &Output) -> Result<PartSums, NotCompleted> {
    requests::part_sums(&s3.client, output).await.map_err(NotCompleted::Failed)
}

/// The upload is not there: whether its object is, or was.
async fn look_for(s3: &S3, receipt: &Receipt, output: &Output) -> Result<Found, DeliveryError> {
    let (object, now) = requests::head(&s3.client, output).await?;
    if object.is_some_and(|object| matches(&object, output)) || requests::had_version(&s3.client, output).await? {
        return Ok(Found::Visible);
    }
    let assumed = s3.settings.lost_object == LostObject::AssumePublished && recent(receipt.created_at, now);
    if assumed {
        tracing::warn!(cid = %receipt.cid, key = output.key, "neither upload nor object is there: assumed published");
        return Ok(Found::Visible);
    }
    Ok(Found::Gone)
}

/// Both times are S3's own; without both nothing is assumed.
fn recent(created_at: Option<Millis>, now: Option<Millis>) -> bool {
    matches!((created_at, now), (Some(created_at), Some(now)) if now.since(created_at) < ASSUMED_FOR)
}

/// The size, and the sum where the server shows it (CRC-32 is a sum of sums at most servers: the size must do, as the
/// key is unique).
fn matches(object: &HeadObjectOutput, output: &Output) -> bool {
    let size = object.content_length().and_then(|length| u64::try_from(length).ok());
    let sum = match &output.checksum {
        Checksum::Crc64Nvme(sum) => object.checksum_crc64_nvme().is_none_or(|shown| shown == sum),
        Checksum::Crc32(_) => true,
    };
    size == Some(output.size) && sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_assumed_after_a_day_or_without_a_time() {
        let day = 24 * 3600 * 1000;
        assert!(recent(Some(Millis(1)), Some(Millis(day))));
        assert!(!recent(Some(Millis(1)), Some(Millis(day + 1))));
        assert!(!recent(None, Some(Millis(1))));
        assert!(!recent(Some(Millis(1)), None));
    }

    #[test]
    fn the_error_for_a_human_is_the_one_that_is_reported() {
        let retry = || DeliveryError::Retry { after: None, cause: "busy".to_owned() };
        let halt = || DeliveryError::Halt { cause: "forbidden".to_owned() };
        assert!(matches!(graver(Some(halt()), retry()), DeliveryError::Halt { .. }));
        assert!(matches!(graver(Some(retry()), halt()), DeliveryError::Halt { .. }));
        assert!(matches!(graver(None, retry()), DeliveryError::Retry { .. }));
    }
}
