//! What a stream is made of: ListShards with its filters and pages, ListStreams and the descriptions.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::KinesisError;
use super::stream::{ShardMeta, Stream, StreamState, shard_id, shard_index};
use super::{Kinesis, StreamRef};

/// The pages of ListShards: default and most (API reference).
const PAGE: usize = 1000;
const PAGE_MAX: usize = 10_000;
/// A NextToken lives so long (API reference).
const TOKEN_LIFE_MILLIS: u64 = 300_000;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListShards {
    #[serde(flatten)]
    stream: StreamRef,
    next_token: Option<String>,
    exclusive_start_shard_id: Option<String>,
    max_results: Option<usize>,
    shard_filter: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    #[serde(rename = "Type")]
    kind: String,
    shard_id: Option<String>,
    timestamp: Option<f64>,
}

/// Which shards are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    AtLatest,
    AtTrimHorizon,
    FromTrimHorizon,
    At(u64),
    From(u64),
}

impl Filter {
    fn which(&self) -> Result<(Which, Option<usize>), KinesisError> {
        let millis = || {
            self.timestamp
                .map(|secs| (secs * 1000.0).max(0.0) as u64)
                .ok_or_else(|| KinesisError::argument(format!("ShardFilter {} needs a Timestamp", self.kind)))
        };
        let which = match self.kind.as_str() {
            "AT_LATEST" => Which::AtLatest,
            "AT_TRIM_HORIZON" => Which::AtTrimHorizon,
            "FROM_TRIM_HORIZON" => Which::FromTrimHorizon,
            "AT_TIMESTAMP" => Which::At(millis()?),
            "FROM_TIMESTAMP" => Which::From(millis()?),
            "AFTER_SHARD_ID" => {
                let id = self.shard_id.as_deref().unwrap_or_default();
                let index = shard_index(id)
                    .ok_or_else(|| KinesisError::argument("ShardFilter AFTER_SHARD_ID needs a ShardId"))?;
                return Ok((Which::All, Some(index)));
            }
            other => return Err(KinesisError::validation(format!("{other} is not a ShardFilterType"))),
        };
        Ok((which, None))
    }
}

impl Which {
    fn code(self) -> (u8, u64) {
        match self {
            Which::All => (0, 0),
            Which::AtLatest => (1, 0),
            Which::AtTrimHorizon => (2, 0),
            Which::FromTrimHorizon => (3, 0),
            Which::At(millis) => (4, millis),
            Which::From(millis) => (5, millis),
        }
    }

    fn from_code(code: u64, millis: u64) -> Option<Self> {
        Some(match code {
            0 => Which::All,
            1 => Which::AtLatest,
            2 => Which::AtTrimHorizon,
            3 => Which::FromTrimHorizon,
            4 => Which::At(millis),
            5 => Which::From(millis),
            _ => return None,
        })
    }

    /// Whether the shard is listed, given the oldest instant that the stream still holds.
    fn lists(self, meta: &ShardMeta, stream: &Stream, horizon_millis: u64) -> bool {
        let expired = meta.closed.is_some_and(|closed| closed.at_millis < horizon_millis);
        match self {
            // A shard whose last record is past the retention is EXPIRED: it does not exist any more.
            Which::All => !expired,
            Which::AtLatest => meta.is_open(),
            Which::FromTrimHorizon => !expired,
            Which::AtTrimHorizon => open_at(meta, stream, horizon_millis),
            Which::At(millis) => open_at(meta, stream, millis.max(horizon_millis)),
            Which::From(millis) => meta.closed.is_none_or(|closed| closed.at_millis >= millis.max(horizon_millis)),
        }
    }
}

fn open_at(meta: &ShardMeta, stream: &Stream, millis: u64) -> bool {
    if millis <= stream.created_millis {
        return meta.parents.is_empty();
    }
    meta.created_millis <= millis && meta.closed.is_none_or(|closed| millis < closed.at_millis)
}

/// Where the next page of ListShards begins.
struct Page {
    stream: String,
    which: Which,
    after: Option<usize>,
    issued_millis: u64,
}

impl Page {
    fn encode(&self) -> String {
        let (code, millis) = self.which.code();
        let after = self.after.map_or(0, |index| index + 1);
        let text = format!("L:{code}:{millis}:{after}:{}:{}", self.issued_millis, self.stream);
        base64_simd::STANDARD.encode_to_string(text)
    }

    fn decode(text: &str) -> Option<Self> {
        let text = String::from_utf8(base64_simd::STANDARD.decode_to_vec(text).ok()?).ok()?;
        let mut fields = text.strip_prefix("L:")?.splitn(5, ':');
        let mut number = || fields.next()?.parse::<u64>().ok();
        let which = Which::from_code(number()?, number()?)?;
        let after = usize::try_from(number()?).ok()?.checked_sub(1);
        Some(Self { which, after, issued_millis: number()?, stream: fields.next()?.to_owned() })
    }
}

impl Kinesis {
    pub(super) fn list_shards(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        let request: ListShards = super::parse(body)?;
        let now = self.now();
        let page = self.page(&request, now)?;
        let most = request.max_results.unwrap_or(PAGE);
        if most == 0 || most > PAGE_MAX {
            return Err(KinesisError::validation("MaxResults must be between 1 and 10000"));
        }
        let stream = self.named(&page.stream)?;
        let horizon = now.saturating_sub(self.retention_millis).max(stream.created_millis);
        let state = crate::trace::lock(&stream.state);
        let first = page.after.map_or(0, |index| index + 1);
        let mut listed = state
            .shards
            .iter()
            .skip(first)
            .map(|shard| &shard.meta)
            .filter(|meta| page.which.lists(meta, &stream, horizon));
        let shards: Vec<&ShardMeta> = listed.by_ref().take(most).collect();
        let more = listed.next().is_some();
        let mut body = json!({ "Shards": shards.iter().map(|meta| describe(meta, &stream)).collect::<Vec<_>>() });
        if let (true, Some(last)) = (more, shards.last()) {
            let next =
                Page { stream: stream.name.clone(), which: page.which, after: Some(last.index), issued_millis: now };
            body["NextToken"] = next.encode().into();
        }
        Ok(body.to_string().into())
    }

    fn page(&self, request: &ListShards, now: u64) -> Result<Page, KinesisError> {
        if let Some(token) = &request.next_token {
            if request.stream.is_given() || request.exclusive_start_shard_id.is_some() || request.shard_filter.is_some()
            {
                let message = "NextToken and StreamName, StreamARN, ExclusiveStartShardId or ShardFilter cannot be provided together.";
                return Err(KinesisError::argument(message));
            }
            let page = Page::decode(token).ok_or_else(|| KinesisError::argument("NextToken is invalid"))?;
            if now.saturating_sub(page.issued_millis) > TOKEN_LIFE_MILLIS {
                return Err(KinesisError::new("ExpiredNextTokenException", "NextToken has expired"));
            }
            return Ok(page);
        }
        let stream = self.stream(&request.stream)?.name.clone();
        let (which, after) = request.shard_filter.as_ref().map_or(Ok((Which::All, None)), Filter::which)?;
        let start = match &request.exclusive_start_shard_id {
            Some(id) => {
                Some(shard_index(id).ok_or_else(|| KinesisError::argument("ExclusiveStartShardId is invalid"))?)
            }
            None => None,
        };
        Ok(Page { stream, which, after: after.max(start), issued_millis: now })
    }

    pub(super) fn list_streams(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Request {
            exclusive_start_stream_name: Option<String>,
            next_token: Option<String>,
            limit: Option<usize>,
        }
        let request: Request = super::parse(body)?;
        let after = request.next_token.or(request.exclusive_start_stream_name);
        let limit = request.limit.unwrap_or(100);
        let streams = self.all();
        let mut names = streams.iter().filter(|stream| after.as_ref().is_none_or(|after| stream.name > *after));
        let page: Vec<_> = names.by_ref().take(limit).collect();
        let more = names.next().is_some();
        let mut answer = json!({
            "StreamNames": page.iter().map(|stream| stream.name.as_str()).collect::<Vec<_>>(),
            "HasMoreStreams": more,
            "StreamSummaries": page.iter().map(|stream| self.summary(stream)).collect::<Vec<_>>(),
        });
        if let (true, Some(last)) = (more, page.last()) {
            answer["NextToken"] = last.name.as_str().into();
        }
        Ok(answer.to_string().into())
    }

    pub(super) fn describe_stream_summary(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        let stream = self.stream(&super::parse(body)?)?;
        let mut summary = self.summary(&stream);
        let state = crate::trace::lock(&stream.state);
        summary["RetentionPeriodHours"] = (self.retention_millis / 3_600_000).into();
        summary["EnhancedMonitoring"] = json!([{ "ShardLevelMetrics": [] }]);
        summary["EncryptionType"] = "NONE".into();
        summary["OpenShardCount"] = state.open().len().into();
        summary["ConsumerCount"] = state.consumers.len().into();
        Ok(json!({ "StreamDescriptionSummary": summary }).to_string().into())
    }

    pub(super) fn describe_stream(&self, body: &[u8]) -> Result<Bytes, KinesisError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Request {
            #[serde(flatten)]
            stream: StreamRef,
            limit: Option<usize>,
            exclusive_start_shard_id: Option<String>,
        }
        let request: Request = super::parse(body)?;
        let stream = self.stream(&request.stream)?;
        let mut description = self.summary(&stream);
        let state = crate::trace::lock(&stream.state);
        let first = request.exclusive_start_shard_id.as_deref().and_then(shard_index).map_or(0, |index| index + 1);
        let limit = request.limit.unwrap_or(100);
        let page = state.shards.iter().skip(first).take(limit);
        description["Shards"] = page.map(|shard| describe(&shard.meta, &stream)).collect();
        description["HasMoreShards"] = (first + limit < state.shards.len()).into();
        description["RetentionPeriodHours"] = (self.retention_millis / 3_600_000).into();
        description["EnhancedMonitoring"] = json!([{ "ShardLevelMetrics": [] }]);
        description["EncryptionType"] = "NONE".into();
        Ok(json!({ "StreamDescription": description }).to_string().into())
    }

    fn summary(&self, stream: &Stream) -> Value {
        let state = crate::trace::lock(&stream.state);
        let status = status(&state, stream, self.now());
        let mode = if state.on_demand { "ON_DEMAND" } else { "PROVISIONED" };
        json!({
            "StreamName": stream.name,
            "StreamARN": stream.arn(),
            "StreamStatus": status,
            "StreamModeDetails": { "StreamMode": mode },
            "StreamCreationTimestamp": stream.created_millis as f64 / 1000.0,
        })
    }
}

fn status(state: &StreamState, stream: &Stream, now: u64) -> &'static str {
    let reshaped = state.shards.iter().any(|shard| shard.meta.created_millis > stream.created_millis);
    match (now < state.busy_until_millis, reshaped) {
        (false, _) => "ACTIVE",
        (true, false) => "CREATING",
        (true, true) => "UPDATING",
    }
}

fn describe(meta: &ShardMeta, stream: &Stream) -> Value {
    let mut sequence = json!({ "StartingSequenceNumber": stream.number(meta.index, meta.starting_counter) });
    if let Some(closed) = meta.closed {
        sequence["EndingSequenceNumber"] = stream.number(meta.index, closed.ending_counter).into();
    }
    let mut shard = json!({
        "ShardId": meta.id(),
        "HashKeyRange": {
            "StartingHashKey": meta.hash_start.to_string(),
            "EndingHashKey": meta.hash_end.to_string(),
        },
        "SequenceNumberRange": sequence,
    });
    if let Some(parent) = meta.parents.first() {
        shard["ParentShardId"] = shard_id(*parent).into();
    }
    if let Some(adjacent) = meta.parents.get(1) {
        shard["AdjacentParentShardId"] = shard_id(*adjacent).into();
    }
    shard
}
