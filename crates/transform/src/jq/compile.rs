//! The text of a program to [`Program`]: jaq's parser, then names to places.
//!
//! Everything that a program may call stands in the lists of [`natives`], [`Control`] and the prelude; what is not there
//! does not compile. Never here: a record.

use std::ops::Range;

use jaq_core::load::lex::{Lexer, StrPart, Token};
use jaq_core::load::parse::{self, BinaryOp, Def as Definition, Parser, Term};
use jaq_core::load::span;
use jaq_core::path::{Opt, Part as PathPart, Path};

use super::natives::{self, ValueFn};
use super::node::{Control, Def, Fold, Node, Part, Pattern, Program, Step};
use super::value::Value;
use super::{json, regex};

/// Bytes of a program: three times what Firehose takes.
pub(super) const TEXT_MAX: usize = 16 << 10;
/// Filters within filters.
const NESTING_MAX: usize = 1_000;
/// Variables of one pattern.
const VARIABLES_MAX: usize = 100;
/// What the parser's recursion takes for a text of [`TEXT_MAX`] bytes, with room to spare; only what it touches is used.
const STACK: usize = 256 << 20;

/// Where a program is wrong, in bytes of its text, and what.
pub(super) type Wrong = (Range<usize>, String);

/// Compiles one program for each text; the first that is wrong is named by its index.
pub(super) fn compile(texts: &[&str]) -> Result<Program, (usize, Wrong)> {
    if let Some(at) = texts.iter().position(|text| text.len() > TEXT_MAX) {
        return Err((at, (TEXT_MAX - 1..TEXT_MAX, format!("a program is at most {TEXT_MAX} bytes long"))));
    }
    // The parser calls itself for each level of a text, and a text of a user may have as many levels as it has bytes.
    let job = || {
        let mut compiler = Compiler::new();
        let mains = texts.iter().enumerate().map(|(at, text)| compiler.main(text).map_err(|wrong| (at, wrong)));
        let mains = mains.collect::<Result<_, _>>()?;
        Ok(Program { defs: compiler.defs, mains })
    };
    std::thread::scope(|scope| match std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, job) {
        Ok(thread) => thread.join().unwrap_or_else(|_| Err((0, (0..0, "the program cannot be parsed".to_owned())))),
        Err(error) => Err((0, (0..0, format!("there is no thread to compile it: {error}")))),
    })
}

const PRELUDE: &str = include_str!("prelude.jq");

/// What a name can mean, and how many bindings there were where it began to.
enum Name<'s> {
    Var(&'s str),
    /// `def f($a)` binds the filter `a` as well as the variable.
    Param(&'s str),
    Filter(&'s str),
    Label(&'s str),
    Def(&'s str, usize, usize),
}

struct Compiler<'s> {
    defs: Vec<Def>,
    names: Vec<(Name<'s>, usize)>,
    /// Bindings at this place.
    bindings: usize,
    nesting: usize,
    text: &'s str,
    /// Names that begin with `_` are the prelude's own.
    prelude: bool,
    prelude_defs: usize,
}

impl<'s> Compiler<'s> {
    fn new() -> Self {
        let mut compiler = Self {
            defs: Vec::new(),
            names: Vec::new(),
            bindings: 0,
            nesting: 0,
            text: PRELUDE,
            prelude: true,
            prelude_defs: 0,
        };
        let defs = jaq_core::load::parse(PRELUDE, |parser| parser.defs()).expect("the prelude is ours");
        for def in &defs {
            compiler.def(def).expect("the prelude is ours");
        }
        compiler.prelude = false;
        compiler.prelude_defs = compiler.defs.len();
        compiler
    }

    fn main(&mut self, text: &'s str) -> Result<Node, Wrong> {
        self.text = text;
        let tokens = Lexer::new(text).lex().map_err(|errors| {
            let (expected, at) = errors.into_iter().next().expect("there is an error");
            let begin = text.len() - at.len();
            let end = begin + at.chars().next().map_or(0, char::len_utf8);
            (begin..end, format!("expected {}", expected.as_str()))
        })?;
        let term = Parser::new(&tokens).parse(|parser| parser.term()).map_err(|errors| {
            let (expected, found) = errors.into_iter().next().expect("there is an error");
            let found = Token::opt_as_str(found, text);
            self.unparsed(expected.as_str(), found)
        })?;
        self.term(&term)
    }

    /// What the parser says, or what it means.
    fn unparsed(&self, expected: &str, found: &str) -> Wrong {
        let first = self.text.trim_start().split(|char: char| !char.is_ascii_alphanumeric()).next().unwrap_or_default();
        if matches!(first, "import" | "include" | "module") {
            return (span(self.text, first), format!("`{first}` is not available: a program stands alone"));
        }
        let what = match found {
            "" => format!("expected {expected}, but the program ends"),
            found => format!("expected {expected}, found `{}`", found.chars().take(20).collect::<String>()),
        };
        (span(self.text, found), what)
    }

    fn wrong<T>(&self, at: &str, what: impl Into<String>) -> Result<T, Wrong> {
        Err((span(self.text, at), what.into()))
    }

    fn term(&mut self, term: &Term<&'s str>) -> Result<Node, Wrong> {
        if self.nesting == NESTING_MAX {
            return Err((0..self.text.len(), format!("more than {NESTING_MAX} filters within one another")));
        }
        self.nesting += 1;
        let node = self.term_at(term);
        self.nesting -= 1;
        node
    }

    fn boxed(&mut self, term: &Term<&'s str>) -> Result<Box<Node>, Wrong> {
        self.term(term).map(Box::new)
    }

    fn all(&mut self, terms: &[Term<&'s str>]) -> Result<Vec<Node>, Wrong> {
        terms.iter().map(|term| self.term(term)).collect()
    }

    fn term_at(&mut self, term: &Term<&'s str>) -> Result<Node, Wrong> {
        Ok(match term {
            Term::Id => Node::Id,
            Term::Recurse => Node::Recurse,
            Term::Num(text) => Node::Const(json::literal(text)),
            Term::Str(format, parts) => self.string(*format, parts)?,
            Term::Arr(None) => Node::Array(None),
            Term::Arr(Some(term)) => Node::Array(Some(self.boxed(term)?)),
            Term::Obj(entries) => Node::Object(
                entries.iter().map(|(key, value)| self.entry(key, value.as_ref())).collect::<Result<_, _>>()?,
            ),
            Term::Neg(term) => match self.term(term)? {
                Node::Const(Value::Num(number)) => Node::Const(Value::Num(-number)),
                node => Node::Neg(Box::new(node)),
            },
            Term::BinOp(left, op, right) => self.operation(left, op, right)?,
            Term::Label(name, term) => {
                let body = self.scoped(|compiler| {
                    compiler.bind(Name::Label(name));
                    compiler.boxed(term)
                })?;
                Node::Label(body)
            }
            Term::Break(name) => {
                let found = self.find(|known| matches!(known, Name::Label(label) if label == name));
                let Some((_, bindings)) = found else { return self.wrong(name, format!("there is no label {name}")) };
                Node::Break(self.bindings - bindings)
            }
            Term::Fold(kind, source, pattern, args) => self.fold(kind, source, pattern, args)?,
            Term::TryCatch(body, catch) => {
                Node::Try(self.boxed(body)?, catch.as_ref().map(|catch| self.boxed(catch)).transpose()?)
            }
            Term::IfThenElse(branches, last) => {
                let last = last.as_ref().map_or(Ok(Node::Id), |last| self.term(last))?;
                let mut nodes = Vec::new();
                for (when, then) in branches {
                    nodes.push((self.boxed(when)?, self.boxed(then)?));
                }
                nodes.into_iter().rev().fold(last, |last, (when, then)| Node::If(when, then, Box::new(last)))
            }
            Term::Def(defs, term) => self.scoped(|compiler| {
                defs.iter().try_for_each(|def| compiler.def(def))?;
                compiler.term(term)
            })?,
            Term::Call(name, args) => self.call(name, args)?,
            Term::Var(name) => self.var(name)?,
            Term::Path(base, path) => self.path(base, path)?,
        })
    }

    /// Forgets the names that were bound in it.
    fn scoped<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> T {
        let (names, bindings) = (self.names.len(), self.bindings);
        let done = f(self);
        self.names.truncate(names);
        self.bindings = bindings;
        done
    }

    fn bind(&mut self, name: Name<'s>) {
        self.bindings += 1;
        self.names.push((name, self.bindings));
    }

    fn find(&self, matches: impl Fn(&Name<'s>) -> bool) -> Option<(&Name<'s>, usize)> {
        self.names.iter().rev().find(|(name, _)| matches(name)).map(|(name, bindings)| (name, *bindings))
    }

    fn def(&mut self, def: &Definition<&'s str>) -> Result<(), Wrong> {
        let id = self.defs.len();
        let params = def.args.iter().map(|arg| arg.starts_with('$')).collect();
        self.defs.push(Def { params, body: Node::Id });
        self.names.push((Name::Def(def.name, def.args.len(), id), self.bindings));
        self.defs[id].body = self.scoped(|compiler| {
            for arg in &def.args {
                match arg.strip_prefix('$') {
                    Some(plain) => {
                        compiler.bind(Name::Var(arg));
                        compiler.names.push((Name::Param(plain), compiler.bindings));
                    }
                    None => compiler.bind(Name::Filter(arg)),
                }
            }
            compiler.term(&def.body)
        })?;
        Ok(())
    }

    fn string(&mut self, format: Option<&'s str>, parts: &[StrPart<&'s str, Term<&'s str>>]) -> Result<Node, Wrong> {
        let format = match format {
            Some(name) => self.format(name)?,
            None => json::text_of as ValueFn,
        };
        let mut made: Vec<Part> = Vec::new();
        let mut text = String::new();
        for part in parts {
            match part {
                StrPart::Str(plain) => text.push_str(plain),
                StrPart::Char(char) => text.push(*char),
                StrPart::Term(term) => {
                    made.push(Part::Text(Value::text(&std::mem::take(&mut text))));
                    made.push(Part::Filter(self.term(term)?));
                }
            }
        }
        if made.is_empty() {
            return Ok(Node::Const(Value::text(&text)));
        }
        made.push(Part::Text(Value::text(&text)));
        Ok(Node::Text(format, made))
    }

    fn format(&self, name: &'s str) -> Result<ValueFn, Wrong> {
        match natives::find(name, 0) {
            Some(format) => Ok(format),
            None => self.wrong(name, format!("{name} is not a format")),
        }
    }

    fn entry(&mut self, key: &Term<&'s str>, value: Option<&Term<&'s str>>) -> Result<(Node, Node), Wrong> {
        Ok(match (key, value) {
            (Term::Var(name), None) => (Node::Const(Value::text(&name[1..])), self.var(name)?),
            (key, None) => {
                let step = (Step::Index(self.term(key)?), false);
                (self.term(key)?, Node::Path(Box::new(Node::Id), vec![step]))
            }
            (key, Some(value)) => (self.term(key)?, self.term(value)?),
        })
    }

    fn operation(
        &mut self,
        left: &Term<&'s str>,
        op: &BinaryOp<&'s str>,
        right: &Term<&'s str>,
    ) -> Result<Node, Wrong> {
        let l = self.boxed(left)?;
        if let BinaryOp::Pipe(Some(pattern)) = op {
            let names = names_of(pattern);
            let pattern = self.pattern(pattern)?;
            let body = self.scoped(|compiler| {
                names.into_iter().for_each(|name| compiler.bind(Name::Var(name)));
                compiler.boxed(right)
            })?;
            return Ok(Node::Bind(l, pattern, body));
        }
        let r = self.boxed(right)?;
        Ok(match op {
            BinaryOp::Pipe(_) => Node::Pipe(l, r),
            BinaryOp::Comma => Node::Comma(l, r),
            BinaryOp::Alt => Node::Alt(l, r),
            BinaryOp::Or => Node::Logic(l, true, r),
            BinaryOp::And => Node::Logic(l, false, r),
            BinaryOp::Math(op) => Node::Math(l, *op, r),
            BinaryOp::Cmp(op) => Node::Cmp(l, *op, r),
            BinaryOp::Assign => Node::Assign(l, r),
            BinaryOp::Update => Node::Update(l, r),
            BinaryOp::UpdateMath(op) => Node::UpdateMath(l, *op, r),
            BinaryOp::UpdateAlt => Node::UpdateAlt(l, r),
        })
    }

    fn fold(
        &mut self,
        kind: &'s str,
        source: &Term<&'s str>,
        pattern: &parse::Pattern<&'s str>,
        args: &[Term<&'s str>],
    ) -> Result<Node, Wrong> {
        let (init, update, extract) = match (kind, args) {
            (_, [init, update]) => (init, update, None),
            ("foreach", [init, update, extract]) => (init, update, Some(extract)),
            _ => return self.wrong(kind, format!("`{kind}` takes an initial value and an update in parentheses")),
        };
        let (source, init) = (self.term(source)?, self.term(init)?);
        let names = names_of(pattern);
        let pattern = self.pattern(pattern)?;
        self.scoped(|compiler| {
            names.into_iter().for_each(|name| compiler.bind(Name::Var(name)));
            let update = compiler.term(update)?;
            let fold = Box::new(Fold { source, pattern, init, update });
            Ok(match (kind, extract) {
                ("reduce", _) => Node::Reduce(fold),
                (_, extract) => Node::Foreach(fold, extract.map(|extract| compiler.boxed(extract)).transpose()?),
            })
        })
    }

    fn pattern(&mut self, pattern: &parse::Pattern<&'s str>) -> Result<Pattern, Wrong> {
        if self.nesting == NESTING_MAX || names_of(pattern).len() > VARIABLES_MAX {
            return Err((0..self.text.len(), format!("a pattern of more than {VARIABLES_MAX} variables, or levels")));
        }
        self.nesting += 1;
        let made = self.pattern_at(pattern);
        self.nesting -= 1;
        made
    }

    fn pattern_at(&mut self, pattern: &parse::Pattern<&'s str>) -> Result<Pattern, Wrong> {
        Ok(match pattern {
            parse::Pattern::Var(_) => Pattern::Var,
            parse::Pattern::Arr(items) => {
                Pattern::Array(items.iter().map(|item| self.pattern(item)).collect::<Result<_, _>>()?)
            }
            parse::Pattern::Obj(entries) => {
                let entry = |(key, item)| Ok((self.term(key)?, self.pattern(item)?));
                Pattern::Object(entries.iter().map(|(key, item)| (key, item)).map(entry).collect::<Result<_, _>>()?)
            }
        })
    }

    fn var(&self, name: &'s str) -> Result<Node, Wrong> {
        if let Some((_, bindings)) = self.find(|known| matches!(known, Name::Var(var) if *var == name)) {
            return Ok(Node::Var(self.bindings - bindings));
        }
        match name {
            "$ENV" => self.wrong(name, "`$ENV` is not available: the environment has the worker's credentials"),
            "$__loc__" | "$__prog_args" => self.wrong(name, format!("`{name}` is not available")),
            _ => self.wrong(name, format!("{name} is not defined")),
        }
    }

    fn path(&mut self, base: &Term<&'s str>, path: &Path<Term<&'s str>>) -> Result<Node, Wrong> {
        let base = self.boxed(base)?;
        let mut steps = Vec::new();
        for (part, opt) in &path.0 {
            let step = match part {
                PathPart::Index(index) => Step::Index(self.term(index)?),
                PathPart::Range(None, None) => Step::Each,
                PathPart::Range(from, to) => {
                    let mut bound =
                        |term: &Option<Term<&'s str>>| term.as_ref().map(|term| self.term(term)).transpose();
                    Step::Slice(bound(from)?, bound(to)?)
                }
            };
            steps.push((step, matches!(opt, Opt::Optional)));
        }
        Ok(Node::Path(base, steps))
    }

    fn call(&mut self, name: &'s str, args: &[Term<&'s str>]) -> Result<Node, Wrong> {
        let arity = args.len();
        let found = self.find(|known| match known {
            Name::Filter(filter) | Name::Param(filter) => arity == 0 && *filter == name,
            Name::Def(def, params, _) => *def == name && *params == arity,
            Name::Var(_) | Name::Label(_) => false,
        });
        let up = |bindings: usize| self.bindings - bindings;
        match found {
            Some((Name::Filter(_), bindings)) => return Ok(Node::Argument(up(bindings))),
            Some((Name::Param(_), bindings)) => return Ok(Node::Var(up(bindings))),
            Some((Name::Def(_, _, id), bindings)) if self.prelude || !name.starts_with('_') => {
                let (id, up) = (*id, up(bindings));
                if id < self.prelude_defs {
                    self.check_regex(name, args)?;
                }
                return Ok(Node::Call(id, up, self.all(args)?));
            }
            _ => {}
        }
        let constant = match (name, arity) {
            ("true", 0) => Some(Value::Bool(true)),
            ("false", 0) => Some(Value::Bool(false)),
            ("null", 0) => Some(Value::Null),
            ("nan", 0) => Some(Value::Num(f64::NAN)),
            ("infinite", 0) => Some(Value::Num(f64::INFINITY)),
            _ => None,
        };
        if let Some(constant) = constant {
            return Ok(Node::Const(constant));
        }
        if let Some(control) = Control::find(name, arity) {
            return Ok(Node::Control(control, self.all(args)?));
        }
        match natives::find(name, arity).filter(|_| self.prelude || !name.starts_with('_')) {
            Some(function) => Ok(Node::Value(function, self.all(args)?)),
            None => self.undefined(name, arity),
        }
    }

    /// A regular expression that stands in the program is tried before any record comes.
    fn check_regex(&self, name: &'s str, args: &[Term<&'s str>]) -> Result<(), Wrong> {
        if !matches!(name, "test" | "match" | "capture" | "scan" | "splits" | "sub" | "gsub") {
            return Ok(());
        }
        let Some(Term::Str(None, parts)) = args.first() else { return Ok(()) };
        let mut pattern = String::new();
        for part in parts {
            match part {
                StrPart::Str(plain) => pattern.push_str(plain),
                StrPart::Char(char) => pattern.push(*char),
                StrPart::Term(_) => return Ok(()),
            }
        }
        match regex::check(&pattern) {
            Ok(()) => Ok(()),
            Err(what) => self.wrong(name, format!("the regular expression of `{name}` cannot be used: {what}")),
        }
    }

    fn undefined<T>(&self, name: &'s str, arity: usize) -> Result<T, Wrong> {
        let why = match name {
            "env" => "the environment has the worker's credentials",
            "input" | "inputs" | "input_filename" | "input_line_number" => "a program sees one record",
            "debug" | "stderr" => "the content of records goes into no log",
            "halt" | "halt_error" => "a program does not end the worker",
            "now" | "localtime" | "strflocaltime" => "the same record must give the same result at any time and place",
            "import" | "include" | "get_search_list" | "modulemeta" => "a program stands alone",
            name if name.contains("::") => "there are no modules",
            _ => {
                let known: Vec<_> = (0..=4).filter(|other| *other != arity && self.knows(name, *other)).collect();
                return match known.first() {
                    Some(other) => self.wrong(name, format!("`{name}` takes {}, not {arity}", count(*other))),
                    None => self.wrong(name, format!("`{name}` is not defined{}", self.nearest(name))),
                };
            }
        };
        self.wrong(name, format!("`{name}` is not available: {why}"))
    }

    fn knows(&self, name: &str, arity: usize) -> bool {
        let def = self.find(|known| matches!(known, Name::Def(def, params, _) if *def == name && *params == arity));
        !name.starts_with('_')
            && (def.is_some() || Control::find(name, arity).is_some() || natives::find(name, arity).is_some())
    }

    fn nearest(&self, name: &str) -> String {
        let defs = self.names.iter().filter_map(|(known, _)| match known {
            Name::Def(def, ..) => Some(*def),
            _ => None,
        });
        let known =
            defs.chain(natives::names().map(|name| name as &str)).filter(|known| !known.starts_with(['_', '@']));
        let near = known.map(|known| (distance(name, known), known)).filter(|near| near.0 <= 2).min();
        near.map(|near| format!("; did you mean `{}`?", near.1)).unwrap_or_default()
    }
}

fn count(arguments: usize) -> String {
    match arguments {
        0 => "no arguments".to_owned(),
        1 => "1 argument".to_owned(),
        more => format!("{more} arguments"),
    }
}

/// The variables of a pattern, in the order in which they are bound.
fn names_of<'s>(pattern: &parse::Pattern<&'s str>) -> Vec<&'s str> {
    match pattern {
        parse::Pattern::Var(name) => vec![name],
        parse::Pattern::Arr(items) => items.iter().flat_map(names_of).collect(),
        parse::Pattern::Obj(entries) => entries.iter().flat_map(|(_, item)| names_of(item)).collect(),
    }
}

/// Edits between two names.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let edit = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = edit.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
