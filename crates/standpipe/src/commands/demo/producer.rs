//! The demo's producer: orders into the stream at a steady rate, and which shard each went to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use standpipe_emulator::Emulator;
use standpipe_flow::Millis;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::orders::Order;
use super::scene::STREAM;

/// Records are produced in small groups, so often.
const TICK: Duration = Duration::from_millis(20);

/// What was produced so far, for the display.
#[derive(Debug, Default)]
pub struct Progress {
    records: AtomicU64,
}

impl Progress {
    /// Records in the stream.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }
}

/// Everything that was produced.
#[derive(Debug, Default)]
pub struct Produced {
    /// The shard of each order, by its id: a place in `shards`.
    pub shard_of: Vec<u16>,
    /// The ids of the shards.
    pub shards: Vec<String>,
    /// Bytes of record data.
    pub bytes: u64,
}

/// Produces until `stop`.
pub async fn produce(
    emulator: Arc<Emulator>,
    rate: u32,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<Produced> {
    let mut produced = Produced::default();
    let mut places = BTreeMap::new();
    let begin = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(produced),
            _ = ticks.tick() => {}
        }
        let due = (begin.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        let from = produced.shard_of.len() as u64;
        // After a pause of the machine it does not make up for more than a second.
        let due = due.min(from + u64::from(rate));
        let now = Millis(emulator.now_millis());
        let record = |id| {
            let order = Order::new(id);
            let data = order.json(now);
            (order.customer, Bytes::from(data))
        };
        let records: Vec<_> = (from..due).map(record).collect();
        let placed = emulator.put_records(STREAM, &records).context("the stream takes no records")?;
        for (placed, (_, data)) in placed.into_iter().zip(&records) {
            let next = places.len();
            let place = *places.entry(placed.shard_id).or_insert_with_key(|id| {
                produced.shards.push(id.clone());
                next as u16
            });
            produced.shard_of.push(place);
            produced.bytes += data.len() as u64;
        }
        progress.records.store(produced.shard_of.len() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use standpipe_emulator::Options;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn orders_come_at_their_rate_and_go_to_every_shard() {
        let emulator = Emulator::new(Options::new(Arc::new(|| 1_769_904_000_000))).expect("in memory");
        emulator.create_stream(STREAM, 4).expect("made");
        let (stop, progress) = (CancellationToken::new(), Arc::new(Progress::default()));
        let after = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            stop.cancel();
        };
        let producing = produce(emulator, 1000, progress.clone(), stop.clone());
        let produced = tokio::join!(producing, after).0.expect("it produces");
        assert!((1_980..=2_000).contains(&produced.shard_of.len()), "{}", produced.shard_of.len());
        assert_eq!(progress.records(), produced.shard_of.len() as u64);
        assert_eq!(produced.shards.len(), 4);
        assert!((0..4).all(|shard| produced.shard_of.contains(&shard)));
    }
}
