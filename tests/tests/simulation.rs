//! A few seeds of the second ring; `cargo run -p standpipe-tests --bin simulate 1..500` runs more.

use standpipe_tests::simulation::run;

#[test]
fn every_record_is_there_once_and_in_order_whatever_goes_wrong() {
    for seed in 1..=6 {
        let outcome = run(seed);
        assert!(outcome.wrong.is_empty(), "seed {seed}: {:#?}", outcome.wrong);
        assert!(outcome.produced > 0 && outcome.found == outcome.produced - outcome.expired + outcome.excused);
    }
}

#[test]
fn the_same_seed_gives_the_same_list_of_requests_and_effects() {
    assert_eq!(run(7), run(7));
}
