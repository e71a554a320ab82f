//! Where values stand: steps into arrays and objects, and changes there.
//!
//! Never here: which path a program means.

use std::sync::Arc;

use super::run::{Outcome, Run, Stop, raise, raise_plain};
use super::text;
use super::value::Value;

use super::eval::{At, Flow, Out};

/// The steps from the input to a value, the last one first, so that paths share their beginnings.
#[derive(Clone)]
pub(super) enum Trail {
    /// Nobody asks.
    Unasked,
    Root,
    Step(Arc<(Value, Trail, u32)>),
}

impl Trail {
    fn then(&self, run: &Run<'_>, key: impl FnOnce() -> Outcome<Value>) -> Outcome<Self> {
        let length = match self {
            Self::Unasked => return Ok(Self::Unasked),
            Self::Root => 1,
            Self::Step(step) => step.2 + 1,
        };
        run.nests(length)?;
        run.memory(64)?;
        Ok(Self::Step(Arc::new((key()?, self.clone(), length))))
    }

    /// The steps in their order.
    pub fn steps(&self) -> Vec<Value> {
        let mut steps = Vec::new();
        let mut trail = self;
        while let Self::Step(step) = trail {
            steps.push(step.0.clone());
            trail = &step.1;
        }
        steps.reverse();
        steps
    }
}

/// Who failed: the step, or whoever took its output.
pub(super) enum Failed {
    Step(Stop),
    Out(Stop),
}

/// `.[]`
pub(super) fn each(run: &Run<'_>, at: At, out: Out<'_>) -> Result<(), Failed> {
    let mut give = |key: &dyn Fn() -> Outcome<Value>, value: &Value| {
        let trail = run.steps(1).and_then(|()| at.trail.then(run, key)).map_err(Failed::Step)?;
        out(At { value: value.clone(), trail }).map_err(Failed::Out)
    };
    match &at.value {
        Value::Arr(array) => {
            let mut items = array.items().iter().enumerate();
            items.try_for_each(|(index, item)| give(&|| Ok(Value::Num(index as f64)), item))
        }
        Value::Obj(object) => {
            object.map().iter().try_for_each(|(key, value)| give(&|| Ok(Value::Str(key.clone())), value))
        }
        other => {
            let text = format!("Cannot iterate over {}", other.shown());
            Err(Failed::Step(
                raise::<()>(text, format!("cannot iterate over {}", other.kind())).expect_err("it is one"),
            ))
        }
    }
}

/// `.[key]`
pub(super) fn index(run: &Run<'_>, at: At, key: &Value) -> Outcome<At> {
    let trail = at.trail.then(run, || Ok(key.clone()))?;
    Ok(At { value: get(run, &at.value, key)?, trail })
}

/// `getpath`: what is not there is null all the way.
pub(super) fn index_or_null(run: &Run<'_>, at: At, key: &Value) -> Outcome<At> {
    run.steps(1)?;
    match at.value {
        Value::Null => Ok(At { value: Value::Null, trail: at.trail.then(run, || Ok(key.clone()))? }),
        _ => index(run, at, key),
    }
}

/// `.[from:to]`
pub(super) fn slice(run: &Run<'_>, at: At, from: &Value, to: &Value) -> Outcome<At> {
    let trail = at.trail.then(run, || run.entries([("start", from.clone()), ("end", to.clone())]))?;
    Ok(At { value: part(run, &at.value, from, to)?, trail })
}

/// What stands at a key.
pub(super) fn get(run: &Run<'_>, value: &Value, key: &Value) -> Outcome<Value> {
    match (value, key) {
        (Value::Obj(object), Value::Str(key)) => {
            run.steps(key.len() as u64 / 64)?;
            Ok(object.map().get(key.as_ref()).cloned().unwrap_or(Value::Null))
        }
        (Value::Arr(array), Value::Num(_) | Value::Big(_)) => {
            let index = key.number().filter(|index| index.fract() == 0.0);
            let at = index.and_then(|index| position(index, array.items().len()));
            Ok(at.and_then(|at| array.items().get(at)).cloned().unwrap_or(Value::Null))
        }
        (Value::Null, Value::Str(_) | Value::Num(_) | Value::Big(_) | Value::Null) => Ok(Value::Null),
        (Value::Arr(_) | Value::Str(_) | Value::Null, Value::Obj(range)) => {
            let bound = |name| range.map().get(name).cloned().unwrap_or(Value::Null);
            part(run, value, &bound("start"), &bound("end"))
        }
        (Value::Arr(array), Value::Arr(part)) => super::natives::positions(run, array.items(), part.items()),
        _ => cannot(value, key),
    }
}

fn cannot<T>(value: &Value, key: &Value) -> Outcome<T> {
    let public = format!("cannot index {} with {}", value.kind(), key.kind());
    match key {
        Value::Str(key) => raise(format!("Cannot index {} with string \"{key}\"", value.kind()), public),
        key => raise(format!("Cannot index {} with {}", value.kind(), key.kind()), public),
    }
}

/// The place of an index, which counts from the end where it is negative.
fn position(index: f64, length: usize) -> Option<usize> {
    let at = if index < 0.0 { index + length as f64 } else { index };
    (at >= 0.0).then_some(at as usize)
}

fn part(run: &Run<'_>, value: &Value, from: &Value, to: &Value) -> Outcome<Value> {
    match value {
        Value::Null => Ok(Value::Null),
        Value::Arr(array) => {
            let (from, to) = bounds(from, to, array.items().len())?;
            run.array(array.items()[from..to].to_vec())
        }
        Value::Str(text) => {
            run.walk(value)?;
            let (from, to) = bounds(from, to, text.chars().count())?;
            run.string(text::part(text, from, to))
        }
        _ => raise_plain(&format!("Cannot index {} with object", value.kind())),
    }
}

/// Where a slice begins and ends.
fn bounds(from: &Value, to: &Value, length: usize) -> Outcome<(usize, usize)> {
    let bound = |bound: &Value, missing: usize, round: fn(f64) -> f64| match bound {
        Value::Null => Ok(missing),
        bound => match bound.number() {
            Some(number) => {
                let at = if number < 0.0 { number + length as f64 } else { number };
                Ok(round(at.clamp(0.0, length as f64)) as usize)
            }
            None => raise_plain("Start and end indices of an array slice must be numbers"),
        },
    };
    let (from, to) = (bound(from, 0, f64::floor)?, bound(to, length, f64::ceil)?);
    Ok((from, to.max(from)))
}

/// Changes what stands at a path: `update` gives what shall stand there, or nothing to remove it. Containers on the way
/// come to be.
pub(super) fn change(
    run: &Run<'_>,
    value: Value,
    path: &[Value],
    update: &mut dyn FnMut(Value) -> Outcome<Option<Value>>,
) -> Outcome<Value> {
    let Some((key, rest)) = path.split_first() else { return Ok(update(value)?.unwrap_or(Value::Null)) };
    run.steps(1)?;
    let mut below = |old: Value| if rest.is_empty() { update(old) } else { change(run, old, rest, update).map(Some) };
    match (value, key) {
        (Value::Null, key) => match below(Value::Null)? {
            None => Ok(Value::Null),
            // Nothing was there to be removed.
            Some(Value::Null) if !rest.is_empty() => Ok(Value::Null),
            Some(new) => put_new(run, key, new),
        },
        (Value::Obj(mut object), Value::Str(key)) => {
            let there = run.object_mut(&mut object)?;
            let new = !there.map().contains_key(key.as_ref());
            let old = run.take_entry(there, key);
            match below(old)? {
                Some(Value::Null) if new && !rest.is_empty() => {}
                Some(new) => run.put_entry(there, key, new)?,
                None => run.remove_entry(there, key)?,
            }
            Ok(Value::Obj(object))
        }
        (Value::Arr(mut array), Value::Num(_) | Value::Big(_)) => {
            let index = key.number().unwrap_or(0.0);
            let Some(at) = position(index.trunc(), array.items().len()) else {
                return below(Value::Null)?
                    .map_or(Ok(Value::Arr(array)), |_| raise_plain("Out of bounds negative array index"));
            };
            let there = run.array_mut(&mut array)?;
            let new = at >= there.items().len();
            let old = run.take_item(there, at);
            match below(old)? {
                Some(Value::Null) if new && !rest.is_empty() => Ok(Value::Arr(array)),
                Some(new) => {
                    too_large(at)?;
                    run.put_item(there, at, new)?;
                    Ok(Value::Arr(array))
                }
                None => replace(run, array.items(), (at, at + 1), &[]),
            }
        }
        (Value::Arr(array), Value::Obj(range)) => {
            let bound = |name| range.map().get(name).cloned().unwrap_or(Value::Null);
            let (from, to) = bounds(&bound("start"), &bound("end"), array.items().len())?;
            match below(run.array(array.items()[from..to].to_vec())?)? {
                Some(Value::Arr(new)) => replace(run, array.items(), (from, to), new.items()),
                None => replace(run, array.items(), (from, to), &[]),
                Some(_) => raise_plain("A slice of an array can only be assigned another array"),
            }
        }
        (value, key) => cannot(&value, key),
    }
}

fn too_large(index: usize) -> Flow {
    if index > 1 << 29 { raise_plain("Array index too large") } else { Ok(()) }
}

/// A container that holds one value.
fn put_new(run: &Run<'_>, key: &Value, value: Value) -> Outcome<Value> {
    match key {
        Value::Str(key) => run.entries([(key, value)]),
        Value::Num(_) | Value::Big(_) => {
            let Some(at) = position(key.number().unwrap_or(0.0).trunc(), 0) else {
                return raise_plain("Out of bounds negative array index");
            };
            too_large(at)?;
            run.memory(at.saturating_mul(size_of::<Value>()))?;
            let mut items = vec![Value::Null; at];
            items.push(value);
            run.array(items)
        }
        Value::Obj(_) => match value {
            Value::Arr(_) => Ok(value),
            _ => raise_plain("A slice of an array can only be assigned another array"),
        },
        _ => cannot(&Value::Null, key),
    }
}

/// The items with others in place of some.
fn replace(run: &Run<'_>, items: &[Value], (from, to): (usize, usize), new: &[Value]) -> Outcome<Value> {
    let before = items.iter().take(from);
    let after = items.iter().skip(to);
    run.array(before.chain(new).chain(after).cloned().collect())
}
