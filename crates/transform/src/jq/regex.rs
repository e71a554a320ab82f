//! Regular expressions, by an engine whose time grows with the text alone: no look-around, no back-references.
//!
//! Compiling is paid for once a run, whether the thread knows the expression from earlier records or not.

use std::cell::RefCell;
use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

use super::run::{Outcome, Run, raise};
use super::value::Value;

/// Bytes of a compiled expression.
const SIZE_MAX: usize = 256 << 10;
/// Expressions that a thread remembers.
const KEPT_MAX: usize = 64;

/// What the letters behind an expression ask for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
struct Flags {
    global: bool,
    ignore_case: bool,
    extended: bool,
    dot_all: bool,
    not_empty: bool,
}

impl Flags {
    fn new(letters: &str) -> Option<Self> {
        let mut flags = Self::default();
        for letter in letters.chars() {
            match letter {
                'g' => flags.global = true,
                'i' => flags.ignore_case = true,
                'x' => flags.extended = true,
                // `^` and `$` are the ends of the text as it is.
                's' => {}
                'p' => flags.dot_all = true,
                'n' => flags.not_empty = true,
                _ => return None,
            }
        }
        Some(flags)
    }
}

thread_local! {
    static KEPT: RefCell<BTreeMap<(String, Flags), Regex>> = const { RefCell::new(BTreeMap::new()) };
}

fn compile(pattern: &str, flags: Flags) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern)
        .case_insensitive(flags.ignore_case)
        .ignore_whitespace(flags.extended)
        .dot_matches_new_line(flags.dot_all)
        .size_limit(SIZE_MAX)
        .dfa_size_limit(SIZE_MAX * 4)
        .nest_limit(100)
        .build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
        error => error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    })
}

/// Whether an expression can be used, or why not.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    compile(pattern, Flags::default()).map(|_| ())
}

/// Steps that stand for the work an expression makes, beside those of the text.
fn weight(pattern: &str) -> u64 {
    // A counted repetition is as large as what it repeats, times the count.
    pattern.len() as u64 + if pattern.contains('{') { 1_000 } else { 0 }
}

fn kept(run: &Run<'_>, pattern: &str, flags: Flags) -> Outcome<Result<Regex, String>> {
    run.once(format!("{flags:?} {pattern}"), 5_000 + 50 * weight(pattern))?;
    KEPT.with_borrow_mut(|kept| {
        let key = (pattern.to_owned(), flags);
        if let Some(regex) = kept.get(&key) {
            return Ok(Ok(regex.clone()));
        }
        let regex = match compile(pattern, flags) {
            Ok(regex) => regex,
            Err(what) => return Ok(Err(what)),
        };
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(key, regex.clone());
        Ok(Ok(regex))
    })
}

/// `_match(re; flags; test)`: whether there is a match, or all of them as objects.
pub(super) fn matches(run: &Run<'_>, input: Value, args: &[Value]) -> Outcome<Value> {
    let [pattern, letters, test] = args else { return Ok(Value::Null) };
    let text = subject(&input)?;
    let pattern = subject(pattern)?;
    let letters = match letters {
        Value::Null => "",
        Value::Str(letters) => letters,
        other => return raise(format!("{} is not a string", other.shown()), "regex flags are not a string"),
    };
    let Some(flags) = Flags::new(letters) else {
        return raise(format!("{letters} is not a valid modifier string"), "not a valid modifier string");
    };
    run.steps(5 + (text.len() as u64).saturating_mul(weight(pattern)) / 512)?;
    let regex = match kept(run, pattern, flags)? {
        Ok(regex) => regex,
        Err(what) => return raise(format!("Regex failure: {what}"), "the regular expression cannot be used"),
    };
    if test.truthy() {
        if !flags.not_empty {
            return Ok(Value::Bool(regex.is_match(text)));
        }
        for found in regex.find_iter(text) {
            run.time()?;
            if !found.is_empty() {
                return Ok(Value::Bool(true));
            }
        }
        return Ok(Value::Bool(false));
    }
    let mut found = Vec::new();
    let mut place = Place { text, byte: 0, chars: 0 };
    for captures in regex.captures_iter(text) {
        // A search may look at all of the text that is left, for every match.
        run.time()?;
        let Some(whole) = captures.get(0) else { continue };
        if whole.is_empty() && (flags.not_empty || (whole.start() == text.len() && !text.is_empty())) {
            continue;
        }
        run.steps(4 + captures.len() as u64)?;
        let offset = place.chars(whole.start());
        let mut groups = Vec::new();
        for (group, name) in captures.iter().zip(regex.capture_names()).skip(1).filter(|_| !whole.is_empty()) {
            let name = name.map_or(Value::Null, Value::text);
            groups.push(capture(run, text, (whole.start(), offset), group, name)?);
        }
        let string = run.string(whole.as_str())?;
        found.push(run.entries([
            ("offset", Value::Num(offset as f64)),
            ("length", Value::Num(whole.as_str().chars().count() as f64)),
            ("string", string),
            ("captures", run.array(groups)?),
        ])?);
        if !flags.global {
            break;
        }
    }
    run.array(found)
}

fn capture(
    run: &Run<'_>,
    text: &str,
    (byte, offset): (usize, usize),
    group: Option<regex::Match<'_>>,
    name: Value,
) -> Outcome<Value> {
    let Some(group) = group else {
        let none = [("offset", Value::Num(-1.0)), ("string", Value::Null), ("length", Value::Num(0.0)), ("name", name)];
        return run.entries(none);
    };
    let offset = Value::Num((offset + text[byte..group.start()].chars().count()) as f64);
    let length = Value::Num(group.as_str().chars().count() as f64);
    let string = run.string(group.as_str())?;
    if group.is_empty() {
        return run.entries([("offset", offset), ("string", string), ("length", length), ("name", name)]);
    }
    run.entries([("offset", offset), ("length", length), ("string", string), ("name", name)])
}

fn subject(value: &Value) -> Outcome<&str> {
    match value {
        Value::Str(text) => Ok(text),
        other => {
            let what = "cannot be matched, as it is not a string";
            raise(format!("{} {what}", other.shown()), format!("{} {what}", other.kind()))
        }
    }
}

/// Counts characters up to bytes that only grow.
struct Place<'a> {
    text: &'a str,
    byte: usize,
    chars: usize,
}

impl Place<'_> {
    fn chars(&mut self, byte: usize) -> usize {
        self.chars += self.text[self.byte..byte].chars().count();
        self.byte = byte;
        self.chars
    }
}
