//! What the world did to its processes and its stream, with the instants: the other half of what the failure matrix is
//! counted from.

use std::collections::BTreeMap;

/// One thing that the world did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// `kill -9` of the process behind a connection.
    Kill(String),
    /// SIGTERM of the process behind a connection.
    Stop(String),
    /// A process starts; whether its wall clock is wrong, and which buffer interval it has.
    Start { who: String, skewed: bool, interval: u64 },
    /// A service cannot be reached by anybody.
    Away(&'static str),
    /// An open shard is split, at the order of a client or of the service.
    Split(String),
    /// Two open shards are merged.
    Merge(String, String),
    /// The stream is scaled.
    Scale { from: u64, to: u64 },
    /// Nobody can write to this bucket.
    Down(&'static str),
    /// Somebody else aborts the upload of this key.
    Abort(String),
    /// A consumer has read this object and deleted it.
    Consume(String),
    /// Everybody is gone for longer than the stream keeps records; whether the uploads are gone too.
    FleetDown { uploads_gone: bool },
}

impl Deed {
    /// Its name in the list of events.
    fn event(&self) -> String {
        match self {
            Self::Kill(_) => "killed".into(),
            Self::Stop(_) => "stopped".into(),
            Self::Start { .. } => "started".into(),
            Self::Away(service) => (*service).into(),
            Self::Split(_) => "split".into(),
            Self::Merge(..) => "merged".into(),
            Self::Scale { .. } => "scaled".into(),
            Self::Down(_) => "one of several destinations down".into(),
            Self::Abort(_) => "upload aborted by others".into(),
            Self::Consume(_) => "object deleted by its consumer".into(),
            Self::FleetDown { .. } => "fleet down".into(),
        }
    }
}

/// Everything that the world did, in order.
#[derive(Debug, Default)]
pub(super) struct Moments {
    /// Instants are epoch milliseconds.
    pub(super) deeds: Vec<(u64, Deed)>,
    /// How often what happened.
    pub(super) events: BTreeMap<String, u64>,
}

impl Moments {
    /// Notes a deed.
    pub(super) fn note(&mut self, at: u64, deed: Deed) {
        self.count(&deed.event());
        self.deeds.push((at, deed));
    }

    /// Counts an event.
    pub(super) fn count(&mut self, event: &str) {
        *self.events.entry(event.to_owned()).or_default() += 1;
    }
}
