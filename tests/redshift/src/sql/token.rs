//! The words of a statement: enough of SQL's lexer to find names, strings and parameters where they really stand.
//!
//! Redshift reads a backslash in any string as an escape, as PostgreSQL 8.0 did; so does this. Never panics on any text.

use std::borrow::Cow;

use super::Refused;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A keyword or an unquoted name.
    Word,
    /// A name in double quotes.
    Quoted,
    /// A string in single quotes, or between dollar signs.
    Text,
    /// A number without a sign.
    Number,
    /// `:name`, a parameter of the Data API.
    Parameter,
    /// Anything else, one character or `::`.
    Symbol,
}

/// A token and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    /// As written, with its quotes.
    pub(crate) text: &'a str,
    /// The offset of its first byte in the statement.
    pub(crate) at: usize,
}

impl Token<'_> {
    /// Whether it is this keyword or symbol, in any case.
    pub(crate) fn is(&self, word: &str) -> bool {
        matches!(self.kind, Kind::Word | Kind::Symbol) && self.text.eq_ignore_ascii_case(word)
    }

    /// The offset after its last byte.
    pub(crate) fn end(&self) -> usize {
        self.at + self.text.len()
    }

    /// What it means: names folded to lower case (quoted ones too, as Redshift does by default), strings without quotes.
    pub(crate) fn value(&self) -> String {
        let inner = self.text.get(1..self.text.len().saturating_sub(1)).unwrap_or_default();
        match self.kind {
            Kind::Word => self.text.to_ascii_lowercase(),
            Kind::Quoted => inner.replace("\"\"", "\"").to_ascii_lowercase(),
            Kind::Text if self.text.starts_with('\'') => unescape(inner).into_owned(),
            Kind::Text => self.text.trim_matches('$').to_owned(),
            Kind::Parameter => self.text.trim_start_matches(':').to_owned(),
            Kind::Number | Kind::Symbol => self.text.to_owned(),
        }
    }
}

/// A string's value: `''` is a quote, and a backslash escapes what follows.
fn unescape(inner: &str) -> Cow<'_, str> {
    if !inner.contains(['\'', '\\']) {
        return Cow::Borrowed(inner);
    }
    let mut value = String::with_capacity(inner.len());
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                chars.next_if_eq(&'\'');
                value.push('\'');
            }
            '\\' => match chars.next() {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some('r') => value.push('\r'),
                Some('b') => value.push('\u{8}'),
                Some('f') => value.push('\u{c}'),
                Some(other) => value.push(other),
                None => value.push('\\'),
            },
            other => value.push(other),
        }
    }
    Cow::Owned(value)
}

/// A value as a string of SQL, by the same rules.
pub(crate) fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// A name as SQL writes it whatever it holds.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// All tokens of a statement, without white space and comments.
///
/// # Errors
/// A string, name or comment that does not end.
pub(crate) fn tokens(sql: &str) -> Result<Vec<Token<'_>>, Refused> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = sql.get(at..).filter(|rest| !rest.is_empty()) {
        if let Some(length) = blank(rest)? {
            at += length;
            continue;
        }
        let (kind, length) = next(rest)?;
        found.push(Token { kind, text: &rest[..length], at });
        at += length;
    }
    Ok(found)
}

/// The length of white space or of a comment at the start.
fn blank(rest: &str) -> Result<Option<usize>, Refused> {
    if rest.starts_with("--") {
        return Ok(Some(rest.find('\n').map_or(rest.len(), |end| end + 1)));
    }
    if rest.starts_with("/*") {
        let mut depth = 0_usize;
        let bytes = rest.as_bytes();
        let mut at = 0;
        while at + 1 < bytes.len() {
            match &bytes[at..at + 2] {
                b"/*" => {
                    depth += 1;
                    at += 2;
                }
                b"*/" => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        return Ok(Some(at));
                    }
                }
                _ => at += 1,
            }
        }
        return Err(Refused("unterminated /* comment".to_owned()));
    }
    let length: usize = rest.chars().take_while(|c| c.is_whitespace()).map(char::len_utf8).sum();
    Ok((length > 0).then_some(length))
}

/// The kind and length of the token at the start, which is no white space.
fn next(rest: &str) -> Result<(Kind, usize), Refused> {
    let mut chars = rest.chars();
    let first = chars.next().unwrap_or(' ');
    let second = chars.next().unwrap_or(' ');
    Ok(match first {
        '\'' => (Kind::Text, closed(rest, b'\'', true, "unterminated quoted string")?),
        '"' => (Kind::Quoted, closed(rest, b'"', false, "unterminated quoted identifier")?),
        '$' if dollar(rest).is_some() => (Kind::Text, dollar(rest).unwrap_or_default()),
        ':' if second == ':' => (Kind::Symbol, 2),
        ':' if is_name(second) => (Kind::Parameter, 1 + run(&rest[1..], is_name)),
        c if c.is_ascii_digit() => (Kind::Number, run(rest, |c| c.is_ascii_alphanumeric() || c == '.')),
        c if is_name(c) => (Kind::Word, run(rest, |c| is_name(c) || c == '$')),
        c => (Kind::Symbol, c.len_utf8()),
    })
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn run(rest: &str, wanted: impl Fn(char) -> bool) -> usize {
    rest.chars().take_while(|c| wanted(*c)).map(char::len_utf8).sum()
}

/// The length up to and with the closing quote; a doubled quote does not close.
fn closed(rest: &str, quote: u8, escapes: bool, what: &str) -> Result<usize, Refused> {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escapes => at += 2,
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return Ok(at + 1),
            _ => at += 1,
        }
    }
    Err(Refused(format!("{what} at or near \"{rest}\"")))
}

/// The length of `$tag$ ... $tag$`, if it is one that ends.
fn dollar(rest: &str) -> Option<usize> {
    let tag_end = 1 + rest[1..].find('$')?;
    let tag = &rest[..=tag_end];
    if !tag[1..tag_end].chars().all(is_name) {
        return None;
    }
    let body = &rest[tag.len()..];
    body.find(tag).map(|end| tag.len() + end + tag.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(sql: &str) -> Vec<String> {
        tokens(sql).expect("tokens").iter().map(|token| format!("{:?} {}", token.kind, token.value())).collect()
    }

    #[test]
    fn words_strings_and_parameters_are_told_apart() {
        assert_eq!(
            shown(
                "SELECT \"A\"\"b\", 'it''s \\'x\\\\' -- 'no\n FROM t /* a /* b */ ' */ WHERE c = :cid AND d::int=1.5"
            ),
            [
                "Word select",
                "Quoted a\"b",
                "Symbol ,",
                "Text it's 'x\\",
                "Word from",
                "Word t",
                "Word where",
                "Word c",
                "Symbol =",
                "Parameter cid",
                "Word and",
                "Word d",
                "Symbol ::",
                "Word int",
                "Symbol =",
                "Number 1.5"
            ]
        );
        assert_eq!(shown("$$ ; 'x $$ $f$ $$ $f$"), ["Text  ; 'x ", "Text f$ $$ $f"]);
    }

    #[test]
    fn what_does_not_end_is_refused() {
        for sql in ["'a", "'a\\'", "\"a", "/* a", "''' "] {
            assert!(tokens(sql).is_err(), "{sql}");
        }
    }

    proptest! {
        #[test]
        fn a_literal_is_read_back_as_its_value(value in ".*") {
            let written = literal(&value);
            let read = tokens(&written).expect("one token");
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(read[0].value(), value);
        }

        #[test]
        fn no_text_panics_and_tokens_stand_in_order(sql in ".*") {
            let mut end = 0;
            for token in tokens(&sql).unwrap_or_default() {
                prop_assert!(token.at >= end);
                prop_assert_eq!(&sql[token.at..token.end()], token.text);
                end = token.end();
            }
        }
    }
}
