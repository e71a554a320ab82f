//! `commit -> publish`: every upload of a receipt is completed, and every slice written, by anyone, any number of times.
//!
//! CompleteMultipartUpload answers NoSuchUpload for an upload that was aborted and, at some servers, for one that was
//! completed. Which it was is looked up in this order: the object stands there with our size and sum; a bucket with
//! versions knows a version or a deletion of it; the configuration says what to assume. Commit protocol 4.5.
//! Never: aborts what was committed; reads a receipt again (the caller does, before it believes that something is lost).

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use futures_util::{StreamExt, stream};
use standpipe_flow::{Checksum, DeliveryError, Held, Millis, Output, Published, Receipt};
use tokio::sync::Semaphore;

use super::plain;
use super::requests::{self, NotCompleted, PartSums, Uploaded};
use super::staging::{self, Load};
use super::{LostObject, S3};

/// Requests under way at once for one receipt.
const AT_ONCE_MAX: usize = 32;
/// Tries of one output of a receipt that has several.
const TRIES: u32 = 4;
/// How long after the commit a missing object may be taken for read and deleted.
const ASSUMED_FOR: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    Visible,
    Gone,
}

/// Publishes every output. All are tried, whatever becomes of one; of several errors the one for a human is reported.
/// Those of many that fail for the moment are tried again by themselves: to ask for all again would never end.
pub(super) async fn receipt(s3: &S3, receipt: &Receipt) -> Result<Published, DeliveryError> {
    s3.known_buckets(&receipt.outputs)?;
    let mut left: Vec<&Output> = receipt.outputs.iter().collect();
    let (mut gone, mut published, mut failed) = (Vec::new(), false, None);
    let reads = Semaphore::new(staging::READS_MAX);
    for tried in 1..=if left.len() > 1 { TRIES } else { 1 } {
        if tried > 1 {
            tokio::time::sleep(s3.pause(tried).max(pause_of(failed.take()))).await;
        }
        let trying = std::mem::take(&mut left);
        let steps = steps(&trying);
        let found = stream::iter(0..steps.len()).map(|n| take(s3, receipt, &steps[n], &reads));
        let mut found = std::pin::pin!(found.buffered(AT_ONCE_MAX));
        while let Some(found) = found.next().await {
            for (output, found) in found {
                match found {
                    Ok(Found::Visible) => published = true,
                    Ok(Found::Gone) => gone.push(output.clone()),
                    Err(error) => {
                        left.push(output);
                        failed = Some(graver(failed, error));
                    }
                }
            }
        }
        // Where nothing succeeds the server is away: how long to wait then is the pipeline's to say.
        if left.is_empty() || left.len() == trying.len() || matches!(failed, Some(DeliveryError::Halt { .. })) {
            break;
        }
    }
    match failed {
        Some(error) => Err(error),
        None if gone.is_empty() => Ok(Published::All),
        None => Ok(Published::Gone { outputs: gone, published }),
    }
}

/// What publishes one output, or all that one read of a staging object brings.
enum Step<'a> {
    Alone(&'a Output),
    Load(Load<'a>),
}

fn steps<'a>(outputs: &[&'a Output]) -> Vec<Step<'a>> {
    let slice = |output: &&Output| matches!(output.held, Held::Slice { .. });
    let (slices, alone): (Vec<&Output>, Vec<&Output>) = outputs.iter().copied().partition(slice);
    let loads = staging::loads(slices).into_iter().map(Step::Load);
    alone.into_iter().map(Step::Alone).chain(loads).collect()
}

async fn take<'a>(
    s3: &S3,
    receipt: &Receipt,
    step: &Step<'a>,
    reads: &Semaphore,
) -> Vec<(&'a Output, Result<Found, DeliveryError>)> {
    match step {
        Step::Alone(output) => vec![(*output, publish(s3, receipt, output).await)],
        Step::Load(load) => staging::publish(s3, receipt, load, reads).await,
    }
}

/// What a busy server has asked for.
fn pause_of(error: Option<DeliveryError>) -> Duration {
    match error {
        Some(DeliveryError::Retry { after: Some(after), .. }) => after,
        _ => Duration::ZERO,
    }
}

/// Ends whatever holds these outputs; what is not there is fine.
pub(super) async fn discard(s3: &S3, dead: &[Output]) -> Result<(), DeliveryError> {
    s3.known_buckets(dead)?;
    end_all(s3, dead.iter().map(holder).collect()).await
}

/// Deletes the staging objects of a receipt that is DONE.
pub(super) async fn clear(s3: &S3, done: &Receipt) -> Result<(), DeliveryError> {
    s3.known_buckets(&done.outputs)?;
    let slices = done.outputs.iter().filter(|output| matches!(output.held, Held::Slice { .. }));
    end_all(s3, slices.map(holder).collect()).await
}

/// What holds an output: bucket, key, and the upload if it is one. Slices of one staging object have one holder.
type Holder = (String, String, Option<String>);

fn holder(output: &Output) -> Holder {
    let (key, upload) = match &output.held {
        Held::Upload { id, .. } => (&output.key, Some(id.clone())),
        Held::Slice { object, .. } => (object, None),
        Held::Object => (&output.key, None),
    };
    (output.bucket.clone(), key.clone(), upload)
}

async fn end_all(s3: &S3, holders: BTreeSet<Holder>) -> Result<(), DeliveryError> {
    let end = |(bucket, key, upload): Holder| async move { end(s3, &bucket, &key, upload.as_deref()).await };
    let mut failed = None;
    let mut ended = std::pin::pin!(stream::iter(holders).map(end).buffered(AT_ONCE_MAX));
    while let Some(ended) = ended.next().await {
        if let Err(error) = ended {
            failed = Some(graver(failed, error));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Aborts an upload, or deletes an object.
pub(super) async fn end(s3: &S3, bucket: &str, key: &str, upload: Option<&str>) -> Result<(), DeliveryError> {
    let bucket = s3.bucket_of(bucket)?;
    match upload {
        Some(id) => requests::abort(bucket, key, id).await,
        None => plain::delete(bucket, key).await,
    }
}

/// Of two errors the one for a human.
pub(super) fn graver(before: Option<DeliveryError>, error: DeliveryError) -> DeliveryError {
    match before {
        Some(halt @ DeliveryError::Halt { .. }) => halt,
        _ => error,
    }
}

async fn publish(s3: &S3, receipt: &Receipt, output: &Output) -> Result<Found, DeliveryError> {
    let client = &s3.bucket_of(&output.bucket)?.client;
    let upload = match &output.held {
        Held::Upload { id, parts } => Uploaded { output, id, parts },
        // It stands there already. Slices are published by their reads.
        Held::Object | Held::Slice { .. } => return Ok(Found::Visible),
    };
    match complete(s3, client, upload).await {
        Ok(()) => Ok(Found::Visible),
        Err(NotCompleted::NoUpload) => look_for(s3, client, receipt, output).await,
        // The object itself is the proof that the answer is not.
        Err(NotCompleted::Unproven(error)) => match requests::head(client, output).await? {
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
async fn complete(s3: &S3, client: &Client, upload: Uploaded<'_>) -> Result<(), NotCompleted> {
    let sums = match (upload.parts, &upload.output.checksum) {
        ([part], Checksum::Crc64Nvme(sum) | Checksum::Crc32(sum)) => PartSums::from([(part.number, sum.clone())]),
        (_, Checksum::Crc64Nvme(_)) if !s3.part_sums.load(Ordering::Relaxed) => {
            match requests::complete(client, upload, &PartSums::new()).await {
                Err(NotCompleted::WithoutSums) => s3.part_sums.store(true, Ordering::Relaxed),
                completed => return completed,
            }
            list_sums(client, upload).await?
        }
        _ => list_sums(client, upload).await?,
    };
    requests::complete(client, upload, &sums).await
}

async fn list_sums(client: &Client, upload: Uploaded<'_>) -> Result<PartSums, NotCompleted> {
    requests::part_sums(client, upload).await.map_err(NotCompleted::Failed)
}

/// What held the output is not there: whether its object is, or was.
pub(super) async fn look_for(
    s3: &S3,
    client: &Client,
    receipt: &Receipt,
    output: &Output,
) -> Result<Found, DeliveryError> {
    let (object, now) = requests::head(client, output).await?;
    if object.is_some_and(|object| matches(&object, output)) || requests::had_version(client, output).await? {
        return Ok(Found::Visible);
    }
    let assumed = s3.settings.lost_object == LostObject::AssumePublished && recent(receipt.created_at, now);
    if assumed {
        tracing::warn!(cid = %receipt.cid, key = output.key, "neither the object is there nor what held it: assumed published");
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
