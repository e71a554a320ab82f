//! A live lease moves: the owner drains and releases, the newcomer reads on, every record is delivered once. A
//! destination that is down does not hold the move for ever, and the move makes nothing of it worse.

use std::time::Duration;

use standpipe_emulator::{Fault, Rule, Service};
use standpipe_tests::fleet::Fleet;
use tokio::time::sleep;

const SHARDS: usize = 4;
const SECOND: Duration = Duration::from_secs(1);

fn fleet() -> Fleet {
    Fleet::new(SHARDS, 10, 60)
}

fn start(fleet: &mut Fleet, name: &str) {
    fleet.start(name, fleet.sdk(name));
}

/// How many leases a worker has.
async fn of(fleet: &Fleet, name: &str) -> usize {
    fleet.owners().await.iter().filter(|owner| *owner == name).count()
}

/// So many seconds of load, or until the newcomer has so many leases. How many seconds it was.
async fn load(fleet: &mut Fleet, seconds: usize, until: usize) -> usize {
    for second in 0..seconds {
        fleet.produce(20);
        sleep(SECOND).await;
        if of(fleet, "newcomer").await >= until {
            return second + 1;
        }
    }
    seconds
}

#[tokio::test(start_paused = true)]
async fn under_load_a_newcomer_has_its_share_within_seconds_and_no_record_twice() {
    let mut fleet = fleet();
    start(&mut fleet, "owner");
    load(&mut fleet, 30, usize::MAX).await;
    start(&mut fleet, "newcomer");
    let seconds = load(&mut fleet, 60, SHARDS / 2).await;
    println!("two of four leases moved {seconds} s after the newcomer's start, with an interval of 60 s");
    assert!(seconds < 20, "{seconds}: what is buffered is flushed early");
    load(&mut fleet, 20, usize::MAX).await;
    assert_eq!((of(&fleet, "owner").await, of(&fleet, "newcomer").await), (2, 2));
    fleet.end().await;
}

/// The owner cannot stage: after 30 seconds it gives the lease back as it is, and the newcomer reads the records again.
#[tokio::test(start_paused = true)]
async fn a_destination_that_is_down_for_the_owner_bounds_the_drain() {
    let mut fleet = fleet();
    start(&mut fleet, "owner");
    load(&mut fleet, 30, usize::MAX).await;
    let rule = Rule::new(Service::S3, Fault::InternalError).connection("owner");
    fleet.emulator.faults().add(rule.times(u32::MAX));
    start(&mut fleet, "newcomer");
    let seconds = load(&mut fleet, 120, SHARDS / 2).await;
    println!("two of four leases moved {seconds} s after the newcomer's start, although the owner could not drain");
    assert!((30..60).contains(&seconds), "{seconds}");
    fleet.emulator.faults().clear();
    load(&mut fleet, 120, usize::MAX).await;
    fleet.end().await;
}

/// The owner has committed and cannot publish: the newcomer publishes the owner's commits, and nothing is read again.
#[tokio::test(start_paused = true)]
async fn what_the_owner_committed_and_could_not_publish_is_published_by_the_newcomer() {
    let mut fleet = fleet();
    start(&mut fleet, "owner");
    load(&mut fleet, 30, usize::MAX).await;
    let rule = Rule::new(Service::S3, Fault::InternalError).operation("CompleteMultipartUpload").connection("owner");
    fleet.emulator.faults().add(rule.times(u32::MAX));
    start(&mut fleet, "newcomer");
    let seconds = load(&mut fleet, 120, SHARDS / 2).await;
    println!("two of four leases moved {seconds} s after the newcomer's start, although the owner could not publish");
    assert!((30..60).contains(&seconds), "{seconds}");
    sleep(10 * SECOND).await;
    // Before the newcomer's own first batch is due.
    assert!(!fleet.delivered().is_empty(), "the newcomer publishes what the owner could not");
    fleet.emulator.faults().clear();
    load(&mut fleet, 120, usize::MAX).await;
    fleet.end().await;
}
