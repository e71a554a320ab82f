//! `jq`: a program over each record, in process.
//!
//! The language is jq 1.6's, as far as one record goes; the parser is jaq's, the interpreter is ours, because every step,
//! byte and level must be counted: a program runs on records that anybody may have written. `docs/reference/jq.md` lists
//! what a program may call and where it differs. Never here: the environment, the time of day, other records.

mod compile;
mod control;
mod eval;
mod json;
mod math;
mod natives;
mod node;
mod paths;
mod regex;
mod run;
mod text;
mod time;
mod value;

use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use standpipe_flow::Record;

pub use run::Limits;

use crate::stage::{Fault, Made, Stage};
use eval::Machine;
use json::{Reader, Unread};
use node::Program;
use run::{Outcome, Over, Run, Stop};
use value::Value;

/// The record is no JSON.
pub const NOT_JSON: &str = "Jq.InvalidJson";
/// The program raised an error on the record.
pub const RUNTIME_ERROR: &str = "Jq.RuntimeError";
/// The program would take more than it may.
pub const LIMIT_EXCEEDED: &str = "Jq.LimitExceeded";

/// Calls that fit on the stack of the thread that a record comes on; what goes deeper is run again on a larger one.
const SHALLOW: u32 = 100;
/// Stack for each call, with room to spare in every build.
const STACK_PER_CALL: usize = 12 << 10;

/// Why a program cannot be used, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message} (line {line}, column {column})")]
pub struct JqError {
    /// For the user: what is wrong, and what may be meant.
    pub message: String,
    /// Bytes of the program.
    pub span: Range<usize>,
    /// Line of the program, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl JqError {
    fn new(text: &str, (span, message): (Range<usize>, String)) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let begin = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        Self { message, span, line, column: before[begin..].chars().count() + 1 }
    }
}

/// Programs that are compiled together and run over the same record.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    program: Arc<Program>,
    limits: Limits,
}

/// What a program gave, or why it did not.
type Ran<T> = Result<T, Fault>;

impl Programs {
    /// Compiles programs; the first that is wrong is named by its index.
    pub fn new(texts: &[&str], limits: Limits) -> Result<Self, (usize, JqError)> {
        match compile::compile(texts) {
            Ok(program) => Ok(Self { program: Arc::new(program), limits }),
            Err((at, wrong)) => Err((at, JqError::new(texts[at], wrong))),
        }
    }

    /// Whether the first program's first output for any of the record's documents is neither false nor null.
    pub fn keeps(&self, data: &[u8]) -> Ran<bool> {
        self.run(data, |session| {
            let mut keeps = false;
            session.documents(|value| {
                keeps |= session.first(0, value)?.is_some_and(|value| value.truthy());
                Ok(())
            })?;
            Ok(keeps)
        })
    }

    /// The first output of each program for the record's first document, as text; none for null, and where there is none.
    pub fn texts(&self, data: &[u8]) -> Ran<Vec<Option<String>>> {
        self.run(data, |session| {
            let Some(input) = Reader::new(session.run, data)?.next()? else {
                return Err(Unread::Syntax("there is no value", 0));
            };
            let mut texts = Vec::new();
            for program in 0..session.machine.program.mains.len() {
                let value = session.first(program, input.clone())?.unwrap_or(Value::Null);
                texts.push(match value {
                    Value::Null => None,
                    Value::Arr(_) | Value::Obj(_) => {
                        let what = format!("a partition key cannot be an {}", value.kind());
                        return Err(Unread::Stop(run::raise_plain::<()>(&what).expect_err("it is one")));
                    }
                    value => json::text(session.run, &value)?.str().map(|text| text.to_string()),
                });
            }
            Ok(texts)
        })
    }

    /// Runs `job` over a record, on a thread with a larger stack if it calls deeper than usual. The same counts are
    /// counted, so that the result is the same.
    fn run<T: Send>(&self, data: &[u8], job: impl Fn(&Session<'_>) -> Result<T, Unread> + Sync) -> Ran<T> {
        let with = |depth| {
            let run = Run::new(&self.limits, data.len(), depth);
            let machine = Machine { program: &self.program, run: &run };
            job(&Session { machine, run: &run, data })
        };
        let depth = self.limits.depth.min(Limits::DEPTH_MAX);
        match with(depth.min(SHALLOW)) {
            Err(Unread::Stop(Stop::Over(Over::Depth))) if depth > SHALLOW => std::thread::scope(|scope| {
                let stack = depth as usize * STACK_PER_CALL + (1 << 20);
                let thread = std::thread::Builder::new().stack_size(stack).spawn_scoped(scope, || {
                    // What a stop holds stays on its thread.
                    with(depth).map_err(|unread| fault(&unread, &self.limits, data.len()))
                });
                match thread.map(|thread| thread.join()) {
                    Ok(Ok(ran)) => ran,
                    _ => Err(Fault::processing(LIMIT_EXCEEDED, "there is no thread for the program's depth")),
                }
            }),
            ran => ran.map_err(|unread| fault(&unread, &self.limits, data.len())),
        }
    }
}

/// A run over one record.
struct Session<'a> {
    machine: Machine<'a>,
    run: &'a Run<'a>,
    data: &'a [u8],
}

impl<'a> Session<'a> {
    /// Calls `f` with each JSON document of the record.
    fn documents(&self, mut f: impl FnMut(Value) -> Outcome<()>) -> Result<(), Unread> {
        let mut reader = Reader::new(self.run, self.data)?;
        let mut any = false;
        while let Some(value) = reader.next()? {
            any = true;
            f(value)?;
        }
        if any { Ok(()) } else { Err(Unread::Syntax("there is no value", 0)) }
    }

    /// The first output of a program, if there is one.
    fn first(&self, program: usize, input: Value) -> Outcome<Option<Value>> {
        let label = self.run.label();
        let mut first = None;
        let flow = self.machine.start(&self.machine.program.mains[program], input, &mut |value| {
            first = Some(value);
            Err(Stop::Break(label))
        });
        match flow {
            Ok(()) => Ok(first),
            Err(Stop::Break(broken)) if broken == label => Ok(first),
            Err(stop) => Err(stop),
        }
    }
}

/// Why a record is rejected, without its content.
fn fault(unread: &Unread, limits: &Limits, record_bytes: usize) -> Fault {
    match unread {
        Unread::Syntax(what, at) => Fault::processing(NOT_JSON, format!("not JSON: {what}, at byte {at}")),
        Unread::Stop(Stop::Raised(raised)) => {
            Fault::processing(RUNTIME_ERROR, raised.public.chars().take(500).collect::<String>())
        }
        Unread::Stop(Stop::Break(_)) => Fault::processing(RUNTIME_ERROR, "break"),
        Unread::Stop(Stop::Over(over)) => {
            let mut what = String::new();
            let _ = match over {
                Over::Steps => write!(what, "more than {} steps", limits.steps_of(record_bytes)),
                Over::Memory => write!(what, "more than {} bytes of values", limits.memory_of(record_bytes)),
                Over::Depth => write!(what, "more than {} calls within one another", limits.depth),
                Over::Nesting => write!(what, "JSON nested deeper than {}", limits.nesting),
                Over::Outputs => write!(what, "more than {} outputs", limits.outputs),
                Over::OutputBytes => write!(what, "more than {} bytes of outputs", limits.output_bytes),
                Over::Time => write!(what, "more than {} ms", limits.time.as_millis()),
            };
            Fault::processing(LIMIT_EXCEEDED, what)
        }
    }
}

/// The stage `jq`: what the program gives in place of the record.
#[derive(Clone, Debug)]
pub struct Jq {
    programs: Programs,
}

impl Jq {
    /// Compiles the program of the stage.
    pub fn new(text: &str, limits: Limits) -> Result<Self, JqError> {
        match Programs::new(&[text], limits) {
            Ok(programs) => Ok(Self { programs }),
            Err((_, error)) => Err(error),
        }
    }

    /// The outputs for a record's bytes, each as JSON without spaces: of each JSON document that stands in them, as jq
    /// does with its input. An output before an error counts for nothing.
    pub fn run(&self, data: &[u8]) -> Result<Vec<Bytes>, Fault> {
        self.programs.run(data, |session| {
            let limits = session.run.limits();
            let (mut outputs, mut text) = (Vec::new(), String::new());
            session.documents(|value| {
                session.machine.start(&session.machine.program.mains[0], value, &mut |value| {
                    if outputs.len() as u64 >= limits.outputs {
                        return Err(Stop::Over(Over::Outputs));
                    }
                    let begin = text.len();
                    let left = limits.output_bytes.saturating_sub(begin as u64);
                    json::write(session.run, &value, &mut text, left)?;
                    outputs.push(begin..text.len());
                    Ok(())
                })
            })?;
            let all = Bytes::from(text);
            Ok(outputs.into_iter().map(|range| all.slice(range)).collect())
        })
    }
}

impl Stage for Jq {
    fn name(&self) -> &'static str {
        "jq"
    }

    fn apply(&self, record: Record, made: &mut Made) -> Result<(), Fault> {
        let mut outputs = self.run(&record.data)?;
        match outputs.pop() {
            Some(only) if outputs.is_empty() => made.change(&record, only),
            last => outputs.into_iter().chain(last).for_each(|output| made.piece(&record, output)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
