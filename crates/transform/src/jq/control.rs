//! The filters that call their arguments by themselves: loops, searches, `path`.
//!
//! A loop goes on without a deeper stack, so that what jq does by a call at the end of a filter may be long here, too.
//! Never here: what a filter that is called does.

#![allow(
    clippy::too_many_arguments,
    reason = "what a filter is run with: its node, names, input, and who takes its outputs"
)]

use super::eval::{At, Env, Flow, Machine, Out, unreachable_name, until_break};
use super::node::{Control, Node};
use super::paths;
use super::run::{Outcome, Raised, Stop, raise_plain};
use super::value::Value;

impl<'p> Machine<'p> {
    pub(super) fn control<'e>(&self, control: Control, args: &'e [Node], env: Env<'e>, at: At, out: Out<'_>) -> Flow
    where
        'p: 'e,
    {
        match (control, args) {
            (Control::Empty, _) => Ok(()),
            (Control::Error, _) => Err(raised(at.value, None)),
            (Control::ErrorOf, [Node::Const(value)]) => Err(raised(value.clone(), value.str().map(|text| &**text))),
            (Control::ErrorOf, [value]) => self.plain(value, env, &at, &mut |value| Err(raised(value, None))),
            (Control::Path, [path]) => {
                self.paths(path, env, &at, &mut |trail| self.give(&at, self.run.array(trail.steps())?, out))
            }
            (Control::Select, [when]) => self.plain(when, env, &at, &mut |value| {
                if value.truthy() { out(at.clone()) } else { Ok(()) }
            }),
            (Control::RecurseEach, _) => self.each_within(at, out),
            (Control::Recurse, [next]) => {
                self.chain(at, &mut |at, next_out| self.eval(next, env, at, next_out), &mut |at| out(at).map(|()| true))
            }
            (Control::While, [when, update]) => {
                let mut next = |at, next_out: Out<'_>| self.eval(update, env, at, next_out);
                self.chain(at, &mut next, &mut |at| match self.first(when, env, at.value.clone())? {
                    Some(value) if value.truthy() => out(at).map(|()| true),
                    _ => Ok(false),
                })
            }
            (Control::Until, [when, update]) => {
                let mut next = |at, next_out: Out<'_>| self.eval(update, env, at, next_out);
                self.chain(at, &mut next, &mut |at| match self.first(when, env, at.value.clone())? {
                    Some(value) if value.truthy() => out(at).map(|()| false),
                    value => Ok(value.is_some()),
                })
            }
            (Control::Range, args) => self.range(args, env, &at, out),
            (Control::Limit, [count, filter]) => self.plain(count, env, &at, &mut |count| {
                self.limit(count.number().unwrap_or(f64::INFINITY), filter, env, at.clone(), out)
            }),
            (Control::First, [filter]) => self.limit(1.0, filter, env, at, out),
            (Control::Last, [filter]) => {
                let mut last = None;
                self.eval(filter, env, at, &mut |at| {
                    last = Some(at);
                    Ok(())
                })?;
                last.map_or(Ok(()), out)
            }
            (Control::IsEmpty, [filter]) => {
                let first = self.first(filter, env, at.value.clone())?;
                self.give(&at, Value::Bool(first.is_none()), out)
            }
            (Control::Getpath, [path]) => self.plain(path, env, &at, &mut |path| {
                let Value::Arr(path) = &path else { return raise_plain("Path must be specified as an array") };
                let mut there = at.clone();
                for key in path.items() {
                    there = paths::index_or_null(self.run, there, key)?;
                }
                out(there)
            }),
            _ => unreachable_name(),
        }
    }

    fn limit<'e>(&self, count: f64, filter: &'e Node, env: Env<'e>, at: At, out: Out<'_>) -> Flow
    where
        'p: 'e,
    {
        if count <= 0.0 {
            // jq 1.6 gives all of them for a negative number.
            return if count < 0.0 { self.eval(filter, env, at, out) } else { Ok(()) };
        }
        let label = self.run.label();
        let mut given = 0.0;
        let flow = self.eval(filter, env, at, &mut |at| {
            given += 1.0;
            out(at)?;
            if given >= count { Err(Stop::Break(label)) } else { Ok(()) }
        });
        until_break(label, flow)
    }

    /// `$from` changes last, as in jq.
    fn range<'e>(&self, args: &'e [Node], env: Env<'e>, at: &At, out: Out<'_>) -> Flow
    where
        'p: 'e,
    {
        static ZERO: Node = Node::Const(Value::Num(0.0));
        static ONE: Node = Node::Const(Value::Num(1.0));
        let (from, to, by) = match args {
            [to] => (&ZERO, to, &ONE),
            [from, to] => (from, to, &ONE),
            [from, to, by] => (from, to, by),
            _ => return unreachable_name(),
        };
        self.plain(from, env, at, &mut |from| {
            self.plain(to, env, at, &mut |to| {
                self.plain(by, env, at, &mut |by| {
                    let (Some(from), Some(to), Some(by)) = (from.number(), to.number(), by.number()) else {
                        return raise_plain("Range bounds must be numeric");
                    };
                    let mut next = from;
                    while (by > 0.0 && next < to) || (by < 0.0 && next > to) {
                        self.run.steps(1)?;
                        self.give(at, Value::Num(next), out)?;
                        next += by;
                    }
                    Ok(())
                })
            })
        })
    }

    /// `..`: a value, then what is in it.
    pub(super) fn each_within(&self, at: At, out: Out<'_>) -> Flow {
        self.run.enter()?;
        let flow = out(at.clone()).and_then(|()| match at.value {
            Value::Arr(_) | Value::Obj(_) => match paths::each(self.run, at, &mut |at| self.each_within(at, out)) {
                Err(paths::Failed::Step(stop) | paths::Failed::Out(stop)) => Err(stop),
                Ok(()) => Ok(()),
            },
            _ => Ok(()),
        });
        self.run.leave();
        flow
    }

    /// A value, then what `next` makes of it, and so on: by a loop along the last output of each, so that a chain may be
    /// long. `visit` says whether to go on from a value.
    fn chain(
        &self,
        mut at: At,
        next: &mut dyn FnMut(At, Out<'_>) -> Flow,
        visit: &mut dyn FnMut(At) -> Outcome<bool>,
    ) -> Flow {
        loop {
            self.run.steps(1)?;
            if !visit(at.clone())? {
                return Ok(());
            }
            let mut last: Option<At> = None;
            let mut more = Vec::new();
            let flow = next(at, &mut |at| {
                self.run.memory(size_of::<At>())?;
                more.extend(last.replace(at));
                Ok(())
            });
            for at in more {
                self.run.enter()?;
                let flow = self.chain(at, next, visit);
                self.run.leave();
                flow?;
            }
            match (last, flow) {
                (Some(then), Ok(())) => at = then,
                (None, flow) => return flow,
                (Some(then), Err(stop)) => {
                    self.run.enter()?;
                    let flow = self.chain(then, next, visit);
                    self.run.leave();
                    return flow.and(Err(stop));
                }
            }
        }
    }
}

/// `error`: of its message the world sees what stands in the program.
fn raised(value: Value, text: Option<&str>) -> Stop {
    let public = text.map_or_else(|| "the program raised an error".to_owned(), str::to_owned);
    Stop::Raised(Box::new(Raised { value, public }))
}
