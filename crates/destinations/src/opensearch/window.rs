//! How many requests are under way: one more for each that was taken in time, half as many when the server is busy.
//!
//! Shared by all batches of a destination. A decrease counts once for all requests that were under way when it came.
//! Never here: a clock, a request.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Requests under way at most: more than a few busy a node's write queue and gain nothing.
const MOST: f64 = 8.0;
/// And in the beginning.
const FIRST: f64 = 2.0;

/// The window.
#[derive(Debug)]
pub(super) struct Window {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    limit: f64,
    used: usize,
    /// Counts decreases.
    epoch: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { state: Mutex::new(State { limit: FIRST, used: 0, epoch: 0 }), freed: Notify::new() }
    }
}

/// A place in the window; free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    window: &'a Window,
    epoch: u64,
}

impl Window {
    /// Waits for a place. Cancel-safe.
    pub(super) async fn place(&self) -> Place<'_> {
        loop {
            let freed = self.freed.notified();
            if let Some(place) = self.try_place() {
                return place;
            }
            freed.await;
        }
    }

    fn try_place(&self) -> Option<Place<'_>> {
        let mut state = self.state();
        if state.used >= state.limit as usize {
            return None;
        }
        state.used += 1;
        Some(Place { window: self, epoch: state.epoch })
    }

    /// Requests that may be under way now.
    #[cfg(test)]
    pub(super) fn limit(&self) -> usize {
        self.state().limit as usize
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing that panics is done under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// The request was taken.
    pub(super) fn taken(&self) {
        let mut state = self.window.state();
        state.limit = (state.limit + 1.0 / state.limit).min(MOST);
        drop(state);
        self.window.freed.notify_one();
    }

    /// The server is busy.
    pub(super) fn busy(&self) {
        let mut state = self.window.state();
        if state.epoch == self.epoch {
            state.limit = (state.limit / 2.0).max(1.0);
            state.epoch += 1;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.window.state().used -= 1;
        self.window.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_opens_slowly_and_closes_by_half_once_for_what_was_under_way() {
        let window = Window::default();
        assert_eq!(window.limit(), 2);
        for _ in 0..100 {
            window.try_place().expect("a place").taken();
        }
        assert_eq!(window.limit(), 8);
        let places: Vec<_> = std::iter::from_fn(|| window.try_place()).collect();
        assert_eq!(places.len(), 8);
        places.iter().for_each(Place::busy);
        assert_eq!(window.limit(), 4, "eight refusals of one moment are one");
        drop(places);
        for expected in [2, 1, 1] {
            window.try_place().expect("a place").busy();
            assert_eq!(window.limit(), expected);
        }
    }

    #[tokio::test]
    async fn a_place_is_waited_for() {
        let window = Window::default();
        let (first, _second) = (window.place().await, window.place().await);
        assert!(window.try_place().is_none());
        let (third, ()) = tokio::join!(window.place(), async { drop(first) });
        assert!(window.try_place().is_none());
        drop(third);
        assert!(window.try_place().is_some());
    }
}
