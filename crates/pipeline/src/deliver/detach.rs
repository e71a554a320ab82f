//! `on_destination_failure: isolate`: a destination that would hold up the others is detached.
//!
//! It holds at most its part of the budget. When it has that, its oldest batch has been staging for a while, and another
//! destination goes on, it drops what is buffered and not cut, and reads nothing. Once its batches are staged (or dead) it
//! orders reads again from where they ended: a reader of its own catches up with the others.
//! With `stop`, or as the only one, it is never detached: readers wait for it.
//! Never here: what is cut. A batch that is being staged is kept: it is all that is asked of the destination meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use standpipe_flow::LeaseKey;
use tracing::{info, warn};

use super::{Loop, Order};

/// Staging is no reason to be detached before it has taken so long: at a destination that answers it is over by then.
const PATIENCE: Duration = Duration::from_secs(10);
/// While a destination has its part of the budget, whether others go on is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Loop {
    /// Whether it has others beside it that must not be held up.
    fn gives_way(&self) -> bool {
        self.isolate && !self.holder.alone()
    }

    /// Whether it holds its part of the budget: what is buffered is cut.
    pub(super) fn is_full(&self) -> bool {
        self.gives_way() && self.holder.bytes() >= self.holder.part_bytes()
    }

    /// Bytes of batches that are not staged.
    fn unstaged_bytes(&self) -> usize {
        self.attempts.values().flat_map(|attempt| &attempt.holds).map(super::Hold::bytes).sum()
    }

    /// Whether one more batch may be begun: what is cut cannot be dropped when the destination is detached.
    pub(super) fn may_hold_another_batch(&self) -> bool {
        let unstaged = self.unstaged_bytes();
        let more = usize::try_from(self.size_bytes).unwrap_or(usize::MAX);
        unstaged == 0 || !self.gives_way() || unstaged.saturating_add(more) <= self.holder.part_bytes()
    }

    /// When to look again, although nothing has happened here.
    pub(super) fn look_again(&self, now: Duration) -> Option<Duration> {
        (self.detached.is_none() && self.is_full()).then_some(now + LOOK_AGAIN)
    }

    pub(super) fn detach_or_come_back(&mut self, now: Duration) {
        if self.detached.is_some() {
            if self.unstaged_bytes() == 0 {
                self.come_back();
            }
        } else if self.is_full() && self.waits(now) && self.holder.others_go_on() {
            self.detach();
        }
    }

    /// Whether a batch is being staged, and has been for longer than a destination that answers takes.
    fn waits(&self, now: Duration) -> bool {
        let unstaged = self.attempts.values().filter(|attempt| !attempt.holds.is_empty());
        unstaged.map(|attempt| attempt.made_at).min().is_some_and(|oldest| now.saturating_sub(oldest) >= PATIENCE)
    }

    fn detach(&mut self) {
        let (metrics, at) = (self.context.metrics.clone(), self.context.at.clone());
        warn!(destination = %self.id, held_bytes = self.holder.bytes(), "detached: it would hold up the other \
            destinations; what is not delivered is read again when it answers");
        metrics.destination_detaches.get_or_create(&at).inc();
        metrics.destination_detached.get_or_create(&at).set(1);
        self.holder.set_detached(true);
        let mut detached = BTreeSet::new();
        for (lease, (tenure, _)) in self.epochs.clone() {
            // What is on its way out is bounded by the drain; of what is read to its end nothing more comes.
            if self.drains.contains_key(&lease) {
                continue;
            }
            self.batcher.step_back(&lease);
            if self.batcher.next(&lease, tenure).is_some() {
                self.new_epoch(&lease, tenure); // what is still on its way is void
                self.order(Order::Detach { lease: lease.clone(), tenure });
                detached.insert(lease);
            }
        }
        self.detached = Some(detached);
    }

    fn come_back(&mut self) {
        let leases: BTreeSet<LeaseKey> = self.detached.take().unwrap_or_default();
        info!(destination = %self.id, leases = leases.len(), "its batches are staged: reading for it again");
        self.context.metrics.destination_detached.get_or_create(&self.context.at).set(0);
        self.holder.set_detached(false);
        for lease in leases {
            if self.is_collecting(&lease) {
                self.waiting.insert(lease);
            } else if let Some((tenure, _)) = self.epochs.get(&lease).copied() {
                self.read_on(lease, tenure);
            }
        }
    }
}
