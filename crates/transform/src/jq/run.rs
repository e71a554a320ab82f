//! What one run of a program may take: counted, so that the same record ends the same way on every machine.
//!
//! Every step of the interpreter, every byte that a value takes and every level of nesting is counted before it is spent.
//! A clock is asked only now and then, as the last resort. Never here: what a step does.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use standpipe_flow::Clock;

use super::value::Value;

/// What one record may cost. Each has a default that a program for records never meets.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Steps of the interpreter, and [`Limits::STEPS_PER_BYTE`] more for each byte of the record. A step takes 10 to 100 ns.
    pub steps: u64,
    /// Bytes of all values that the program makes, kept or not, and [`Limits::MEMORY_PER_BYTE`] more for each of the record.
    pub memory: u64,
    /// Outputs of one record.
    pub outputs: u64,
    /// Bytes of all outputs of one record.
    pub output_bytes: u64,
    /// Calls within calls, at most 20,000.
    pub depth: u32,
    /// Arrays and objects within one another, in a record and in what is made of it: 256, as jq 1.6.
    pub nesting: u32,
    /// Time, where a clock is given. Steps end a program first: this is for machines that stand still.
    pub time: Duration,
    /// The clock of `time`; without one there is no such limit.
    pub clock: Option<Arc<dyn Clock>>,
}

impl Limits {
    /// Steps for each byte of a record.
    pub const STEPS_PER_BYTE: u64 = 16;
    /// Bytes of values for each byte of a record.
    pub const MEMORY_PER_BYTE: u64 = 16;
    /// What `depth` can be at most: the stack is laid out for it.
    pub const DEPTH_MAX: u32 = 20_000;
    /// What `nesting` can be at most: values are compared, written and dropped by recursion.
    pub const NESTING_MAX: u32 = 1_000;

    /// Steps for a record of so many bytes.
    pub(super) fn steps_of(&self, record_bytes: usize) -> u64 {
        self.steps.saturating_add((record_bytes as u64).saturating_mul(Self::STEPS_PER_BYTE))
    }

    /// Bytes of values for a record of so many bytes.
    pub(super) fn memory_of(&self, record_bytes: usize) -> u64 {
        self.memory.saturating_add((record_bytes as u64).saturating_mul(Self::MEMORY_PER_BYTE))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps: 2_000_000,
            memory: 64 << 20,
            outputs: 10_000,
            output_bytes: 16 << 20,
            depth: 10_000,
            nesting: 256,
            time: Duration::from_secs(5),
            clock: None,
        }
    }
}

/// Which limit a program met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Over {
    Steps,
    Memory,
    Depth,
    Nesting,
    Outputs,
    OutputBytes,
    Time,
}

/// Why a program does not go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// `error`, or an operation that does not apply: `try` catches it.
    Raised(Box<Raised>),
    /// `break` to the label of this number.
    Break(u64),
    /// A limit: nothing catches it.
    Over(Over),
}

/// An error of the program.
#[derive(Debug)]
pub(super) struct Raised {
    /// What `catch` sees.
    pub value: Value,
    /// What the world sees: nothing of the record.
    pub public: String,
}

/// What an operation gives that can end the program.
pub(super) type Outcome<T> = Result<T, Stop>;

/// An error whose text, as `catch` sees it, is jq's; `public` says the same without the record's content.
pub(super) fn raise<T>(text: String, public: impl Into<String>) -> Outcome<T> {
    Err(Stop::Raised(Box::new(Raised { value: Value::text(&text), public: public.into() })))
}

/// An error whose text has nothing of the record in it.
pub(super) fn raise_plain<T>(text: &str) -> Outcome<T> {
    raise(text.to_owned(), text)
}

/// The counts of one run.
pub(super) struct Run<'a> {
    limits: &'a Limits,
    steps: Cell<u64>,
    memory: Cell<u64>,
    depth: Cell<u32>,
    depth_max: u32,
    labels: Cell<u64>,
    /// What was paid for once.
    paid: RefCell<BTreeSet<String>>,
    /// When the time is up, and how many steps are left until the clock is asked again.
    until: Option<Duration>,
    ask: Cell<u32>,
}

const ASK_EVERY: u32 = 4_096;

impl<'a> Run<'a> {
    /// A run over a record of so many bytes, which may nest `depth_max` calls.
    pub fn new(limits: &'a Limits, record_bytes: usize, depth_max: u32) -> Self {
        Self {
            limits,
            steps: Cell::new(limits.steps_of(record_bytes)),
            memory: Cell::new(limits.memory_of(record_bytes)),
            depth: Cell::new(0),
            depth_max,
            labels: Cell::new(0),
            paid: RefCell::default(),
            until: limits.clock.as_ref().map(|clock| clock.elapsed().saturating_add(limits.time)),
            ask: Cell::new(ASK_EVERY),
        }
    }

    pub fn limits(&self) -> &Limits {
        self.limits
    }

    /// Takes steps.
    pub fn steps(&self, steps: u64) -> Outcome<()> {
        let Some(left) = self.steps.get().checked_sub(steps) else { return Err(Stop::Over(Over::Steps)) };
        self.steps.set(left);
        match self.ask.get().checked_sub(1) {
            Some(ask) => self.ask.set(ask),
            None => {
                self.ask.set(ASK_EVERY);
                self.time()?;
            }
        }
        Ok(())
    }

    /// Asks the clock: after work that no step counts, such as a search through the rest of a text.
    pub fn time(&self) -> Outcome<()> {
        match (self.until, &self.limits.clock) {
            (Some(until), Some(clock)) if clock.elapsed() > until => Err(Stop::Over(Over::Time)),
            _ => Ok(()),
        }
    }

    /// Takes memory, before it is allocated. Filling it takes steps too.
    pub fn memory(&self, bytes: usize) -> Outcome<()> {
        let Some(left) = self.memory.get().checked_sub(bytes as u64) else { return Err(Stop::Over(Over::Memory)) };
        self.memory.set(left);
        self.steps(bytes as u64 / 32)
    }

    /// Takes steps for a thing, the first time in this run.
    pub fn once(&self, thing: String, steps: u64) -> Outcome<()> {
        if self.paid.borrow_mut().insert(thing) { self.steps(steps) } else { Ok(()) }
    }

    /// Goes one call deeper; [`Run::leave`] comes back.
    pub fn enter(&self) -> Outcome<()> {
        let depth = self.depth.get() + 1;
        if depth > self.depth_max {
            return Err(Stop::Over(Over::Depth));
        }
        self.depth.set(depth);
        self.steps(1)
    }

    pub fn leave(&self) {
        self.depth.set(self.depth.get() - 1);
    }

    /// Does one thing a call deeper.
    pub fn deeper<T>(&self, f: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        self.enter()?;
        let done = f();
        self.leave();
        done
    }

    /// A number for a label that no other has.
    pub fn label(&self) -> u64 {
        self.labels.set(self.labels.get() + 1);
        self.labels.get()
    }

    /// Whether containers may nest so deep.
    pub fn nests(&self, depth: u32) -> Outcome<()> {
        if depth > self.limits.nesting.min(Limits::NESTING_MAX) { Err(Stop::Over(Over::Nesting)) } else { Ok(()) }
    }
}
