//! What the leases' upkeep has done, shown as metrics.

use crate::worker::PipelineWorker;

impl PipelineWorker {
    /// Leases made and deleted, and hash keys that no lease covers.
    pub(crate) fn show_upkeep(&self) {
        let done = self.leases.take_upkept();
        self.metrics.leases_made.get_or_create(&self.at).inc_by(done.made);
        self.metrics.leases_deleted.get_or_create(&self.at).inc_by(done.deleted);
        self.metrics.hash_range_holes.get_or_create(&self.at).inc_by(done.holes);
        self.metrics.hash_range_hole.get_or_create(&self.at).set(i64::from(done.hole));
    }
}
