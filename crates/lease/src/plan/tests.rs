use proptest::prelude::*;
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
    row.owner = (!owner.is_empty()).then(|| WorkerId::new(owner));
    Observed { row, unchanged_since: NOW - age }
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
}

impl Me {
    fn holding(leases: &[usize]) -> Self {
        Self { held: leases.iter().copied().map(key).collect(), ..Self::default() }
    }

    fn plan(&self, observed: &[Observed]) -> Vec<Action> {
        plan(&View {
            me: &WorkerId::new("me"),
            now: NOW,
            failover: FAILOVER,
            leases_max: self.leases_max.unwrap_or(usize::MAX),
            observed,
            held: &self.held,
            ours: &self.ours,
            busy: &self.busy,
        })
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
        seen(3, "", LIVE),
        seen(4, "", LIVE),
        seen(5, "", LIVE),
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
    assert_eq!(Me::holding(&[5]).plan(&[table.to_vec(), vec![seen(5, "me", LIVE)]].concat()), []);
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
        };
        let lease = |action: &Action| match action {
            Action::Take(lease) => lease.clone(),
            Action::Ask { .. } => panic!("an ask"),
        };
        plan(&view).iter().map(lease).collect()
    };
    let (a, b) = (first("worker-a"), first("worker-b"));
    assert_eq!((a.len(), b.len()), (16, 16));
    assert!(a.intersection(&b).count() <= 8, "{}", a.intersection(&b).count());
}

/// A table and workers that do what their plans say, one after the other, in steps of one second.
struct World {
    rows: Vec<LeaseRow>,
    workers: Vec<Worker>,
    now: Duration,
}

struct Worker {
    id: WorkerId,
    alive: bool,
    held: BTreeSet<LeaseKey>,
    seen: BTreeMap<LeaseKey, (u64, Duration)>,
}

impl World {
    fn new(leases: usize, workers: usize) -> Self {
        let worker = |n| Worker {
            id: WorkerId::new(format!("worker-{n}")),
            alive: true,
            held: BTreeSet::new(),
            seen: BTreeMap::new(),
        };
        let rows = (0..leases).map(|n| LeaseRow::new(key(n))).collect();
        Self { rows, workers: (0..workers).map(worker).collect(), now: Duration::ZERO }
    }

    /// One second: heartbeats and hand-overs, then a plan each. How many actions there were.
    fn step(&mut self) -> usize {
        self.now += Duration::from_secs(1);
        let mut actions = 0;
        for index in 0..self.workers.len() {
            if self.workers[index].alive {
                self.beat(index);
            }
        }
        for index in 0..self.workers.len() {
            if self.workers[index].alive {
                actions += self.act(index);
            }
        }
        actions
    }

    fn beat(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        for row in &mut self.rows {
            if !worker.held.contains(&row.key) {
                continue;
            }
            row.counter += 1;
            if row.next.is_some() {
                row.owner = None;
                worker.held.remove(&row.key);
            }
        }
    }

    fn act(&mut self, index: usize) -> usize {
        let now = self.now;
        let worker = &mut self.workers[index];
        let mut observed = Vec::new();
        for row in &self.rows {
            let entry = worker.seen.entry(row.key.clone()).or_insert((row.counter, now));
            if entry.0 != row.counter {
                *entry = (row.counter, now);
            }
            observed.push(Observed { row: row.clone(), unchanged_since: entry.1 });
        }
        let nothing = BTreeSet::new();
        let actions = plan(&View {
            me: &worker.id,
            now,
            failover: FAILOVER,
            leases_max: usize::MAX,
            observed: &observed,
            held: &worker.held,
            ours: &nothing,
            busy: &nothing,
        });
        for action in &actions {
            match action {
                Action::Take(lease) => {
                    let row = self.rows.iter_mut().find(|row| row.key == *lease).expect("the lease");
                    row.owner = Some(worker.id.clone());
                    row.counter += 1;
                    row.next = None;
                    worker.held.insert(lease.clone());
                }
                Action::Ask { lease, owner } => {
                    let row = self.rows.iter_mut().find(|row| row.key == *lease).expect("the lease");
                    if row.owner.as_ref() == Some(owner) && row.next.is_none() {
                        row.next = Some(worker.id.clone());
                    }
                }
            }
        }
        actions.len()
    }

    fn held(&self) -> Vec<usize> {
        self.workers.iter().filter(|worker| worker.alive).map(|worker| worker.held.len()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Workers come and die; when they have stopped doing so, every lease has exactly one living owner, every worker has
    /// one if there are enough, and then nothing moves any more.
    #[test]
    fn it_converges_and_then_nothing_moves(
        leases in 1_usize..20,
        start in 1_usize..5,
        events in proptest::collection::vec((0_u8..3, any::<prop::sample::Index>(), 1_usize..15), 0..8),
    ) {
        let mut world = World::new(leases, start);
        for (event, index, steps) in events {
            let living = world.workers.iter().filter(|worker| worker.alive).count();
            match event {
                0 => {
                    let n = world.workers.len();
                    let fresh = World::new(0, n + 1).workers.pop().expect("a worker");
                    world.workers.push(fresh);
                }
                1 if living > 1 => {
                    let index = index.index(world.workers.len());
                    let last = world.workers[index].alive && living == 1;
                    if !last {
                        world.workers[index].alive = false;
                    }
                }
                _ => {}
            }
            for _ in 0..steps {
                world.step();
            }
        }
        for _ in 0..120 {
            world.step();
        }
        for _ in 0..60 {
            prop_assert_eq!(world.step(), 0, "nothing moves any more");
        }
        let held = world.held();
        prop_assert_eq!(held.iter().sum::<usize>(), leases);
        for row in &world.rows {
            let owner = world.workers.iter().filter(|worker| worker.alive && worker.held.contains(&row.key)).count();
            prop_assert_eq!(owner, 1, "{:?}", row.key);
        }
        if leases >= held.len() {
            prop_assert!(held.iter().all(|held| *held > 0), "{held:?}");
        }
    }
}
