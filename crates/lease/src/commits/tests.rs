use standpipe_emulator::Fault;
use standpipe_flow::write::Take;
use standpipe_flow::{
    CommitShard, DestinationId, Fence, Generation, Millis, PendingMode, Position, ReceiptShard, Tenure, WorkerId,
};

use super::*;
use crate::emulated::{World, cid, lease};
use crate::testing::{at, ids};

struct Fixture {
    world: World,
    leases: LeaseTable,
    commits: CommitTable,
}

impl Fixture {
    /// `count` leases, all taken.
    async fn new(count: u64) -> Self {
        let world = World::new();
        let (leases, commits) = world.tables().await;
        for n in 0..count {
            leases.create(&LeaseRow::new(lease(n))).await.expect("made");
        }
        let fixture = Self { world, leases, commits };
        for n in 0..count {
            fixture.take(n, 1).await;
        }
        fixture
    }

    async fn row(&self, n: u64) -> LeaseRow {
        self.commits.row(&lease(n)).await.expect("an answer").expect("a row")
    }

    async fn take(&self, n: u64, tenure: u8) -> LeaseRow {
        let row = self.row(n).await;
        let take = Take {
            row: &row,
            worker: &WorkerId::new("me"),
            tenure: Tenure([tenure; 16]),
            destinations: &ids(&["lake"]),
            retired: &ids(&[]),
        };
        self.leases.write(&write::take(&take)).await.expect("taken")
    }

    fn fence(n: u64, tenure: u8) -> Fence {
        Fence { lease: lease(n), owner: WorkerId::new("me"), tenure: Tenure([tenure; 16]), generation: Generation(0) }
    }

    async fn pending(&self, n: u64) -> Option<CommitId> {
        self.row(n).await.destinations[&lake()].pending.as_ref().map(|pending| pending.cid)
    }
}

fn lake() -> DestinationId {
    DestinationId::new("lake")
}

/// A commit of these leases, each from one position to another.
fn commit(id: CommitId, leases: &[u64], from: &Position, to: &Position) -> Commit {
    let shard = |n: &u64| CommitShard {
        fence: Fixture::fence(*n, 1),
        from: from.clone(),
        from_arrival: None,
        to: to.clone(),
        previous: None,
    };
    let of_receipt = |n: &u64| ReceiptShard {
        lease: lease(*n),
        from: from.clone(),
        to: to.clone(),
        tenure: Tenure([1; 16]),
        generation: Generation(0),
        arrival: Some(Millis(3)),
    };
    let receipt = Receipt {
        gave_up: false,
        cid: id,
        state: ReceiptState::Committed,
        destination: lake(),
        shards: leases.iter().map(of_receipt).collect(),
        outputs: Vec::new(),
        config: "c0ffee".to_owned(),
        worker: WorkerId::new("me"),
        version: "0.1.0".to_owned(),
        records: 1,
        bytes: 2,
        created_at: None,
    };
    Commit { shards: leases.iter().map(shard).collect(), receipt }
}

fn finalize(n: u64, id: CommitId, to: Position) -> Finalize {
    Finalize { lease: lease(n), destination: lake(), cid: id, to, arrival: Some(Millis(3)) }
}

const HORIZON: Position = Position::TrimHorizon;

#[tokio::test(start_paused = true)]
async fn a_commit_writes_every_range_and_the_receipt_or_nothing() {
    let fixture = Fixture::new(3).await;
    let first = commit(cid(1), &[0, 1, 2], &HORIZON, &at(5));
    fixture.commits.commit(&first).await.expect("committed");
    assert_eq!(fixture.commits.receipt(cid(1)).await.expect("an answer"), Some(first.receipt));
    for n in 0..3 {
        let position = &fixture.row(n).await.destinations[&lake()];
        let pending = position.pending.as_ref().expect("pending");
        assert_eq!((&position.at, &pending.to, pending.mode), (&HORIZON, &at(5), PendingMode::Staged));
    }
    fixture.commits.finalize(&finalize(1, cid(1), at(5))).await.expect("finalized");

    let second = commit(cid(2), &[1, 2], &at(5), &at(9));
    let error = fixture.commits.commit(&second).await.expect_err("2 still carries the first");
    let CommitError::Refused { lease: Some(refused), now: Some(now) } = error else { panic!("{error:?}") };
    assert_eq!((refused, now.key.clone()), (lease(2), lease(2)));
    assert_eq!(now.destinations[&lake()].pending.as_ref().map(|pending| pending.cid), Some(cid(1)));
    assert_eq!(fixture.pending(1).await, None, "nothing was written");
    assert_eq!(fixture.commits.receipt(cid(2)).await.expect("an answer"), None);
}

#[tokio::test(start_paused = true)]
async fn the_same_transaction_again_is_the_same_success() {
    let fixture = Fixture::new(1).await;
    let first = commit(cid(1), &[0], &HORIZON, &at(5));
    fixture.world.fault(Fault::DropAnswer, "TransactWriteItems", 1);
    let error = fixture.commits.commit(&first).await.expect_err("the answer was lost");
    assert!(matches!(error, CommitError::Unknown { .. }), "{error:?}");
    fixture.commits.commit(&first).await.expect("the identical request");
    assert_eq!(fixture.pending(0).await, Some(cid(1)));
    assert!(fixture.commits.receipt(cid(1)).await.expect("an answer").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_commit_finalizes_the_one_before_that_was_seen_done() {
    let fixture = Fixture::new(1).await;
    fixture.commits.commit(&commit(cid(1), &[0], &HORIZON, &at(5))).await.expect("committed");
    fixture.commits.done(cid(1), false).await.expect("done");
    let mut next = commit(cid(2), &[0], &at(5), &at(9));
    next.shards[0].previous = Some(cid(1));
    fixture.commits.commit(&next).await.expect("committed");
    let position = &fixture.row(0).await.destinations[&lake()];
    assert_eq!((&position.at, position.reached()), (&at(5), &at(9)));
    let late = fixture.commits.finalize(&finalize(0, cid(1), at(5))).await;
    assert!(matches!(late, Err(CommitError::Refused { .. })), "a late finalize finds nothing to do");
}

#[tokio::test(start_paused = true)]
async fn a_new_tenure_fences_a_commit_of_the_old_one() {
    let fixture = Fixture::new(2).await;
    fixture.take(1, 2).await;
    let error = fixture.commits.commit(&commit(cid(1), &[0, 1], &HORIZON, &at(5))).await.expect_err("fenced");
    let CommitError::Refused { lease: Some(refused), now: Some(now) } = error else { panic!("{error:?}") };
    assert_eq!((refused, now.tenure), (lease(1), Some(Tenure([2; 16]))));
    assert_eq!(fixture.pending(0).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_checkpoint_fences_a_commit() {
    let fixture = Fixture::new(1).await;
    fixture.world.java_checkpoint(&lease(0), "3").await;
    let error = fixture.commits.commit(&commit(cid(1), &[0], &HORIZON, &at(5))).await.expect_err("fenced");
    assert!(matches!(&error, CommitError::Refused { now: Some(now), .. } if now.checkpoint == at(3)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_gone_refuses_without_a_row() {
    let fixture = Fixture::new(1).await;
    fixture.world.delete(&lease(0)).await;
    let error = fixture.commits.commit(&commit(cid(1), &[0], &HORIZON, &at(5))).await.expect_err("gone");
    assert!(matches!(error, CommitError::Refused { lease: Some(_), now: None }), "{error:?}");
    assert_eq!(fixture.world.item(&lease(0)).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_says_that_its_commit_was_given_up() {
    let fixture = Fixture::new(1).await;
    fixture.commits.commit(&commit(cid(1), &[0], &HORIZON, &at(5))).await.expect("committed");
    fixture.commits.done(cid(1), true).await.expect("done");
    let receipt = fixture.commits.receipt(cid(1)).await.expect("an answer").expect("a receipt");
    assert_eq!((receipt.state, receipt.gave_up), (ReceiptState::Done, true));
}

#[tokio::test(start_paused = true)]
async fn done_is_written_once_and_only_over_committed() {
    let fixture = Fixture::new(1).await;
    let absent = fixture.commits.done(cid(9), false).await;
    assert!(matches!(absent, Err(CommitError::Refused { .. })), "an absent receipt is not made by it");
    assert_eq!(fixture.commits.receipt(cid(9)).await.expect("an answer"), None);
    fixture.commits.commit(&commit(cid(1), &[0], &HORIZON, &at(5))).await.expect("committed");
    fixture.commits.done(cid(1), false).await.expect("done");
    assert!(matches!(fixture.commits.done(cid(1), false).await, Err(CommitError::Refused { .. })));
    let receipt = fixture.commits.receipt(cid(1)).await.expect("an answer").expect("a receipt");
    assert_eq!((receipt.state, receipt.gave_up), (ReceiptState::Done, false));
    assert!(matches!(
        fixture.commits.retract(&receipt, &[fixture.row(0).await]).await,
        Err(CommitError::Refused { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_retract_takes_every_carrier_back_to_where_it_was() {
    let fixture = Fixture::new(3).await;
    fixture.commits.commit(&commit(cid(1), &[0, 1], &HORIZON, &at(5))).await.expect("committed");
    fixture.commits.commit(&commit(cid(2), &[2], &HORIZON, &at(7))).await.expect("committed");
    let receipt = fixture.commits.receipt(cid(1)).await.expect("an answer").expect("a receipt");
    let all = [fixture.row(0).await, fixture.row(1).await, fixture.row(2).await];
    fixture.commits.retract(&receipt, &all).await.expect("retracted");
    assert_eq!(
        (fixture.pending(0).await, fixture.pending(1).await, fixture.pending(2).await),
        (None, None, Some(cid(2)))
    );
    assert_eq!(fixture.row(0).await.destinations[&lake()].at, HORIZON);
    let state = fixture.commits.receipt(cid(1)).await.expect("an answer").expect("a receipt").state;
    assert_eq!(state, ReceiptState::Retracted);
    assert!(matches!(fixture.commits.done(cid(1), false).await, Err(CommitError::Refused { .. })), "I6");
}

#[tokio::test(start_paused = true)]
async fn a_retract_of_rows_that_have_moved_on_is_refused_whole() {
    let fixture = Fixture::new(2).await;
    fixture.commits.commit(&commit(cid(1), &[0, 1], &HORIZON, &at(5))).await.expect("committed");
    let receipt = fixture.commits.receipt(cid(1)).await.expect("an answer").expect("a receipt");
    let old = [fixture.row(0).await, fixture.row(1).await];
    fixture.commits.finalize(&finalize(1, cid(1), at(5))).await.expect("finalized");
    let error = fixture.commits.retract(&receipt, &old).await.expect_err("refused");
    assert!(matches!(error, CommitError::Refused { lease: Some(refused), .. } if refused == lease(1)));
    assert_eq!(fixture.pending(0).await, Some(cid(1)));
    fixture.commits.retract(&receipt, &[]).await.expect("for the sweeper: no row carries it");
}

#[tokio::test(start_paused = true)]
async fn adopting_foreign_progress_twice_finds_nothing_to_do() {
    let fixture = Fixture::new(1).await;
    fixture.world.java_checkpoint(&lease(0), "30").await;
    fixture.take(0, 2).await;
    let advance =
        Advance { fence: Fixture::fence(0, 2), destination: lake(), from: HORIZON, to: at(30), arrival: None };
    fixture.commits.advance(&advance).await.expect("adopted");
    assert_eq!(fixture.row(0).await.destinations[&lake()].at, at(30));
    assert!(matches!(fixture.commits.advance(&advance).await, Err(CommitError::Refused { .. })));
}

#[tokio::test(start_paused = true)]
async fn why_a_transaction_was_cancelled_is_read_from_its_reasons() {
    let fixture = Fixture::new(1).await;
    let first = commit(cid(1), &[0], &HORIZON, &at(5));
    fixture.world.fault(Fault::TransactionConflict, "TransactWriteItems", 1);
    assert!(matches!(fixture.commits.commit(&first).await, Err(CommitError::Conflict)));
    fixture.world.fault(Fault::Throttle, "TransactWriteItems", 1);
    assert!(matches!(fixture.commits.commit(&first).await, Err(CommitError::Throttled)));
    fixture.commits.commit(&first).await.expect("committed");
}

fn reason(code: &str) -> CancellationReason {
    CancellationReason::builder().code(code).build()
}

#[test]
fn a_failed_condition_outweighs_a_conflict_and_a_conflict_a_throttle() {
    let rows = commit(cid(1), &[0, 1], &HORIZON, &at(5)).writes();
    let of = |codes: [&str; 3]| cancellation(cid(1), &rows, &codes.map(reason));
    let refused = of(["TransactionConflict", "ConditionalCheckFailed", "None"]);
    assert!(matches!(refused, CommitError::Refused { lease: Some(key), now: None } if key == lease(1)));
    let receipt = of(["None", "None", "ConditionalCheckFailed"]);
    assert!(matches!(receipt, CommitError::Refused { lease: None, now: None }));
    assert!(matches!(of(["ThrottlingError", "TransactionConflict", "None"]), CommitError::Conflict));
    assert!(matches!(of(["None", "ProvisionedThroughputExceeded", "None"]), CommitError::Throttled));
    assert!(matches!(of(["None", "ValidationError", "None"]), CommitError::Denied { .. }));
}

#[test]
fn of_several_refusals_the_one_that_shows_the_commit_is_told() {
    let rows = commit(cid(1), &[0, 1], &HORIZON, &at(5)).writes();
    let mut carrier = LeaseRow::new(lease(1));
    let pending = standpipe_flow::Pending { to: at(5), cid: cid(1), mode: PendingMode::Staged };
    let position = standpipe_flow::DestinationPosition { at: HORIZON, arrival: None, pending: Some(pending) };
    carrier.destinations.insert(lake(), position);
    let with = |row: &LeaseRow| {
        let item = kcl::encode(row).into_iter().collect();
        CancellationReason::builder().code("ConditionalCheckFailed").set_item(Some(item)).build()
    };
    let reasons = [with(&LeaseRow::new(lease(0))), with(&carrier), reason("ConditionalCheckFailed")];
    let error = cancellation(cid(1), &rows, &reasons);
    assert!(matches!(error, CommitError::Refused { lease: Some(key), now: Some(_) } if key == lease(1)));
}

#[tokio::test(start_paused = true)]
async fn the_commit_table_is_never_made_anew_under_leases_that_name_commits() {
    let world = World::new();
    let leases = world.table().await;
    let commits = CommitTable::new(world.dynamo(&world.connect("test")), "orders", world.clock.clone());
    assert_eq!(commits.name(), "orders-standpipe-commits");
    let mut row = LeaseRow::new(lease(0));
    let pending = standpipe_flow::Pending { to: at(5), cid: cid(1), mode: PendingMode::Staged };
    let position = standpipe_flow::DestinationPosition { at: HORIZON, arrival: None, pending: Some(pending) };
    row.destinations.insert(lake(), position);
    world.put_row(&row).await;
    let error = commits.open(true, &leases.scan().await.expect("a scan")).await.expect_err("lost");
    assert!(error.to_string().contains("orders-standpipe-commits"), "{error}");
    assert!(matches!(error, TableError::Lost { .. }));
    assert!(matches!(commits.open(false, &Rows::default()).await, Err(TableError::Missing { .. })));
    let fingerprint = commits.open(true, &Rows::default()).await.expect("made");
    assert!(fingerprint < 1 << 20);
    assert_eq!(commits.open(false, &Rows::default()).await.expect("there"), fingerprint);
}

#[test]
fn fingerprints_have_twenty_bits_and_differ() {
    let arn = |name: &str| format!("arn:aws:dynamodb:eu-west-1:111122223333:table/{name}-standpipe-commits");
    let all: std::collections::BTreeSet<u32> = (0..100).map(|n| fingerprint(&arn(&n.to_string()))).collect();
    assert!(all.len() >= 99);
    assert!(all.iter().all(|fingerprint| *fingerprint < 1 << 20));
}

/// A commit of more outputs than an item takes.
fn commit_of_many(id: CommitId) -> Commit {
    let mut commit = commit(id, &[0], &HORIZON, &at(5));
    let output = |n: u64| Output {
        kind: standpipe_flow::OutputKind::Data,
        bucket: "lake".to_owned(),
        key: format!("in/customer={n}/orders-1-2026-09-21-14-13-20-{id}-{n}.parquet"),
        held: standpipe_flow::Held::Upload {
            id: format!("{:064x}", hash64(&[&n.to_be_bytes()])).repeat(2),
            parts: vec![standpipe_flow::Part { number: 1, etag: format!("\"{n:032x}\"") }],
        },
        size: n,
        checksum: standpipe_flow::Checksum::Crc64Nvme(format!("{n:012}")),
        records: n,
    };
    commit.receipt.outputs = (0..5_000).map(output).collect();
    commit.receipt.created_at = Some(crate::emulated::MORNING);
    commit
}

/// Items of the commit table beside the receipts, by key, with their expiry.
async fn pages_of(fixture: &Fixture, id: CommitId) -> Vec<Item> {
    let mut found = Vec::new();
    let client = fixture.world.client("reader");
    for page in 0.. {
        let request = client.get_item().table_name(fixture.commits.name()).key(name::CID, pages::key(id, page));
        let Some(item) = request.send().await.expect("an answer").item else { break };
        found.push(item.into_iter().collect());
    }
    found
}

#[tokio::test(start_paused = true)]
async fn a_receipt_of_five_thousand_outputs_is_read_back_from_its_pages() {
    let fixture = Fixture::new(1).await;
    let many = commit_of_many(cid(1));
    for _ in 0..2 {
        fixture.commits.prepare(&many.receipt).await.expect("written, twice the same");
    }
    assert_eq!(fixture.commits.receipt(cid(1)).await.expect("an answer"), None, "pages alone are no receipt");
    fixture.commits.commit(&many).await.expect("committed");
    assert_eq!(fixture.commits.receipt(cid(1)).await.expect("an answer"), Some(many.receipt.clone()));

    let expiry = |item: &Item| item[name::EXPIRES_AT].as_n().expect("a number").parse::<u64>().expect("seconds");
    let day = 24 * 60 * 60;
    let morning = crate::emulated::MORNING.0 / 1000;
    let first: Vec<u64> = pages_of(&fixture, cid(1)).await.iter().map(expiry).collect();
    assert!(first.len() > 1 && first.iter().all(|at| *at == morning + 400 * day), "{first:?}");
    fixture.commits.done(cid(1), false).await.expect("done");
    let then: Vec<u64> = pages_of(&fixture, cid(1)).await.iter().map(expiry).collect();
    assert!(then.len() == first.len() && then.iter().all(|at| *at <= morning + 91 * day), "{then:?}");
    let done = fixture.commits.receipt(cid(1)).await.expect("an answer").expect("a receipt");
    assert_eq!((done.state, done.outputs), (ReceiptState::Done, many.receipt.outputs));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_not_as_it_was_is_no_receipt_until_it_matters_no_more() {
    let fixture = Fixture::new(1).await;
    let many = commit_of_many(cid(1));
    fixture.commits.prepare(&many.receipt).await.expect("written");
    fixture.commits.commit(&many).await.expect("committed");
    let whole = pages_of(&fixture, cid(1)).await;

    let mut other = whole[1].clone();
    other.insert("page".to_owned(), kcl::bytes(&pages::body(&whole[0]).expect("a page")));
    fixture.world.put_in(fixture.commits.name(), name::CID, other).await;
    let error = fixture.commits.receipt(cid(1)).await.expect_err("another page");
    assert!(matches!(error, CommitError::Unreadable { .. }), "{error}");

    let client = fixture.world.client("somebody");
    let delete = client.delete_item().table_name(fixture.commits.name()).key(name::CID, pages::key(cid(1), 1));
    delete.send().await.expect("deleted");
    let error = fixture.commits.receipt(cid(1)).await.expect_err("a missing page");
    assert!(matches!(error, CommitError::Unreadable { .. }), "{error}");

    fixture.commits.done(cid(1), false).await.expect("done, whatever its pages are");
    let done = fixture.commits.receipt(cid(1)).await.expect("an answer").expect("a receipt");
    assert_eq!((done.state, done.outputs.len()), (ReceiptState::Done, 0), "nobody needs them any more");
}

#[tokio::test(start_paused = true)]
async fn pages_that_are_not_written_are_no_commit() {
    let fixture = Fixture::new(1).await;
    let many = commit_of_many(cid(1));
    fixture.world.fault(Fault::InternalError, "PutItem", 1);
    let error = fixture.commits.prepare(&many.receipt).await.expect_err("a fault");
    assert!(matches!(error, CommitError::Unknown { .. }), "{error}");
    fixture.world.fault(Fault::DropAnswer, "PutItem", 1);
    fixture.commits.prepare(&many.receipt).await.expect_err("no answer");
    fixture.commits.prepare(&many.receipt).await.expect("written");
    fixture.commits.commit(&many).await.expect("committed");
    assert_eq!(fixture.commits.receipt(cid(1)).await.expect("an answer"), Some(many.receipt));
}
