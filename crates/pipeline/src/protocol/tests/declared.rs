//! Declared destinations: the range and its id are in the row before the first byte is sent, and whoever finds them there
//! sends the same again.

use super::*;

fn holding_declared() -> Protocol {
    let mut protocol = declaring();
    take(&mut protocol, row(0, 1, 10, None));
    protocol
}

fn declaring() -> Protocol {
    Protocol::new(WorkerId::new(ME), (lake(), Mode::Declared), "config".into(), "1".into())
}

fn cut_declared(protocol: &mut Protocol, n: u8, to: u64) -> Vec<Effect> {
    let (fence, from, _) = protocol.ready(&key(0)).expect("the shard is ready");
    let range = Range { fence: fence.clone(), from: from.clone(), to: at(to), arrival: None };
    protocol.step(Event::Cut { cid: cid(n), ranges: vec![range] })
}

/// Cuts and declares; what the declaring write demands and says.
fn declare(protocol: &mut Protocol, n: u8, to: u64) -> standpipe_flow::Declare {
    let effects = cut_declared(protocol, n, to);
    let [Effect::Declare { run, declare }] = effects.as_slice() else { panic!("declared first: {effects:?}") };
    let effects = answer(protocol, n, *run, Answer::Declared(true));
    assert!(matches!(effects.last(), Some(Effect::Stage { cid: sent }) if *sent == cid(n)), "{effects:?}");
    (**declare).clone()
}

/// Everything was acknowledged, but for what became these outputs, staged under another id.
fn acknowledged(protocol: &mut Protocol, n: u8, (other, outputs): (u8, Vec<Output>)) -> Vec<Effect> {
    let staged = Staged { outputs, delivered_bytes: 70, ..Staged::default() };
    let staged = Box::new(StagedBatch { delivered: true, ..*whole(other, staged) });
    protocol.step(Event::Staged { cid: cid(n), staged })
}

fn pending_declared(to: u64, n: u8) -> Option<Pending> {
    Some(Pending { to: at(to), cid: cid(n), mode: PendingMode::Declared })
}

#[test]
fn nothing_is_sent_before_its_range_is_written_and_the_next_declaration_finalizes_it() {
    let mut protocol = holding_declared();
    let first = declare(&mut protocol, 1, 20);
    assert_eq!((&first.shard.from, &first.shard.to, first.shard.previous), (&at(10), &at(20), None));
    assert!(protocol.ready(&key(0)).is_none() && !protocol.settled(&key(0)), "I7: one at a time");

    let effects = acknowledged(&mut protocol, 1, (2, Vec::new()));
    assert!(
        matches!(effects.as_slice(), [Effect::FinalizeSoon { .. }, Effect::Delivered { by_us: true, .. }]),
        "{effects:?}"
    );
    assert!(protocol.owed(&key(0)).is_none() && !protocol.settled(&key(0)), "the row still carries it");
    let second = declare(&mut protocol, 3, 30);
    assert_eq!((&second.shard.from, second.shard.previous), (&at(20), Some(cid(1))), "I2, and it finalizes the first");
    acknowledged(&mut protocol, 3, (4, Vec::new()));
    protocol.step(Event::Finalized { lease: key(0), tenure: tenure(1), cid: cid(3) });
    assert!(protocol.settled(&key(0)) && protocol.attempts() == 0);
}

#[test]
fn a_range_that_could_not_be_declared_is_never_sent() {
    let mut protocol = holding_declared();
    let effects = cut_declared(&mut protocol, 1, 20);
    let [Effect::Declare { run, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    let effects = answer(&mut protocol, 1, *run, Answer::Declared(false));
    assert!(walks_away(&effects, 0) && !effects.iter().any(|effect| matches!(effect, Effect::Stage { .. })));
}

#[test]
fn a_successor_sends_the_same_range_under_the_same_id() {
    let mut protocol = declaring();
    let taken = take(&mut protocol, row(0, 2, 10, pending_declared(20, 1)));
    assert!(
        matches!(taken.as_slice(), [Effect::Note(Note::FoundDeclared), Effect::Read { from, .. }] if *from == at(10))
    );
    assert_eq!(protocol.owed(&key(0)), Some((cid(1), &at(20))));
    assert_eq!(cut_declared(&mut protocol, 1, 20), [Effect::Stage { cid: cid(1) }], "it is declared already");
    // It could not be sent: again, the same.
    let effects = protocol.step(Event::Unstaged { cid: cid(1) });
    assert!(matches!(effects.as_slice(), [Effect::Dead { .. }, Effect::Read { from, .. }] if *from == at(10)));
    assert_eq!(protocol.owed(&key(0)), Some((cid(1), &at(20))));
    cut_declared(&mut protocol, 1, 20);
    acknowledged(&mut protocol, 1, (2, Vec::new()));
    assert_eq!(protocol.ready(&key(0)).map(|(_, from, _)| from.clone()), Some(at(20)));
}

#[test]
#[should_panic(expected = "I14")]
fn a_declared_id_never_stands_for_another_range() {
    let mut protocol = declaring();
    take(&mut protocol, row(0, 2, 10, pending_declared(20, 1)));
    cut_declared(&mut protocol, 1, 19);
}

#[test]
fn what_a_java_worker_has_done_is_not_sent_again_but_what_it_did_in_part_is() {
    let java = |to, pending| LeaseRow { checkpoint: at(to), own_checkpoint: Some(at(to)), ..row(0, 2, 10, pending) };
    let mut protocol = declaring();
    let taken = take(&mut protocol, java(25, pending_declared(20, 1)));
    let [Effect::Finalize { finalize, .. }] = taken.as_slice() else { panic!("it is cleared: {taken:?}") };
    assert_eq!((finalize.cid, &finalize.to), (cid(1), &at(10)), "at stays as it was");
    let effects = protocol.step(Event::Finalized { lease: key(0), tenure: tenure(2), cid: cid(1) });
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Advance(advance) if advance.to == at(25))));

    let mut protocol = declaring();
    take(&mut protocol, java(15, pending_declared(20, 1)));
    assert_eq!(protocol.owed(&key(0)), Some((cid(1), &at(20))));
    assert_eq!(cut_declared(&mut protocol, 1, 20), [Effect::Stage { cid: cid(1) }]);
}

#[test]
fn errors_of_a_declared_batch_are_committed_in_its_place() {
    let mut protocol = holding_declared();
    declare(&mut protocol, 1, 20);
    let effects = acknowledged(&mut protocol, 1, (2, vec![output("errors")]));
    let [Effect::Commit { run, commit }] = effects.as_slice() else { panic!("{effects:?}") };
    let shard = &commit.shards[0];
    assert_eq!(
        (commit.receipt.cid, shard.previous, &shard.from),
        (cid(2), Some(cid(1)), &at(10)),
        "at stays as it was"
    );
    // The row of before, which carries what was declared, proves nothing about uploads: the transaction may still come.
    let now = Some(Box::new(row(0, 1, 10, pending_declared(20, 1))));
    let asked = answer(&mut protocol, 2, *run, Answer::CommitRefused { lease: Some(key(0)), now });
    assert!(matches!(asked.as_slice(), [Effect::ReadReceipt { .. }]), "{asked:?}");
    let refused = answer(&mut protocol, 2, *run, Answer::Receipt(None));
    assert!(walks_away(&refused, 0) && !refused.iter().any(|effect| matches!(effect, Effect::Discard { .. })));

    let mut protocol = holding_declared();
    declare(&mut protocol, 1, 20);
    let effects = acknowledged(&mut protocol, 1, (2, vec![output("errors")]));
    let [Effect::Commit { run, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    deliver(&mut protocol, 2, *run);
    let third = declare(&mut protocol, 3, 30);
    assert_eq!((&third.shard.from, third.shard.previous), (&at(20), Some(cid(2))));
}
