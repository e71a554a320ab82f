//! The stages of a pipeline, one after the other over the records of a chunk.
//!
//! Stages that look at single records run together as one job away from the async threads; a function outside is awaited
//! between them. A record that a stage rejects takes no further part.
//! Never here: what a stage does.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use standpipe_flow::{Chunk, LeaseKey, Offload, Record, RejectedRecord, Transform};
use tokio::sync::oneshot;

use crate::stage::{Fate, Fault, Made, Stage};

/// Told what became of records; the metrics behind it are the caller's.
pub trait Counts: Debug + Send + Sync + 'static {
    /// So many records had this fate in a stage.
    fn records(&self, stage: &'static str, fate: Fate, records: u64);
}

/// What the records of a chunk go through.
#[derive(Clone, Debug)]
pub enum Step {
    /// A stage that looks at one record at a time.
    Each(Arc<dyn Stage>),
    /// A function outside, asked about all of them: it drops, changes or rejects each.
    All(Arc<dyn Transform>),
}

/// The stages of a pipeline or of one destination, in the order of the config.
#[derive(Clone, Debug)]
pub struct Transforms {
    /// Runs of single-record stages, and what stands between them.
    steps: Vec<Run>,
    offload: Arc<dyn Offload>,
    counts: Arc<dyn Counts>,
    keeps_originals: bool,
}

#[derive(Clone, Debug)]
enum Run {
    Each(Arc<[Arc<dyn Stage>]>),
    All(Arc<dyn Transform>),
}

impl Transforms {
    /// Stages in their order. `keeps_originals`: the chunk also carries its records as they were read, for a backup of all.
    pub fn new(steps: Vec<Step>, keeps_originals: bool, offload: Arc<dyn Offload>, counts: Arc<dyn Counts>) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        let mut each: Vec<Arc<dyn Stage>> = Vec::new();
        for step in steps {
            match step {
                Step::Each(stage) => each.push(stage),
                Step::All(transform) => {
                    runs.extend((!each.is_empty()).then(|| Run::Each(std::mem::take(&mut each).into())));
                    runs.push(Run::All(transform));
                }
            }
        }
        runs.extend((!each.is_empty()).then(|| Run::Each(each.into())));
        Self { steps: runs, offload, counts, keeps_originals }
    }

    /// Whether every record passes as it is.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && !self.keeps_originals
    }

    async fn each(&self, stages: Arc<[Arc<dyn Stage>]>, chunk: Chunk) -> Chunk {
        let (sender, receiver) = oneshot::channel();
        let counts = self.counts.clone();
        self.offload.run(Box::new(move || {
            // Nobody waits any more when the reader was stopped.
            let _ = sender.send(each_of(&stages, counts.as_ref(), chunk));
        }));
        match receiver.await {
            Ok(chunk) => chunk,
            // The job died, which is a defect: the reader is begun anew by whoever watches it.
            Err(_) => panic!("a transform ended without its result"),
        }
    }
}

#[async_trait]
impl Transform for Transforms {
    async fn apply(&self, mut chunk: Chunk) -> Chunk {
        if self.is_empty() {
            return chunk;
        }
        if self.keeps_originals {
            chunk.originals = chunk.records.clone().into();
        }
        for run in &self.steps {
            chunk = match run {
                Run::Each(stages) => self.each(stages.clone(), chunk).await,
                Run::All(transform) => transform.apply(chunk).await,
            };
        }
        number_parts(&mut chunk.records);
        chunk.rejected.sort_by(|a, b| (&a.sequence, a.sub).cmp(&(&b.sequence, b.sub)));
        chunk.memory_bytes = memory_bytes(&chunk);
        chunk
    }

    /// As much as the largest asks for, as long as the most impatient waits.
    fn gathers(&self) -> Option<(usize, Duration)> {
        let gathers = self.steps.iter().filter_map(|run| match run {
            Run::Each(_) => None,
            Run::All(transform) => transform.gathers(),
        });
        gathers.reduce(|(bytes, wait), (more, sooner)| (bytes.max(more), wait.min(sooner)))
    }
}

/// Runs every record through the stages, one record at a time, so that little is in memory between them.
fn each_of(stages: &[Arc<dyn Stage>], counts: &dyn Counts, mut chunk: Chunk) -> Chunk {
    let mut fates = vec![[0_u64; 3]; stages.len()];
    let mut passed = Vec::with_capacity(chunk.records.len());
    let mut made = Made::default();
    for record in std::mem::take(&mut chunk.records) {
        through(stages, record, &mut made, &mut fates, &mut (&chunk.lease, &mut passed, &mut chunk.rejected));
    }
    for (stage, fates) in stages.iter().zip(fates) {
        for (fate, records) in [Fate::Passed, Fate::Dropped, Fate::Failed].into_iter().zip(fates) {
            if records > 0 {
                counts.records(stage.name(), fate, records);
            }
        }
    }
    chunk.records = passed;
    chunk
}

type Out<'a> = (&'a LeaseKey, &'a mut Vec<Record>, &'a mut Vec<RejectedRecord>);

/// One record through what is left of the stages.
fn through(stages: &[Arc<dyn Stage>], record: Record, made: &mut Made, fates: &mut [[u64; 3]], out: &mut Out<'_>) {
    let Some((stage, rest)) = stages.split_first() else {
        out.1.push(record);
        return;
    };
    let before = record.clone();
    match stage.apply(record, made) {
        Err(Fault { output_type, code, message }) => {
            made.take();
            fates[0][2] += 1;
            out.2.push(RejectedRecord::of((out.0, &before), output_type, code, message));
        }
        Ok(()) if made.is_empty() => fates[0][1] += 1,
        Ok(()) => {
            fates[0][0] += 1;
            for record in made.take() {
                through(rest, record, made, &mut fates[1..], out);
            }
        }
    }
}

/// Gives the records that were made of one user record their numbers.
fn number_parts(records: &mut [Record]) {
    let mut next = 0;
    for i in 0..records.len() {
        let same = i > 0 && records[i - 1].sequence == records[i].sequence && records[i - 1].sub == records[i].sub;
        next = if same { next + 1 } else { 0 };
        if records[i].part() != next {
            records[i].transformed.get_or_insert_default().part = next;
        }
    }
}

/// What the chunk holds: the bytes of its records, those that were read beside them, and the records themselves.
fn memory_bytes(chunk: &Chunk) -> usize {
    let record = |record: &Record| {
        let original = record.transformed.as_ref().and_then(|transformed| transformed.original.as_ref());
        size_of::<Record>() + record.data.len() + original.map_or(0, bytes::Bytes::len)
    };
    let rejected = |record: &RejectedRecord| size_of::<RejectedRecord>() + record.data.len();
    chunk.records.iter().map(record).sum::<usize>()
        + chunk.rejected.iter().map(rejected).sum::<usize>()
        + chunk.originals.iter().map(record).sum::<usize>()
}
