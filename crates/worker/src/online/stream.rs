//! Whether the stream is there, which one it is, and whether its shards may be listed.
//!
//! Never: an iterator, a record, a consumer that is registered.

use standpipe_config::config::{self, ReadMode};
use standpipe_config::units;
use standpipe_flow::Look;
use standpipe_lease::StreamIdentity;
use standpipe_source::{ShardFilter, StreamError, StreamStatus};

use crate::assemble::Parts;
use crate::platform::Platform;

/// Which stream it is, if it said so.
pub(super) async fn look(
    parts: &Parts,
    pipeline: &config::Pipeline,
    platform: &Platform,
    seen: &mut Vec<Look>,
) -> Option<StreamIdentity> {
    let file = &pipeline.source.stream;
    let what = format!("stream {}", file.name);
    let catalog = parts.stream.catalog();
    let identity = match catalog.identity().await {
        Ok(identity) => identity,
        Err(error) => {
            let known = platform.sdk.region().map(ToString::to_string);
            let region = file.region.clone().or(known).unwrap_or_default();
            seen.push(failed(what, &error, "kinesis:DescribeStreamSummary", &region));
            return None;
        }
    };
    let kept = units::format_duration(identity.retention);
    let says = format!("{}, {} open, keeps records for {kept}", identity.status, shards(identity.open_shards));
    seen.push(match identity.status {
        StreamStatus::Active | StreamStatus::Updating => Look::fine(&what, says),
        _ => Look::note(&what, says).hint("a worker starts when it is ACTIVE"),
    });
    // As a worker does; what it finds is the coordinator's business.
    if let Err(error) = catalog.shards(ShardFilter::AtLatest).await {
        seen.push(failed(what, &error, "kinesis:ListShards", ""));
    }
    if let ReadMode::EnhancedFanOut { consumer } = &pipeline.source.read {
        seen.push(registered(parts, &identity.arn, consumer).await);
    }
    Some(StreamIdentity { arn: identity.arn, created_at: identity.created })
}

fn shards(count: u32) -> String {
    if count == 1 { "1 shard".to_owned() } else { format!("{count} shards") }
}

async fn registered(parts: &Parts, arn: &str, consumer: &str) -> Look {
    let what = format!("consumer {consumer}");
    match parts.stream.registered_consumer(arn, consumer).await {
        Ok(Some(_)) => Look::fine(what, "registered"),
        Ok(None) => Look::note(what, "it is not there: the first worker registers it, and it costs money from then on")
            .hint("`kinesis:RegisterStreamConsumer` (RegisterTheConsumerOnce in deploy/iam)"),
        Err(error) => failed(what, &error, "kinesis:DescribeStreamConsumer", ""),
    }
}

fn failed(what: String, error: &StreamError, right: &str, region: &str) -> Look {
    match error {
        StreamError::Denied { cause } => {
            Look::denied(what, cause).hint(format!("`{right}` on the stream (ReadTheStream in deploy/iam)"))
        }
        StreamError::Gone { .. } => {
            Look::wrong(what, format!("there is none of that name in {region} for this account"))
                .hint("its name, `aws.region`, or its ARN, which names region and account")
        }
        StreamError::Refused { cause } => Look::wrong(what, cause),
        StreamError::Again { cause } => Look::silent(what, cause),
    }
}
