//! The operators, and functions of numbers.

use std::collections::BTreeSet;
use std::sync::Arc;

use jaq_core::ops::{Cmp, Math};

use super::run::{Outcome, Run, raise, raise_plain};
use super::value::Value;

/// `l op r`
pub(super) fn calculate(run: &Run<'_>, l: Value, op: Math, r: Value) -> Outcome<Value> {
    run.steps(1)?;
    match op {
        Math::Add => add(run, l, r),
        Math::Sub => subtract(run, l, r),
        Math::Mul => multiply(run, l, r),
        Math::Div => divide(run, l, r),
        Math::Rem => remainder(l, r),
    }
}

/// An operator that does not apply.
fn cannot<T>(l: &Value, r: &Value, what: &str) -> Outcome<T> {
    raise(format!("{} and {} {what}", l.shown(), r.shown()), format!("{} and {} {what}", l.kind(), r.kind()))
}

/// `-x`
pub(super) fn negate(value: &Value) -> Outcome<Value> {
    match value.number() {
        Some(number) => Ok(Value::Num(-number)),
        None => raise(format!("{} cannot be negated", value.shown()), format!("{} cannot be negated", value.kind())),
    }
}

/// `l + r`: what is on the left is changed in place where nobody else holds it.
pub(super) fn add(run: &Run<'_>, l: Value, r: Value) -> Outcome<Value> {
    match (l, r) {
        (Value::Null, other) | (other, Value::Null) => Ok(other),
        (Value::Str(l), Value::Str(r)) => {
            run.memory(l.len() + r.len())?;
            let mut text = String::with_capacity(l.len() + r.len());
            text.push_str(&l);
            text.push_str(&r);
            Ok(Value::Str(text.into()))
        }
        (Value::Arr(mut l), Value::Arr(r)) => {
            let there = run.array_mut(&mut l)?;
            for item in r.items() {
                run.put_item(there, there.items().len(), item.clone())?;
            }
            run.steps(r.items().len() as u64)?;
            Ok(Value::Arr(l))
        }
        (Value::Obj(mut l), Value::Obj(r)) => {
            let there = run.object_mut(&mut l)?;
            for (key, value) in r.map() {
                run.steps(1)?;
                run.put_entry(there, key, value.clone())?;
            }
            Ok(Value::Obj(l))
        }
        (l, r) => match (l.number(), r.number()) {
            (Some(l), Some(r)) => Ok(Value::Num(l + r)),
            _ => cannot(&l, &r, "cannot be added"),
        },
    }
}

/// Values in jq's order, for looking them up.
struct Ordered<'a>(&'a Value);

impl PartialEq for Ordered<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.order(other.0).is_eq()
    }
}

impl Eq for Ordered<'_> {}

impl PartialOrd for Ordered<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.order(other.0)
    }
}

fn subtract(run: &Run<'_>, l: Value, r: Value) -> Outcome<Value> {
    match (&l, &r) {
        (Value::Arr(items), Value::Arr(without)) => {
            super::natives::pay_for_sorting(run, &l)?;
            super::natives::pay_for_sorting(run, &r)?;
            let without: BTreeSet<_> = without.items().iter().map(Ordered).collect();
            run.array(items.items().iter().filter(|item| !without.contains(&Ordered(item))).cloned().collect())
        }
        _ => match (l.number(), r.number()) {
            (Some(l), Some(r)) => Ok(Value::Num(l - r)),
            _ => cannot(&l, &r, "cannot be subtracted"),
        },
    }
}

fn multiply(run: &Run<'_>, l: Value, r: Value) -> Outcome<Value> {
    match (l, r) {
        (Value::Str(text), times @ (Value::Num(_) | Value::Big(_)))
        | (times @ (Value::Num(_) | Value::Big(_)), Value::Str(text)) => {
            let times = times.number().unwrap_or(0.0);
            if times.is_nan() || times < 1.0 {
                return Ok(Value::Null);
            }
            let times = times as usize;
            run.memory(text.len().saturating_mul(times).saturating_add(16))?;
            Ok(Value::Str(text.repeat(times).into()))
        }
        (Value::Obj(l), Value::Obj(r)) => merge(run, Value::Obj(l), &Value::Obj(r)),
        (l, r) => match (l.number(), r.number()) {
            (Some(l), Some(r)) => Ok(Value::Num(l * r)),
            _ => cannot(&l, &r, "cannot be multiplied"),
        },
    }
}

/// Objects into one another, at every depth.
fn merge(run: &Run<'_>, l: Value, r: &Value) -> Outcome<Value> {
    let (Value::Obj(mut l), Value::Obj(r)) = (l, r) else { return Ok(r.clone()) };
    let there = run.object_mut(&mut l)?;
    for (key, value) in r.map() {
        run.steps(1)?;
        let old = run.take_entry(there, key);
        let new =
            if let (Value::Obj(_), Value::Obj(_)) = (&old, value) { merge(run, old, value)? } else { value.clone() };
        run.put_entry(there, key, new)?;
    }
    Ok(Value::Obj(l))
}

fn divide(run: &Run<'_>, l: Value, r: Value) -> Outcome<Value> {
    if let (Value::Str(text), Value::Str(separator)) = (&l, &r) {
        return super::text::split(run, text, separator);
    }
    match (l.number(), r.number()) {
        (Some(_), Some(0.0)) => cannot(&l, &r, "cannot be divided because the divisor is zero"),
        (Some(l), Some(r)) => Ok(Value::Num(l / r)),
        _ => cannot(&l, &r, "cannot be divided"),
    }
}

/// Of the integers that C makes of the numbers: what no 64 bits hold is the least one.
fn remainder(l: Value, r: Value) -> Outcome<Value> {
    let integer = |number: f64| {
        if (-9.3e18..9_223_372_036_854_775_808.0).contains(&number) { number as i64 } else { i64::MIN }
    };
    match (l.number(), r.number()) {
        (Some(a), Some(b)) => match integer(b) {
            0 => cannot(&l, &r, "cannot be divided (remainder) because the divisor is zero"),
            b => Ok(Value::Num(integer(a).wrapping_rem(b) as f64)),
        },
        _ => cannot(&l, &r, "cannot be divided (remainder)"),
    }
}

/// Whether a comparison holds. Whoever calls has paid for the walk.
pub(super) fn compare(l: &Value, op: Cmp, r: &Value) -> bool {
    // nan is less than everything, itself as well.
    let less =
        |a: &Value, b: &Value| a.order(b).is_lt() || matches!(a, Value::Num(a) if a.is_nan() && b.number().is_some());
    match op {
        Cmp::Lt => less(l, r),
        Cmp::Gt => less(r, l),
        Cmp::Le => less(l, r) || l.order(r).is_eq(),
        Cmp::Ge => less(r, l) || l.order(r).is_eq(),
        Cmp::Eq => l.equals(r),
        Cmp::Ne => !l.equals(r),
    }
}

/// The number that a function of numbers is given.
pub(super) fn number(value: &Value) -> Outcome<f64> {
    match value.number() {
        Some(number) => Ok(number),
        None => raise(format!("{} number required", value.shown()), format!("{}: number required", value.kind())),
    }
}

/// `frexp`: mantissa in 0.5..1 and exponent of 2.
pub(super) fn split_exponent(number: f64) -> (f64, i32) {
    if number == 0.0 || !number.is_finite() {
        return (number, 0);
    }
    // A subnormal number has its exponent in its leading zeros.
    let (scaled, off) = if number.abs() < f64::MIN_POSITIVE { (number * 2f64.powi(64), -64) } else { (number, 0) };
    let exponent = ((scaled.to_bits() >> 52) & 0x7ff) as i32 - 1022;
    let mantissa = f64::from_bits((scaled.to_bits() & !(0x7ff << 52)) | (1022 << 52));
    (mantissa, exponent + off)
}

/// `ldexp`: in two halves, so that neither leaves the range alone.
pub(super) fn scale(number: f64, exponent: f64) -> f64 {
    let exponent = exponent.clamp(-3_000.0, 3_000.0).trunc();
    let half = (exponent / 2.0).trunc();
    number * half.exp2() * (exponent - half).exp2()
}

/// `range` of an array's indices, `transpose`: rows of equal length.
pub(super) fn transpose(run: &Run<'_>, rows: &[Value]) -> Outcome<Value> {
    let mut items = Vec::new();
    for row in rows {
        match row {
            Value::Arr(row) => items.push(Arc::clone(row)),
            other => return raise_plain(&format!("Cannot index {} with number", other.kind())),
        }
    }
    let width = items.iter().map(|row| row.items().len()).max().unwrap_or(0);
    let mut columns = Vec::new();
    for column in 0..width {
        run.memory(items.len() * size_of::<Value>())?;
        let at = |row: &Arc<super::value::Array>| row.items().get(column).cloned().unwrap_or(Value::Null);
        columns.push(run.array(items.iter().map(at).collect())?);
    }
    run.array(columns)
}
