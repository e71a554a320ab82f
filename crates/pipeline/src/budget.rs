//! The bytes that all buffers of the process may hold. A reader takes its share before it reads, the share rides on the
//! chunk, and comes back when the batch is staged. So a destination that is down makes the readers wait.
//!
//! Never here: which batch is cut when the budget is spent; [`Budget::pressure`] only says that somebody waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Bytes in one permit of the semaphore: 1 KiB keeps 4 TiB within its `u32` counts.
const UNIT_BYTES: usize = 1024;

/// One budget for the process.
#[derive(Debug)]
pub struct Budget {
    units: Arc<Semaphore>,
    total_units: usize,
    waiting: AtomicUsize,
    pressed: Notify,
}

/// A share of the budget; given back when dropped.
#[derive(Debug)]
pub struct Share {
    permit: Option<OwnedSemaphorePermit>,
    budget: Arc<Budget>,
}

impl Budget {
    /// A budget of so many bytes, at least 1 MiB.
    pub fn new(bytes: u64) -> Arc<Self> {
        let units = usize::try_from(bytes / UNIT_BYTES as u64).unwrap_or(usize::MAX);
        let total_units = units.clamp(1024, (u32::MAX as usize).min(Semaphore::MAX_PERMITS));
        Arc::new(Self {
            units: Arc::new(Semaphore::new(total_units)),
            total_units,
            waiting: AtomicUsize::new(0),
            pressed: Notify::new(),
        })
    }

    /// Bytes in all.
    pub fn total_bytes(&self) -> u64 {
        (self.total_units * UNIT_BYTES) as u64
    }

    /// Bytes given out.
    pub fn used_bytes(&self) -> u64 {
        ((self.total_units.saturating_sub(self.units.available_permits())) * UNIT_BYTES) as u64
    }

    /// Waits for a share, first come first served; never for more than the whole budget.
    ///
    /// Cancel-safe: a dropped future has taken nothing.
    pub async fn take(self: &Arc<Self>, bytes: usize) -> Share {
        let units = bytes.div_ceil(UNIT_BYTES).clamp(1, self.total_units) as u32;
        if let Ok(permit) = self.units.clone().try_acquire_many_owned(units) {
            return Share { permit: Some(permit), budget: self.clone() };
        }
        let _waiting = Waiting::enter(self);
        let permit = self.units.clone().acquire_many_owned(units).await.ok();
        Share { permit, budget: self.clone() }
    }

    /// Whether a reader waits for memory.
    pub fn pressure(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Returns once a reader has begun to wait since the last call.
    ///
    /// Cancel-safe: a notice that was not taken stays.
    pub async fn pressed(&self) {
        self.pressed.notified().await;
    }
}

struct Waiting<'a>(&'a Budget);

impl<'a> Waiting<'a> {
    fn enter(budget: &'a Budget) -> Self {
        budget.waiting.fetch_add(1, Ordering::Relaxed);
        // Several loops share the budget: the ones that wait hear it, and the next to wait finds the notice.
        budget.pressed.notify_waiters();
        budget.pressed.notify_one();
        Self(budget)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Share {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, |permit| permit.num_permits() * UNIT_BYTES)
    }

    /// Makes the share fit what was really read. What came back larger than expected is charged if the budget has it,
    /// and otherwise let pass once: the answer is already in memory, and the next reader waits.
    pub fn fit(&mut self, bytes: usize) {
        let units = bytes.div_ceil(UNIT_BYTES).max(1);
        let Some(permit) = self.permit.as_mut() else { return };
        let held = permit.num_permits();
        if held > units {
            drop(permit.split(held - units));
        } else if held < units
            && let Ok(more) = self.budget.units.clone().try_acquire_many_owned((units - held) as u32)
        {
            permit.merge(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_waits_until_a_share_comes_back() {
        let budget = Budget::new(4 << 20);
        let first = budget.take(3 << 20).await;
        assert_eq!(budget.used_bytes(), 3 << 20);
        assert!(!budget.pressure());
        let second = budget.take(2 << 20);
        tokio::pin!(second);
        tokio::select! {
            biased;
            _ = &mut second => panic!("there is no room"),
            () = budget.pressed() => {}
        }
        assert!(budget.pressure());
        drop(first);
        assert_eq!(second.await.bytes(), 2 << 20);
        assert!(!budget.pressure());
    }

    #[tokio::test]
    async fn a_share_is_fitted_to_what_was_read_and_never_asks_for_more_than_all() {
        let budget = Budget::new(2 << 20);
        let mut share = budget.take(usize::MAX).await;
        assert_eq!(share.bytes(), 2 << 20);
        share.fit(10);
        assert_eq!(budget.used_bytes(), 1024);
        share.fit(1 << 20);
        assert_eq!(budget.used_bytes(), 1 << 20);
        drop(share);
        assert_eq!(budget.used_bytes(), 0);
    }
}
