//! The small bounds, in `cargo test`.

use std::time::Duration;

use crate::explore::{Bounds, breadth, walk};
use crate::scenarios::{self, Size};

const NO_BOUND: Bounds = Bounds { states: usize::MAX, time: Duration::MAX };

#[test]
fn no_state_within_the_small_bounds_breaks_an_invariant() {
    for scenario in scenarios::all(Size::Small) {
        let name = scenario.name;
        let report = breadth(scenario, NO_BOUND);
        let found = report.violation.map(|violation| (violation.what, violation.steps));
        assert!(report.whole && found.is_none(), "{name}: {found:#?}");
    }
    assert_eq!(crate::met(), crate::worker::KINDS, "every recovery is met");
}

#[test]
fn no_random_walk_breaks_an_invariant_and_every_run_is_the_same() {
    for scenario in scenarios::walks() {
        let (name, again) = (scenario.name, scenario.clone());
        let (report, _) = walk(scenario, 20, 120, Duration::MAX);
        let found = report.violation.map(|violation| (violation.what, violation.steps));
        assert!(found.is_none(), "{name}: {found:#?}");
        let (second, _) = walk(again, 20, 120, Duration::MAX);
        assert_eq!((report.states, report.transitions), (second.states, second.transitions), "{name}");
    }
}
