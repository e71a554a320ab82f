//! The interpreter: a filter gives each of its outputs to whoever asked, one after the other, on the stack.
//!
//! Nothing is kept between two outputs, so that a program without end takes no memory, and every step is counted before it
//! is made. `try`, `label` and limits end a filter by what its outputs' taker gives back. Bindings live on the stack too.
//! Never here: what a function of values computes.

#![allow(
    clippy::too_many_arguments,
    reason = "what a filter is run with: its node, names, input, and who takes its outputs"
)]

use std::sync::Arc;

use jaq_core::ops::Math;

use super::math;
use super::node::{Fold, Node, Part, Pattern, Program, Step};
use super::paths::{self, Trail};
use super::run::{Outcome, Run, Stop, raise, raise_plain};
use super::value::Value;

/// A value, and where it stands in the input, while paths are asked for.
#[derive(Clone)]
pub(super) struct At {
    pub value: Value,
    pub trail: Trail,
}

impl At {
    /// A value of which nobody asks where it stands.
    pub fn plain(value: Value) -> Self {
        Self { value, trail: Trail::Unasked }
    }
}

pub(super) type Flow = Outcome<()>;
/// Takes outputs.
pub(super) type Out<'o> = &'o mut dyn FnMut(At) -> Flow;

/// What names mean here, the innermost first.
#[derive(Clone, Copy)]
pub(super) struct Frame<'e> {
    bound: &'e Bound<'e>,
    up: Env<'e>,
}

pub(super) type Env<'e> = Option<&'e Frame<'e>>;

pub(super) enum Bound<'e> {
    Var(Value),
    /// A filter and the names that it knows.
    Filter(&'e Node, Env<'e>),
    Label(u64),
}

fn frame<'e>(env: Env<'e>, up: usize) -> Env<'e> {
    (0..up).fold(env, |env, _| env.and_then(|frame| frame.up))
}

/// A run of a program.
pub(super) struct Machine<'p> {
    pub program: &'p Program,
    pub run: &'p Run<'p>,
}

impl<'p> Machine<'p> {
    /// Gives the outputs of one of the program's filters to `out`.
    pub fn start(&self, main: &'p Node, input: Value, out: &mut dyn FnMut(Value) -> Flow) -> Flow {
        self.eval(main, None, At::plain(input), &mut |at| out(at.value))
    }

    pub(super) fn eval<'e>(&self, node: &'e Node, env: Env<'e>, at: At, out: Out<'_>) -> Flow
    where
        'p: 'e,
    {
        self.run.enter()?;
        let flow = match node {
            Node::Id => out(at),
            Node::Pipe(left, right) => self.eval(left, env, at, &mut |at| self.eval(right, env, at, out)),
            Node::Path(base, steps) => self.path(base, steps, env, at, out),
            Node::Const(value) => self.give(&at, value.clone(), out),
            Node::Comma(left, right) => {
                self.eval(left, env, at.clone(), out).and_then(|()| self.eval(right, env, at, out))
            }
            Node::Call(id, up, args) => {
                let params = &self.program.defs[*id].params;
                self.call(*id, (params, args), frame(env, *up), env, at, out)
            }
            Node::Control(control, args) => self.control(*control, args, env, at, out),
            _ => self.eval_more(node, env, at, out),
        };
        self.run.leave();
        flow
    }

    fn eval_more<'e>(&self, node: &'e Node, env: Env<'e>, at: At, out: Out<'_>) -> Flow
    where
        'p: 'e,
    {
        match node {
            Node::Recurse => self.each_within(at, out),
            Node::Var(up) => match frame(env, *up).map(|frame| frame.bound) {
                Some(Bound::Var(value)) => self.give(&at, value.clone(), out),
                _ => unreachable_name(),
            },
            Node::Argument(up) => match frame(env, *up).map(|frame| frame.bound) {
                Some(Bound::Filter(node, env)) => self.eval(node, *env, at, out),
                _ => unreachable_name(),
            },
            Node::Bind(source, pattern, body) => self.plain(source, env, &at, &mut |value| {
                self.bind(pattern, value, env, &at.value, &mut |env| self.eval(body, env, at.clone(), out))
            }),
            Node::If(when, then, otherwise) => self.plain(when, env, &at, &mut |value| {
                let branch = if value.truthy() { then } else { otherwise };
                self.eval(branch, env, at.clone(), out)
            }),
            Node::Alt(left, right) => {
                let mut any = false;
                self.eval(left, env, at.clone(), &mut |at| {
                    if !at.value.truthy() {
                        return Ok(());
                    }
                    any = true;
                    out(at)
                })?;
                if any { Ok(()) } else { self.eval(right, env, at, out) }
            }
            Node::Try(body, catch) => self.attempt(body, catch.as_deref(), env, at, out),
            Node::Reduce(fold) => self.reduce(fold, env, at, out),
            Node::Foreach(fold, extract) => self.foreach(fold, extract.as_deref(), env, at, out),
            Node::Label(body) => {
                let label = self.run.label();
                let frame = Frame { bound: &Bound::Label(label), up: env };
                until_break(label, self.eval(body, Some(&frame), at, out))
            }
            Node::Break(up) => match frame(env, *up).map(|frame| frame.bound) {
                Some(Bound::Label(label)) => Err(Stop::Break(*label)),
                _ => unreachable_name(),
            },
            Node::Math(left, op, right) if matches!((&**left, &at.trail), (Node::Id, Trail::Unasked)) => {
                let rights = self.collected(right, env, &at)?;
                each_with(at.value, rights, &mut |l, r| out(At::plain(math::calculate(self.run, l, *op, r)?)))
            }
            Node::Assign(path, _) | Node::UpdateMath(path, ..) | Node::UpdateAlt(path, _) | Node::Update(path, _) => {
                self.assign(node, path, env, at, out)
            }
            _ => self.values(node, env, &at, &mut |value| self.give(&at, value, out)),
        }
    }

    /// The assignments. Their input is handed on, so that what nobody else holds is changed in place.
    fn assign<'e>(&self, node: &'e Node, path: &'e Node, env: Env<'e>, at: At, out: Out<'_>) -> Flow
    where
        'p: 'e,
    {
        let rights = match node {
            Node::Assign(_, value) | Node::UpdateMath(_, _, value) | Node::UpdateAlt(_, value) => {
                self.collected(value, env, &at)?
            }
            _ => vec![Value::Null],
        };
        let mut trails = Vec::new();
        self.paths(path, env, &at, &mut |trail| {
            let steps = trail.steps();
            self.run.memory(64 + steps.len() * size_of::<Value>())?;
            trails.push(steps);
            Ok(())
        })?;
        let At { value, trail } = at;
        each_with(value, rights, &mut |mut value, right| {
            for steps in &trails {
                value = paths::change(self.run, value, steps, &mut |old| match node {
                    Node::Update(_, filter) => self.first(filter, env, old),
                    Node::UpdateMath(_, op, _) => math::calculate(self.run, old, *op, right.clone()).map(Some),
                    Node::UpdateAlt(..) if old.truthy() => Ok(Some(old)),
                    _ => Ok(Some(right.clone())),
                })?;
            }
            let at = At { value: Value::Null, trail: trail.clone() };
            self.give(&at, value, out)
        })
    }

    fn collected<'e>(&self, node: &'e Node, env: Env<'e>, at: &At) -> Outcome<Vec<Value>>
    where
        'p: 'e,
    {
        let mut all = Vec::new();
        self.plain(node, env, at, &mut |value| {
            self.run.memory(size_of::<Value>())?;
            all.push(value);
            Ok(())
        })?;
        Ok(all)
    }

    /// What makes new values, which stand nowhere in the input.
    fn values<'e>(&self, node: &'e Node, env: Env<'e>, at: &At, out: &mut dyn FnMut(Value) -> Flow) -> Flow
    where
        'p: 'e,
    {
        match node {
            Node::Array(None) => out(self.run.array(Vec::new())?),
            Node::Array(Some(filter)) => out(self.run.array(self.collected(filter, env, at)?)?),
            Node::Object(entries) => self.object(entries, &mut Vec::new(), env, at, out),
            Node::Text(format, parts) => self.text((*format, parts), String::new(), env, at, out),
            Node::Neg(filter) => self.plain(filter, env, at, &mut |value| out(math::negate(&value)?)),
            Node::Math(left, op, right) => self.math(left, *op, right, env, at, out),
            Node::Cmp(left, op, right) => self.plain(right, env, at, &mut |r| {
                self.plain(left, env, at, &mut |l| {
                    self.run.steps(l.steps().min(r.steps()))?;
                    out(Value::Bool(math::compare(&l, *op, &r)))
                })
            }),
            Node::Logic(left, stop, right) => self.plain(left, env, at, &mut |l| {
                if l.truthy() == *stop {
                    return out(Value::Bool(*stop));
                }
                self.plain(right, env, at, &mut |r| out(Value::Bool(r.truthy())))
            }),
            Node::Value(function, args) => self.arguments(args, &mut Vec::new(), env, at, &mut |args| {
                self.run.steps(2)?;
                out(function(self.run, at.value.clone(), args)?)
            }),
            _ => unreachable_name(),
        }
    }

    /// Gives a new value. It stands nowhere in the input, unless it is the same as what stands there.
    pub(super) fn give(&self, at: &At, value: Value, out: Out<'_>) -> Flow {
        match (&at.trail, &value, &at.value) {
            (Trail::Unasked, ..) => out(At::plain(value)),
            (trail, Value::Null, Value::Null) => out(At { value, trail: trail.clone() }),
            _ => {
                let text = format!("Invalid path expression with result {}", super::json::beginning(&value, 20));
                raise(text, "the path expression gives a value that stands nowhere in the input")
            }
        }
    }

    /// Outputs of which nobody asks where they stand.
    pub(super) fn plain<'e>(&self, node: &'e Node, env: Env<'e>, at: &At, out: &mut dyn FnMut(Value) -> Flow) -> Flow
    where
        'p: 'e,
    {
        if let Node::Const(value) = node {
            return out(value.clone());
        }
        self.eval(node, env, At::plain(at.value.clone()), &mut |at| out(at.value))
    }

    /// The first output.
    pub(super) fn first<'e>(&self, node: &'e Node, env: Env<'e>, value: Value) -> Outcome<Option<Value>>
    where
        'p: 'e,
    {
        let label = self.run.label();
        let mut first = None;
        let flow = self.eval(node, env, At::plain(value), &mut |at| {
            first = Some(at.value);
            Err(Stop::Break(label))
        });
        until_break(label, flow).map(|()| first)
    }

    /// All combinations of the arguments' outputs: the last argument's change last.
    fn arguments<'e>(
        &self,
        args: &'e [Node],
        known: &mut Vec<Value>,
        env: Env<'e>,
        at: &At,
        out: &mut dyn FnMut(&[Value]) -> Flow,
    ) -> Flow
    where
        'p: 'e,
    {
        let Some((last, rest)) = args.split_last() else { return out(known) };
        self.plain(last, env, at, &mut |value| {
            known.insert(0, value);
            let flow = self.arguments(rest, known, env, at, out);
            known.remove(0);
            flow
        })
    }

    fn math<'e>(
        &self,
        left: &'e Node,
        op: Math,
        right: &'e Node,
        env: Env<'e>,
        at: &At,
        out: &mut dyn FnMut(Value) -> Flow,
    ) -> Flow
    where
        'p: 'e,
    {
        self.plain(right, env, at, &mut |r| {
            self.plain(left, env, at, &mut |l| out(math::calculate(self.run, l, op, r.clone())?))
        })
    }

    /// All combinations of keys and values: the first entry's change last.
    fn object<'e>(
        &self,
        entries: &'e [(Node, Node)],
        made: &mut Vec<(Arc<str>, Value)>,
        env: Env<'e>,
        at: &At,
        out: &mut dyn FnMut(Value) -> Flow,
    ) -> Flow
    where
        'p: 'e,
    {
        let Some(((key, value), rest)) = entries.split_first() else {
            return out(self.run.object(made.iter().cloned().collect())?);
        };
        self.plain(key, env, at, &mut |key| {
            let Value::Str(key) = key else { return raise_plain("Object keys must be strings") };
            self.plain(value, env, at, &mut |value| {
                made.push((key.clone(), value));
                let flow = self.run.deeper(|| self.object(rest, made, env, at, out));
                made.pop();
                flow
            })
        })
    }

    fn text<'e>(
        &self,
        (format, parts): (super::natives::ValueFn, &'e [Part]),
        end: String,
        env: Env<'e>,
        at: &At,
        out: &mut dyn FnMut(Value) -> Flow,
    ) -> Flow
    where
        'p: 'e,
    {
        let Some((last, rest)) = parts.split_last() else { return out(self.run.string(end)?) };
        let mut before = |text: &str| {
            self.run.memory(text.len() + end.len())?;
            self.run.deeper(|| self.text((format, rest), format!("{text}{end}"), env, at, out))
        };
        match last {
            Part::Text(Value::Str(text)) => before(text),
            Part::Text(_) => before(""),
            Part::Filter(filter) => self.plain(filter, env, at, &mut |value| match format(self.run, value, &[])? {
                Value::Str(text) => before(&text),
                _ => before(""),
            }),
        }
    }

    /// The steps of a path, the last index first, as jq combines them.
    fn path<'e>(&self, base: &'e Node, steps: &'e [(Step, bool)], env: Env<'e>, at: At, out: Out<'_>) -> Flow
    where
        'p: 'e,
    {
        let Some(((step, optional), rest)) = steps.split_last() else { return self.eval(base, env, at, out) };
        self.run.deeper(|| match step {
            Step::Each => self.path(base, rest, env, at, &mut |at| match paths::each(self.run, at, out) {
                Err(paths::Failed::Step(Stop::Raised(_))) if *optional => Ok(()),
                Err(paths::Failed::Step(stop) | paths::Failed::Out(stop)) => Err(stop),
                Ok(()) => Ok(()),
            }),
            Step::Index(Node::Const(key)) => {
                self.path(base, rest, env, at, &mut |at| optionally(paths::index(self.run, at, key), *optional, out))
            }
            Step::Index(key) => self.plain(key, env, &at.clone(), &mut |key| {
                let mut step = |at| optionally(paths::index(self.run, at, &key), *optional, out);
                self.path(base, rest, env, at.clone(), &mut step)
            }),
            Step::Slice(from, to) => self.bound(from.as_ref(), env, &at.clone(), &mut |from| {
                self.bound(to.as_ref(), env, &at.clone(), &mut |to| {
                    let mut step = |at| optionally(paths::slice(self.run, at, &from, &to), *optional, out);
                    self.path(base, rest, env, at.clone(), &mut step)
                })
            }),
        })
    }

    fn bound<'e>(&self, node: Option<&'e Node>, env: Env<'e>, at: &At, out: &mut dyn FnMut(Value) -> Flow) -> Flow
    where
        'p: 'e,
    {
        match node {
            Some(node) => self.plain(node, env, at, out),
            None => out(Value::Null),
        }
    }

    /// The paths of a filter's outputs.
    pub(super) fn paths<'e>(&self, node: &'e Node, env: Env<'e>, at: &At, out: &mut dyn FnMut(Trail) -> Flow) -> Flow
    where
        'p: 'e,
    {
        let at = At { value: at.value.clone(), trail: Trail::Root };
        self.eval(node, env, at, &mut |at| match at.trail {
            Trail::Unasked => raise_plain("Invalid path expression"),
            trail => out(trail),
        })
    }

    /// Binds the arguments one after the other, then runs the definition.
    fn call<'e>(
        &self,
        id: usize,
        (params, args): (&'e [bool], &'e [Node]),
        inner: Env<'e>,
        env: Env<'e>,
        at: At,
        out: Out<'_>,
    ) -> Flow
    where
        'p: 'e,
    {
        let (Some((var, params)), Some((arg, args))) = (params.split_first(), args.split_first()) else {
            return self.eval(&self.program.defs[id].body, inner, at, out);
        };
        if *var {
            return self.plain(arg, env, &at.clone(), &mut |value| {
                let frame = Frame { bound: &Bound::Var(value), up: inner };
                self.call(id, (params, args), Some(&frame), env, at.clone(), out)
            });
        }
        // An argument that is itself an argument is that one: chains of names do not grow.
        let bound = match arg {
            Node::Argument(up) => match frame(env, *up).map(|frame| frame.bound) {
                Some(Bound::Filter(node, env)) => Bound::Filter(node, *env),
                _ => unreachable_name()?,
            },
            arg => Bound::Filter(arg, env),
        };
        let frame = Frame { bound: &bound, up: inner };
        self.call(id, (params, args), Some(&frame), env, at, out)
    }

    /// Takes a value apart and binds its pieces.
    fn bind<'e>(
        &self,
        pattern: &'e Pattern,
        value: Value,
        env: Env<'e>,
        input: &Value,
        body: &mut dyn FnMut(Env<'_>) -> Flow,
    ) -> Flow
    where
        'p: 'e,
    {
        if let Pattern::Var = pattern {
            return body(Some(&Frame { bound: &Bound::Var(value), up: env }));
        }
        let mut pieces = Vec::new();
        self.take_apart(pattern, value, env, input, &mut pieces)?;
        bind_all(&pieces, env, body)
    }

    fn take_apart<'e>(
        &self,
        pattern: &'e Pattern,
        value: Value,
        env: Env<'e>,
        input: &Value,
        pieces: &mut Vec<Value>,
    ) -> Flow
    where
        'p: 'e,
    {
        self.run.steps(1)?;
        match pattern {
            Pattern::Var => pieces.push(value),
            Pattern::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let piece = paths::get(self.run, &value, &Value::Num(index as f64))?;
                    self.take_apart(item, piece, env, input, pieces)?;
                }
            }
            Pattern::Object(entries) => {
                for (key, item) in entries {
                    let key = self.first(key, env, input.clone())?.unwrap_or(Value::Null);
                    let piece = paths::get(self.run, &value, &key)?;
                    self.take_apart(item, piece, env, input, pieces)?;
                }
            }
        }
        Ok(())
    }

    fn attempt<'e>(&self, body: &'e Node, catch: Option<&'e Node>, env: Env<'e>, at: At, out: Out<'_>) -> Flow
    where
        'p: 'e,
    {
        // What the taker of an output raises is not this filter's error.
        let mut outside = false;
        let flow = self.eval(body, env, at.clone(), &mut |at| {
            let flow = out(at);
            outside = flow.is_err();
            flow
        });
        match (flow, catch) {
            (Err(Stop::Raised(_)), None) if !outside => Ok(()),
            (Err(Stop::Raised(raised)), Some(catch)) if !outside => {
                self.plain(catch, env, &At::plain(raised.value), &mut |value| self.give(&at, value, out))
            }
            (flow, _) => flow,
        }
    }

    fn reduce<'e>(&self, fold: &'e Fold, env: Env<'e>, at: At, out: Out<'_>) -> Flow
    where
        'p: 'e,
    {
        self.eval(&fold.init, env, at.clone(), &mut |init| {
            let mut state = init;
            self.plain(&fold.source, env, &at, &mut |item| {
                self.bind(&fold.pattern, item, env, &at.value, &mut |env| {
                    let old = std::mem::replace(&mut state, At::plain(Value::Null));
                    self.eval(&fold.update, env, old, &mut |new| {
                        state = new;
                        Ok(())
                    })
                })
            })?;
            out(state)
        })
    }

    fn foreach<'e>(&self, fold: &'e Fold, extract: Option<&'e Node>, env: Env<'e>, at: At, out: Out<'_>) -> Flow
    where
        'p: 'e,
    {
        self.eval(&fold.init, env, at.clone(), &mut |init| {
            let mut state = init;
            self.plain(&fold.source, env, &at, &mut |item| {
                self.bind(&fold.pattern, item, env, &at.value, &mut |env| {
                    let old = state.clone();
                    self.eval(&fold.update, env, old, &mut |new| {
                        state = new.clone();
                        match extract {
                            Some(extract) => self.eval(extract, env, new, out),
                            None => out(new),
                        }
                    })
                })
            })
        })
    }
}

fn bind_all(pieces: &[Value], env: Env<'_>, body: &mut dyn FnMut(Env<'_>) -> Flow) -> Flow {
    match pieces.split_first() {
        None => body(env),
        Some((piece, rest)) => bind_all(rest, Some(&Frame { bound: &Bound::Var(piece.clone()), up: env }), body),
    }
}

/// The value with each of the others; with the last one it is handed on.
fn each_with(value: Value, others: Vec<Value>, f: &mut dyn FnMut(Value, Value) -> Flow) -> Flow {
    let mut others = others.into_iter().peekable();
    while let Some(other) = others.next() {
        if others.peek().is_none() {
            return f(value, other);
        }
        f(value.clone(), other)?;
    }
    Ok(())
}

fn optionally(step: Outcome<At>, optional: bool, out: Out<'_>) -> Flow {
    match step {
        Err(Stop::Raised(_)) if optional => Ok(()),
        step => out(step?),
    }
}

pub(super) fn until_break(label: u64, flow: Flow) -> Flow {
    match flow {
        Err(Stop::Break(broken)) if broken == label => Ok(()),
        flow => flow,
    }
}

/// The compiler puts nothing where this could be met.
pub(super) fn unreachable_name<T>() -> Outcome<T> {
    raise_plain("a name is not bound")
}
