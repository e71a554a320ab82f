//! The stream's shards, for the lease coordinator, which knows no Kinesis.

use async_trait::async_trait;
use standpipe_flow::SequenceNumber;
use standpipe_lease::ShardInfo;
use standpipe_lease::coordinator::ShardCatalog;
use standpipe_source::{Catalog, ShardFilter};

/// ListShards.
#[derive(Debug)]
pub(crate) struct Shards(pub Catalog);

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
        shards.into_iter().map(info).collect()
    }
}
