//! Whether the stream is still the one that was there at the start. A stream that was deleted and made anew under its
//! name has shards of the same ids, and none of the records that the leases speak of: nothing of it may be read under
//! them. Start-up refuses it (`spStream`); this notices it while running, and the pipeline drains and ends.
//!
//! Asked with every list of the shards, when reads say that a shard is gone, and by the readers themselves before they
//! use an iterator that names no sequence number (`standpipe_source::Stream::pin`).

use standpipe_flow::Millis;
use standpipe_source::{Catalog, StreamIdentity};
use tokio::sync::watch;
use tracing::error;

/// What the stream says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Incarnation {
    /// It is the one that was there at the start.
    Same,
    /// It is another one, of the same name.
    Another,
    /// It does not answer, or is not there.
    Unknown,
}

/// Asks the stream who it is, and tells the pipeline once it is another.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    catalog: Catalog,
    created: Millis,
    replaced: watch::Sender<Option<String>>,
}

impl Identity {
    /// The stream as the start found it.
    pub(crate) fn new(catalog: Catalog, stream: &StreamIdentity) -> Self {
        Self { catalog, created: stream.created, replaced: watch::Sender::new(None) }
    }

    /// Becomes `Some` with the reason when the stream is another one.
    pub(crate) fn replaced(&self) -> watch::Receiver<Option<String>> {
        self.replaced.subscribe()
    }

    /// Asks.
    pub(crate) async fn ask(&self) -> Incarnation {
        match self.catalog.identity().await {
            Ok(stream) if stream.created == self.created => Incarnation::Same,
            Ok(stream) => {
                let cause = format!(
                    "stream {} was deleted and made anew (created at {} ms, the leases belong to the one of {} ms): it is \
                     another stream, and needs another lease table; reading has stopped",
                    stream.arn, stream.created.0, self.created.0
                );
                if self.replaced.send_replace(Some(cause.clone())).is_none() {
                    error!(cause, "the stream is not the one that was there at the start");
                }
                Incarnation::Another
            }
            Err(_) => Incarnation::Unknown,
        }
    }
}
