//! Scripted runs of the protocol, one for each rule.

mod declared;
mod idempotent;

use std::collections::BTreeMap;

use standpipe_flow::{
    Checksum, Commit, CommitId, DestinationId, DestinationPosition, Fence, Generation, Held, LeaseKey, LeaseRow, Mode,
    Output, OutputKind, Pending, PendingMode, Position, Range, Receipt, ReceiptState, Staged, Tenure, WorkerId,
};

use super::event::StagedBatch;
use super::{Answer, Effect, Event, Note, Protocol};

const ME: &str = "worker-a";
const DESTINATION: &str = "lake";

fn key(lease: u8) -> LeaseKey {
    LeaseKey::new(format!("shard-{lease}"))
}

fn lake() -> DestinationId {
    DestinationId::new(DESTINATION)
}

fn tenure(n: u8) -> Tenure {
    Tenure([n; 16])
}

fn cid(n: u8) -> CommitId {
    CommitId([n; 16])
}

fn at(sequence: u64) -> Position {
    Position::at(sequence.into(), 0)
}

fn fence(lease: u8, n: u8) -> Fence {
    Fence { lease: key(lease), owner: WorkerId::new(ME), tenure: tenure(n), generation: Generation(0) }
}

fn pending(to: u64, n: u8) -> Option<Pending> {
    Some(Pending { to: at(to), cid: cid(n), mode: PendingMode::Staged })
}

/// A row as the answer of our take `n` shows it: finalized up to `reached`, a commit pending or not.
fn row(lease: u8, n: u8, reached: u64, pending: Option<Pending>) -> LeaseRow {
    let position = DestinationPosition { at: at(reached), arrival: None, pending };
    LeaseRow {
        owner: Some(WorkerId::new(ME)),
        counter: 7,
        checkpoint: at(reached),
        own_checkpoint: Some(at(reached)),
        tenure: Some(tenure(n)),
        version: Some(LeaseRow::VERSION),
        destinations: BTreeMap::from([(lake(), position)]),
        ..LeaseRow::new(key(lease))
    }
}

fn output(name: &str) -> Output {
    Output {
        kind: OutputKind::Data,
        bucket: "bucket".into(),
        key: name.into(),
        held: Held::Upload { id: format!("upload-of-{name}"), parts: Vec::new() },
        size: 10,
        checksum: Checksum::Crc32(String::new()),
        records: 1,
    }
}

fn protocol() -> Protocol {
    Protocol::new(WorkerId::new(ME), (lake(), Mode::Staged), "config".into(), "1".into())
}

fn take(protocol: &mut Protocol, row: LeaseRow) -> Vec<Effect> {
    let fence = Fence {
        lease: row.key.clone(),
        owner: WorkerId::new(ME),
        tenure: row.tenure.expect("a take writes a tenure"),
        generation: row.generation,
    };
    protocol.step(Event::Taken { row: Box::new(row), fence })
}

/// A worker that holds shards `0..shards` under tenure 1, each finalized up to 10 and being read.
fn holding(shards: u8) -> Protocol {
    let mut protocol = protocol();
    for lease in 0..shards {
        take(&mut protocol, row(lease, 1, 10, None));
    }
    protocol
}

fn cut(protocol: &mut Protocol, n: u8, leases: &[u8], to: u64) {
    let range = |lease: &u8| {
        let (fence, from, _) = protocol.ready(&key(*lease)).expect("the shard is ready");
        Range { fence: fence.clone(), from: from.clone(), to: at(to), arrival: None }
    };
    let ranges = leases.iter().map(range).collect();
    assert_eq!(protocol.step(Event::Cut { cid: cid(n), ranges }), [Effect::Stage { cid: cid(n) }]);
}

fn whole(n: u8, staged: Staged) -> Box<StagedBatch> {
    Box::new(StagedBatch { staged, records: 5, delivered: false, cid: cid(n) })
}

fn stage(protocol: &mut Protocol, n: u8) -> Vec<Effect> {
    let outputs = vec![output("data"), output("errors")];
    let staged = Staged { outputs, ..Staged::default() };
    protocol.step(Event::Staged { cid: cid(n), staged: whole(n, staged) })
}

/// Cuts and stages; the transaction that is asked for, and its run.
fn send(protocol: &mut Protocol, n: u8, leases: &[u8], to: u64) -> (u64, Commit) {
    cut(protocol, n, leases, to);
    match stage(protocol, n).as_slice() {
        [Effect::Commit { run, commit }] => (*run, (**commit).clone()),
        other => panic!("expected one transaction, got {other:?}"),
    }
}

fn answer(protocol: &mut Protocol, n: u8, run: u64, answer: Answer) -> Vec<Effect> {
    protocol.step(Event::Answer { cid: cid(n), run, answer })
}

fn found(receipt: &Receipt, state: ReceiptState) -> Answer {
    Answer::Receipt(Some(Box::new(Receipt { state, ..receipt.clone() })))
}

/// From the transaction's yes to DONE.
fn deliver(protocol: &mut Protocol, n: u8, run: u64) -> Vec<Effect> {
    answer(protocol, n, run, Answer::Committed);
    answer(protocol, n, run, Answer::Published);
    answer(protocol, n, run, Answer::Done)
}

fn asks_receipt(effects: &[Effect], n: u8) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::ReadReceipt { cid: asked, .. } if *asked == cid(n)))
}

fn discards(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Discard { .. }))
}

fn publishes(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Publish { .. }))
}

fn reads(effects: &[Effect], lease: u8, position: &Position) -> bool {
    let wanted =
        |effect: &Effect| matches!(effect, Effect::Read { lease: l, from, .. } if *l == key(lease) && from == position);
    effects.iter().any(wanted)
}

fn walks_away(effects: &[Effect], lease: u8) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::WalkAway { lease: l, .. } if *l == key(lease)))
}

fn hands_off(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::HandsOff { .. }))
}

fn finalizes(effects: &[Effect], lease: u8, n: u8, to: &Position) -> bool {
    let wanted = |effect: &Effect| {
        matches!(effect, Effect::Finalize { finalize, .. }
            if finalize.lease == key(lease) && finalize.cid == cid(n) && finalize.to == *to)
    };
    effects.iter().any(wanted)
}

fn notes(effects: &[Effect], note: Note) -> bool {
    effects.contains(&Effect::Note(note))
}

fn settles(effects: &[Effect], lease: u8, reached: &Position) -> bool {
    let wanted = |effect: &Effect| matches!(effect, Effect::Settle { lease: l, position, .. } if *l == key(lease) && position.at == *reached);
    effects.iter().any(wanted)
}

// ---- the straight way -------------------------------------------------------------------------------------------

#[test]
fn a_batch_is_published_only_once_committed_and_finalized_only_once_done() {
    let mut protocol = holding(1);
    let (run, commit) = send(&mut protocol, 1, &[0], 20);
    assert_eq!(
        (commit.shards[0].from.clone(), commit.shards[0].to.clone(), commit.shards[0].previous),
        (at(10), at(20), None)
    );
    assert_eq!(commit.receipt.state, ReceiptState::Committed);

    let committed = answer(&mut protocol, 1, run, Answer::Committed);
    assert!(publishes(&committed) && settles(&committed, 0, &at(10)), "`at` stays at the beginning: {committed:?}");
    let published = answer(&mut protocol, 1, run, Answer::Published);
    assert_eq!(published, vec![Effect::Done { cid: cid(1), run, gave_up: false }], "I17: nothing else before DONE");
    assert!(protocol.ready(&key(0)).is_none() && !protocol.settled(&key(0)));

    let done = answer(&mut protocol, 1, run, Answer::Done);
    assert!(
        matches!(&done[0], Effect::FinalizeSoon { finalize, .. } if finalize.to == at(20) && finalize.cid == cid(1))
    );
    assert!(matches!(&done[1], Effect::Delivered { .. }));
    assert_eq!(protocol.ready(&key(0)).map(|(_, from, _)| from.clone()), Some(at(20)), "I2: the next one continues");

    let due = protocol.step(Event::FinalizeDue { lease: key(0), tenure: tenure(1), cid: cid(1) });
    assert!(finalizes(&due, 0, 1, &at(20)) && !protocol.settled(&key(0)));
    let told = protocol.step(Event::Finalized { lease: key(0), tenure: tenure(1), cid: cid(1) });
    assert!(settles(&told, 0, &at(20)) && protocol.settled(&key(0)));
}

#[test]
fn a_commit_that_was_given_up_is_done_and_says_so_and_delivery_goes_on() {
    let mut protocol = holding(1);
    let (run, _) = send(&mut protocol, 1, &[0], 20);
    answer(&mut protocol, 1, run, Answer::Committed);
    let given_up = answer(&mut protocol, 1, run, Answer::GaveUp);
    assert_eq!(given_up, vec![Effect::Done { cid: cid(1), run, gave_up: true }], "I17: nothing else before DONE");
    let done = answer(&mut protocol, 1, run, Answer::Done);
    let told = |effect: &Effect| matches!(effect, Effect::Delivered { receipt, by_us: true } if receipt.gave_up);
    assert!(done.iter().any(told), "{done:?}");
    assert_eq!(protocol.ready(&key(0)).map(|(_, from, _)| from.clone()), Some(at(20)), "I2: the next one continues");
}

#[test]
fn the_next_commit_carries_the_finalize_of_the_one_before() {
    let mut protocol = holding(1);
    let (run, _) = send(&mut protocol, 1, &[0], 20);
    deliver(&mut protocol, 1, run);
    let (run, commit) = send(&mut protocol, 2, &[0], 30);
    assert_eq!((commit.shards[0].from.clone(), commit.shards[0].previous), (at(20), Some(cid(1))));

    let due = protocol.step(Event::FinalizeDue { lease: key(0), tenure: tenure(1), cid: cid(1) });
    assert_eq!(due, Vec::new(), "the commit on its way carries it");
    let committed = answer(&mut protocol, 2, run, Answer::Committed);
    assert!(settles(&committed, 0, &at(20)), "the commit's own write finalized the one before");
    assert_eq!(protocol.step(Event::FinalizeNow { lease: key(0) }), Vec::new(), "nothing left to finalize");
}

#[test]
fn a_hand_over_finalizes_at_once() {
    let mut protocol = holding(1);
    let (run, _) = send(&mut protocol, 1, &[0], 20);
    deliver(&mut protocol, 1, run);
    assert!(finalizes(&protocol.step(Event::FinalizeNow { lease: key(0) }), 0, 1, &at(20)));
}

#[test]
#[should_panic(expected = "I2")]
fn a_range_that_does_not_begin_at_the_position_is_a_bug() {
    let range = Range { fence: fence(0, 1), from: at(11), to: at(20), arrival: None };
    holding(1).step(Event::Cut { cid: cid(1), ranges: vec![range] });
}

#[test]
#[should_panic(expected = "I7")]
fn a_second_cut_of_a_busy_shard_is_a_bug() {
    let mut protocol = holding(1);
    cut(&mut protocol, 1, &[0], 20);
    let range = Range { fence: fence(0, 1), from: at(10), to: at(20), arrival: None };
    protocol.step(Event::Cut { cid: cid(2), ranges: vec![range] });
}

// ---- unclear answers (protocol 3) -------------------------------------------------------------------------------

#[test]
fn unclear_then_present_means_committed() {
    let mut protocol = holding(1);
    let (run, commit) = send(&mut protocol, 1, &[0], 20);
    let unclear = answer(&mut protocol, 1, run, Answer::CommitUnclear);
    assert_eq!(unclear, vec![Effect::ReadReceipt { cid: cid(1), run }], "in doubt, only the receipt is read");
    let present = answer(&mut protocol, 1, run, found(&commit.receipt, ReceiptState::Committed));
    assert!(notes(&present, Note::Recognised) && publishes(&present));
}

#[test]
fn unclear_then_absent_sends_the_identical_commit_again() {
    let mut protocol = holding(1);
    let (run, commit) = send(&mut protocol, 1, &[0], 20);
    for _ in 0..3 {
        answer(&mut protocol, 1, run, Answer::CommitUnclear);
        let absent = answer(&mut protocol, 1, run, Answer::Receipt(None));
        assert_eq!(absent, vec![Effect::Commit { run, commit: Box::new(commit.clone()) }], "absent proves nothing");
    }
}

#[test]
fn unclear_then_done_by_another_moves_on() {
    let mut protocol = holding(1);
    let (run, commit) = send(&mut protocol, 1, &[0], 20);
    answer(&mut protocol, 1, run, Answer::CommitUnclear);
    answer(&mut protocol, 1, run, found(&commit.receipt, ReceiptState::Done));
    assert_eq!(protocol.ready(&key(0)).map(|(_, from, _)| from.clone()), Some(at(20)));
}

#[test]
fn refused_by_a_row_that_carries_our_commit_is_success() {
    let mut protocol = holding(2);
    let (run, _) = send(&mut protocol, 1, &[0, 1], 20);
    let now = Some(Box::new(row(1, 1, 10, pending(20, 1))));
    let effects = answer(&mut protocol, 1, run, Answer::CommitRefused { lease: Some(key(1)), now });
    assert!(notes(&effects, Note::Recognised) && publishes(&effects) && !discards(&effects));
}

#[test]
fn refused_and_moved_is_discarded_only_after_the_receipt_was_read() {
    let mut protocol = holding(1);
    let (run, commit) = send(&mut protocol, 1, &[0], 20);
    let now = Some(Box::new(row(0, 2, 10, pending(15, 9))));
    let refused = answer(&mut protocol, 1, run, Answer::CommitRefused { lease: Some(key(0)), now });
    assert_eq!(refused, vec![Effect::ReadReceipt { cid: cid(1), run }]);
    let absent = answer(&mut protocol, 1, run, Answer::Receipt(None));
    assert!(absent.contains(&Effect::Discard { cid: cid(1), outputs: commit.receipt.outputs }));
    assert!(walks_away(&absent, 0) && protocol.attempts() == 0);
}

#[test]
fn refused_and_not_moved_is_never_discarded() {
    // Another owner under our tenure: a leader may give the lease back, and a copy of the transaction still arrive.
    let mut protocol = holding(1);
    let (run, _) = send(&mut protocol, 1, &[0], 20);
    let foreign = LeaseRow { owner: Some(WorkerId::new("java")), ..row(0, 1, 10, None) };
    answer(&mut protocol, 1, run, Answer::CommitRefused { lease: Some(key(0)), now: Some(Box::new(foreign)) });
    let absent = answer(&mut protocol, 1, run, Answer::Receipt(None));
    assert!(!discards(&absent) && walks_away(&absent, 0), "only a new tenure makes it dead: {absent:?}");
}

#[test]
fn refused_by_the_receipts_own_condition_asks_the_receipt() {
    let mut protocol = holding(1);
    let (run, commit) = send(&mut protocol, 1, &[0], 20);
    let refused = answer(&mut protocol, 1, run, Answer::CommitRefused { lease: None, now: None });
    assert!(asks_receipt(&refused, 1));
    assert!(publishes(&answer(&mut protocol, 1, run, found(&commit.receipt, ReceiptState::Committed))));
}

#[test]
fn a_lane_rewinds_only_if_the_refused_row_can_never_change_its_mind() {
    for (now, stable) in [
        (Some(row(1, 2, 10, None)), true), // taken under another tenure
        (Some(LeaseRow { checkpoint: at(12), ..row(1, 1, 10, None) }), true), // a Java worker moved it
        (None, true),                      // the row is gone
        (Some(LeaseRow { generation: Generation(1), ..row(1, 1, 10, None) }), true), // reset
        (Some(LeaseRow { owner: Some(WorkerId::new("java")), ..row(1, 1, 10, None) }), false),
    ] {
        let mut protocol = holding(2);
        let (run, _) = send(&mut protocol, 1, &[0, 1], 20);
        let refused = Answer::CommitRefused { lease: Some(key(1)), now: now.clone().map(Box::new) };
        answer(&mut protocol, 1, run, refused);
        let absent = answer(&mut protocol, 1, run, Answer::Receipt(None));
        assert!(walks_away(&absent, 1), "the refused lease goes in any case: {now:?}");
        assert_eq!((reads(&absent, 0, &at(10)), walks_away(&absent, 0)), (stable, !stable), "{now:?}");
    }
}

#[test]
fn expired_before_it_was_sent_is_discarded() {
    let mut protocol = holding(1);
    let (run, _) = send(&mut protocol, 1, &[0], 20);
    let expired = answer(&mut protocol, 1, run, Answer::CommitExpired { sent: false });
    assert!(discards(&expired) && walks_away(&expired, 0));
}

#[test]
fn expired_after_it_was_sent_is_never_discarded() {
    let mut protocol = holding(1);
    let (run, _) = send(&mut protocol, 1, &[0], 20);
    answer(&mut protocol, 1, run, Answer::CommitUnclear);
    answer(&mut protocol, 1, run, Answer::Receipt(None));
    let expired = answer(&mut protocol, 1, run, Answer::CommitExpired { sent: true });
    assert!(!discards(&expired) && walks_away(&expired, 0), "a copy may still arrive: {expired:?}");
}

// ---- losing a lease (I9) ----------------------------------------------------------------------------------------

#[test]
fn lost_while_staging_dies_and_is_discarded_when_staged() {
    let mut protocol = holding(2);
    cut(&mut protocol, 1, &[0, 1], 20);
    let lost = protocol.step(Event::Lost { lease: key(0), tenure: tenure(1) });
    assert!(matches!(lost[0], Effect::Dead { .. }) && reads(&lost, 1, &at(10)) && !reads(&lost, 0, &at(10)));
    let staged = stage(&mut protocol, 1);
    assert!(matches!(staged.as_slice(), [Effect::Discard { .. }]), "it was never sent: {staged:?}");
}

#[test]
fn lost_after_it_was_sent_is_still_published_but_not_finalized_by_us() {
    let mut protocol = holding(1);
    let (run, _) = send(&mut protocol, 1, &[0], 20);
    assert_eq!(protocol.step(Event::Lost { lease: key(0), tenure: tenure(1) }), Vec::new());
    assert!(publishes(&answer(&mut protocol, 1, run, Answer::Committed)));
    answer(&mut protocol, 1, run, Answer::Published);
    let done = answer(&mut protocol, 1, run, Answer::Done);
    assert!(matches!(done.as_slice(), [Effect::Delivered { .. }]), "{done:?}");
}

#[test]
fn word_of_the_loss_of_an_older_acquisition_changes_nothing() {
    let mut protocol = holding(1);
    take(&mut protocol, row(0, 2, 10, None));
    assert_eq!(protocol.step(Event::Lost { lease: key(0), tenure: tenure(1) }), Vec::new());
    assert!(protocol.ready(&key(0)).is_some());
}

#[test]
fn what_could_not_be_staged_is_read_again() {
    let mut protocol = holding(2);
    cut(&mut protocol, 1, &[0, 1], 20);
    let effects = protocol.step(Event::Unstaged { cid: cid(1) });
    assert!(reads(&effects, 0, &at(10)) && reads(&effects, 1, &at(10)));
}

// ---- taking over (protocol 4) -----------------------------------------------------------------------------------

/// Takes shard 0, whose row carries commit 1 over (10, 20], and reads its receipt.
fn recovering(state: ReceiptState) -> (Protocol, u64, Receipt, Vec<Effect>) {
    let (_, commit) = send(&mut holding(1), 1, &[0], 20);
    let mut successor = protocol();
    let taken = take(&mut successor, row(0, 2, 10, pending(20, 1)));
    let [Effect::ReadReceipt { run, .. }] = taken.as_slice() else { panic!("the receipt first: {taken:?}") };
    let effects = answer(&mut successor, 1, *run, found(&commit.receipt, state));
    (successor, *run, commit.receipt, effects)
}

#[test]
fn a_found_commit_is_published_finalized_and_only_then_read_on() {
    let (mut protocol, run, _, effects) = recovering(ReceiptState::Committed);
    assert!(notes(&effects, Note::FoundCommitted) && publishes(&effects));
    assert_eq!(
        answer(&mut protocol, 1, run, Answer::Published),
        vec![Effect::Done { cid: cid(1), run, gave_up: false }]
    );
    let done = answer(&mut protocol, 1, run, Answer::Done);
    assert!(finalizes(&done, 0, 1, &at(20)) && !reads(&done, 0, &at(20)), "{done:?}");
    let told = protocol.step(Event::Finalized { lease: key(0), tenure: tenure(2), cid: cid(1) });
    assert!(settles(&told, 0, &at(20)) && reads(&told, 0, &at(20)));
}

#[test]
fn a_found_commit_that_is_done_is_not_published_again() {
    let (_, _, _, effects) = recovering(ReceiptState::Done);
    assert!(notes(&effects, Note::FoundDone) && finalizes(&effects, 0, 1, &at(20)) && !publishes(&effects));
}

#[test]
fn a_found_commit_that_is_retracted_is_cleared_and_read_again() {
    let (mut protocol, _, _, effects) = recovering(ReceiptState::Retracted);
    assert!(
        notes(&effects, Note::FoundRetracted) && finalizes(&effects, 0, 1, &at(10)),
        "cleared to `at`: {effects:?}"
    );
    let told = protocol.step(Event::Finalized { lease: key(0), tenure: tenure(2), cid: cid(1) });
    assert!(reads(&told, 0, &at(10)));
}

#[test]
fn a_found_commit_without_a_receipt_is_for_a_human() {
    let mut protocol = protocol();
    take(&mut protocol, row(0, 2, 10, pending(20, 1)));
    let effects = answer(&mut protocol, 1, 1, Answer::Receipt(None));
    assert!(hands_off(&effects) && protocol.ready(&key(0)).is_none() && !protocol.settled(&key(0)));
}

#[test]
fn gone_but_done_by_another_is_delivered() {
    let (mut protocol, run, receipt, _) = recovering(ReceiptState::Committed);
    let gone = answer(&mut protocol, 1, run, Answer::Gone { outputs: receipt.outputs.clone(), published: false });
    assert_eq!(gone, vec![Effect::ReadReceipt { cid: cid(1), run }], "no retract before the receipt was read again");
    let done = answer(&mut protocol, 1, run, found(&receipt, ReceiptState::Done));
    assert!(finalizes(&done, 0, 1, &at(20)));
}

#[test]
fn gone_and_still_committed_is_retracted_and_read_again() {
    let (mut protocol, run, receipt, _) = recovering(ReceiptState::Committed);
    answer(&mut protocol, 1, run, Answer::Gone { outputs: receipt.outputs.clone(), published: false });
    let lost = answer(&mut protocol, 1, run, found(&receipt, ReceiptState::Committed));
    assert!(matches!(lost.as_slice(), [Effect::Retract { .. }]), "nothing visible, so no incident: {lost:?}");
    let retracted = answer(&mut protocol, 1, run, Answer::Retracted);
    assert!(notes(&retracted, Note::Retracted) && finalizes(&retracted, 0, 1, &at(10)));
    let told = protocol.step(Event::Finalized { lease: key(0), tenure: tenure(2), cid: cid(1) });
    assert!(reads(&told, 0, &at(10)), "its records are read again");
}

#[test]
fn a_partial_publication_is_an_incident_before_it_is_retracted() {
    let (mut protocol, run, receipt, _) = recovering(ReceiptState::Committed);
    let lost = vec![receipt.outputs[1].clone()];
    answer(&mut protocol, 1, run, Answer::Gone { outputs: lost.clone(), published: true });
    let effects = answer(&mut protocol, 1, run, found(&receipt, ReceiptState::Committed));
    assert!(matches!(&effects[0], Effect::Incident { lost: named, .. } if *named == lost), "{effects:?}");
    assert!(matches!(&effects[1], Effect::Retract { .. }));
}

#[test]
fn an_output_that_is_not_lost_makes_an_incident_even_if_nothing_is_visible_yet() {
    // A Complete of it may be on its way, and nobody can call it back.
    let (mut protocol, run, receipt, _) = recovering(ReceiptState::Committed);
    let lost = vec![receipt.outputs[1].clone()];
    answer(&mut protocol, 1, run, Answer::Gone { outputs: lost, published: false });
    let effects = answer(&mut protocol, 1, run, found(&receipt, ReceiptState::Committed));
    assert!(matches!(effects.as_slice(), [Effect::Incident { .. }, Effect::Retract { .. }]), "{effects:?}");
}

#[test]
fn a_refused_done_or_retract_reads_the_receipt_again() {
    let (mut protocol, run, receipt, _) = recovering(ReceiptState::Committed);
    answer(&mut protocol, 1, run, Answer::Published);
    assert!(asks_receipt(&answer(&mut protocol, 1, run, Answer::Refused), 1));
    assert!(finalizes(&answer(&mut protocol, 1, run, found(&receipt, ReceiptState::Done)), 0, 1, &at(20)));

    let (mut protocol, run, receipt, _) = recovering(ReceiptState::Committed);
    answer(&mut protocol, 1, run, Answer::Gone { outputs: receipt.outputs.clone(), published: false });
    answer(&mut protocol, 1, run, found(&receipt, ReceiptState::Committed));
    assert!(asks_receipt(&answer(&mut protocol, 1, run, Answer::Refused), 1));
    assert!(finalizes(&answer(&mut protocol, 1, run, found(&receipt, ReceiptState::Retracted)), 0, 1, &at(10)));
}

#[test]
fn two_leases_of_one_lane_share_a_recovery() {
    let (_, commit) = send(&mut holding(2), 1, &[0, 1], 20);
    let mut protocol = protocol();
    let first = take(&mut protocol, row(0, 2, 10, pending(20, 1)));
    let second = take(&mut protocol, row(1, 3, 10, pending(20, 1)));
    assert!(asks_receipt(&first, 1) && second.is_empty(), "one recovery: {second:?}");
    let done = answer(&mut protocol, 1, 1, found(&commit.receipt, ReceiptState::Done));
    assert!(finalizes(&done, 0, 1, &at(20)) && finalizes(&done, 1, 1, &at(20)));
}

#[test]
fn a_lease_that_comes_back_joins_our_own_attempt() {
    let mut protocol = holding(1);
    let (run, _) = send(&mut protocol, 1, &[0], 20);
    answer(&mut protocol, 1, run, Answer::Committed);
    let taken = take(&mut protocol, row(0, 2, 10, pending(20, 1)));
    assert_eq!(taken, Vec::new(), "it is being published already");
    answer(&mut protocol, 1, run, Answer::Published);
    assert!(finalizes(&answer(&mut protocol, 1, run, Answer::Done), 0, 1, &at(20)));
}

#[test]
fn answers_to_an_older_run_are_ignored() {
    let mut protocol = holding(1);
    let (old, _) = send(&mut protocol, 1, &[0], 20);
    answer(&mut protocol, 1, old, Answer::CommitExpired { sent: true });
    let taken = take(&mut protocol, row(0, 2, 10, pending(20, 1)));
    assert!(matches!(taken.as_slice(), [Effect::ReadReceipt { run, .. }] if *run != old), "{taken:?}");
    for late in [Answer::Committed, Answer::Published, Answer::Done, Answer::Receipt(None)] {
        assert_eq!(answer(&mut protocol, 1, old, late), Vec::new());
    }
}

#[test]
fn forms_that_this_version_does_not_know_are_left_alone() {
    let mut protocol = protocol();
    let pending = Some(Pending { to: at(20), cid: cid(1), mode: PendingMode::Unknown });
    let taken = take(&mut protocol, row(0, 2, 10, pending));
    assert!(hands_off(&taken) && taken.len() == 1, "I13: {taken:?}");
    assert!(protocol.ready(&key(0)).is_none());
    let strange = LeaseRow { destinations: BTreeMap::new(), ..row(0, 2, 10, None) };
    assert!(hands_off(&take(&mut protocol, strange)), "the take writes every destination of the config");
}

#[test]
fn the_progress_of_a_java_worker_is_adopted_before_anything_is_read() {
    let java = |pending| LeaseRow { checkpoint: at(14), own_checkpoint: Some(at(14)), ..row(0, 2, 10, pending) };
    let mut protocol = protocol();
    let taken = take(&mut protocol, java(None));
    let [Effect::Advance(advance)] = taken.as_slice() else { panic!("advance first: {taken:?}") };
    assert_eq!((&advance.from, &advance.to), (&at(10), &at(14)));
    let event = |position| Event::Advanced { lease: key(0), tenure: tenure(2), position };
    let mut refused = protocol.clone();
    assert!(walks_away(&refused.step(event(None)), 0), "somebody else was here: take it again");
    let adopted = protocol.step(event(Some(at(14))));
    assert!(settles(&adopted, 0, &at(14)) && reads(&adopted, 0, &at(14)) && notes(&adopted, Note::Adopted));
}

#[test]
fn foreign_progress_never_retracts_a_pending_commit() {
    // Java stands at 14, in the middle of (10, 20]: the commit is finished first, and what is past `checkpoint` stays.
    let (_, commit) = send(&mut holding(1), 1, &[0], 20);
    let mut protocol = protocol();
    let checkpoint = at(14);
    let taken =
        LeaseRow { checkpoint: checkpoint.clone(), own_checkpoint: Some(checkpoint), ..row(0, 2, 10, pending(20, 1)) };
    assert!(asks_receipt(&take(&mut protocol, taken), 1));
    let effects = answer(&mut protocol, 1, 1, found(&commit.receipt, ReceiptState::Committed));
    assert!(publishes(&effects));
    answer(&mut protocol, 1, 1, Answer::Published);
    answer(&mut protocol, 1, 1, Answer::Done);
    let told = protocol.step(Event::Finalized { lease: key(0), tenure: tenure(2), cid: cid(1) });
    assert!(reads(&told, 0, &at(20)), "{told:?}");
}
