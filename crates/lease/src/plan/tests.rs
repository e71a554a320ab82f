use standpipe_flow::{CommitId, DestinationId, DestinationPosition, Pending, Position};

use super::*;
use crate::testing::at;

const FAILOVER: Duration = Duration::from_secs(10);
const NOW: Duration = Duration::from_secs(1000);
const LIVE: Duration = Duration::from_secs(5);
const EXPIRED: Duration = Duration::from_secs(11);
const VERY_OLD: Duration = Duration::from_secs(31);

fn key(n: usize) -> LeaseKey {
    LeaseKey::new(format!("shardId-{n:012}"))
}

/// Lease `n`, owned by `owner` (nobody if empty), unchanged for `age`.
fn seen(n: usize, owner: &str, age: Duration) -> Observed {
    let mut row = LeaseRow::new(key(n));
    if !owner.is_empty() {
        row.owner = Some(WorkerId::new(owner));
        row.tenure = Some(tenure(&WorkerId::new(owner), 1));
    }
    Observed { row, unchanged_since: NOW - age, left_by: None, moved_at: None, waited_since: NOW, unpinned: false }
}

fn waits(mut seen: Observed, next: &str) -> Observed {
    seen.row.next = Some(WorkerId::new(next));
    seen
}

#[derive(Default)]
struct Me {
    held: BTreeSet<LeaseKey>,
    ours: BTreeSet<LeaseKey>,
    busy: BTreeSet<LeaseKey>,
    leases_max: Option<usize>,
    failover: Option<Duration>,
    stole_at: Option<Duration>,
    fresh: bool,
}

impl Me {
    fn holding(leases: &[usize]) -> Self {
        Self { held: leases.iter().copied().map(key).collect(), ..Self::default() }
    }

    fn plan(&self, observed: &[Observed]) -> Vec<Action> {
        plan(&View {
            me: &WorkerId::new("me"),
            now: NOW,
            failover: self.failover.unwrap_or(FAILOVER),
            leases_max: self.leases_max.unwrap_or(usize::MAX),
            observed,
            held: &self.held,
            ours: &self.ours,
            busy: &self.busy,
            stole_at: self.stole_at,
            fresh: self.fresh,
        })
        .actions
    }
}

fn takes(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Take(_))).count()
}

#[test]
fn simple_lease_take() {
    assert_eq!(Me::default().plan(&[seen(0, "", LIVE)]), [Action::Take(key(0))]);
}

#[test]
fn an_updated_lease_is_not_taken() {
    assert_eq!(Me::default().plan(&[seen(0, "other", LIVE)]), []);
}

#[test]
fn an_expired_lease_is_taken_and_so_is_ones_own() {
    assert_eq!(Me::default().plan(&[seen(0, "other", EXPIRED)]), [Action::Take(key(0))]);
    assert_eq!(Me::default().plan(&[seen(0, "me", EXPIRED)]), [Action::Take(key(0))]);
    let exactly = Duration::from_secs(10);
    assert_eq!(Me::default().plan(&[seen(0, "other", exactly)]), [], "not before the failover time is over");
}

#[test]
fn a_newly_owned_lease_is_not_taken() {
    assert_eq!(Me::default().plan(&[seen(0, "other", Duration::ZERO)]), []);
}

#[test]
fn what_this_process_walked_away_from_is_taken_again_at_once() {
    let me = Me { ours: [key(0)].into(), ..Me::default() };
    assert_eq!(me.plan(&[seen(0, "me", Duration::ZERO)]), [Action::Take(key(0))]);
    // Another process that was given the same id by mistake waits for the expiry like everybody.
    assert_eq!(Me::default().plan(&[seen(0, "me", Duration::ZERO)]), []);
}

#[test]
fn non_greedy_take() {
    // Three workers, six leases: two each.
    let table = [
        seen(0, "a", LIVE),
        seen(1, "a", LIVE),
        seen(2, "b", LIVE),
        seen(3, "", Duration::ZERO),
        seen(4, "", Duration::ZERO),
        seen(5, "", Duration::ZERO),
    ];
    assert_eq!(takes(&Me::default().plan(&table)), 2);
    assert_eq!(takes(&Me::holding(&[3]).plan(&table)), 1);
    assert_eq!(takes(&Me::holding(&[3, 4]).plan(&table)), 0);
}

#[test]
fn no_more_than_the_configured_number_is_held() {
    let table: Vec<_> = (0..6).map(|n| seen(n, "", VERY_OLD)).collect();
    let me = |held: &[usize]| Me { leases_max: Some(2), ..Me::holding(held) };
    assert_eq!(takes(&me(&[]).plan(&table)), 2);
    assert_eq!(takes(&me(&[0]).plan(&table)), 1);
    assert_eq!(takes(&me(&[0, 1]).plan(&table)), 0);
}

#[test]
fn very_old_leases_are_taken_beyond_the_fair_share_one_a_round() {
    let table = |age| [seen(0, "me", LIVE), seen(1, "a", LIVE), seen(2, "", age), seen(3, "b", age)];
    let me = Me::holding(&[0]);
    // `a` and `b` count as members while they live: a share of two, of which one is held.
    assert_eq!(takes(&me.plan(&table(EXPIRED))), 1);
    let me = Me { leases_max: Some(1), ..Me::holding(&[0]) };
    assert_eq!(takes(&me.plan(&table(VERY_OLD))), 0);
    let full =
        [seen(0, "me", LIVE), seen(1, "a", LIVE), seen(4, "a", LIVE), seen(2, "me", LIVE), seen(3, "", VERY_OLD)];
    assert_eq!(takes(&Me::holding(&[0, 2, 5]).plan(&full)), 1);
}

#[test]
fn finished_unknown_and_busy_leases_are_left_alone() {
    let mut ended = seen(0, "", LIVE);
    ended.row.checkpoint = Position::ShardEnd;
    let mut unknown = seen(1, "", LIVE);
    unknown.row.version = Some(2);
    let mut mode = seen(2, "", LIVE);
    let pending = Pending { to: at(2), cid: CommitId([1; 16]), mode: PendingMode::Unknown };
    let position = DestinationPosition { at: at(1), arrival: None, pending: Some(pending) };
    mode.row.destinations.insert(DestinationId::new("lake"), position);
    let me = Me { busy: [key(3)].into(), ..Me::default() };
    assert_eq!(me.plan(&[ended, unknown, mode, seen(3, "", LIVE)]), []);
}

#[test]
fn a_released_lease_is_left_to_the_worker_that_waits_for_it_for_three_seconds() {
    let fresh = waits(seen(0, "", Duration::from_secs(2)), "newcomer");
    assert_eq!(Me::default().plan(&[fresh]), []);
    let late = waits(seen(0, "", Duration::from_secs(3)), "newcomer");
    assert_eq!(Me::default().plan(&[late]), [Action::Take(key(0))]);
    let mine = waits(seen(0, "", Duration::ZERO), "me");
    assert_eq!(Me::default().plan(&[mine]), [Action::Take(key(0))]);
}

/// Regression: at a failover time of 2 s a dead newcomer held a released lease up for longer than a dead owner would.
#[test]
fn a_released_lease_waits_for_no_longer_than_an_owned_one_would() {
    let me = Me { failover: Some(Duration::from_secs(2)), ..Me::default() };
    let fresh = waits(seen(0, "", Duration::from_millis(1_400)), "newcomer");
    assert_eq!(me.plan(&[fresh]), []);
    let late = waits(seen(0, "", Duration::from_millis(1_500)), "newcomer");
    assert_eq!(me.plan(&[late]), [Action::Take(key(0))]);
}

#[test]
fn a_newcomer_that_died_does_not_hold_a_lease_up() {
    // Three leases; the one given up for the newcomer must come back although the others fill my share.
    let table = [seen(0, "me", LIVE), seen(1, "me", LIVE), waits(seen(2, "", Duration::from_secs(4)), "dead")];
    assert_eq!(Me::holding(&[0, 1]).plan(&table), [Action::Take(key(2))]);
}

#[test]
fn a_worker_without_leases_asks_the_one_with_most_for_exactly_one() {
    let table = [seen(0, "a", LIVE), seen(1, "a", LIVE), seen(2, "b", LIVE), seen(3, "b", LIVE), seen(4, "b", LIVE)];
    let actions = Me::default().plan(&table);
    let [Action::Ask { lease, owner }] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(owner, &WorkerId::new("b"));
    assert!([key(2), key(3), key(4)].contains(lease));
    assert_eq!(Me::default().plan(&table), actions, "deterministic");
    let one = [table[..4].to_vec(), vec![seen(5, "me", LIVE)]].concat();
    assert_eq!(Me::holding(&[5]).plan(&one), [], "one more or less is no reason to move");
}

#[test]
fn nobody_asks_while_waiting_nor_for_a_lease_that_another_waits_for() {
    let two = [seen(0, "a", LIVE), seen(1, "a", LIVE), seen(2, "a", LIVE)];
    let mut table = two.to_vec();
    table[0] = waits(table[0].clone(), "me");
    assert_eq!(Me::default().plan(&table), []);
    let mut table = two.to_vec();
    table[0] = waits(table[0].clone(), "b");
    let actions = Me::default().plan(&table);
    assert!(matches!(&actions[..], [Action::Ask { lease, .. }] if *lease != key(0)), "{actions:?}");
    table[1] = waits(table[1].clone(), "c");
    assert_eq!(Me::default().plan(&table), [], "what is left is the owner's only one");
}

#[test]
fn no_steal_when_off_by_one() {
    assert_eq!(Me::default().plan(&[seen(0, "a", LIVE), seen(1, "b", LIVE)]), [], "a worker keeps its only lease");
}

#[test]
fn nobody_is_asked_while_there_are_expired_leases() {
    let table = [seen(0, "a", LIVE), seen(1, "a", LIVE), seen(2, "dead", EXPIRED)];
    assert_eq!(Me::default().plan(&table), [Action::Take(key(2))]);
}

#[test]
fn a_round_leaves_something_for_those_that_start_at_the_same_time() {
    let table: Vec<_> = (0..100).map(|n| seen(n, "", LIVE)).collect();
    assert_eq!(takes(&Me::default().plan(&table)), 50);
    assert_eq!(takes(&Me::default().plan(&table[..4])), 4);
}

#[test]
fn takes_are_spread_so_that_workers_do_not_collide() {
    let table: Vec<_> = (0..64).map(|n| seen(n, "", LIVE)).collect();
    let nothing = BTreeSet::new();
    let first = |me: &str| -> BTreeSet<LeaseKey> {
        let me = WorkerId::new(me);
        let view = View {
            me: &me,
            now: NOW,
            failover: FAILOVER,
            leases_max: 16,
            observed: &table,
            held: &nothing,
            ours: &nothing,
            busy: &nothing,
            stole_at: None,
            fresh: true,
        };
        let lease = |action: &Action| match action {
            Action::Take(lease) => lease.clone(),
            other => panic!("{other:?}"),
        };
        plan(&view).actions.iter().map(lease).collect()
    };
    let (a, b) = (first("worker-a"), first("worker-b"));
    assert_eq!((a.len(), b.len()), (16, 16));
    assert!(a.intersection(&b).count() <= 8, "{}", a.intersection(&b).count());
}

/// Lease `n` of a Java worker.
fn java(n: usize, owner: &str, age: Duration) -> Observed {
    let mut seen = seen(n, owner, age);
    // What one of ours has left in the row before the theft.
    seen.row.tenure = Some(tenure(&WorkerId::new("me"), 7));
    seen
}

#[test]
fn a_java_worker_is_told_from_one_of_ours_by_the_tenure() {
    assert!(!foreign(&seen(0, "me", LIVE).row));
    assert!(!foreign(&seen(0, "", LIVE).row), "nobody");
    assert!(foreign(&java(0, "host:9d1", LIVE).row));
    let mut never = java(0, "host:9d1", LIVE);
    never.row.tenure = None;
    assert!(foreign(&never.row));
}

#[test]
fn steal_one_from_the_java_worker_that_has_most() {
    let table = [java(0, "j1", LIVE), java(1, "j1", LIVE), java(2, "j1", LIVE), java(3, "j2", LIVE)];
    let actions = Me::default().plan(&table);
    assert!(matches!(&actions[..], [Action::Steal(lease)] if [key(0), key(1), key(2)].contains(lease)), "{actions:?}");
    let just = Me { stole_at: Some(NOW - Duration::from_secs(19)), ..Me::default() };
    assert_eq!(just.plan(&table), [], "the KCL's taker steals one every two failover times");
    let rested = Me { stole_at: Some(NOW - Duration::from_secs(20)), ..Me::default() };
    assert_eq!(rested.plan(&table), actions);
}

#[test]
fn a_lease_without_a_position_is_left_to_a_living_java_worker() {
    let unpinned = |n| Observed { unpinned: true, ..java(n, "j1", LIVE) };
    let table = [unpinned(0), unpinned(1), java(2, "j1", LIVE), unpinned(3)];
    assert_eq!(Me::default().plan(&table), [Action::Steal(key(2))]);
    assert_eq!(Me::default().plan(&table[..2]), []);
}

#[test]
fn no_steal_when_off_by_one_beside_java_workers() {
    let table = [java(0, "j1", LIVE), java(1, "j1", LIVE), seen(2, "me", LIVE)];
    assert_eq!(Me::holding(&[2]).plan(&table), []);
    // The fair share of three workers in five leases is two: wanting two, one is stolen even from who has just that.
    let table: Vec<_> = (0..5).map(|n| java(n, ["j1", "j1", "j2", "j2", "j3"][n], LIVE)).collect();
    assert!(matches!(&Me::default().plan(&table)[..], [Action::Steal(_)]));
    let table = [table, vec![seen(5, "me", LIVE)]].concat();
    assert_eq!(Me::holding(&[5]).plan(&table), [], "wanting one, none is");
}

#[test]
fn no_steal_when_there_are_expired_leases() {
    let table = [java(0, "j1", LIVE), java(1, "j1", LIVE), java(2, "dead", EXPIRED)];
    assert_eq!(Me::default().plan(&table), [Action::Take(key(2))]);
}

#[test]
fn beside_java_workers_leases_are_counted_and_none_is_taken_beyond_the_share() {
    // Six leases, three workers: two each. A heavy one counts as one.
    let mut table: Vec<_> = (0..6).map(|n| java(n, ["j1", "j1", "j2", "j2", "", ""][n], Duration::ZERO)).collect();
    table[4].row.throughput = Some(standpipe_flow::Throughput { millionths: 900_000_000 });
    assert_eq!(takes(&Me::default().plan(&table)), 2);
    assert_eq!(
        takes(&Me::holding(&[9]).plan(&[table.clone(), vec![seen(9, "me", LIVE)]].concat())),
        2,
        "of seven, three"
    );
    assert_eq!(takes(&Me::holding(&[4, 5]).plan(&table)), 0);
}

#[test]
fn a_worker_of_ours_is_asked_also_beside_java_workers() {
    let table = [seen(0, "a", LIVE), seen(1, "a", LIVE), seen(2, "a", LIVE), java(3, "j1", LIVE)];
    assert!(matches!(&Me::default().plan(&table)[..], [Action::Ask { .. }]));
}

#[test]
fn a_stopped_java_fleet_is_taken_over_without_a_theft() {
    let table: Vec<_> = (0..3).map(|n| java(n, "gone", EXPIRED)).collect();
    assert_eq!(takes(&Me::default().plan(&table)), 3);
}

#[test]
fn what_a_worker_releases_while_it_shuts_down_is_not_for_that_worker() {
    let left = |n| Observed { left_by: Some(WorkerId::new("a")), ..seen(n, "", Duration::ZERO) };
    let table: Vec<_> = (0..8).map(|n| if n < 4 { left(n) } else { seen(n, "a", LIVE) }).collect();
    assert_eq!(takes(&Me::default().plan(&table)), 4, "all of it, at once");
}

#[test]
fn a_lease_that_has_just_moved_is_not_asked_for() {
    let moved = |n, ago| Observed { moved_at: Some(NOW - Duration::from_secs(ago)), ..seen(n, "a", LIVE) };
    let table = [moved(0, 59), moved(1, 59), moved(2, 60)];
    let actions = Me { fresh: true, ..Me::default() }.plan(&table);
    assert!(matches!(&actions[..], [Action::Ask { lease, .. }] if *lease == key(2)), "{actions:?}");
}

#[test]
fn an_owner_that_cannot_drain_holds_up_no_other_move() {
    let asked = |n, ago| Observed { waited_since: NOW - Duration::from_secs(ago), ..waits(seen(n, "a", LIVE), "me") };
    let rest: Vec<_> = (2..12).map(|n| seen(n, "a", LIVE)).collect();
    let me = Me { fresh: true, ..Me::default() };
    assert_eq!(me.plan(&[vec![asked(0, 3), asked(1, 3)], rest.clone()].concat()), [], "two at a time");
    let late = me.plan(&[vec![asked(0, 45), asked(1, 3)], rest].concat());
    assert!(matches!(&late[..], [Action::Ask { .. }]), "{late:?}");
}

#[test]
fn a_newcomer_prefers_what_evens_out_the_load() {
    let heavy = |mut seen: Observed, kb: u64| {
        seen.row.throughput = Some(standpipe_flow::Throughput { millionths: kb * 1_000_000 });
        seen
    };
    let table = [heavy(seen(0, "a", LIVE), 900), seen(1, "a", LIVE), seen(2, "a", LIVE), seen(3, "a", LIVE)];
    let actions = Me { fresh: true, ..Me::default() }.plan(&table);
    assert!(matches!(&actions[..], [Action::Ask { lease, .. }] if *lease == key(0)), "{actions:?}");
}

#[test]
fn for_the_sake_of_load_one_lease_moves_and_then_none_for_a_while() {
    let heavy = |n, owner: &str| {
        let mut seen = seen(n, owner, LIVE);
        seen.row.throughput = Some(standpipe_flow::Throughput { millionths: 500_000_000 });
        seen
    };
    let mut table = vec![heavy(0, "a"), heavy(1, "a"), heavy(2, "a"), seen(3, "me", LIVE), seen(4, "me", LIVE)];
    let me = Me::holding(&[3, 4]);
    assert!(matches!(&me.plan(&table)[..], [Action::Ask { .. }]));
    table[4].moved_at = Some(NOW - REST + Duration::from_secs(1));
    assert_eq!(me.plan(&table), []);
}
