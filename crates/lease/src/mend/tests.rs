use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use standpipe_flow::deliver::ExtraObject;
use standpipe_flow::write::{self, Take};
use standpipe_flow::{
    Batch, BatchLimits, Commit, CommitId, CommitShard, DeliveryError, DestinationPosition, Fence, Finalize, Generation,
    Millis, Mode, Output, Pending, PendingMode, Position, Published, Receipt, ReceiptShard, ReceiptState, Staged,
    Tenure, WorkerId,
};

use super::count::{Area, Delivered, Floor, count};
use super::*;
use crate::LeaseEvent;
use crate::emulated::{FAILOVER, MORNING, World, cid, lease};
use crate::testing::{at, ids};

const HORIZON: Position = Position::TrimHorizon;

/// A destination of which only publishing is asked.
#[derive(Debug)]
struct Publishes(fn(&Receipt) -> Result<Published, DeliveryError>);

#[async_trait]
impl Destination for Publishes {
    fn mode(&self) -> Mode {
        Mode::Staged
    }

    fn limits(&self) -> BatchLimits {
        panic!("nothing is cut here")
    }

    async fn probe(&self) -> Result<(), DeliveryError> {
        Ok(())
    }

    async fn stage(&self, _: CommitId, _: &Arc<Batch>) -> Result<Staged, DeliveryError> {
        panic!("nothing is staged here")
    }

    async fn stage_extra(&self, _: CommitId, _: &ExtraObject) -> Result<(Output, Option<Millis>), DeliveryError> {
        panic!("nothing is staged here")
    }

    async fn publish(&self, receipt: &Receipt) -> Result<Published, DeliveryError> {
        (self.0)(receipt)
    }

    async fn discard(&self, _: &[Output]) -> Result<(), DeliveryError> {
        panic!("nothing is thrown away here")
    }

    async fn write_incident(&self, _: CommitId, _: Bytes) -> Result<(), DeliveryError> {
        panic!("a worker writes incidents")
    }
}

fn all(_: &Receipt) -> Result<Published, DeliveryError> {
    Ok(Published::All)
}

fn gone(receipt: &Receipt) -> Result<Published, DeliveryError> {
    Ok(Published::Gone { outputs: receipt.outputs.clone(), published: false })
}

fn lake() -> DestinationId {
    DestinationId::new("lake")
}

struct Fixture {
    world: World,
    mend: Mend,
}

impl Fixture {
    /// `count` leases, all taken by a worker of which nothing more is heard.
    async fn new(count: u64) -> Self {
        let world = World::still();
        let (table, commits) = world.tables().await;
        let clock = world.clock.clone();
        let destinations = BTreeMap::from([(lake(), Arc::new(Publishes(all)) as Arc<dyn Destination>)]);
        let workers = WorkerTable::new(world.dynamo(&world.connect("test")), crate::emulated::TABLE);
        let mend = Mend { table, commits, workers, destinations, clock, failover: FAILOVER };
        let fixture = Self { world, mend };
        for n in 0..count {
            fixture.mend.table.create(&LeaseRow::new(lease(n))).await.expect("made");
            fixture.take(n).await;
        }
        fixture
    }

    fn publishes(mut self, how: fn(&Receipt) -> Result<Published, DeliveryError>) -> Self {
        self.mend.destinations.insert(lake(), Arc::new(Publishes(how)));
        self
    }

    async fn take(&self, n: u64) -> LeaseRow {
        let row = self.row(n).await;
        let take = Take {
            row: &row,
            worker: &WorkerId::new("me"),
            tenure: Tenure([1; 16]),
            destinations: &ids(&["lake"]),
            retired: &ids(&[]),
        };
        self.mend.table.write(&write::take(&take)).await.expect("taken")
    }

    async fn row(&self, n: u64) -> LeaseRow {
        self.mend.table.get(&lease(n)).await.expect("an answer").expect("a row")
    }

    async fn position(&self, n: u64) -> DestinationPosition {
        self.row(n).await.destinations[&lake()].clone()
    }

    async fn state(&self, id: CommitId) -> ReceiptState {
        self.mend.commits.receipt(id).await.expect("an answer").expect("a receipt").state
    }

    fn fence(n: u64) -> Fence {
        Fence { lease: lease(n), owner: WorkerId::new("me"), tenure: Tenure([1; 16]), generation: Generation(0) }
    }

    /// Commits a range of these leases: a hundred records.
    async fn commit(&self, id: CommitId, leases: &[u64], from: &Position, to: &Position) {
        let shard = |n: &u64| CommitShard {
            fence: Self::fence(*n),
            from: from.clone(),
            from_arrival: None,
            to: to.clone(),
            previous: None,
        };
        let listed = |n: &u64| range(*n, from, to);
        let receipt = Receipt {
            gave_up: false,
            cid: id,
            state: ReceiptState::Committed,
            destination: lake(),
            shards: leases.iter().map(listed).collect(),
            outputs: Vec::new(),
            config: String::new(),
            worker: WorkerId::new("me"),
            version: "0.1.0".to_owned(),
            records: 100,
            bytes: 0,
            created_at: None,
        };
        let commit = Commit { shards: leases.iter().map(shard).collect(), receipt };
        self.mend.commits.commit(&commit).await.expect("committed");
    }

    /// ... and finalizes it.
    async fn deliver(&self, id: CommitId, leases: &[u64], from: &Position, to: &Position) {
        self.commit(id, leases, from, to).await;
        self.mend.commits.done(id, false).await.expect("done");
        for n in leases {
            let arrival = range(*n, from, to).arrival;
            let finalize = Finalize { lease: lease(*n), destination: lake(), cid: id, to: to.clone(), arrival };
            self.mend.commits.finalize(&finalize).await.expect("finalized");
        }
    }

    /// A commit in the row, of which there is no receipt.
    async fn quarantine(&self, n: u64, id: CommitId, to: &Position) {
        let mut row = self.row(n).await;
        let position = row.destinations.get_mut(&lake()).expect("a position");
        position.pending = Some(Pending { to: to.clone(), cid: id, mode: PendingMode::Staged });
        self.world.put_row(&row).await;
    }

    async fn look(&self) -> Look {
        self.mend.look(FAILOVER.mul_f64(1.1)).await.expect("a look")
    }

    async fn plan(&self, to: &To, force: bool) -> Result<ResetPlan, MendError> {
        let wanted = Wanted { leases: None, destination: None, to, force };
        self.mend.plan_reset(&self.look().await, &wanted).await
    }

    async fn settle(&self, n: u64, id: CommitId, choice: Choice) -> Result<SettlePlan, MendError> {
        let plan = self.mend.plan_settle(&self.look().await, &lease(n), id, choice).await?;
        self.mend.settle(&plan).await.map(|()| plan)
    }
}

/// A range whose last record arrived as many seconds into the morning as its number says.
fn range(n: u64, from: &Position, to: &Position) -> ReceiptShard {
    let second = if let Position::At { sequence, .. } = to { sequence.as_str().parse().unwrap_or(0) } else { 0_u64 };
    ReceiptShard {
        lease: lease(n),
        from: from.clone(),
        to: to.clone(),
        tenure: Tenure([1; 16]),
        generation: Generation(0),
        arrival: Some(Millis(MORNING.0 + second * 1000)),
    }
}

fn cause<T: std::fmt::Debug>(answer: Result<T, MendError>) -> String {
    match answer {
        Err(MendError::Refused { cause }) => cause,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_moves_positions_and_checkpoint_together_and_fences_the_owner() {
    let fixture = Fixture::new(2).await;
    fixture.deliver(cid(1), &[0, 1], &HORIZON, &at(5)).await;
    let before = fixture.row(0).await;
    let plan = fixture.plan(&To::Since(Millis(MORNING.0 + 3000)), false).await.expect("its owner is dead");
    assert_eq!(plan.repeats, Count { at_least: 0, at_most: Some(100) }, "the instant lies within the one batch");
    for reset in &plan.leases {
        assert_eq!(reset.moves[&lake()], Moves::Back);
        fixture.mend.reset(reset).await.expect("reset");
    }
    let row = fixture.row(0).await;
    assert_eq!((row.owner.clone(), row.generation, row.counter), (None, Generation(1), before.counter + 1));
    assert_eq!(
        (&row.checkpoint, row.own_checkpoint.as_ref(), row.start),
        (&HORIZON, Some(&HORIZON), Some(Millis(MORNING.0 + 3000)))
    );
    assert_eq!(fixture.position(0).await, DestinationPosition::finalized(HORIZON, None));
    let late = write::heartbeat(&Fixture::fence(0), row.counter, Some(&at(9)));
    assert!(matches!(fixture.mend.table.write(&late).await, Err(CommitError::Refused { .. })));
    assert_eq!(fixture.take(0).await.generation, Generation(1));
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_refused_while_a_worker_is_alive_and_can_be_forced() {
    let fixture = Fixture::new(0).await;
    *fixture.world.shards.0.lock().expect("shards") = vec![crate::emulated::shard(0, &[], true)];
    let mut worker = fixture.world.worker("alive").await;
    worker.taken().await;
    let refused = cause(fixture.plan(&To::Horizon, false).await);
    assert!(refused.contains("held by alive") && refused.contains("--force"), "{refused}");
    assert!(fixture.plan(&To::Horizon, true).await.expect("a plan to be shown").leases[0].held);
    let plan = fixture.plan(&To::Latest(MORNING), true).await.expect("forced");
    let row = fixture.mend.reset(&plan.leases[0]).await.expect("reset");
    assert_eq!((row.owner, row.generation, row.start), (None, Generation(1), Some(MORNING)));
    worker.lost().await;
    let (row, _) = worker.taken().await;
    assert_eq!(row.generation, Generation(1), "it goes on in the new generation");
}

#[tokio::test(start_paused = true)]
async fn a_destination_alone_goes_back_and_the_checkpoint_with_it() {
    let fixture = Fixture::new(1).await;
    let mut row = fixture.row(0).await;
    let other = DestinationId::new("other");
    row.destinations.insert(lake(), DestinationPosition::finalized(at(9), None));
    row.destinations.insert(other.clone(), DestinationPosition::finalized(at(7), None));
    fixture.world.put_row(&row).await;
    let (look, to) = (fixture.look().await, To::At(at(3)));
    let wanted = Wanted { leases: None, destination: Some(&other), to: &to, force: false };
    let plan = fixture.mend.plan_reset(&look, &wanted).await.expect("a plan");
    assert_eq!(plan.repeats, Count { at_least: 0, at_most: None }, "there are no receipts");
    let row = fixture.mend.reset(&plan.leases[0]).await.expect("reset");
    assert_eq!(
        (&row.destinations[&lake()].at, &row.destinations[&other].at, &row.checkpoint),
        (&at(9), &at(3), &at(3))
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_is_published_before_a_reset() {
    let fixture = Fixture::new(2).await;
    fixture.commit(cid(1), &[0, 1], &HORIZON, &at(5)).await;
    let plan = fixture.plan(&To::Horizon, false).await.expect("a plan");
    assert_eq!(plan.repeats, Count { at_least: 100, at_most: Some(100) });
    for reset in &plan.leases {
        assert_eq!(reset.pending, BTreeSet::from([cid(1)]));
        fixture.mend.reset(reset).await.expect("reset");
    }
    assert_eq!(fixture.state(cid(1)).await, ReceiptState::Done);
    assert_eq!(fixture.position(1).await.at, HORIZON);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_published_is_retracted_before_a_reset() {
    let fixture = Fixture::new(2).await.publishes(gone);
    fixture.commit(cid(1), &[0, 1], &HORIZON, &at(5)).await;
    let plan = fixture.plan(&To::Latest(MORNING), false).await.expect("a plan");
    fixture.mend.reset(&plan.leases[0]).await.expect("reset");
    assert_eq!(fixture.state(cid(1)).await, ReceiptState::Retracted);
    assert_eq!(fixture.position(1).await.pending, None, "cleared by the same transaction");
}

#[tokio::test(start_paused = true)]
async fn a_reset_says_why_a_quarantined_lease_cannot_move() {
    let fixture = Fixture::new(1).await;
    fixture.quarantine(0, cid(7), &at(5)).await;
    let plan = fixture.plan(&To::Horizon, false).await.expect("a plan");
    let refused = cause(fixture.mend.reset(&plan.leases[0]).await);
    assert!(refused.contains("leases settle --lease shardId-000000000000 --cid"), "{refused}");
    assert_eq!(fixture.row(0).await.generation, Generation(0));
}

#[tokio::test(start_paused = true)]
async fn a_commit_without_a_receipt_is_replayed_or_forgotten_but_never_published() {
    let fixture = Fixture::new(2).await;
    fixture.quarantine(0, cid(7), &at(5)).await;
    fixture.quarantine(1, cid(7), &at(6)).await;
    assert!(cause(fixture.settle(0, cid(7), Choice::Publish).await).contains("restore the commit table"));
    assert!(cause(fixture.settle(0, cid(8), Choice::Replay).await).contains("does not carry"));
    let plan = fixture.settle(0, cid(7), Choice::Replay).await.expect("settled");
    assert_eq!((plan.records, plan.together, plan.others), (None, vec![], vec![lease(1)]));
    assert_eq!(fixture.position(0).await, DestinationPosition::finalized(HORIZON, None));
    assert!(fixture.position(1).await.pending.is_some(), "a matter of its own");
    fixture.settle(1, cid(7), Choice::Forget).await.expect("settled");
    assert_eq!(fixture.position(1).await, DestinationPosition::finalized(at(6), None));
}

#[tokio::test(start_paused = true)]
async fn a_committed_receipt_has_one_end_for_all_its_leases() {
    for (choice, stands) in [(Choice::Replay, HORIZON), (Choice::Forget, at(5))] {
        let fixture = Fixture::new(2).await;
        fixture.commit(cid(1), &[0, 1], &HORIZON, &at(5)).await;
        let plan = fixture.settle(0, cid(1), choice).await.expect("settled");
        assert_eq!((plan.records, plan.together), (Some(100), vec![lease(1)]));
        assert_eq!(fixture.state(cid(1)).await, ReceiptState::Retracted, "nobody may publish it any more");
        for n in 0..2 {
            let position = fixture.position(n).await;
            assert_eq!((position.at, position.pending), (stands.clone(), None), "{choice:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_published_is_finalized_and_never_replayed() {
    let fixture = Fixture::new(2).await;
    fixture.commit(cid(1), &[0, 1], &HORIZON, &at(5)).await;
    fixture.settle(1, cid(1), Choice::Publish).await.expect("settled");
    assert_eq!(fixture.state(cid(1)).await, ReceiptState::Done);
    assert_eq!(fixture.position(0).await.at, at(5));
    fixture.commit(cid(2), &[0], &at(5), &at(9)).await;
    fixture.mend.commits.done(cid(2), false).await.expect("done");
    assert!(cause(fixture.settle(0, cid(2), Choice::Replay).await).contains("is published"));
    fixture.settle(0, cid(2), Choice::Forget).await.expect("the same as publishing");
    assert_eq!(fixture.position(0).await, DestinationPosition::finalized(at(9), Some(Millis(MORNING.0 + 9000))));
}

#[tokio::test(start_paused = true)]
async fn a_live_owner_is_asked_and_a_dead_one_is_not() {
    let fixture = Fixture::new(1).await;
    assert_eq!(
        fixture.mend.plan_release(&fixture.look().await, &lease(0), false).expect("a plan"),
        Release::Free { owner: WorkerId::new("me") }
    );
    *fixture.world.shards.0.lock().expect("shards") = vec![crate::emulated::shard(0, &[], true)];
    let mut worker = fixture.world.worker("alive").await;
    worker.taken().await;
    let me = WorkerId::new("somebody");
    let plan = fixture.mend.plan_release(&fixture.look().await, &lease(0), false).expect("a plan");
    assert_eq!(plan, Release::Ask { owner: WorkerId::new("alive"), next: None });
    fixture.mend.release(&lease(0), &plan, &me).await.expect("asked");
    assert!(matches!(worker.event().await, LeaseEvent::HandOver { .. }));
    let waiting = fixture.mend.await_release(&lease(0), &WorkerId::new("alive"), Duration::from_secs(1)).await;
    assert!(!waiting.expect("an answer"), "nobody here drains it");
    let again = fixture.mend.plan_release(&fixture.look().await, &lease(0), false).expect("a plan");
    assert_eq!(again, Release::Asked { owner: WorkerId::new("alive"), next: me.clone() });
    let plan = fixture.mend.plan_release(&fixture.look().await, &lease(0), true).expect("a plan");
    fixture.mend.release(&lease(0), &plan, &me).await.expect("taken away");
    worker.lost().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_with_a_heartbeat_of_its_own_is_alive_although_its_counters_stand_still() {
    let fixture = Fixture::new(0).await;
    fixture.world.open_shards(1);
    let settings = fixture.world.settings("alive");
    let settings = crate::LeaseSettings { heartbeat: crate::HeartbeatMode::PerWorker, ..settings };
    let mut worker = fixture.world.worker_with(settings).await;
    worker.taken().await;
    tokio::time::sleep(FAILOVER * 2).await;
    let look = fixture.look().await;
    assert_eq!(look.moving, BTreeSet::from([lease(0)]));
    worker.kill();
    let look = fixture.look().await;
    assert!(look.expired(&fixture.row(0).await, FAILOVER));
}

#[tokio::test(start_paused = true)]
async fn a_dead_owners_lease_is_freed() {
    let fixture = Fixture::new(1).await;
    let plan = Release::Free { owner: WorkerId::new("me") };
    fixture.mend.release(&lease(0), &plan, &WorkerId::new("somebody")).await.expect("freed");
    let row = fixture.row(0).await;
    assert_eq!((row.owner.clone(), row.next.clone()), (None, None));
    let plan = fixture.mend.plan_release(&fixture.look().await, &lease(0), false).expect("a plan");
    assert_eq!(plan, Release::Unowned);
}

#[tokio::test(start_paused = true)]
async fn a_row_of_an_unknown_form_is_left_alone() {
    let fixture = Fixture::new(2).await;
    let mut row = fixture.row(0).await;
    row.version = Some(2);
    fixture.world.put_row(&row).await;
    assert!(cause(fixture.mend.plan_release(&fixture.look().await, &lease(0), true)).contains("newer version"));
    let plan = fixture.plan(&To::Horizon, true).await.expect("the other one");
    assert_eq!(plan.left.keys().cloned().collect::<Vec<_>>(), [lease(0)]);
    assert_eq!(plan.leases.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_list_shows_every_receipt_and_which_owners_are_alive() {
    let fixture = Fixture::new(2).await;
    fixture.commit(cid(1), &[0], &HORIZON, &at(5)).await;
    fixture.quarantine(1, cid(7), &at(5)).await;
    let listing = fixture.mend.list(FAILOVER / 2).await.expect("a list");
    assert!(listing.look.moving.is_empty());
    assert!(matches!(&listing.receipts[&cid(1)], ReceiptSeen::There(receipt) if receipt.records == 100));
    assert_eq!(listing.receipts[&cid(7)], ReceiptSeen::Missing);
}

#[tokio::test(start_paused = true)]
async fn a_lease_without_a_position_has_an_owner_who_is_alive_or_not() {
    let fixture = Fixture::new(0).await;
    let java = |n: u64, counter: u64, checkpoint: &str| {
        let owner = Some(WorkerId::new("java"));
        let mut item = crate::kcl::encode(&LeaseRow { owner, counter, ..LeaseRow::new(lease(n)) });
        item.insert("checkpoint".to_owned(), crate::kcl::text(checkpoint));
        item
    };
    fixture.world.put(java(0, 3, "LATEST")).await;
    fixture.world.put(java(1, 3, "AT_TIMESTAMP")).await;
    let renews = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        fixture.world.put(java(0, 4, "LATEST")).await;
    };
    let (look, ()) = tokio::join!(fixture.look(), renews);
    assert_eq!(look.leases().map(|row| row.key.clone()).collect::<Vec<_>>(), [lease(0), lease(1)]);
    assert!(look.leases().all(|row| row.owner == Some(WorkerId::new("java"))));
    assert_eq!(look.moving, BTreeSet::from([lease(0)]), "the other stands still");
    let refused = cause(look.lease(&lease(1)).map(|row| row.key.clone()));
    assert!(refused.contains("begins where the config's start says"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_there_is_answered_with_the_nearest() {
    let fixture = Fixture::new(2).await;
    let look = fixture.look().await;
    for (written, meant) in [("1", lease(1)), ("shardId-1", lease(1)), ("shardid-000000000000", lease(0))] {
        let refused = cause(look.lease(&LeaseKey::new(written)).map(|row| row.key.clone()));
        assert_eq!(refused, format!("there is no lease {written}; did you mean {meant}?"));
    }
    let refused = cause(look.lease(&LeaseKey::new("orders")).map(|row| row.key.clone()));
    assert_eq!(refused, "there is no lease orders");
}

#[tokio::test(start_paused = true)]
async fn a_retired_destination_goes_along_and_repeats_nothing() {
    let fixture = Fixture::new(1).await;
    let mut row = fixture.row(0).await;
    let old = DestinationId::new("old");
    row.destinations.insert(lake(), DestinationPosition::finalized(HORIZON, None));
    row.destinations.insert(old.clone(), DestinationPosition::finalized(at(9), None));
    row.off.insert(old.clone());
    fixture.world.put_row(&row).await;
    let plan = fixture.plan(&To::Horizon, true).await.expect("a plan");
    assert_eq!(plan.leases[0].retired, BTreeSet::from([old.clone()]));
    assert_eq!((plan.leases[0].moves[&old], plan.repeats.at_most), (Moves::Back, Some(0)));
    let row = fixture.mend.reset(&plan.leases[0]).await.expect("reset");
    assert_eq!(row.destinations[&old].at, HORIZON);
}

#[test]
fn a_receipt_counts_in_full_only_when_all_of_it_repeats() {
    let delivered = |leases: &[u64], from: &Position, to: &Position, records: u64| Delivered {
        destination: lake(),
        shards: leases.iter().map(|n| range(*n, from, to)).collect(),
        records,
    };
    let receipts = [
        delivered(&[0, 1], &HORIZON, &at(5), 10),
        delivered(&[0, 1], &at(5), &at(9), 20),
        delivered(&[0], &at(9), &at(12), 40),
    ];
    let area = |n: u64, reached: u64, floor: Floor| Area {
        lease: lease(n),
        destination: lake(),
        generation: Generation(0),
        start: None,
        reached: at(reached),
        floor,
    };
    let both = |floor: Floor| [area(0, 12, floor.clone()), area(1, 9, floor)];
    let known = |at_least, at_most| Count { at_least, at_most: Some(at_most) };
    assert_eq!(count(&receipts, &both(Floor::After(HORIZON)), true), known(70, 70));
    assert_eq!(count(&receipts, &both(Floor::After(HORIZON)), false), Count { at_least: 70, at_most: None });
    assert_eq!(count(&receipts, &both(Floor::After(at(7))), true), known(40, 60));
    assert_eq!(count(&receipts, &both(Floor::After(at(5))), true), known(60, 60));
    // One lease of two: what is in the lane's receipts is known together only.
    assert_eq!(count(&receipts, &[area(0, 12, Floor::After(HORIZON))], true), known(40, 70));
    let since = |second: u64| Floor::Since(Millis(MORNING.0 + second * 1000));
    assert_eq!(count(&receipts, &both(since(6)), true), known(40, 60));
    assert_eq!(count(&receipts, &both(since(5)), true), known(60, 70), "a record may have arrived in that very moment");
    assert_eq!(count(&receipts, &both(since(0)), true), known(60, 70));
    assert_eq!(count(&receipts, &both(since(13)), true), known(0, 0));
    // The oldest receipts have expired.
    let expired = count(&receipts[1..], &both(Floor::After(HORIZON)), true);
    assert_eq!(expired, Count { at_least: 60, at_most: None });
    // An earlier generation delivered more, or this one began later.
    let mut later = [area(0, 12, Floor::After(HORIZON)), area(1, 9, Floor::After(HORIZON))];
    later[0].start = Some(MORNING);
    assert_eq!(count(&receipts, &later, true), Count { at_least: 70, at_most: None });
    let mut again = both(Floor::After(at(5)));
    again[1].generation = Generation(1);
    assert_eq!(count(&receipts, &again, true).at_most, None);
}

#[tokio::test(start_paused = true)]
async fn the_way_to_an_instant_goes_by_the_receipt_of_what_is_pending() {
    let since = |second: u64| To::Since(Millis(MORNING.0 + second * 1000));
    let fixture = Fixture::new(1).await;
    fixture.commit(cid(1), &[0], &HORIZON, &at(5)).await;
    let moves = async |second| fixture.plan(&since(second), false).await.expect("a plan").leases[0].moves[&lake()];
    assert_eq!((moves(3).await, moves(7).await), (Moves::Back, Moves::Ahead));
    fixture.quarantine(0, cid(7), &at(6)).await;
    assert_eq!(moves(3).await, Moves::Unclear, "there is no receipt");
    fixture.quarantine(0, cid(7), &Position::ShardEnd).await;
    assert_eq!(moves(3).await, Moves::Back, "nothing is left to be skipped");
}

#[tokio::test(start_paused = true)]
async fn a_reset_to_a_time_to_come_is_refused() {
    let fixture = Fixture::new(1).await;
    let refused = cause(fixture.plan(&To::Since(Millis(MORNING.0 + 86_400_000)), true).await);
    assert!(refused.contains("from now"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn of_two_resets_at_once_the_second_is_refused() {
    let fixture = Fixture::new(1).await;
    fixture.deliver(cid(1), &[0], &HORIZON, &at(5)).await;
    let back = fixture.plan(&To::At(at(2)), false).await.expect("a plan");
    let horizon = fixture.plan(&To::Horizon, false).await.expect("a plan");
    let (one, two) = tokio::join!(fixture.mend.reset(&back.leases[0]), fixture.mend.reset(&horizon.leases[0]));
    assert_eq!([one.is_ok(), two.is_ok()].iter().filter(|ok| **ok).count(), 1, "{one:?} {two:?}");
    let stands = if one.is_ok() { at(2) } else { HORIZON };
    assert_eq!((fixture.position(0).await.at, fixture.row(0).await.generation), (stands, Generation(1)));
    assert!(cause(one.and(two)).contains("somebody else has reset it"));
}

#[tokio::test(start_paused = true)]
async fn a_reset_whose_answer_was_lost_is_done_once() {
    let fixture = Fixture::new(1).await;
    fixture.deliver(cid(1), &[0], &HORIZON, &at(5)).await;
    let plan = fixture.plan(&To::At(at(2)), false).await.expect("a plan");
    fixture.world.fault(standpipe_emulator::Fault::DropAnswer, "UpdateItem", 1);
    let row = fixture.mend.reset(&plan.leases[0]).await.expect("reset");
    assert_eq!((row.generation, &row.destinations[&lake()].at), (Generation(1), &at(2)));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_came_while_it_was_asked_keeps_its_lease() {
    let fixture = Fixture::new(1).await;
    let free = write::free(&fixture.row(0).await);
    fixture.mend.table.write(&free).await.expect("freed");
    let plan = fixture.plan(&To::Latest(MORNING), false).await.expect("nobody holds it");
    let forced = fixture.plan(&To::Latest(MORNING), true).await.expect("a plan");
    fixture.take(0).await;
    let refused = cause(fixture.mend.reset(&plan.leases[0]).await);
    assert!(refused.contains("me has taken it meanwhile"), "{refused}");
    assert_eq!(fixture.row(0).await.generation, Generation(0));
    fixture.mend.reset(&forced.leases[0]).await.expect("forced");
}

#[tokio::test(start_paused = true)]
async fn a_live_java_worker_is_not_asked() {
    let fixture = Fixture::new(1).await;
    let mut row = fixture.row(0).await;
    (row.owner, row.tenure) = (Some(WorkerId::new("java")), None);
    fixture.world.put_row(&row).await;
    let mut look = fixture.look().await;
    look.moving.insert(lease(0));
    let refused = cause(fixture.mend.plan_release(&look, &lease(0), false));
    assert!(refused.contains("a Java worker") && refused.contains("--force"), "{refused}");
    let forced = fixture.mend.plan_release(&look, &lease(0), true).expect("forced");
    assert_eq!(forced, Release::TakeAway { owner: WorkerId::new("java") });
}
