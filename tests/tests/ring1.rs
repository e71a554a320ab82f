//! The first ring: a thousand seeds; `cargo run -p standpipe-tests --bin ring1 1..20000` runs more. And what the checks
//! say when the lease table skips a clause: a rule that nothing here would miss is not tested by it.

use standpipe_flow::write::Clause;
use standpipe_tests::ring1::{Ignored, run, run_ignoring};

#[test]
fn every_record_is_there_once_and_in_order_whatever_goes_wrong() {
    for seed in 1..=1_000 {
        let outcome = run(seed);
        assert!(outcome.wrong.is_empty(), "seed {seed}: {:#?}", outcome.wrong);
        assert!(outcome.produced > 0);
    }
}

#[test]
fn the_same_seed_gives_the_same_list_of_writes() {
    for seed in 1..=20 {
        let first = run_ignoring(seed, |_| false);
        assert!(first == run_ignoring(seed, |_| false), "seed {seed} is not the same twice");
    }
}

/// A seed of which the checks see that the clause is skipped, by one of these invariants.
fn is_missed(ignored: Ignored, by: &[&str]) {
    let seen = (1..=400).find(|seed| {
        let wrong = run_ignoring(*seed, ignored).0.wrong;
        wrong.iter().any(|wrong| by.iter().any(|id| wrong.contains(id)))
    });
    assert!(seen.is_some(), "400 seeds do not miss the clause");
}

#[test]
fn a_table_that_skips_the_tenure_clause_fails_the_checks() {
    is_missed(|clause| matches!(clause, Clause::TenureIs(_)), &["I9"]);
}

#[test]
fn a_table_that_skips_the_position_clause_fails_the_checks() {
    is_missed(|clause| matches!(clause, Clause::PositionIs(..) | Clause::PositionOrCommitIs(..)), &["I2"]);
}

#[test]
fn a_table_that_skips_the_checkpoint_clause_fails_the_checks() {
    is_missed(|clause| matches!(clause, Clause::CheckpointUntouched), &["I16"]);
}

#[test]
fn a_table_that_skips_the_counter_clause_fails_the_checks() {
    is_missed(|clause| matches!(clause, Clause::CounterIs(_)), &["I8", "I9", "I16"]);
}

#[test]
fn a_table_that_skips_the_commit_clause_fails_the_checks() {
    is_missed(|clause| matches!(clause, Clause::CommitIs(..)), &["I8", "I17"]);
}
