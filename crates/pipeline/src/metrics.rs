//! What the pipeline counts. Names, labels and units as in `docs/reference/metrics.md`; `prometheus-client` adds the
//! `_total` of counters. Shard series are removed with the lease.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Labels of everything that one destination counts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, EncodeLabelSet)]
pub struct At {
    /// The pipeline.
    pub pipeline: String,
    /// The destination's id; empty for what is counted before it.
    pub destination: String,
}

/// [`At`] with a reason.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, EncodeLabelSet)]
pub struct Why {
    /// The pipeline.
    pub pipeline: String,
    /// The destination's id.
    pub destination: String,
    /// The reason, result, kind or id.
    pub reason: String,
}

/// [`At`] with a shard.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, EncodeLabelSet)]
pub struct OfShard {
    /// The pipeline.
    pub pipeline: String,
    /// The shard.
    pub shard: String,
}

/// [`At`] with a transform and what became of records in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, EncodeLabelSet)]
pub struct OfStage {
    /// The pipeline.
    pub pipeline: String,
    /// The destination whose own transform it is; empty for those of the pipeline.
    pub destination: String,
    /// The transform: its key in the config.
    pub stage: String,
    /// What became of records.
    pub result: String,
}

impl At {
    /// With a reason.
    pub fn why(&self, reason: &str) -> Why {
        Why { pipeline: self.pipeline.clone(), destination: self.destination.clone(), reason: reason.to_owned() }
    }

    /// With a shard.
    pub fn shard(&self, shard: &str) -> OfShard {
        OfShard { pipeline: self.pipeline.clone(), shard: shard.to_owned() }
    }
}

type Seconds = Gauge<f64, AtomicU64>;

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $name:ident: $labels:ty => $metric:ty, $text:literal;)+) => {
        /// Every family that a worker exports from its pipelines.
        #[derive(Clone, Debug, Default)]
        pub struct Metrics {
            $($(#[doc = $help])+ pub $name: Family<$labels, $metric>,)+
        }

        impl Metrics {
            /// Makes the families and registers them.
            pub fn new(registry: &mut Registry) -> Self {
                let metrics = Self::default();
                $(registry.register($text, concat!($($help),+).trim_start(), metrics.$name.clone());)+
                metrics
            }
        }
    };
}

metrics! {
    /// Records read from the stream
    source_records: At => Counter, "source_records";
    /// Bytes of record data read from the stream
    source_bytes: At => Counter, "source_bytes";
    /// User records read: those of KPL aggregates, and whole records
    source_user_records: At => Counter, "source_user_records";
    /// User records of KPL aggregates whose hash key lies outside their shard; out_of_range says whether they are delivered
    source_subrecords_out_of_range: At => Counter, "source_subrecords_out_of_range";
    /// Records that begin like a KPL aggregate and are none; delivered as they are
    source_broken_aggregates: At => Counter, "source_broken_aggregates";
    /// Reads that failed and were tried again
    source_errors: Why => Counter, "source_errors";
    /// Shards that are read now, by way: polling, fan_out
    source_shards: Why => Gauge, "source_shards";
    /// Subscriptions of enhanced fan-out that ended or were not granted, by reason; renewed is the regular one
    source_efo_reconnects: Why => Counter, "source_efo_reconnects";
    /// How far the last read was behind the newest record of its shard, in seconds
    source_lag_seconds: OfShard => Seconds, "source_lag_seconds";
    /// How long the present read of a shard is under way, in seconds; 0 while its reader waits for memory
    shard_read_age_seconds: OfShard => Seconds, "shard_read_age_seconds";
    /// Readers that were started anew because a read was stuck or the reader had died, by reason
    read_restarts: Why => Counter, "read_restarts";
    /// Leases of unfinished shards, as this worker last saw the table
    leases: At => Gauge, "leases";
    /// Leases of unfinished shards that no living worker owns, as this worker last saw the table
    leases_unassigned: At => Gauge, "leases_unassigned";
    /// How long the oldest of them has been without a living owner, in seconds
    lease_unassigned_age_seconds: At => Seconds, "lease_unassigned_age_seconds";
    /// How long the lease that was taken last had been without a living owner, in seconds
    lease_takeover_seconds: At => Seconds, "lease_takeover_seconds";
    /// Leases held
    leases_held: At => Gauge, "leases_held";
    /// Leases taken, new or from another worker
    leases_taken: At => Counter, "leases_taken";
    /// Leases made for shards that had none
    leases_made: At => Counter, "leases_made";
    /// Leases deleted because the stream does not keep their shards any more
    leases_deleted: At => Counter, "leases_deleted";
    /// Ranges of hash keys that no lease covered in three scans
    hash_range_holes: At => Counter, "hash_range_holes";
    /// Whether hash keys are without a lease now; 1 is an alarm
    hash_range_hole: At => Gauge, "hash_range_hole";
    /// Leases lost, by reason
    lease_lost: Why => Counter, "lease_lost";
    /// Time that records waited for transforms, in seconds, all shards together
    transform_seconds: At => Counter<f64, AtomicU64>, "transform_seconds";
    /// Records by what became of them in a transform: passed, dropped, failed
    transform_records: OfStage => Counter, "transform_records";
    /// Attempts to ask a Lambda function, by how they ended
    lambda_attempts: Why => Counter, "lambda_attempts";
    /// Time that attempts to ask a Lambda function took, in seconds, all together
    lambda_seconds: At => Counter<f64, AtomicU64>, "lambda_seconds";
    /// Requests that wait because a Lambda function cannot be asked: an alarm, an operator must act
    lambda_waiting: At => Gauge, "lambda_waiting";
    /// Whether a destination is detached, so that it does not hold up the others; 1 while its batches cannot be staged
    destination_detached: At => Gauge, "destination_detached";
    /// Times that a destination was detached
    destination_detaches: At => Counter, "destination_detaches";
    /// Bytes of record data buffered
    buffer_bytes: At => Gauge, "buffer_bytes";
    /// Batches cut, by reason
    buffer_flush: Why => Counter, "buffer_flush";
    /// Records delivered, rejected ones not included
    delivery_records: At => Counter, "delivery_records";
    /// Bytes of delivered outputs, after encoding
    delivery_bytes: At => Counter, "delivery_bytes";
    /// Outputs made visible
    delivery_outputs: At => Counter, "delivery_outputs";
    /// Requests to the destination that were tried again, by step
    delivery_retries: Why => Counter, "delivery_retries";
    /// Age of the last record of the slowest shard in the last batch when it became visible, in seconds
    delivery_data_freshness_seconds: At => Seconds, "delivery_data_freshness_seconds";
    /// Records that became error records, by output type
    error_records: Why => Counter, "error_records";
    /// Commits by result: done, dead, unclear, gave_up
    commits: Why => Counter, "commits";
    /// What takes found and what became of it: nothing, committed, done, retracted, recognised, adopted
    recoveries: Why => Counter, "recoveries";
    /// Commits that are decided and not yet visible
    publish_pending: At => Gauge, "publish_pending";
    /// Commits that the destination refuses to make visible; the data is safe
    publish_blocked: At => Gauge, "publish_blocked";
    /// Leases given up for a human to look at
    commit_quarantined: At => Gauge, "commit_quarantined";
    /// Records of commits that a destination refused for too long; of Redshift, they wait for `standpipe redrive`
    given_up_records: At => Counter, "given_up_records";
    /// Commits of which part was visible when the rest was lost
    incidents: At => Counter, "incidents";
    /// Broken invariants, by id
    invariant_violations: Why => Counter, "invariant_violations";
    /// Leases whose checkpoint stands still because their rows name a destination that the config lacks
    checkpoint_held_back: At => Gauge, "checkpoint_held_back";
    /// Positions that were older than the stream's retention when reading began
    records_possibly_expired: At => Counter, "records_possibly_expired";
}
