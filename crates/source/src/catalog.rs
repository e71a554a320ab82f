//! What is known of a stream beside its records: which shards it has, and which stream it is.
//!
//! Control data: asked seldom, tried again a few times with growing pauses. Shards are returned as ListShards lists
//! them; what they mean for leases (parents first, holes) is not decided here.

use std::fmt;
use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use aws_sdk_kinesis::types;
use aws_smithy_types::DateTime;
use standpipe_flow::{ChildShard, HashRange, Millis, ShardId};

use crate::answer::hash_range;
use crate::backoff::Backoff;
use crate::errors::{Failure, Kind, StreamError};
use crate::quota::After;
use crate::stream::Stream;

/// Tries of one call.
const TRIES: u32 = 5;
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);
/// ListShards gives so many shards a page at most (API reference).
const PAGE_SHARDS: i32 = 10_000;
/// A NextToken lives 300 s (API reference); a listing that lost it starts over so often.
const LISTINGS_MAX: u32 = 3;

/// A shard, as ListShards describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardInfo {
    /// Its id.
    pub id: ShardId,
    /// The shards it came from: none, one after a split, two after a merge. They may be gone from the stream already.
    pub parents: Vec<ShardId>,
    /// The hash keys it covers.
    pub hash_range: HashRange,
    /// The smallest sequence number it can hold.
    pub starting_sequence: String,
    /// Whether it takes no more records (its range has an end).
    pub closed: bool,
}

/// Which shards are asked for (ListShards, `ShardFilter`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShardFilter {
    /// Every shard that still holds records, open or closed.
    All,
    /// Those that were open at the trim horizon.
    AtTrimHorizon,
    /// Those that are open now.
    AtLatest,
    /// Those that were open at an instant.
    AtTimestamp(Millis),
}

/// Where a stream is in its life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StreamStatus {
    /// Not yet to be used.
    Creating,
    /// On its way out.
    Deleting,
    /// To be used.
    Active,
    /// Being resharded, or changed otherwise; to be used meanwhile.
    Updating,
    /// A status that this program does not know.
    Other(String),
}

/// Which stream it is: one that was deleted and created again under its name has another creation time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamIdentity {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// When it was created.
    pub created: Millis,
    /// How long it keeps records.
    pub retention: Duration,
    /// Where it is in its life.
    pub status: StreamStatus,
    /// How many shards are open.
    pub open_shards: u32,
}

impl fmt::Display for StreamStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "CREATING",
            Self::Deleting => "DELETING",
            Self::Active => "ACTIVE",
            Self::Updating => "UPDATING",
            Self::Other(text) => text,
        })
    }
}

/// Which stream its readers mean: one that was made anew under the name is another.
#[derive(Debug, Default)]
pub(crate) struct Pinned {
    created: OnceLock<Millis>,
    /// When the last question began that the same stream answered.
    same_at: tokio::sync::Mutex<Option<Duration>>,
}

impl Pinned {
    pub(crate) fn pin(&self, created: Millis) {
        // A stream is pinned once, by whoever starts with it.
        let _ = self.created.set(created);
    }
}

/// Asks a stream about itself.
#[derive(Clone, Debug)]
pub struct Catalog {
    pub(crate) stream: Stream,
}

impl Catalog {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream }
    }

    /// Which stream it is (DescribeStreamSummary). Cancel-safe.
    pub async fn identity(&self) -> Result<StreamIdentity, StreamError> {
        let summary = self.ask(|| self.describe()).await?;
        let open_shards = u32::try_from(summary.open_shard_count).unwrap_or(0);
        let hours = u64::try_from(summary.retention_period_hours).unwrap_or(0);
        Ok(StreamIdentity {
            name: summary.stream_name,
            arn: summary.stream_arn,
            created: millis(&summary.stream_creation_timestamp),
            retention: Duration::from_secs(hours * 3600),
            status: match summary.stream_status {
                types::StreamStatus::Creating => StreamStatus::Creating,
                types::StreamStatus::Deleting => StreamStatus::Deleting,
                types::StreamStatus::Active => StreamStatus::Active,
                types::StreamStatus::Updating => StreamStatus::Updating,
                other => StreamStatus::Other(other.as_str().to_owned()),
            },
            open_shards,
        })
    }

    /// Whether what the service said until `since` came from the pinned stream. A sequence number names its stream and
    /// the service refuses it anywhere else; TRIM_HORIZON and a time do not, so an iterator made of them is only used
    /// after this. Readers that ask at once share an answer. Cancel-safe.
    pub(crate) async fn still_the_same(&self, since: Duration) -> Result<(), Failure> {
        let pinned = &self.stream.pinned;
        let Some(created) = pinned.created.get() else { return Ok(()) };
        let mut same_at = pinned.same_at.lock().await;
        if same_at.is_some_and(|at| at >= since) {
            return Ok(());
        }
        let begun = self.stream.clock().elapsed();
        let summary = self.tried(|| self.describe()).await?;
        if millis(&summary.stream_creation_timestamp) != *created {
            return Err(Failure::new(Kind::Gone, "the stream was deleted and made anew under its name"));
        }
        *same_at = Some(begun);
        Ok(())
    }

    /// The shards of the stream, every page of them (ListShards). Cancel-safe.
    pub async fn shards(&self, filter: ShardFilter) -> Result<Vec<ShardInfo>, StreamError> {
        let mut listings = 0;
        loop {
            match self.listing(filter).await {
                Err(Failure { kind: Kind::Iterator, .. }) if listings < LISTINGS_MAX => listings += 1,
                other => return other.map_err(Failure::into_error),
            }
        }
    }

    /// The children of a closed shard, as ListShards names them; `None` while it is open. They may be gone, if the
    /// shard is older than the stream keeps records. `Gone` if the stream no longer lists the shard itself.
    pub async fn children(&self, parent: &ShardId) -> Result<Option<Vec<ChildShard>>, StreamError> {
        let shards = self.shards(ShardFilter::All).await?;
        let Some(own) = shards.iter().find(|shard| shard.id == *parent) else {
            return Err(StreamError::Gone { cause: format!("{parent} is not listed") });
        };
        let children = shards.iter().filter(|shard| shard.parents.contains(parent)).map(|shard| ChildShard {
            id: shard.id.clone(),
            parents: shard.parents.clone(),
            hash_range: shard.hash_range,
        });
        Ok(own.closed.then(|| children.collect()))
    }

    async fn listing(&self, filter: ShardFilter) -> Result<Vec<ShardInfo>, Failure> {
        let mut shards = Vec::new();
        let mut token = None;
        loop {
            let page = self.tried(|| self.page(filter, token.clone())).await?;
            for shard in page.shards.unwrap_or_default() {
                shards.push(shard_info(shard)?);
            }
            match page.next_token {
                Some(next) => token = Some(next),
                None => return Ok(shards),
            }
        }
    }

    async fn page(
        &self,
        filter: ShardFilter,
        token: Option<String>,
    ) -> Result<aws_sdk_kinesis::operation::list_shards::ListShardsOutput, Failure> {
        let stream = &self.stream;
        let request = stream.client.list_shards().max_results(PAGE_SHARDS);
        let request = match token {
            // A token names its stream and its filter; the API refuses either beside it.
            Some(token) => request.next_token(token),
            None => request
                .set_stream_name(stream.reference.name())
                .set_stream_arn(stream.reference.arn())
                .set_shard_filter(shard_filter(filter)?),
        };
        request.send().await.map_err(|error| Failure::of(&error))
    }

    async fn describe(&self) -> Result<types::StreamDescriptionSummary, Failure> {
        let stream = &self.stream;
        let request = stream.client.describe_stream_summary();
        let request = request.set_stream_name(stream.reference.name()).set_stream_arn(stream.reference.arn());
        let answer = request.send().await.map_err(|error| Failure::of(&error))?;
        answer.stream_description_summary.ok_or_else(|| Failure::new(Kind::Transient, "the description is empty"))
    }

    pub(crate) async fn ask<T, F, Fut>(&self, call: F) -> Result<T, StreamError>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        self.tried(call).await.map_err(Failure::into_error)
    }

    /// Tries a read of control data a few times: at once after the first broken connection, otherwise after a pause.
    async fn tried<T, F, Fut>(&self, call: F) -> Result<T, Failure>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LONGEST);
        let mut free = After::Now;
        for _ in 1..TRIES {
            match call().await {
                Err(Failure { kind: Kind::Transient, .. }) if free == After::Now => free = After::Later,
                Err(Failure { kind: Kind::Transient | Kind::Throttled, .. }) => {
                    tokio::time::sleep(backoff.failed(self.stream.random())).await;
                }
                other => return other,
            }
        }
        call().await
    }
}

fn shard_filter(filter: ShardFilter) -> Result<Option<types::ShardFilter>, Failure> {
    let builder = types::ShardFilter::builder();
    let builder = match filter {
        ShardFilter::All => return Ok(None),
        ShardFilter::AtTrimHorizon => builder.r#type(types::ShardFilterType::AtTrimHorizon),
        ShardFilter::AtLatest => builder.r#type(types::ShardFilterType::AtLatest),
        ShardFilter::AtTimestamp(at) => builder.r#type(types::ShardFilterType::AtTimestamp).timestamp(date_time(at)),
    };
    builder.build().map(Some).map_err(|error| Failure::new(Kind::Refused, error.to_string()))
}

fn shard_info(shard: types::Shard) -> Result<ShardInfo, Failure> {
    let bad = |what: &str| Failure::new(Kind::Transient, format!("ListShards names {} without {what}", shard.shard_id));
    let hash_range = shard.hash_key_range.as_ref().and_then(hash_range).ok_or_else(|| bad("a hash key range"))?;
    let sequences = shard.sequence_number_range.as_ref().ok_or_else(|| bad("a sequence number range"))?;
    let parents = shard.parent_shard_id.iter().chain(&shard.adjacent_parent_shard_id);
    Ok(ShardInfo {
        parents: parents.map(ShardId::new).collect(),
        hash_range,
        starting_sequence: sequences.starting_sequence_number.clone(),
        closed: sequences.ending_sequence_number.is_some(),
        id: ShardId::new(shard.shard_id),
    })
}

/// The instant as the SDK carries it.
pub(crate) fn date_time(millis: Millis) -> DateTime {
    DateTime::from_millis(i64::try_from(millis.0).unwrap_or(i64::MAX))
}

fn millis(time: &DateTime) -> Millis {
    Millis(time.to_millis().ok().and_then(|millis| u64::try_from(millis).ok()).unwrap_or(0))
}
