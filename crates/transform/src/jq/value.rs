//! Values of jq: JSON, in the order in which jq sorts it. Containers are shared and copied when they change.
//!
//! A container knows how deep and how large it is, so that what walks through it can be paid for before it begins: a few
//! arrays that hold one another twice are small in memory and without end on paper. Never here: what a program does.

use std::cmp::Ordering;
use std::sync::Arc;

use indexmap::IndexMap;

use super::json;
use super::run::{Outcome, Run};

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Num(f64),
    /// An integer as it stood in the record, where a double would not hold its digits: jq 1.7 keeps it so, jq 1.6 does not.
    Big(Arc<str>),
    Str(Arc<str>),
    Arr(Arc<Array>),
    Obj(Arc<Object>),
}

pub(super) type Map = IndexMap<Arc<str>, Value, foldhash::fast::RandomState>;

/// An array, and what is known of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Array {
    items: Vec<Value>,
    size: Size,
}

/// An object with its keys in the order in which they came, and what is known of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    map: Map,
    size: Size,
}

/// How deep a container nests, and how many steps it takes to walk through it.
#[derive(Clone, Copy, Debug)]
struct Size {
    depth: u32,
    steps: u64,
}

impl Default for Size {
    fn default() -> Self {
        Self { depth: 1, steps: 1 }
    }
}

impl Size {
    fn add(&mut self, value: &Value) {
        self.depth = self.depth.max(value.depth() + 1);
        self.steps = self.steps.saturating_add(value.steps());
    }

    fn sub(&mut self, value: &Value) {
        self.steps = self.steps.saturating_sub(value.steps()).max(1);
    }
}

const VALUE: usize = size_of::<Value>();
const CONTAINER: usize = 64;
const ENTRY: usize = VALUE + 48;

impl Array {
    pub fn items(&self) -> &[Value] {
        &self.items
    }
}

impl Object {
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// The keys in jq's order: by code point, which is the order of UTF-8.
    pub fn sorted(&self) -> Vec<(&Arc<str>, &Value)> {
        let mut entries: Vec<_> = self.map.iter().collect();
        entries.sort_unstable_by(|a, b| a.0.cmp(b.0));
        entries
    }
}

impl Run<'_> {
    /// A string, paid for.
    pub fn string(&self, text: impl AsRef<str>) -> Outcome<Value> {
        let text = text.as_ref();
        self.memory(text.len() + 16)?;
        Ok(Value::Str(text.into()))
    }

    /// An array, paid for.
    pub fn array(&self, items: Vec<Value>) -> Outcome<Value> {
        self.memory(CONTAINER + items.len() * VALUE)?;
        let mut size = Size::default();
        items.iter().for_each(|item| size.add(item));
        self.nests(size.depth)?;
        Ok(Value::Arr(Arc::new(Array { items, size })))
    }

    /// An object, paid for.
    pub fn object(&self, map: Map) -> Outcome<Value> {
        self.memory(CONTAINER + map.len() * ENTRY)?;
        self.steps(map.keys().map(|key| key.len() as u64 / 64).sum())?;
        let mut size = Size::default();
        map.values().for_each(|value| size.add(value));
        self.nests(size.depth)?;
        Ok(Value::Obj(Arc::new(Object { map, size })))
    }

    /// An object of a few entries.
    pub fn entries<const N: usize>(&self, entries: [(&str, Value); N]) -> Outcome<Value> {
        self.object(entries.into_iter().map(|(key, value)| (Arc::from(key), value)).collect())
    }

    /// Pays for walking through a value once.
    pub fn walk(&self, value: &Value) -> Outcome<()> {
        self.steps(value.steps())
    }

    /// The array for a change in place: copied, and paid for, only where it is shared.
    pub fn array_mut<'a>(&self, array: &'a mut Arc<Array>) -> Outcome<&'a mut Array> {
        if Arc::get_mut(array).is_none() {
            self.memory(CONTAINER + array.items.len() * VALUE)?;
        }
        Ok(Arc::make_mut(array))
    }

    /// The object for a change in place: copied, and paid for, only where it is shared.
    pub fn object_mut<'a>(&self, object: &'a mut Arc<Object>) -> Outcome<&'a mut Object> {
        if Arc::get_mut(object).is_none() {
            self.memory(CONTAINER + object.map.len() * ENTRY)?;
        }
        Ok(Arc::make_mut(object))
    }

    /// Puts a value at an index, with nulls up to it.
    pub fn put_item(&self, array: &mut Array, index: usize, value: Value) -> Outcome<()> {
        if index >= array.items.len() {
            let more = index + 1 - array.items.len();
            self.memory(more.saturating_mul(VALUE))?;
            array.items.resize(index + 1, Value::Null);
            array.size.steps = array.size.steps.saturating_add(more as u64);
        }
        array.size.sub(&array.items[index]);
        array.size.add(&value);
        self.nests(array.size.depth)?;
        array.items[index] = value;
        Ok(())
    }

    /// Puts a value at a key.
    pub fn put_entry(&self, object: &mut Object, key: &Arc<str>, value: Value) -> Outcome<()> {
        self.steps(key.len() as u64 / 64)?;
        object.size.add(&value);
        self.nests(object.size.depth)?;
        match object.map.get_mut(key.as_ref()) {
            Some(there) => {
                object.size.sub(there);
                *there = value;
            }
            None => {
                self.memory(ENTRY)?;
                object.map.insert(key.clone(), value);
            }
        }
        Ok(())
    }

    /// Takes an item out for a change, and leaves null.
    pub fn take_item(&self, array: &mut Array, index: usize) -> Value {
        let Some(item) = array.items.get_mut(index) else { return Value::Null };
        let taken = std::mem::replace(item, Value::Null);
        array.size.sub(&taken);
        array.size.add(&Value::Null);
        taken
    }

    /// Takes an entry out for a change, and leaves null.
    pub fn take_entry(&self, object: &mut Object, key: &str) -> Value {
        let Some(value) = object.map.get_mut(key) else { return Value::Null };
        let taken = std::mem::replace(value, Value::Null);
        object.size.sub(&taken);
        object.size.add(&Value::Null);
        taken
    }

    /// Removes an entry; the others stay in order.
    pub fn remove_entry(&self, object: &mut Object, key: &str) -> Outcome<()> {
        self.steps(object.map.len() as u64 / 16)?;
        if let Some(value) = object.map.shift_remove(key) {
            object.size.sub(&value);
        }
        Ok(())
    }
}

impl Value {
    /// A string that is not worth counting.
    pub fn text(text: &str) -> Self {
        Self::Str(text.into())
    }

    /// How deep it nests: 0 for what is no container.
    pub fn depth(&self) -> u32 {
        match self {
            Self::Arr(array) => array.size.depth,
            Self::Obj(object) => object.size.depth,
            _ => 0,
        }
    }

    /// The steps of one walk through it.
    pub fn steps(&self) -> u64 {
        match self {
            Self::Arr(array) => array.size.steps,
            Self::Obj(object) => object.size.steps,
            Self::Str(text) | Self::Big(text) => 1 + text.len() as u64 / 64,
            _ => 1,
        }
    }

    /// `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Num(_) | Self::Big(_) => "number",
            Self::Str(_) => "string",
            Self::Arr(_) => "array",
            Self::Obj(_) => "object",
        }
    }

    /// All but null and false.
    pub fn truthy(&self) -> bool {
        !matches!(self, Self::Null | Self::Bool(false))
    }

    /// The number.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Num(number) => Some(*number),
            Self::Big(digits) => Some(digits.parse().unwrap_or(f64::NAN)),
            _ => None,
        }
    }

    pub fn str(&self) -> Option<&Arc<str>> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Kind and beginning, as jq names a value in an error: `number (1)`.
    pub fn shown(&self) -> String {
        let mut text = json::beginning(self, 15);
        if text.len() > 14 {
            let mut cut = 11;
            while !text.is_char_boundary(cut) {
                cut -= 1;
            }
            text.truncate(cut);
            text.push_str("...");
        }
        format!("{} ({text})", self.kind())
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(false) => 1,
            Self::Bool(true) => 2,
            Self::Num(_) | Self::Big(_) => 3,
            Self::Str(_) => 4,
            Self::Arr(_) => 5,
            Self::Obj(_) => 6,
        }
    }

    /// jq's order, total: nan is the least number. Whoever calls has paid for the walk.
    pub fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Num(a), Self::Num(b)) => order_numbers(*a, *b),
            (Self::Num(_) | Self::Big(_), Self::Num(_) | Self::Big(_)) => order_big(self, other),
            (Self::Str(a), Self::Str(b)) => a.cmp(b),
            (Self::Arr(a), Self::Arr(b)) => {
                let mut pairs = a.items.iter().zip(&b.items).map(|(a, b)| a.order(b));
                pairs.find(|order| order.is_ne()).unwrap_or_else(|| a.items.len().cmp(&b.items.len()))
            }
            (Self::Obj(a), Self::Obj(b)) => {
                let (a, b) = (a.sorted(), b.sorted());
                let keys = a.iter().map(|entry| entry.0).cmp(b.iter().map(|entry| entry.0));
                let mut values = a.iter().zip(&b).map(|(a, b)| a.1.order(b.1));
                keys.then_with(|| values.find(|order| order.is_ne()).unwrap_or(Ordering::Equal))
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }

    /// `==`: nan is not even itself.
    pub fn equals(&self, other: &Self) -> bool {
        !matches!((self, other), (Self::Num(a), Self::Num(_)) if a.is_nan()) && self.order(other).is_eq()
    }
}

/// Numbers in order, nan first.
fn order_numbers(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
    }
}

/// Integers of many digits: by the doubles that are nearest, then by the digits.
fn order_big(a: &Value, b: &Value) -> Ordering {
    let nearest = |value: &Value| value.number().unwrap_or(f64::NAN);
    order_numbers(nearest(a), nearest(b)).then_with(|| {
        let (a, b) = (digits(a), digits(b));
        let size = |text: &str| text.trim_start_matches('-').len();
        let magnitude = size(&a).cmp(&size(&b)).then_with(|| a.cmp(&b));
        if a.starts_with('-') { magnitude.reverse() } else { magnitude }
    })
}

fn digits(value: &Value) -> String {
    match value {
        Value::Big(text) => text.to_string(),
        value => format!("{:.0}", value.number().unwrap_or(f64::NAN)),
    }
}
