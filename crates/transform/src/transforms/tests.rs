//! The runner under scripted stages: order, numbers of parts, counts, rejections, bounds, panics, and a model.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use standpipe_flow::{Job, Position, Taken, Tenure};

use super::*;
use crate::{Codec, Decompress, DecompressSettings, Split, SplitBy, SplitSettings};

/// Runs jobs at once.
#[derive(Debug)]
struct Inline;

impl Offload for Inline {
    fn run(&self, job: Job) {
        job();
    }
}

/// Runs each job on a thread of its own.
#[derive(Debug)]
struct Threads;

impl Offload for Threads {
    #[allow(clippy::disallowed_methods)] // the clock does not stand still here
    fn run(&self, job: Job) {
        drop(std::thread::spawn(job));
    }
}

/// Drops jobs: nobody runs them any more.
#[derive(Debug)]
struct Nobody;

impl Offload for Nobody {
    fn run(&self, job: Job) {
        drop(job);
    }
}

/// Keeps what it is told.
#[derive(Debug, Default)]
struct Told(Mutex<BTreeMap<(String, &'static str), u64>>);

impl Counts for Told {
    fn records(&self, stage: &str, fate: Fate, records: u64) {
        *self.0.lock().unwrap().entry((stage.to_owned(), fate.label())).or_default() += records;
    }
}

impl Told {
    fn get(&self, stage: &str, fate: Fate) -> u64 {
        self.0.lock().unwrap().get(&(stage.to_owned(), fate.label())).copied().unwrap_or_default()
    }
}

/// What a test's stage does is the record's first byte: pass, drop, change, fail, panic, or so many pieces.
#[derive(Debug)]
struct Scripted(&'static str);

impl Stage for Scripted {
    fn name(&self) -> &'static str {
        self.0
    }

    fn apply(&self, record: Record, made: &mut Made) -> Result<(), Fault> {
        let rest = record.data.slice(1.min(record.data.len())..);
        match record.data.first() {
            Some(b'd') => {}
            Some(b'c') => made.change(&record, rest),
            Some(b'f') => {
                made.piece(&record, rest);
                return Err(Fault::processing("Test.Failed", "it was to fail"));
            }
            Some(b'!') => panic!("it was to panic"),
            Some(digit @ b'0'..=b'9') => {
                for i in 0..usize::from(digit - b'0') {
                    // The last ones fail in the next stage, the first of a row passes.
                    made.piece(&record, if i % 3 == 2 { Bytes::from_static(b"f") } else { rest.clone() });
                }
            }
            Some(b'*') => (0..100_000).for_each(|_| made.piece(&record, rest.clone())),
            _ => made.pass(record),
        }
        Ok(())
    }
}

/// A function outside that drops the second half.
#[derive(Debug)]
struct Halves;

#[async_trait]
impl Transform for Halves {
    async fn apply(&self, mut chunk: Chunk) -> Chunk {
        tokio::task::yield_now().await;
        chunk.records.truncate(chunk.records.len().div_ceil(2));
        chunk
    }
}

fn chunk<T: Into<Bytes>>(records: impl IntoIterator<Item = T>) -> Chunk {
    let records: Vec<Record> = records
        .into_iter()
        .enumerate()
        .map(|(i, data)| Record {
            // Two user records of one record of the stream.
            sequence: (10 + i as u64 / 2).into(),
            sub: i as u64 % 2,
            ..crate::testing::record(data)
        })
        .collect();
    Chunk {
        lease: LeaseKey::new("shardId-000000000000"),
        tenure: Tenure([1; 16]),
        from: Position::TrimHorizon,
        to: Position::at(1_000_000_u64.into(), 0),
        records,
        rejected: Vec::new(),
        originals: Arc::default(),
        behind: Duration::ZERO,
        memory_bytes: 0,
        taken: Taken::default(),
    }
}

fn scripted(names: &[&'static str]) -> Vec<Step> {
    names.iter().map(|name| Step::Each(Arc::new(Scripted(name)))).collect()
}

async fn apply(steps: Vec<Step>, offload: impl Offload, chunk: Chunk) -> (Chunk, Arc<Told>) {
    let told = Arc::new(Told::default());
    let transforms = Transforms::new(steps, false, Arc::new(offload), told.clone());
    (transforms.apply(chunk).await, told)
}

#[tokio::test]
async fn of_several_stages_of_a_kind_each_is_counted_by_its_own_number() {
    let steps = scripted(&["jq", "split", "jq"]).into_iter().chain([Step::All(Arc::new(Halves))]);
    let steps = steps.chain(scripted(&["jq"])).collect();
    let (_, told) = apply(steps, Inline, chunk(["d", "cd", "ccd", "cccd", "x", "y"])).await;
    let counts = |stage| (told.get(stage, Fate::Passed), told.get(stage, Fate::Dropped));
    assert_eq!(["jq", "split", "jq-2", "jq-3"].map(counts), [(5, 1), (4, 1), (3, 1), (1, 1)]);
}

fn data(records: &[Record]) -> Vec<&[u8]> {
    records.iter().map(|record| &record.data[..]).collect()
}

#[tokio::test]
async fn records_stay_in_order_and_parts_are_numbered_within_a_user_record() {
    let chunk_in = chunk(["a", "2cb", "d", "f-", "4c", "c", "z"]);
    for threads in [false, true] {
        let (out, told) = match threads {
            false => apply(scripted(&["first", "second"]), Inline, chunk_in.clone()).await,
            true => apply(scripted(&["first", "second"]), Threads, chunk_in.clone()).await,
        };
        let named: Vec<(String, u32, &[u8])> = out
            .records
            .iter()
            .map(|record| (format!("{}.{}", record.sequence, record.sub), record.part(), &record.data[..]))
            .collect();
        // Of the four pieces of "4c" the third fails in the second stage: the others are numbered without it.
        assert_eq!(
            named,
            [
                ("10.0".into(), 0, &b"a"[..]),
                ("10.1".into(), 0, b"b"),
                ("10.1".into(), 1, b"b"),
                ("12.0".into(), 0, b""),
                ("12.0".into(), 1, b""),
                ("12.0".into(), 2, b""),
                ("12.1".into(), 0, b""),
                ("13.0".into(), 0, b"z"),
            ]
        );
        let rejected: Vec<(String, &[u8], &str)> = out
            .rejected
            .iter()
            .map(|record| (format!("{}.{}", record.sequence, record.sub), &record.data[..], record.code))
            .collect();
        assert_eq!(rejected, [("11.1".into(), &b"f-"[..], "Test.Failed"), ("12.0".into(), b"f", "Test.Failed")]);
        let fates = |stage| [Fate::Passed, Fate::Dropped, Fate::Failed].map(|fate| told.get(stage, fate));
        assert_eq!(fates("first"), [5, 1, 1]);
        assert_eq!(fates("second"), [8, 0, 1]);
        assert_eq!((&out.from, &out.to, out.taken), (&chunk_in.from, &chunk_in.to, chunk_in.taken));
    }
}

#[tokio::test]
async fn a_rejected_record_shows_the_bytes_that_were_read() {
    let (out, _) = apply(scripted(&["first", "second", "third"]), Inline, chunk(["ccf-secret"])).await;
    assert_eq!(out.rejected.len(), 1);
    assert_eq!((out.rejected[0].data.as_ref(), out.rejected[0].attempts), (&b"ccf-secret"[..], 1));
    assert!(out.records.is_empty());
}

#[tokio::test]
async fn a_function_outside_stands_between_runs_of_stages() {
    let steps = [scripted(&["first"]), vec![Step::All(Arc::new(Halves))], scripted(&["second"])].concat();
    let (out, told) = apply(steps, Threads, chunk(["cca", "4c", "cb", "cc"])).await;
    // The first stage gives ca, c, c, f, c, b, c; the first half of that goes on.
    assert_eq!(data(&out.records), [&b"a"[..], b"", b""]);
    assert_eq!(out.rejected.len(), 1);
    assert_eq!(told.get("second", Fate::Passed), 3);
}

#[tokio::test]
async fn without_stages_a_chunk_is_as_it_was_and_a_backup_of_all_keeps_what_was_read() {
    let chunk_in = chunk(["a", "b"]);
    let told = Arc::new(Told::default());
    let none = Transforms::new(Vec::new(), false, Arc::new(Nobody), told.clone());
    assert!(none.is_empty());
    assert_eq!(none.apply(chunk_in.clone()).await, chunk_in);
    let all = Transforms::new(scripted(&["first"]), true, Arc::new(Inline), told);
    let out = all.apply(chunk(["cx", "d"])).await;
    assert_eq!((data(&out.originals), data(&out.records)), (vec![&b"cx"[..], b"d"], vec![&b"x"[..]]));
}

#[tokio::test]
async fn memory_is_what_the_chunk_holds_afterwards() {
    let (out, _) = apply(scripted(&["first"]), Inline, chunk(["c0123456789", "f"])).await;
    let added = 10 + 11 + size_of::<standpipe_flow::Transformed>();
    assert_eq!(out.memory_bytes, size_of::<Record>() + added + size_of::<RejectedRecord>() + 1);
}

#[tokio::test]
async fn a_stage_that_multiplies_by_a_hundred_thousand_is_borne() {
    let (out, told) = apply(scripted(&["first", "second"]), Inline, chunk(["*c1234567890", "x"])).await;
    assert_eq!(out.records.len(), 100_001);
    assert_eq!(out.records[99_999].part(), 99_999);
    assert_eq!(told.get("second", Fate::Passed), 100_001);
}

#[tokio::test]
async fn more_than_fits_is_not_made_of_one_record_by_one_stage_or_several() {
    // Twice by 100,000 would be 10^10 records.
    let (out, told) = apply(scripted(&["first", "second", "third"]), Inline, chunk(["x", "**c", "f", "y"])).await;
    assert_eq!(data(&out.records), [b"x", b"y"]);
    let codes: Vec<&str> = out.rejected.iter().map(|rejected| rejected.code).collect();
    assert_eq!(codes, ["Transform.ResultTooLarge", "Test.Failed"]);
    let message = "stage second: more than 134217728 bytes are made of the record";
    assert_eq!((out.rejected[0].data.as_ref(), &*out.rejected[0].message), (&b"**c"[..], message));
    assert_eq!(told.get("second", Fate::Failed), 1);

    // What had passed and what had been rejected of the record's pieces is forgotten with it.
    let told = Arc::new(Told::default());
    let piece = size_of::<Record>() + size_of::<standpipe_flow::Transformed>() + 101;
    let transforms = Transforms::new(scripted(&["first", "second"]), false, Arc::new(Inline), told.clone());
    let transforms = transforms.with_result_bytes_max(11 * piece);
    let out = transforms.apply(chunk([format!("44{}", "x".repeat(100)), "x".into()])).await;
    assert_eq!(data(&out.records), [b"x"]);
    assert_eq!(out.rejected.iter().map(|rejected| rejected.code).collect::<Vec<_>>(), ["Transform.ResultTooLarge"]);
    assert_eq!((told.get("second", Fate::Passed), told.get("second", Fate::Failed)), (3, 2));
}

#[tokio::test]
async fn a_bomb_that_is_split_holds_no_more_than_the_bound() {
    let bomb = zstd::bulk::compress("{}".repeat(2_000_000).as_bytes(), 1).unwrap();
    let decompress = Decompress::new(DecompressSettings { codec: Codec::Auto, bytes_max: 64 << 20 }).unwrap();
    let split = Split::new(SplitSettings { by: SplitBy::Json, pieces_max: usize::MAX }).unwrap();
    let steps = vec![Step::Each(Arc::new(decompress)), Step::Each(Arc::new(split))];
    let (out, _) = apply(steps, Inline, chunk([Bytes::from(bomb.clone())])).await;
    assert!(out.records.is_empty());
    assert_eq!((out.rejected[0].code, &out.rejected[0].data), ("Transform.ResultTooLarge", &Bytes::from(bomb)));
}

#[tokio::test]
#[should_panic(expected = "a transform ended without its result")]
async fn a_stage_that_panics_on_its_thread_ends_the_reader() {
    apply(scripted(&["first"]), Threads, chunk(["a", "!"])).await;
}

#[tokio::test]
#[should_panic(expected = "it was to panic")]
async fn a_stage_that_panics_inline_ends_the_reader() {
    apply(scripted(&["first"]), Inline, chunk(["a", "!"])).await;
}

#[tokio::test]
#[should_panic(expected = "a transform ended without its result")]
async fn a_job_that_nobody_runs_ends_the_reader() {
    apply(scripted(&["first"]), Nobody, chunk(["a"])).await;
}

/// What the scripted stages make of a record, said once more: what passes, and how many are rejected.
fn model(stages: usize, data: &[u8]) -> (Vec<Vec<u8>>, usize) {
    if stages == 0 {
        return (vec![data.to_vec()], 0);
    }
    let rest = data.get(1..).unwrap_or_default();
    let next: Vec<&[u8]> = match data.first() {
        Some(b'd') => Vec::new(),
        Some(b'c') => vec![rest],
        Some(b'f') => return (Vec::new(), 1),
        Some(digit @ b'0'..=b'9') => (0..digit - b'0').map(|i| if i % 3 == 2 { &b"f"[..] } else { rest }).collect(),
        _ => vec![data],
    };
    let made = next.into_iter().map(|data| model(stages - 1, data));
    made.fold((Vec::new(), 0), |all, one| ([all.0, one.0].concat(), all.1 + one.1))
}

proptest! {
    #[test]
    fn what_comes_in_passes_is_dropped_or_fails(
        records in proptest::collection::vec("[acdfx0-6]{0,4}", 0..40),
        names in 1..4_usize,
        between in any::<bool>(),
        threads in any::<bool>(),
    ) {
        #[derive(Debug)]
        struct Nothing;
        #[async_trait]
        impl Transform for Nothing {
            async fn apply(&self, chunk: Chunk) -> Chunk {
                chunk
            }
        }
        let stages = ["first", "second", "third"];
        let mut steps = scripted(&stages[..names]);
        if between {
            steps.insert(1, Step::All(Arc::new(Nothing)));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (out, told) = runtime.block_on(async {
            if threads { apply(steps, Threads, chunk(records.clone())).await } else { apply(steps, Inline, chunk(records.clone())).await }
        });

        let model = records.iter().map(|data| model(names, data.as_bytes()));
        let (passed, rejected) = model.fold((Vec::new(), 0), |all, one| ([all.0, one.0].concat(), all.1 + one.1));
        prop_assert_eq!(data(&out.records), passed.iter().map(Vec::as_slice).collect::<Vec<_>>());
        prop_assert_eq!(out.rejected.len(), rejected);
        // Every stage: what came in is what passed, was dropped or failed. Into the first comes what was read.
        let sum = |stage| [Fate::Passed, Fate::Dropped, Fate::Failed].iter().map(|fate| told.get(stage, *fate)).sum::<u64>();
        prop_assert_eq!(sum("first"), records.len() as u64);
        let failed: u64 = stages.iter().map(|stage| told.get(stage, Fate::Failed)).sum();
        prop_assert_eq!(failed, rejected as u64);
        // Names are unique and ascend.
        let name = |record: &Record| (record.position(), record.part());
        prop_assert!(out.records.windows(2).all(|two| name(&two[0]) < name(&two[1])));
        prop_assert!(out.rejected.windows(2).all(|two| (&two[0].sequence, two[0].sub) <= (&two[1].sequence, two[1].sub)));
    }
}

/// Regression: a hundred records of 2 KB that each became 64 MiB were all made before anything was charged.
#[tokio::test]
async fn as_much_is_made_as_may_be_and_the_rest_comes_back_as_it_was() {
    let made = |data: &[u8]| vec![b'x'; data.len() * 1_000];
    // The chunk has two user records of each record of the stream.
    let chunk = chunk(vec!["rrrrrrrrrr"; 10]);
    let steps = vec![Step::Each(Arc::new(Grows(made)))];
    let transforms = Transforms::new(steps, true, Arc::new(Inline), Arc::new(Told::default()));
    let (mut first, mut rest) = transforms.apply_some(chunk.clone(), 25_000).await;
    let (mut passed, mut originals, mut pieces) = (first.records.len(), first.originals.len(), 1);
    assert_eq!(passed, 4, "an aggregate is not cut");
    while let Some(left) = rest {
        assert_eq!(first.to, left.from);
        (first, rest) = transforms.apply_some(left, 25_000).await;
        (passed, originals, pieces) = (passed + first.records.len(), originals + first.originals.len(), pieces + 1);
    }
    assert_eq!((passed, originals, pieces), (10, 10, 3));
    assert_eq!(first.to, chunk.to);
}

/// Makes much of little.
#[derive(Debug)]
struct Grows(fn(&[u8]) -> Vec<u8>);

impl Stage for Grows {
    fn name(&self) -> &'static str {
        "grows"
    }

    fn apply(&self, record: Record, made: &mut Made) -> Result<(), Fault> {
        made.change(&record, (self.0)(&record.data));
        Ok(())
    }
}
