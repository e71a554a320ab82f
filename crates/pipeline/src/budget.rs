//! The bytes that all buffers of the process may hold. A reader takes its share before it reads, the share rides on the
//! chunk, and comes back when the batch is staged. So a destination that is down makes the readers wait.
//!
//! Copies of a chunk for several destinations share its share. A destination counts what it holds ([`Holder`]), so that it
//! can be told from the others which one holds them up.
//!
//! Never here: which batch is cut when the budget is spent; [`Budget::pressure`] only says that somebody waits.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

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
    holders: Mutex<Vec<Weak<Holder>>>,
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
            holders: Mutex::default(),
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

    /// One more destination that holds chunks, until it is dropped.
    pub fn holder(self: &Arc<Self>) -> Arc<Holder> {
        let holder =
            Arc::new(Holder { budget: self.clone(), bytes: AtomicUsize::new(0), detached: AtomicBool::new(false) });
        self.holders.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&holder));
        holder
    }

    fn holders(&self) -> Vec<Arc<Holder>> {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.retain(|holder| holder.strong_count() > 0);
        holders.iter().filter_map(Weak::upgrade).collect()
    }
}

/// What one destination holds: the chunks in its buffers, and those of its batches that are not staged.
#[derive(Debug)]
pub struct Holder {
    budget: Arc<Budget>,
    bytes: AtomicUsize,
    /// It is detached: it reads nothing.
    detached: AtomicBool,
}

/// A chunk that a destination holds; no more when dropped.
#[derive(Debug)]
pub struct Hold {
    holder: Arc<Holder>,
    /// What it weighs. Copies at other destinations share it.
    share: Arc<Share>,
}

impl Holder {
    /// It holds a chunk.
    pub fn hold(self: &Arc<Self>, share: Arc<Share>) -> Hold {
        self.bytes.fetch_add(share.bytes(), Ordering::Relaxed);
        Hold { holder: self.clone(), share }
    }

    /// Bytes held, those shared with others included.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What it may hold while others go on: all of them the same.
    pub fn part_bytes(&self) -> usize {
        self.budget.total_units * UNIT_BYTES / self.budget.holders().len().max(1)
    }

    /// It is detached, or comes back.
    pub fn set_detached(&self, detached: bool) {
        self.detached.store(detached, Ordering::Relaxed);
    }

    /// Whether it is the only one.
    pub fn alone(&self) -> bool {
        self.budget.holders().len() <= 1
    }

    /// Whether another one could go on: it reads, and holds less than its part.
    pub fn others_go_on(&self) -> bool {
        let part = self.part_bytes();
        let goes_on = |other: &Arc<Holder>| !other.detached.load(Ordering::Relaxed) && other.bytes() < part;
        self.budget.holders().iter().any(|other| !std::ptr::eq(other.as_ref(), self) && goes_on(other))
    }
}

impl Hold {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.share.bytes()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holder.bytes.fetch_sub(self.share.bytes(), Ordering::Relaxed);
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

    /// Adds another share of the same budget to it.
    pub fn merge(&mut self, mut other: Self) {
        match (self.permit.as_mut(), other.permit.take()) {
            (Some(permit), Some(more)) => permit.merge(more),
            (None, more) => self.permit = more,
            (_, None) => {}
        }
    }

    /// Takes so many bytes out of it as a share of their own: what there is, if it is less.
    pub fn split(&mut self, bytes: usize) -> Self {
        let permit = self.permit.as_mut().and_then(|permit| {
            let units = bytes.div_ceil(UNIT_BYTES).min(permit.num_permits());
            permit.split(units)
        });
        Self { permit, budget: self.budget.clone() }
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

    #[tokio::test]
    async fn copies_weigh_on_each_destination_and_once_on_the_budget() {
        let budget = Budget::new(4 << 20);
        let (one, two) = (budget.holder(), budget.holder());
        assert_eq!(one.part_bytes(), 2 << 20);
        let mut share = budget.take(3 << 20).await;
        let small = Arc::new(share.split(1 << 20));
        let share = Arc::new(share);
        let holds = [one.hold(share.clone()), two.hold(share), two.hold(small)];
        assert_eq!((one.bytes(), two.bytes(), budget.used_bytes()), (2 << 20, 3 << 20, 3 << 20));
        assert!(!one.others_go_on() && !two.others_go_on(), "both have their part");
        let [first, second, third] = holds;
        drop(first);
        assert_eq!((one.bytes(), budget.used_bytes()), (0, 3 << 20), "the other still holds it");
        assert!(two.others_go_on());
        one.set_detached(true);
        assert!(!two.others_go_on(), "who is detached is not held up");
        drop((second, third, one));
        assert!(two.alone());
        assert_eq!((two.bytes(), budget.used_bytes(), two.part_bytes()), (0, 0, 4 << 20));
    }
}
