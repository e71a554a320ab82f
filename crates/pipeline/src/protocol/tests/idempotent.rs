//! Idempotent destinations: what was delivered advances, what ends in S3 is committed.

use super::*;

/// An idempotent destination has the batch, but for what became these outputs.
fn delivered(protocol: &mut Protocol, n: u8, outputs: Vec<Output>) -> Vec<Effect> {
    let staged = Staged { outputs, delivered_bytes: 70, ..Staged::default() };
    let staged = Box::new(StagedBatch { delivered: true, ..*whole(n, staged) });
    protocol.step(Event::Staged { cid: cid(n), staged })
}

fn advanced(protocol: &mut Protocol, lease: u8, position: Option<Position>) -> Vec<Effect> {
    protocol.step(Event::Advanced { lease: key(lease), tenure: tenure(1), position })
}

#[test]
fn a_delivered_batch_advances_each_shard_by_itself_and_needs_no_commit() {
    let mut protocol = holding(2);
    cut(&mut protocol, 1, &[0, 1], 20);
    let effects = delivered(&mut protocol, 1, Vec::new());
    let advances = |effect: &Effect| matches!(effect, Effect::Advance(advance) if (&advance.from, &advance.to) == (&at(10), &at(20)));
    assert!(effects.len() == 2 && effects.iter().all(advances), "{effects:?}");
    assert!(protocol.ready(&key(0)).is_none() && !protocol.settled(&key(0)), "I7: not before its position is written");

    let first = advanced(&mut protocol, 0, Some(at(20)));
    assert!(settles(&first, 0, &at(20)) && first.len() == 1, "{first:?}");
    assert!(protocol.settled(&key(0)) && protocol.knows(cid(1)));
    assert_eq!(protocol.ready(&key(0)).map(|(_, from, _)| from.clone()), Some(at(20)), "I2: the next one continues");

    let second = advanced(&mut protocol, 1, None);
    assert!(walks_away(&second, 1), "its records come again, under the next acquisition: {second:?}");
    let Some(Effect::Delivered { receipt, by_us: true }) = second.last() else { panic!("{second:?}") };
    assert_eq!((receipt.records, receipt.bytes, receipt.outputs.len()), (5, 70, 0));
    assert!(!protocol.knows(cid(1)));
}

#[test]
fn what_an_idempotent_destination_refuses_is_committed_and_the_next_batch_carries_it() {
    let mut protocol = holding(1);
    cut(&mut protocol, 1, &[0], 20);
    let effects = delivered(&mut protocol, 1, vec![output("errors")]);
    let [Effect::Commit { run, .. }] = effects.as_slice() else { panic!("error objects exactly once: {effects:?}") };
    deliver(&mut protocol, 1, *run);
    // Not yet finalized: an advance would demand a row without a commit.
    cut(&mut protocol, 2, &[0], 30);
    let effects = delivered(&mut protocol, 2, Vec::new());
    let [Effect::Commit { run, commit }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((commit.shards[0].previous, commit.receipt.outputs.len()), (Some(cid(1)), 0));
    deliver(&mut protocol, 2, *run);
    protocol.step(Event::Finalized { lease: key(0), tenure: tenure(1), cid: cid(2) });
    cut(&mut protocol, 3, &[0], 40);
    assert!(matches!(delivered(&mut protocol, 3, Vec::new()).as_slice(), [Effect::Advance(_)]));
}

#[test]
fn a_lease_that_is_lost_while_its_position_is_written_leaves_the_others_alone() {
    let mut protocol = holding(2);
    cut(&mut protocol, 1, &[0, 1], 20);
    delivered(&mut protocol, 1, Vec::new());
    assert_eq!(protocol.step(Event::Lost { lease: key(0), tenure: tenure(1) }), Vec::new());
    assert_eq!(advanced(&mut protocol, 0, Some(at(20))), Vec::new(), "I9: a late answer is for nobody");
    let lost = protocol.step(Event::Lost { lease: key(1), tenure: tenure(1) });
    assert!(matches!(lost.as_slice(), [Effect::Dead { .. }]) && protocol.attempts() == 0, "{lost:?}");
}
