//! How long nobody has a lease: after a worker was told to go, after one was killed, and what one that was paused may do
//! when it wakes. Under the paused clock the figures are exact; requests travel 2 to 10 ms.

use standpipe_flow::{Clock, Random};

use super::*;
use crate::emulated::{FAILOVER, Seeded, Worker, World};

const LEASES: usize = 8;
const TRIALS: u64 = 24;

/// Half of the leases each, after a while at rest.
async fn two_workers(world: &World) -> (Worker, Worker) {
    world.open_shards(LEASES as u64);
    let mut first = world.worker("first").await;
    first.take_all(LEASES).await;
    let mut second = world.worker("second").await;
    while second.holdings.len() < LEASES / 2 {
        tokio::select! {
            event = first.event() => match event {
                LeaseEvent::HandOver { lease, tenure } => first.handle.send(Command::Release { lease, tenure }),
                other => panic!("{other:?}"),
            },
            event = second.event() => assert!(matches!(event, LeaseEvent::Taken { .. }), "{event:?}"),
        }
    }
    (first, second)
}

/// When the survivor had each lease of the other, counted from the instant that was left.
async fn taken_after(world: &World, survivor: &mut Worker, count: usize, since: Duration) -> Vec<Duration> {
    let mut after = Vec::new();
    for _ in 0..count {
        survivor.taken().await;
        after.push(world.clock.elapsed() - since);
    }
    after
}

/// `trial` many times, each in a world of its own and at another moment; all its durations, in order.
fn many<F: Future<Output = Vec<Duration>>>(name: &str, trial: impl Fn(World, Duration) -> F) -> Vec<Duration> {
    let random = Seeded::new(5);
    let mut all = Vec::new();
    for _ in 0..TRIALS {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build().expect("a runtime");
        let moment = Duration::from_millis(random.below(10_000));
        all.extend(runtime.block_on(async { trial(World::new(), moment).await }));
    }
    all.sort();
    let at = |percent: usize| all[(all.len() * percent / 100).min(all.len() - 1)];
    println!("{name}: {} leases, p50 {:?}, p99 {:?}, longest {:?}", all.len(), at(50), at(99), at(100));
    all
}

#[test]
fn a_worker_that_is_told_to_go_leaves_no_lease_alone_for_three_seconds() {
    let all = many("told to go", |world, moment| async move {
        let (mut leaving, mut peer) = two_workers(&world).await;
        leaving.quiet(Duration::from_secs(30) + moment).await;
        let since = world.clock.elapsed();
        leaving.handle.send(Command::TakeNoMore);
        let held = leaving.holdings.all();
        for held in &held {
            leaving.handle.send(Command::Release { lease: held.fence.lease.clone(), tenure: held.fence.tenure });
        }
        taken_after(&world, &mut peer, held.len(), since).await
    });
    assert_eq!(all.len(), TRIALS as usize * LEASES / 2);
    assert!(all.iter().all(|after| *after < Duration::from_secs(3)), "{:?}", all.last());
}

#[test]
fn the_leases_of_a_killed_worker_are_taken_within_a_failover_time_and_five_seconds() {
    let all = many("killed", |world, moment| async move {
        let (mut killed, mut peer) = two_workers(&world).await;
        killed.quiet(Duration::from_secs(30) + moment).await;
        let (since, count) = (world.clock.elapsed(), killed.holdings.len());
        killed.kill();
        taken_after(&world, &mut peer, count, since).await
    });
    assert_eq!(all.len(), TRIALS as usize * LEASES / 2);
    let at_most = FAILOVER + Duration::from_secs(5);
    assert!(all.iter().all(|after| *after < at_most), "{:?}", all.last());
}

#[test]
fn a_worker_that_was_paused_for_a_minute_may_commit_nothing_when_it_wakes() {
    let left = many("paused", |world, moment| async move {
        world.open_shards(LEASES as u64);
        let mut paused = world.worker("paused").await;
        paused.take_all(LEASES).await;
        paused.quiet(Duration::from_secs(10) + moment).await;
        let held = paused.holdings.all();
        // Nothing of the process runs meanwhile; this is its first look at the clock.
        tokio::time::advance(Duration::from_secs(60)).await;
        let now = world.clock.elapsed();
        let over = |held: &standpipe_flow::Holding| {
            let deadline = paused.holdings.deadline(&held.fence.lease, held.fence.tenure);
            assert!(deadline.is_none_or(|deadline| deadline < now), "it could commit");
            now.saturating_sub(deadline.unwrap_or(now))
        };
        held.iter().map(over).collect()
    });
    assert_eq!(left.len(), TRIALS as usize * LEASES);
}
