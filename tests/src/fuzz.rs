//! Hostile record bytes for every parser that sees them: a mutating fuzzer for the stable compiler.
//!
//! It sees no coverage. What it sees instead is what a target says of an input (the reason of a rejection, the kind of
//! result): an input with an answer that none before it had joins the corpus, and is mutated further.
//! A find is a panic, a broken promise of the target, an input that takes more CPU time than [`DEADLINE`], or one that takes
//! more memory than its target may. The same seed gives the same inputs.
//!
//! [`targets`] is the table. A target is a line there: what it begins with, the words of its language, and what it does.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use peak_alloc::PeakAlloc;

use crate::simulation::Dice;

mod jq;
mod mutate;
mod stages;
mod targets;

pub use targets::targets;

/// The longest that one input may take, in CPU time.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// Bytes of the longest input: the length bombs among them.
const INPUT_BYTES_MAX: usize = 1 << 20;

/// Inputs that are kept to be mutated.
const CORPUS_MAX: usize = 4_000;

/// Finds after which a run ends.
const FINDS_MAX: usize = 5;

/// What a target says of an input: the kind of its answer, or the promise that it broke.
pub type Answer = Result<String, String>;

/// One parser.
pub struct Target {
    /// How it is asked for.
    pub name: &'static str,
    /// What mutation begins with.
    pub seeds: Vec<Vec<u8>>,
    /// Words of its language.
    pub tokens: &'static [&'static [u8]],
    /// Bytes of memory that one input may take beside itself.
    pub memory_max: usize,
    /// Makes what takes the inputs.
    pub make: fn() -> Check,
}

/// Takes an input.
pub type Check = Box<dyn Fn(&Bytes) -> Answer + Send>;

/// How long a run goes on.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// So many inputs.
    Executions(u64),
    /// So much time.
    Time(Duration),
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Inputs that were tried.
    pub executions: u64,
    /// Different answers.
    pub answers: usize,
    /// The longest that an input took.
    pub slowest: Duration,
    /// The most memory that an input took, in bytes, as the allocator counts it.
    pub memory: usize,
    /// What went wrong.
    pub finds: Vec<Find>,
}

/// Something that must not happen.
#[derive(Debug)]
pub struct Find {
    /// What it is.
    pub what: String,
    /// The input.
    pub input: Bytes,
}

/// The input in hand, for a thread that watches for one that never ends.
#[derive(Debug, Default)]
pub struct Watch {
    held: Mutex<Option<(Instant, Bytes)>>,
    /// Where every input is written down before it is tried.
    last: Option<PathBuf>,
}

impl Watch {
    /// Writes every input down before it is tried: a stack that overflows ends the process.
    pub fn writing(last: Option<PathBuf>) -> Self {
        Self { held: Mutex::default(), last }
    }

    #[allow(clippy::disallowed_methods)] // the wall time of the runs themselves
    fn begin(&self, input: &Bytes) -> Instant {
        if let Some(last) = &self.last {
            std::fs::write(last, input).expect("the file of the last input can be written");
        }
        let now = Instant::now();
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, input.clone()));
        now
    }

    /// An input that has been in hand for longer than `limit`.
    pub fn overdue(&self, limit: Duration) -> Option<Bytes> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().filter(|(since, _)| since.elapsed() > limit).map(|(_, input)| input.clone())
    }
}

/// Runs a target. Memory is seen if the program's allocator is [`PeakAlloc`].
pub fn run(target: &Target, seed: u64, until: Until, watch: &Watch) -> Report {
    let mut run = Run {
        target,
        check: (target.make)(),
        watch,
        report: Report::default(),
        answers: BTreeSet::new(),
        corpus: Vec::new(),
    };
    let mut dice = Dice::new(seed);
    for input in &target.seeds {
        run.one(input.clone());
        run.keep(input.clone());
    }
    #[allow(clippy::disallowed_methods)] // the wall time of the runs themselves
    let begin = Instant::now();
    while run.report.finds.len() < FINDS_MAX
        && match until {
            Until::Executions(executions) => run.report.executions < executions,
            Until::Time(time) => begin.elapsed() < time,
        }
    {
        let input = mutate::mutate(&mut dice, &run.corpus, target.tokens);
        if run.one(input.clone()) {
            run.keep(input);
        }
    }
    run.report.answers = run.answers.len();
    run.report
}

struct Run<'a> {
    target: &'a Target,
    check: Check,
    watch: &'a Watch,
    report: Report,
    answers: BTreeSet<String>,
    corpus: Vec<Vec<u8>>,
}

impl Run<'_> {
    /// Tries an input; whether its answer is new.
    fn one(&mut self, input: Vec<u8>) -> bool {
        let input = Bytes::from(input);
        let (since, before) = (self.watch.begin(&input), PeakAlloc.current_usage());
        PeakAlloc.reset_peak_usage();
        let answer = catch_unwind(AssertUnwindSafe(|| (self.check)(&input)));
        let (took, memory) = (since.elapsed(), PeakAlloc.peak_usage().saturating_sub(before));
        self.report.executions += 1;
        self.report.slowest = self.report.slowest.max(took);
        self.report.memory = self.report.memory.max(memory);
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(promise)) => self.found(format!("a promise is broken: {promise}"), &input),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of no text");
                self.found(format!("a panic: {text}"), &input)
            }
        };
        if took > DEADLINE {
            // Once more, in CPU time: a busy machine takes its time with every input.
            let before = cpu_time();
            let begin = self.watch.begin(&input);
            let _ = catch_unwind(AssertUnwindSafe(|| (self.check)(&input)));
            let took = cpu_time().zip(before).map_or(begin.elapsed(), |(after, before)| after.saturating_sub(before));
            if took > DEADLINE {
                self.found(format!("it takes {} ms", took.as_millis()), &input);
            }
        }
        if memory > self.target.memory_max {
            self.found(format!("it takes {} MiB", memory >> 20), &input);
        }
        // Numbers make every answer a new one.
        self.answers.insert(answer.chars().filter(|letter| !letter.is_ascii_digit()).collect())
    }

    /// Of what is found several times one is kept.
    fn found(&mut self, what: String, input: &Bytes) -> String {
        let kind = |text: &str| text.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>();
        if !self.report.finds.iter().any(|find| kind(&find.what) == kind(&what)) {
            self.report.finds.push(Find { what: what.clone(), input: input.clone() });
        }
        what
    }

    fn keep(&mut self, input: Vec<u8>) {
        if self.corpus.len() < CORPUS_MAX {
            self.corpus.push(input);
        }
    }
}

/// CPU time of this thread, if the system tells it (Linux).
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// A message without the values that it shows, which would make every answer a new one.
fn words(message: &str) -> &str {
    message.split(['"', ':', '(', '`']).next().unwrap_or_default()
}
