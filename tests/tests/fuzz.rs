//! A short run of the fuzzer over every target; `tests/src/bin/fuzz.rs` runs it for as long as one likes.

use peak_alloc::PeakAlloc;
use standpipe_tests::fuzz::{Until, Watch, run, targets};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

#[test]
fn no_target_panics_breaks_a_promise_or_takes_memory_without_bound() {
    for target in targets() {
        let report = run(&target, 1, Until::Executions(3_000), &Watch::default());
        // How long an input takes is for the machine to say, not for a test.
        let finds: Vec<&str> =
            report.finds.iter().map(|find| find.what.as_str()).filter(|what| !what.ends_with(" ms")).collect();
        assert!(finds.is_empty(), "{}: {finds:?}", target.name);
        assert!(report.executions >= 3_000 && report.answers > 1, "{}: {report:?}", target.name);
    }
}
