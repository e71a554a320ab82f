//! The functions of values, by name and number of arguments: what is not in this list, in [`super::node::Control`] or in
//! the prelude, no program can call.
//!
//! Each pays for what it walks through before it does. Never here: anything outside of the record.

use std::cmp::Ordering;

use super::math::{self, number};
use super::run::{Outcome, Run, Stop, raise, raise_plain};
use super::text::{self, string};
use super::value::{Map, Value};
use super::{json, paths, regex, time};

/// A function of its input and of its arguments, of which there are as many as the list says.
pub(super) type ValueFn = fn(&Run<'_>, Value, &[Value]) -> Outcome<Value>;

/// The function of a name.
pub(super) fn find(name: &str, arity: usize) -> Option<ValueFn> {
    LISTS.iter().flat_map(|list| list.iter()).find(|entry| entry.0 == name && entry.1 == arity).map(|entry| entry.2)
}

/// All names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    LISTS.iter().flat_map(|list| list.iter()).map(|entry| entry.0)
}

type List = &'static [(&'static str, usize, ValueFn)];

const LISTS: [List; 4] = [VALUES, COLLECTIONS, STRINGS, NUMBERS];

const VALUES: List = &[
    ("not", 0, |_, v, _| Ok(Value::Bool(!v.truthy()))),
    ("type", 0, |_, v, _| Ok(Value::text(v.kind()))),
    ("length", 0, |run, v, _| length(run, &v)),
    ("tojson", 0, |run, v, _| json::tojson(run, &v)),
    ("tostring", 0, json::text_of),
    ("fromjson", 0, |run, v, _| {
        let text = string(&v, "only strings can be parsed")?;
        json::only(run, text)?.or_else(|what| raise(format!("{what} (while parsing '{text}')"), what))
    }),
    ("tonumber", 0, |run, v, _| tonumber(run, v)),
    ("isnan", 0, |_, v, _| Ok(Value::Bool(number(&v)?.is_nan()))),
    ("isinfinite", 0, |_, v, _| Ok(Value::Bool(number(&v)?.is_infinite()))),
    ("isnormal", 0, |_, v, _| Ok(Value::Bool(number(&v)?.is_normal()))),
    ("isfinite", 0, |_, v, _| Ok(Value::Bool(v.number().is_some_and(|n| !n.is_infinite())))),
    ("_match", 3, regex::matches),
];

const COLLECTIONS: List = &[
    ("keys", 0, |run, v, _| keys(run, &v, true)),
    ("keys_unsorted", 0, |run, v, _| keys(run, &v, false)),
    ("has", 1, |run, v, args| {
        run.walk(&args[0])?;
        has(&v, &args[0])
    }),
    ("contains", 1, |run, v, args| {
        run.steps(v.steps().saturating_mul(args[0].steps()))?;
        contains(&v, &args[0]).map(Value::Bool)
    }),
    ("indices", 1, |run, v, args| indices(run, &v, &args[0])),
    ("add", 0, |run, v, _| items(run, &v)?.into_iter().try_fold(Value::Null, |sum, item| math::add(run, sum, item))),
    ("sort", 0, |run, v, _| run.array(sorted(run, &v, &v)?)),
    ("_sort_by", 1, |run, v, args| run.array(sorted(run, &v, &args[0])?)),
    ("_group_by", 1, |run, v, args| group(run, &v, &args[0])),
    ("unique", 0, |run, v, _| {
        let mut items = sorted(run, &v, &v)?;
        items.dedup_by(|a, b| a.order(b).is_eq());
        run.array(items)
    }),
    ("min", 0, |run, v, _| extreme(run, &v, &v, Ordering::Less)),
    ("max", 0, |run, v, _| extreme(run, &v, &v, Ordering::Greater)),
    ("_min_by", 1, |run, v, args| extreme(run, &v, &args[0], Ordering::Less)),
    ("_max_by", 1, |run, v, args| extreme(run, &v, &args[0], Ordering::Greater)),
    ("reverse", 0, |run, v, _| match &v {
        Value::Null => run.array(Vec::new()),
        Value::Obj(object) if object.map().is_empty() => run.array(Vec::new()),
        Value::Arr(array) => run.array(array.items().iter().rev().cloned().collect()),
        other => raise_plain(&format!("Cannot index {} with number", other.kind())),
    }),
    ("flatten", 0, |run, v, _| flatten(run, &v, f64::INFINITY)),
    ("flatten", 1, |run, v, args| match args[0].number() {
        Some(depth) if depth < 0.0 => raise_plain("flatten depth must not be negative"),
        Some(depth) => flatten(run, &v, depth),
        None => raise_plain("flatten depth must be a number"),
    }),
    ("to_entries", 0, |run, v, _| to_entries(run, &v)),
    ("from_entries", 0, |run, v, _| from_entries(run, &v)),
    ("setpath", 2, |run, v, args| match &args[0] {
        Value::Arr(path) => paths::change(run, v, path.items(), &mut |_| Ok(Some(args[1].clone()))),
        _ => raise_plain("Path must be specified as an array"),
    }),
    ("delpaths", 1, |run, v, args| delpaths(run, v, &args[0])),
    ("transpose", 0, |run, v, _| math::transpose(run, &items(run, &v)?)),
    ("bsearch", 1, |run, v, args| {
        let (Value::Arr(array), sought) = (&v, &args[0]) else { return raise_plain("bsearch input must be an array") };
        run.steps(sought.steps().saturating_mul(32))?;
        let found = array.items().binary_search_by(|item| item.order(sought));
        Ok(Value::Num(found.map_or_else(|at| -1.0 - at as f64, |at| at as f64)))
    }),
];

const STRINGS: List = &[
    ("utf8bytelength", 0, |_, v, _| match &v {
        Value::Str(text) => Ok(Value::Num(text.len() as f64)),
        other => {
            let what = "only strings have UTF-8 byte length";
            raise(format!("{} {what}", other.shown()), format!("{}: {what}", other.kind()))
        }
    }),
    ("ascii_downcase", 0, |run, v, _| run.string(string(&v, "explode input must be a string")?.to_ascii_lowercase())),
    ("ascii_upcase", 0, |run, v, _| run.string(string(&v, "explode input must be a string")?.to_ascii_uppercase())),
    ("explode", 0, |run, v, _| {
        let text = string(&v, "explode input must be a string")?;
        run.memory(text.len() * size_of::<Value>())?;
        run.array(text.chars().map(|char| Value::Num(f64::from(u32::from(char)))).collect())
    }),
    ("implode", 0, |run, v, _| text::implode(run, &v)),
    ("startswith", 1, |run, v, args| {
        run.walk(&args[0])?;
        let what = "startswith() requires string inputs";
        Ok(Value::Bool(string(&v, what)?.starts_with(string(&args[0], what)?)))
    }),
    ("endswith", 1, |run, v, args| {
        run.walk(&args[0])?;
        let what = "endswith() requires string inputs";
        Ok(Value::Bool(string(&v, what)?.ends_with(string(&args[0], what)?)))
    }),
    ("ltrimstr", 1, |run, v, args| match (&v, &args[0]) {
        (Value::Str(text), Value::Str(prefix)) => {
            run.walk(&args[0])?;
            text.strip_prefix(&**prefix).map_or(Ok(v.clone()), |rest| run.string(rest))
        }
        _ => Ok(v),
    }),
    ("rtrimstr", 1, |run, v, args| match (&v, &args[0]) {
        (Value::Str(text), Value::Str(suffix)) => {
            run.walk(&args[0])?;
            text.strip_suffix(&**suffix).map_or(Ok(v.clone()), |rest| run.string(rest))
        }
        _ => Ok(v),
    }),
    ("split", 1, |run, v, args| {
        let what = "split input and separator must be strings";
        text::split(run, string(&v, what)?, string(&args[0], what)?)
    }),
    ("join", 1, |run, v, args| match &args[0] {
        Value::Str(separator) => text::join(run, &items(run, &v)?, separator),
        other => raise_plain(&format!("string and {} cannot be added", other.kind())),
    }),
    ("format", 1, |run, v, args| {
        let format = match &args[0] {
            Value::Str(name) => find(&format!("@{name}"), 0),
            _ => None,
        };
        match format {
            Some(format) => format(run, v, &[]),
            None => raise(format!("{} is not a valid format", args[0].shown()), "not a valid format"),
        }
    }),
    ("@text", 0, json::text_of),
    ("@json", 0, |run, v, _| json::tojson(run, &v)),
    ("@csv", 0, text::csv),
    ("@tsv", 0, text::tsv),
    ("@html", 0, text::html),
    ("@uri", 0, text::uri),
    ("@sh", 0, text::sh),
    ("@base64", 0, text::base64),
    ("@base64d", 0, text::base64d),
    ("strftime", 1, time::strftime),
    ("strptime", 1, time::strptime),
    ("gmtime", 0, time::gmtime),
    ("mktime", 0, time::mktime),
];

macro_rules! numbers {
    ($($name:literal: $f:expr),* $(; $name2:literal: $f2:expr)*) => {
        &[
            $(($name, 0, |_, v, _| { let f: fn(f64) -> f64 = $f; Ok(Value::Num(f(number(&v)?))) }),)*
            $(($name2, 2, |_, _, args| {
                let f: fn(f64, f64) -> f64 = $f2;
                Ok(Value::Num(f(number(&args[0])?, number(&args[1])?)))
            }),)*
            ("frexp", 0, |run, v, _| {
                let (mantissa, exponent) = math::split_exponent(number(&v)?);
                run.array(vec![Value::Num(mantissa), Value::Num(f64::from(exponent))])
            }),
            ("modf", 0, |run, v, _| {
                let x = number(&v)?;
                let fraction = if x.is_infinite() { 0.0 } else { x.fract() };
                run.array(vec![Value::Num(fraction), Value::Num(x.trunc())])
            }),
            ("fma", 3, |_, _, args| Ok(Value::Num(number(&args[0])?.mul_add(number(&args[1])?, number(&args[2])?)))),
        ]
    };
}

const NUMBERS: List = numbers!(
    "floor": f64::floor, "ceil": f64::ceil, "round": f64::round, "trunc": f64::trunc, "rint": f64::round_ties_even,
    "nearbyint": f64::round_ties_even, "fabs": f64::abs, "sqrt": f64::sqrt, "cbrt": f64::cbrt, "exp": f64::exp,
    "exp2": f64::exp2, "exp10": |x| 10f64.powf(x), "pow10": |x| 10f64.powf(x), "expm1": f64::exp_m1, "log": f64::ln,
    "log2": f64::log2, "log10": f64::log10, "log1p": f64::ln_1p, "sin": f64::sin, "cos": f64::cos, "tan": f64::tan,
    "asin": f64::asin, "acos": f64::acos, "atan": f64::atan, "sinh": f64::sinh, "cosh": f64::cosh, "tanh": f64::tanh,
    "asinh": f64::asinh, "acosh": f64::acosh, "atanh": f64::atanh,
    "significand": |x| if x == 0.0 || !x.is_finite() { x } else { math::split_exponent(x).0 * 2.0 },
    "logb": |x| match x {
        0.0 => f64::NEG_INFINITY,
        x if !x.is_finite() => x * x,
        x => f64::from(math::split_exponent(x).1 - 1),
    };
    "pow": f64::powf; "atan2": f64::atan2; "fmin": f64::min; "fmax": f64::max; "fmod": |x, y| x % y;
    "hypot": f64::hypot; "copysign": f64::copysign; "fdim": |x, y| (x - y).max(0.0); "ldexp": math::scale;
    "scalb": math::scale; "scalbln": math::scale
);

fn length(run: &Run<'_>, value: &Value) -> Outcome<Value> {
    run.steps(if let Value::Str(_) = value { value.steps() } else { 0 })?;
    Ok(Value::Num(match value {
        Value::Null => 0.0,
        Value::Bool(_) => {
            return raise(format!("{} has no length", value.shown()), "boolean has no length");
        }
        Value::Num(number) => number.abs(),
        Value::Big(_) => value.number().unwrap_or(0.0).abs(),
        Value::Str(text) => text.chars().count() as f64,
        Value::Arr(array) => array.items().len() as f64,
        Value::Obj(object) => object.map().len() as f64,
    }))
}

fn tonumber(run: &Run<'_>, value: Value) -> Outcome<Value> {
    match &value {
        Value::Num(_) | Value::Big(_) => Ok(value),
        Value::Str(text) => match json::loose_number(run, text)? {
            Some(number) => Ok(number),
            None => {
                let public = "the string cannot be parsed as a number";
                raise(format!("Invalid numeric literal (while parsing '{text}')"), public)
            }
        },
        other => {
            let what = "cannot be parsed as a number";
            raise(format!("{} {what}", other.shown()), format!("{} {what}", other.kind()))
        }
    }
}

/// What `.[]` gives.
fn items(run: &Run<'_>, value: &Value) -> Outcome<Vec<Value>> {
    let items: Vec<_> = match value {
        Value::Arr(array) => {
            run.memory(size_of_val(array.items()))?;
            array.items().to_vec()
        }
        Value::Obj(object) => {
            run.memory(object.map().len() * size_of::<Value>())?;
            object.map().values().cloned().collect()
        }
        other => {
            let text = format!("Cannot iterate over {}", other.shown());
            return raise(text, format!("cannot iterate over {}", other.kind()));
        }
    };
    run.steps(items.len() as u64)?;
    Ok(items)
}

fn keys(run: &Run<'_>, value: &Value, sorted: bool) -> Outcome<Value> {
    match value {
        Value::Arr(array) => {
            run.memory(size_of_val(array.items()))?;
            run.array((0..array.items().len()).map(|index| Value::Num(index as f64)).collect())
        }
        Value::Obj(object) => {
            run.steps(object.map().len() as u64)?;
            let mut keys: Vec<_> = object.map().keys().cloned().collect();
            if sorted {
                keys.sort_unstable();
            }
            run.array(keys.into_iter().map(Value::Str).collect())
        }
        other => raise(format!("{} has no keys", other.shown()), format!("{} has no keys", other.kind())),
    }
}

fn has(value: &Value, key: &Value) -> Outcome<Value> {
    match (value, key) {
        (Value::Null, Value::Str(_) | Value::Num(_)) => Ok(Value::Bool(false)),
        (Value::Obj(object), Value::Str(key)) => Ok(Value::Bool(object.map().contains_key(key.as_ref()))),
        (Value::Arr(array), Value::Num(index)) => Ok(Value::Bool(*index >= 0.0 && *index < array.items().len() as f64)),
        _ => raise_plain(&format!("Cannot check whether {} has a {} key", value.kind(), key.kind())),
    }
}

fn contains(value: &Value, part: &Value) -> Outcome<bool> {
    match (value, part) {
        (Value::Obj(value), Value::Obj(part)) => {
            let mut entries = part.map().iter();
            entries.try_fold(true, |all, (key, part)| match value.map().get(key) {
                Some(value) if all => contains(value, part),
                _ => Ok(false),
            })
        }
        (Value::Arr(value), Value::Arr(part)) => part.items().iter().try_fold(true, |all, part| {
            let has = |value: &Value| value.kind() == part.kind() && contains(value, part).unwrap_or(false);
            Ok(all && value.items().iter().any(has))
        }),
        (Value::Str(value), Value::Str(part)) => Ok(value.contains(&**part)),
        _ if value.kind() == part.kind() => Ok(value.equals(part)),
        _ => {
            let what = "cannot have their containment checked";
            let text = format!("{} and {} {what}", value.shown(), part.shown());
            raise(text, format!("{} and {} {what}", value.kind(), part.kind()))
        }
    }
}

fn indices(run: &Run<'_>, value: &Value, sought: &Value) -> Outcome<Value> {
    match (value, sought) {
        (Value::Str(_), Value::Str(sought)) if sought.is_empty() => Ok(Value::Null),
        (Value::Str(text), Value::Str(sought)) => {
            run.steps((text.len() as u64).saturating_mul(1 + sought.len() as u64 / 16) / 8)?;
            let ends = text.char_indices().map(|(at, _)| at);
            let found: Vec<_> = ends.filter(|at| text[*at..].starts_with(&**sought)).collect();
            run.memory(found.len() * size_of::<Value>())?;
            // Bytes, as jq 1.6 counts here.
            run.array(found.into_iter().map(|at| Value::Num(at as f64)).collect())
        }
        (Value::Arr(array), Value::Arr(sought)) => positions(run, array.items(), sought.items()),
        (Value::Arr(array), sought) => positions(run, array.items(), std::slice::from_ref(sought)),
        _ => paths::get(run, value, sought),
    }
}

/// Where an array has a part.
pub(super) fn positions(run: &Run<'_>, items: &[Value], part: &[Value]) -> Outcome<Value> {
    if part.is_empty() {
        return Ok(Value::Null);
    }
    let work = |items: &[Value]| items.iter().map(Value::steps).fold(0, u64::saturating_add);
    run.steps(work(items).saturating_add((items.len() as u64).saturating_mul(work(part))))?;
    let here = |window: &[Value]| window.iter().zip(part).all(|(a, b)| a.equals(b));
    let found = items.windows(part.len()).enumerate().filter(|(_, window)| here(window));
    run.array(found.map(|(at, _)| Value::Num(at as f64)).collect())
}

/// Pays for putting a value's items in order.
pub(super) fn pay_for_sorting(run: &Run<'_>, value: &Value) -> Outcome<()> {
    let rounds = u64::from(u64::BITS - value.steps().leading_zeros());
    run.memory(usize::try_from(value.steps()).unwrap_or(usize::MAX).saturating_mul(8))?;
    run.steps(value.steps().saturating_mul(rounds) / 2)
}

/// Items with what they are ordered by, in their order.
fn ordered(run: &Run<'_>, value: &Value, by: &Value) -> Outcome<Vec<(Value, Value)>> {
    let (Value::Arr(items), Value::Arr(by)) = (value, by) else {
        let what = "cannot be sorted, as it is not an array";
        return raise(format!("{} {what}", value.shown()), format!("{} {what}", value.kind()));
    };
    run.memory(items.items().len() * size_of::<(Value, Value)>())?;
    let mut pairs: Vec<_> = by.items().iter().cloned().zip(items.items().iter().cloned()).collect();
    pay_for_sorting(run, &Value::Arr(by.clone()))?;
    pairs.sort_by(|a, b| a.0.order(&b.0));
    Ok(pairs)
}

fn sorted(run: &Run<'_>, value: &Value, by: &Value) -> Outcome<Vec<Value>> {
    Ok(ordered(run, value, by)?.into_iter().map(|pair| pair.1).collect())
}

fn group(run: &Run<'_>, value: &Value, by: &Value) -> Outcome<Value> {
    let pairs = ordered(run, value, by)?;
    let mut groups = Vec::new();
    for group in pairs.chunk_by(|a, b| a.0.order(&b.0).is_eq()) {
        groups.push(run.array(group.iter().map(|pair| pair.1.clone()).collect())?);
    }
    run.array(groups)
}

/// The least item, the first of equals, or the greatest, the last of equals.
fn extreme(run: &Run<'_>, value: &Value, by: &Value, side: Ordering) -> Outcome<Value> {
    let (Value::Arr(items), Value::Arr(keys)) = (value, by) else {
        let what = "cannot be searched, as it is not an array";
        return raise(format!("{} {what}", value.shown()), format!("{} {what}", value.kind()));
    };
    run.walk(by)?;
    let mut best: Option<(&Value, &Value)> = None;
    for (item, key) in items.items().iter().zip(keys.items()) {
        let better = best.is_none_or(|best| {
            let order = key.order(best.1);
            order == side || (side.is_gt() && order.is_eq())
        });
        if better {
            best = Some((item, key));
        }
    }
    Ok(best.map_or(Value::Null, |best| best.0.clone()))
}

fn flatten(run: &Run<'_>, value: &Value, depth: f64) -> Outcome<Value> {
    fn into(run: &Run<'_>, items: &[Value], depth: f64, flat: &mut Vec<Value>) -> Outcome<()> {
        for item in items {
            run.memory(size_of::<Value>())?;
            run.steps(1)?;
            match item {
                Value::Arr(array) if depth > 0.0 => into(run, array.items(), depth - 1.0, flat)?,
                item => flat.push(item.clone()),
            }
        }
        Ok(())
    }
    let mut flat = Vec::new();
    into(run, &items(run, value)?, depth, &mut flat)?;
    run.array(flat)
}

fn to_entries(run: &Run<'_>, value: &Value) -> Outcome<Value> {
    let mut entries = Vec::new();
    let mut entry = |key: Value, value: &Value| {
        entries.push(run.entries([("key", key), ("value", value.clone())])?);
        run.steps(1)
    };
    match value {
        Value::Obj(object) => object.map().iter().try_for_each(|(key, value)| entry(Value::Str(key.clone()), value))?,
        Value::Arr(array) => {
            let mut items = array.items().iter().enumerate();
            items.try_for_each(|(index, value)| entry(Value::Num(index as f64), value))?;
        }
        other => return raise(format!("{} has no keys", other.shown()), format!("{} has no keys", other.kind())),
    }
    run.array(entries)
}

/// Of objects with a key and a value, by any of the names that jq knows for them.
fn from_entries(run: &Run<'_>, value: &Value) -> Outcome<Value> {
    let mut map = Map::default();
    for entry in items(run, value)? {
        run.steps(2)?;
        let field = |name| paths::get(run, &entry, &Value::text(name));
        let mut key = Value::Null;
        for name in ["key", "k", "name", "Name", "K", "Key"] {
            key = field(name)?;
            if key.truthy() {
                break;
            }
        }
        let Value::Str(key) = &key else {
            let text = format!("Cannot use {} as object key", key.shown());
            return raise(text, format!("cannot use {} as object key", key.kind()));
        };
        let Value::Obj(there) = &entry else { continue };
        let named = ["value", "v", "Value", "V"].into_iter().find(|name| there.map().contains_key(*name));
        map.insert(key.clone(), named.map_or(Ok(Value::Null), field)?);
    }
    run.object(map)
}

fn delpaths(run: &Run<'_>, value: Value, paths: &Value) -> Outcome<Value> {
    let mut all = sorted(run, paths, paths)?;
    let mut value = value;
    // The last ones first, so that those before keep their places.
    while let Some(path) = all.pop() {
        let Value::Arr(path) = path else { return raise_plain("Path must be specified as an array") };
        value = match paths::change(run, value.clone(), path.items(), &mut |_| Ok(None)) {
            Err(Stop::Raised(raised)) if value.depth() == 0 && matches!(value, Value::Null) => {
                drop(raised);
                value
            }
            changed => changed?,
        };
    }
    Ok(value)
}
