//! A shard of which reads say that it is gone: has it ended, or does its stream not answer?
//!
//! Never here: what its end means.

use std::time::Duration;

use standpipe_flow::{ChildShard, LeaseKey};
use tracing::warn;

use crate::incarnation::{Identity, Incarnation};

/// A shard of which reads say that it is gone. One answer proves nothing: an endpoint that restarts says so too.
pub(crate) struct Gone {
    pub catalog: standpipe_source::Catalog,
    pub identity: Identity,
    pub lease: LeaseKey,
}

impl Gone {
    /// The children of a shard that its stream, the same as at the start, does not list any more; `None` if it is listed.
    /// Asked until there is an answer: a stream that is gone, or another one, is an alarm and never a finished shard.
    pub(crate) async fn confirm(&self) -> Option<Vec<ChildShard>> {
        let shard = self.lease.shard();
        loop {
            tokio::time::sleep(GONE_PAUSE).await;
            let shards = self.catalog.shards(standpipe_source::ShardFilter::All).await;
            // Asked after the list. Another stream of the name may well list a shard of this id.
            let same = match self.identity.ask().await {
                Incarnation::Same => true,
                Incarnation::Another => std::future::pending().await, // the pipeline has been told, and ends
                Incarnation::Unknown => false,
            };
            match shards {
                Ok(shards) if same && shards.iter().any(|listed| listed.id == shard) => return None,
                Ok(shards) if same && !shards.is_empty() => {
                    let children = shards.into_iter().filter(|listed| listed.parents.contains(&shard));
                    let child = |listed: standpipe_source::ShardInfo| ChildShard {
                        id: listed.id,
                        parents: listed.parents,
                        hash_range: listed.hash_range,
                    };
                    return Some(children.map(child).collect());
                }
                Ok(_) => warn!(shard = %shard, "the stream does not say which one it is; waiting"),
                Err(error) => warn!(shard = %shard, %error, "the stream does not say what became of the shard"),
            }
        }
    }
}

/// Before the stream is asked about a shard that reads say is gone, and between two such questions.
const GONE_PAUSE: Duration = Duration::from_secs(2);
