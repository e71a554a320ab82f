//! A read that is stuck is seen: the reader starts anew where it stood, then the lease goes to another worker; no record
//! is lost or delivered twice on the way, and the worker stays ready.
//!
//! Every call to a service has a timeout, so here the timer that would end it is broken: it never fires.

use std::time::Duration;

use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep, Sleep};
use standpipe_emulator::{Fault, Rule, Service};
use standpipe_flow::Clock;
use standpipe_tests::fleet::Fleet;
use standpipe_worker::SharedMetrics;
use tokio::time::sleep;

const RECORDS: usize = 400;
/// A read that takes so long is stuck: 120 s and the poll interval.
const STUCK: Duration = Duration::from_secs(121);

#[derive(Debug)]
struct NeverFires;

impl AsyncSleep for NeverFires {
    fn sleep(&self, _: Duration) -> Sleep {
        Sleep::new(std::future::pending())
    }
}

fn fleet(shards: usize) -> Fleet {
    Fleet::new(shards, 5, 1)
}

fn start(fleet: &mut Fleet, name: &str) -> SharedMetrics {
    let sdk = fleet.sdk(name).to_builder().sleep_impl(SharedAsyncSleep::new(NeverFires)).build();
    fleet.start(name, sdk)
}

/// Reads of this worker whose answers never come, so many times.
fn hang(fleet: &Fleet, worker: &str, times: u32) {
    let rule = Rule::new(Service::Kinesis, Fault::DelayAnswer(3_600_000)).operation("GetRecords");
    fleet.emulator.faults().add(rule.connection(worker).times(times));
}

async fn wait_for_all(fleet: &Fleet, most: Duration) {
    let start = fleet.clock.elapsed();
    while fleet.delivered().len() < RECORDS && fleet.clock.elapsed() - start < most {
        sleep(Duration::from_secs(1)).await;
    }
}

/// The value of a series, its labels being whatever they are.
fn value(metrics: &SharedMetrics, name: &str, labelled: &str) -> Option<f64> {
    let text = metrics.encode();
    let of = |line: &&str| line.starts_with(name) && line.contains(labelled);
    text.lines().find(of).and_then(|line| line.rsplit(' ').next()?.parse().ok())
}

fn restarts(metrics: &SharedMetrics) -> Option<f64> {
    value(metrics, "standpipe_read_restarts_total{", "reason=\"stuck\"")
}

#[tokio::test(start_paused = true)]
async fn a_read_whose_answer_never_comes_is_begun_anew_where_it_stood() {
    let mut fleet = fleet(1);
    let metrics = start(&mut fleet, "lone");
    sleep(Duration::from_secs(10)).await;
    hang(&fleet, "lone", 1);
    fleet.produce(RECORDS);
    sleep(STUCK - Duration::from_secs(5)).await;
    assert_eq!((fleet.delivered().len(), restarts(&metrics)), (0, Some(0.0)), "not yet");
    let age = value(&metrics, "standpipe_shard_read_age_seconds{", "shardId-").expect("the series is there");
    assert!(age > 100.0, "its age is seen: {age}");
    wait_for_all(&fleet, Duration::from_secs(30)).await;
    assert_eq!(restarts(&metrics), Some(1.0));
    sleep(Duration::from_secs(2)).await;
    assert!(value(&metrics, "standpipe_shard_read_age_seconds{", "shardId-").is_some_and(|age| age < 2.0));
    assert_eq!(fleet.owners().await, ["lone"]);
    fleet.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_connection_hangs_lets_its_lease_go_and_another_reads_the_shard() {
    let mut fleet = fleet(2);
    let hung = start(&mut fleet, "hung");
    sleep(Duration::from_secs(5)).await;
    let well = start(&mut fleet, "well");
    let mut tries = 0;
    loop {
        let mut owners = fleet.owners().await;
        owners.sort();
        if owners == ["hung", "well"] {
            break;
        }
        assert!(tries < 120, "each has one lease: {owners:?}");
        tries += 1;
        sleep(Duration::from_secs(1)).await;
    }
    hang(&fleet, "hung", u32::MAX);
    fleet.produce(RECORDS);
    sleep(STUCK + Duration::from_secs(15)).await;
    let half = fleet.delivered().len();
    assert!(0 < half && half < RECORDS, "the other shard goes on: {half}");
    assert_eq!(restarts(&hung), Some(1.0));
    wait_for_all(&fleet, STUCK + Duration::from_secs(60)).await;
    assert_eq!((restarts(&hung), restarts(&well)), (Some(2.0), Some(0.0)));
    assert_eq!(fleet.owners().await, ["well", "well"]);
    fleet.end().await;
}
