//! What a delivery loop tells: the log, the metrics, the map of holdings. Effects of the protocol that ask nothing of a
//! service end here.

use standpipe_flow::{Held, LeaseKey, OutputKind, Receipt};
use tracing::{debug, error, info, warn};

use super::{Loop, Order};
use crate::invariant::Invariant;
use crate::metrics::{At, Metrics};
use crate::protocol::{Effect, Note};

impl Loop {
    /// Effects that ask nothing of a service.
    pub(super) fn tell(&mut self, effect: Effect) {
        let (metrics, at) = (&self.context.metrics, &self.context.at);
        match effect {
            Effect::Settle { lease, tenure, position } => {
                self.context.holdings.settle(&lease, tenure, &self.id, position);
            }
            Effect::WalkAway { lease, tenure, why } => {
                warn!(shard = %lease, why, "walking away from a lease, to take it again");
                self.close(&lease, tenure);
                self.order(Order::WalkAway { lease, tenure });
            }
            Effect::HandsOff { lease, tenure, why } => {
                error!(shard = %lease, why, "hands off: a human must look at this lease");
                self.order(Order::HandsOff { lease, tenure });
            }
            Effect::Dead { cid, why } => {
                info!(cid = %cid, why, "a batch will not be committed");
                metrics.commits.get_or_create(&at.why("dead")).inc();
            }
            Effect::Delivered { receipt, by_us: true } => {
                self.delivered(&receipt);
                if receipt.outputs.iter().any(|output| matches!(output.held, Held::Slice { .. })) {
                    self.effects.spawn(self.context.clone().clear(*receipt));
                }
            }
            Effect::Delivered { receipt, by_us: false } => {
                debug!(cid = %receipt.cid, "another worker had delivered it already");
            }
            Effect::Incident { receipt, lost } => {
                metrics.incidents.get_or_create(at).inc();
                let keys: Vec<&str> = lost.iter().map(|output| output.key.as_str()).collect();
                error!(cid = %receipt.cid, ?keys, "part of a commit was visible when the rest was lost: records repeat");
                self.effects.spawn(self.context.clone().incident(*receipt, lost));
            }
            Effect::Note(note) => {
                info!(recovery = label(note), "recovered");
                metrics.recoveries.get_or_create(&at.why(label(note))).inc();
            }
            other => unreachable!("carried out elsewhere: {other:?}"),
        }
    }

    pub(super) fn breach(&self, lease: &LeaseKey, broken: Invariant, what: &str) {
        self.context.metrics.invariant_violations.get_or_create(&self.context.at.why(broken.id())).inc();
        error!(shard = %lease, invariant = broken.id(), what, "an invariant is broken");
    }

    fn delivered(&mut self, receipt: &Receipt) {
        let (metrics, at) = (&self.context.metrics, &self.context.at);
        if receipt.gave_up {
            let records: u64 = receipt.outputs.iter().filter(|o| o.kind == OutputKind::Data).map(|o| o.records).sum();
            metrics.commits.get_or_create(&at.why("gave_up")).inc();
            metrics.given_up_records.get_or_create(at).inc_by(records);
            error!(cid = %receipt.cid, records, "given up: what was refused waits, for Redshift for `standpipe redrive`");
            return;
        }
        metrics.commits.get_or_create(&at.why("done")).inc();
        let errors: u64 = receipt.outputs.iter().filter(|o| o.kind == OutputKind::Error).map(|o| o.records).sum();
        metrics.delivery_records.get_or_create(at).inc_by(receipt.records.saturating_sub(errors));
        metrics.delivery_bytes.get_or_create(at).inc_by(receipt.bytes);
        metrics.delivery_outputs.get_or_create(at).inc_by(receipt.outputs.len() as u64);
        if let Some(oldest) = receipt.shards.iter().filter_map(|shard| shard.arrival).min() {
            let age = self.context.clock.wall().since(oldest).as_secs_f64();
            metrics.delivery_data_freshness_seconds.get_or_create(at).set(age);
        }
        let many = receipt.outputs.len() > OUTPUTS_NAMED_MAX;
        for output in &receipt.outputs {
            let (bucket, key, records, bytes) = (&output.bucket, &output.key, output.records, output.size);
            if output.kind == OutputKind::Error {
                warn!(cid = %receipt.cid, bucket, key, records, bytes, "error records delivered");
            } else if many {
                debug!(cid = %receipt.cid, bucket, key, records, bytes, "delivered");
            } else {
                info!(cid = %receipt.cid, bucket, key, records, bytes, "delivered");
            }
        }
        // What a destination took by itself is named by no output.
        if many || receipt.outputs.iter().all(|output| output.kind != OutputKind::Data) {
            let (outputs, records, bytes) = (receipt.outputs.len(), receipt.records, receipt.bytes);
            info!(cid = %receipt.cid, outputs, records, bytes, "delivered");
        }
    }
}

/// Outputs of a commit that the log names one by one.
const OUTPUTS_NAMED_MAX: usize = 16;

/// What alerts are made of is there from the start: a series that appears with its first step hides that step.
pub(super) fn begin_at_zero(metrics: &Metrics, at: &At) {
    let gauges = [
        &metrics.publish_blocked,
        &metrics.publish_pending,
        &metrics.commit_quarantined,
        &metrics.destination_detached,
    ];
    gauges.into_iter().for_each(|gauge| drop(gauge.get_or_create(at)));
    let counters = [
        &metrics.incidents,
        &metrics.delivery_records,
        &metrics.delivery_bytes,
        &metrics.delivery_outputs,
        &metrics.given_up_records,
    ];
    counters.into_iter().for_each(|counter| drop(counter.get_or_create(at)));
    drop(metrics.commits.get_or_create(&at.why("done")));
    drop(metrics.destination_detaches.get_or_create(at));
    for broken in [Invariant::I9, Invariant::I15] {
        drop(metrics.invariant_violations.get_or_create(&at.why(broken.id())));
    }
    Note::ALL.into_iter().for_each(|note| drop(metrics.recoveries.get_or_create(&at.why(label(note)))));
}

fn label(note: Note) -> &'static str {
    match note {
        Note::FoundNothing => "nothing",
        Note::FoundCommitted => "committed",
        Note::FoundDone => "done",
        Note::FoundRetracted => "found_retracted",
        Note::FoundDeclared => "declared",
        Note::Retracted => "retracted",
        Note::Recognised => "recognised",
        Note::Adopted => "adopted",
    }
}
