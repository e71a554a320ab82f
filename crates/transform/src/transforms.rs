//! The stages of a pipeline, one after the other over the records of a chunk.
//!
//! Stages that look at single records run together as one job away from the async threads; a function outside is awaited
//! between them. A record that a stage rejects takes no further part. What is made of one record has a bound in bytes; a
//! record of which more is made is rejected as a whole.
//! Never here: what a stage does.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use standpipe_flow::{Chunk, LeaseKey, Offload, Record, RejectedRecord, Transform};
use tokio::sync::oneshot;

use crate::stage::{Fate, Fault, Made, RESULT_BYTES_MAX, Stage, held_bytes};

/// Told what became of records; the metrics behind it are the caller's.
pub trait Counts: Debug + Send + Sync + 'static {
    /// So many records had this fate in a stage: by its name, and from the second one of that name on its number, as in
    /// `jq-2`.
    fn records(&self, stage: &str, fate: Fate, records: u64);
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
    result_bytes_max: usize,
}

#[derive(Clone, Debug)]
enum Run {
    Each(Arc<[Named]>),
    All(Arc<dyn Transform>),
}

/// A stage with what it is called among the others.
#[derive(Clone, Debug)]
struct Named {
    stage: Arc<dyn Stage>,
    name: Arc<str>,
}

/// The name of the nth thing of one kind.
pub fn numbered(kind: &str, nth: usize) -> String {
    if nth > 1 { format!("{kind}-{nth}") } else { kind.to_owned() }
}

impl Transforms {
    /// Stages in their order. `keeps_originals`: the chunk also carries its records as they were read, for a backup of all.
    pub fn new(steps: Vec<Step>, keeps_originals: bool, offload: Arc<dyn Offload>, counts: Arc<dyn Counts>) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        let mut each: Vec<Named> = Vec::new();
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Each(stage) => {
                    let nth = kinds.entry(stage.name()).or_default();
                    *nth += 1;
                    each.push(Named { name: numbered(stage.name(), *nth).into(), stage });
                }
                Step::All(transform) => {
                    runs.extend((!each.is_empty()).then(|| Run::Each(std::mem::take(&mut each).into())));
                    runs.push(Run::All(transform));
                }
            }
        }
        runs.extend((!each.is_empty()).then(|| Run::Each(each.into())));
        Self { steps: runs, offload, counts, keeps_originals, result_bytes_max: RESULT_BYTES_MAX }
    }

    /// Another bound than [`RESULT_BYTES_MAX`] on what is made of one record.
    pub fn with_result_bytes_max(self, result_bytes_max: usize) -> Self {
        Self { result_bytes_max, ..self }
    }

    /// Whether every record passes as it is.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && !self.keeps_originals
    }

    fn alls(&self) -> impl Iterator<Item = &Arc<dyn Transform>> {
        self.steps.iter().filter_map(|run| match run {
            Run::Each(_) => None,
            Run::All(transform) => Some(transform),
        })
    }

    async fn each(&self, stages: Arc<[Named]>, chunk: Chunk, bytes: usize) -> (Chunk, Option<Chunk>) {
        let (sender, receiver) = oneshot::channel();
        let (counts, result_bytes_max) = (self.counts.clone(), self.result_bytes_max);
        self.offload.run(Box::new(move || {
            // Nobody waits any more when the reader was stopped.
            let _ = sender.send(each_of(&stages, counts.as_ref(), chunk, (result_bytes_max, bytes)));
        }));
        match receiver.await {
            Ok(made) => made,
            // The job died, which is a defect: the reader is begun anew by whoever watches it.
            Err(_) => panic!("a transform ended without its result"),
        }
    }
}

#[async_trait]
impl Transform for Transforms {
    async fn apply(&self, chunk: Chunk) -> Chunk {
        self.apply_some(chunk, usize::MAX).await.0
    }

    /// What stands first decides: a stage of single records is where a few bytes become many.
    async fn apply_some(&self, mut chunk: Chunk, bytes: usize) -> (Chunk, Option<Chunk>) {
        if self.is_empty() {
            return (chunk, None);
        }
        let mut originals: Vec<Record> = if self.keeps_originals { chunk.records.clone() } else { Vec::new() };
        let mut rest = None;
        for (at, run) in self.steps.iter().enumerate() {
            chunk = match run {
                Run::Each(stages) if at == 0 => {
                    let (made, left) = self.each(stages.clone(), chunk, bytes).await;
                    rest = left;
                    made
                }
                Run::Each(stages) => self.each(stages.clone(), chunk, usize::MAX).await.0,
                Run::All(transform) => transform.apply(chunk).await,
            };
        }
        if self.keeps_originals {
            let unmade = rest.as_ref().map_or(0, |rest: &Chunk| rest.records.len());
            originals.truncate(originals.len().saturating_sub(unmade));
            chunk.originals = originals.into();
        }
        number_parts(&mut chunk.records);
        chunk.rejected.sort_by(|a, b| (&a.sequence, a.sub).cmp(&(&b.sequence, b.sub)));
        chunk.memory_bytes = memory_bytes(&chunk);
        (chunk, rest)
    }

    /// As much as the largest asks for, as long as the most impatient waits.
    fn gathers(&self) -> Option<(usize, Duration)> {
        let gathers = self.alls().filter_map(|transform| transform.gathers());
        gathers.reduce(|(bytes, wait), (more, sooner)| (bytes.max(more), wait.min(sooner)))
    }

    fn at_once(&self) -> Option<usize> {
        self.alls().filter_map(|transform| transform.at_once()).max()
    }
}

/// Runs records through the stages, one record at a time, so that little is in memory between them, until about `bytes` are
/// made. What is left comes back.
fn each_of(
    stages: &[Named],
    counts: &dyn Counts,
    mut chunk: Chunk,
    (result_bytes_max, bytes): (usize, usize),
) -> (Chunk, Option<Chunk>) {
    let mut through = Through {
        lease: &chunk.lease.clone(),
        passed: Vec::with_capacity(chunk.records.len()),
        rejected: std::mem::take(&mut chunk.rejected),
        fates: vec![[0; 3]; stages.len()],
        held: 0,
        held_max: result_bytes_max,
    };
    let (mut made, mut rest) = (0_usize, None);
    for at in 0..chunk.records.len() {
        let begins = at > 0 && chunk.records[at - 1].sequence != chunk.records[at].sequence;
        if made >= bytes && begins {
            rest = Some(chunk.cut_at(at));
            break;
        }
        through.whole(stages, chunk.records[at].clone());
        made = made.saturating_add(through.held);
    }
    let Through { passed, rejected, fates, .. } = through;
    for (stage, fates) in stages.iter().zip(fates) {
        for (fate, records) in [Fate::Passed, Fate::Dropped, Fate::Failed].into_iter().zip(fates) {
            if records > 0 {
                counts.records(&stage.name, fate, records);
            }
        }
    }
    (chunk.records, chunk.rejected) = (passed, rejected);
    (chunk, rest)
}

/// Records on their way through single-record stages.
struct Through<'a> {
    lease: &'a LeaseKey,
    passed: Vec<Record>,
    rejected: Vec<RejectedRecord>,
    /// By stage: passed, dropped, failed.
    fates: Vec<[u64; 3]>,
    /// Bytes of what has been made of the record in hand, by every stage.
    held: usize,
    held_max: usize,
}

/// More was made of a record than may be, in the stage of this name.
struct TooMuch(Arc<str>);

impl Through<'_> {
    /// One record through all stages. If too much is made of it, nothing of that stays but the record, rejected.
    fn whole(&mut self, stages: &[Named], record: Record) {
        let (before, passed, rejected) = (record.clone(), self.passed.len(), self.rejected.len());
        self.held = 0;
        if let Err(TooMuch(stage)) = self.rest(stages, 0, record) {
            self.passed.truncate(passed);
            self.rejected.truncate(rejected);
            let message = format!("stage {stage}: more than {} bytes are made of the record", self.held_max);
            self.reject(&before, Fault::processing("Transform.ResultTooLarge", message));
        }
    }

    /// One record through the stages from `at` on. What it held is no longer counted when this begins.
    fn rest(&mut self, stages: &[Named], at: usize, record: Record) -> Result<(), TooMuch> {
        let Some(stage) = stages.get(at) else {
            self.held += held_bytes(&record);
            self.passed.push(record);
            return Ok(());
        };
        let before = record.clone();
        let mut made = Made::with_room(self.held_max.saturating_sub(self.held));
        match stage.stage.apply(record, &mut made) {
            Err(fault) => {
                self.fates[at][2] += 1;
                self.reject(&before, fault);
            }
            Ok(()) if made.is_over() => {
                self.fates[at][2] += 1;
                return Err(TooMuch(stage.name.clone()));
            }
            Ok(()) if made.is_empty() => self.fates[at][1] += 1,
            Ok(()) => {
                self.fates[at][0] += 1;
                let made = made.take();
                self.held += made.iter().map(held_bytes).sum::<usize>();
                for record in made {
                    self.held -= held_bytes(&record);
                    self.rest(stages, at + 1, record)?;
                }
            }
        }
        Ok(())
    }

    fn reject(&mut self, record: &Record, Fault { output_type, code, message }: Fault) {
        let rejected = RejectedRecord::of((self.lease, record), output_type, code, message);
        self.held += rejected.data.len() + size_of::<RejectedRecord>();
        self.rejected.push(rejected);
    }
}

/// Gives the records that were made of one user record their numbers.
pub(crate) fn number_parts(records: &mut [Record]) {
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
    let rejected = |record: &RejectedRecord| size_of::<RejectedRecord>() + record.data.len();
    chunk.records.iter().map(held_bytes).sum::<usize>()
        + chunk.rejected.iter().map(rejected).sum::<usize>()
        + chunk.originals.iter().map(held_bytes).sum::<usize>()
}

#[cfg(test)]
mod tests;
