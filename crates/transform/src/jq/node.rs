//! A program as it is run: names are resolved, constants are values, definitions stand in one list.

use jaq_core::ops::{Cmp, Math};

use super::natives::ValueFn;
use super::value::Value;

/// One filter.
#[derive(Debug, Default)]
pub(super) enum Node {
    #[default]
    Id,
    /// `..`
    Recurse,
    Const(Value),
    /// A string with filters in it, each formatted.
    Text(ValueFn, Vec<Part>),
    Array(Option<Box<Node>>),
    Object(Vec<(Node, Node)>),
    Neg(Box<Node>),
    Pipe(Box<Node>, Box<Node>),
    /// `source as pattern | body`
    Bind(Box<Node>, Pattern, Box<Node>),
    Comma(Box<Node>, Box<Node>),
    Alt(Box<Node>, Box<Node>),
    /// `and` (false) and `or` (true): what ends it early.
    Logic(Box<Node>, bool, Box<Node>),
    Math(Box<Node>, Math, Box<Node>),
    Cmp(Box<Node>, Cmp, Box<Node>),
    Assign(Box<Node>, Box<Node>),
    Update(Box<Node>, Box<Node>),
    UpdateMath(Box<Node>, Math, Box<Node>),
    UpdateAlt(Box<Node>, Box<Node>),
    Label(Box<Node>),
    Break(usize),
    Reduce(Box<Fold>),
    Foreach(Box<Fold>, Option<Box<Node>>),
    Try(Box<Node>, Option<Box<Node>>),
    If(Box<Node>, Box<Node>, Box<Node>),
    /// A variable, so many bindings up.
    Var(usize),
    /// A filter that was given as an argument, so many bindings up.
    Argument(usize),
    /// A definition: which, how many bindings up it stands, and its arguments.
    Call(usize, usize, Vec<Node>),
    /// A function of values: its arguments are all combined.
    Value(ValueFn, Vec<Node>),
    /// A filter of the interpreter.
    Control(Control, Vec<Node>),
    Path(Box<Node>, Vec<(Step, bool)>),
}

/// A piece of a string.
#[derive(Debug)]
pub(super) enum Part {
    Text(Value),
    Filter(Node),
}

/// One step of a path; beside it stands whether `?` follows.
#[derive(Debug)]
pub(super) enum Step {
    Index(Node),
    Slice(Option<Node>, Option<Node>),
    Each,
}

/// What is taken apart into variables, in the order of the bindings.
#[derive(Debug)]
pub(super) enum Pattern {
    Var,
    Array(Vec<Pattern>),
    Object(Vec<(Node, Pattern)>),
}

/// `reduce` and `foreach`.
#[derive(Debug)]
pub(super) struct Fold {
    pub source: Node,
    pub pattern: Pattern,
    pub init: Node,
    pub update: Node,
}

/// Filters that call their arguments by themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Control {
    Empty,
    Error,
    ErrorOf,
    Path,
    Select,
    Recurse,
    RecurseEach,
    Range,
    While,
    Until,
    Limit,
    First,
    Last,
    IsEmpty,
    Getpath,
}

impl Control {
    /// By name and number of arguments.
    pub fn find(name: &str, arity: usize) -> Option<Self> {
        Some(match (name, arity) {
            ("empty", 0) => Self::Empty,
            ("error", 0) => Self::Error,
            ("error", 1) => Self::ErrorOf,
            ("path", 1) => Self::Path,
            ("select", 1) => Self::Select,
            ("recurse" | "repeat", 1) => Self::Recurse,
            ("recurse" | "recurse_down", 0) => Self::RecurseEach,
            ("range", 1..=3) => Self::Range,
            ("while", 2) => Self::While,
            ("until", 2) => Self::Until,
            ("limit", 2) => Self::Limit,
            ("first", 1) => Self::First,
            ("last", 1) => Self::Last,
            ("isempty", 1) => Self::IsEmpty,
            ("getpath", 1) => Self::Getpath,
            _ => return None,
        })
    }
}

/// A definition: which of its parameters are variables, and what it does.
#[derive(Debug, Default)]
pub(super) struct Def {
    pub params: Vec<bool>,
    pub body: Node,
}

/// Filters that share their definitions.
#[derive(Debug)]
pub(super) struct Program {
    pub defs: Vec<Def>,
    pub mains: Vec<Node>,
}
