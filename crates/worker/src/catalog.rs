//! The stream's shards, for the lease coordinator, which knows no Kinesis.

use async_trait::async_trait;
use standpipe_flow::SequenceNumber;
use standpipe_lease::ShardInfo;
use standpipe_lease::coordinator::ShardCatalog;
use standpipe_source::{Catalog, ShardFilter};

use crate::incarnation::{Identity, Incarnation};

/// ListShards, of the stream that was there at the start and no other.
#[derive(Debug)]
pub(crate) struct Shards(pub Catalog, pub Identity);

#[async_trait]
impl ShardCatalog for Shards {
    async fn list(&self) -> Result<Vec<ShardInfo>, String> {
        let shards = self.0.shards(ShardFilter::All).await.map_err(|error| error.to_string())?;
        let info = |shard: standpipe_source::ShardInfo| {
            Ok(ShardInfo {
                id: shard.id,
                parents: shard.parents,
                hash_range: shard.hash_range,
                starting_sequence: SequenceNumber::parse(shard.starting_sequence).map_err(|error| error.to_string())?,
                open: !shard.closed,
            })
        };
        // Asked after the list: it is of this stream if the stream is still the same then.
        match self.1.ask().await {
            Incarnation::Same => shards.into_iter().map(info).collect(),
            Incarnation::Another => Err("the stream was made anew under its name".to_owned()),
            Incarnation::Unknown => Err("the stream does not say which one it is".to_owned()),
        }
    }
}
