//! Implements, of the arrow `what the user wrote -> what it means`: names of tables and columns as SQL reads them.
//!
//! A bare name means its small letters; one in double quotes means what stands between them. What comes out is a name,
//! never SQL: whoever makes a statement of it quotes it.
//! Never: repeats the text in an error (it may have come from the environment).

use crate::names::NameError;

/// Bytes of a name: Amazon Redshift, "Names and identifiers".
const NAME_BYTES_MAX: usize = 127;

fn refuse<T>(reason: &str, hint: &str) -> Result<T, NameError> {
    Err(NameError { reason: reason.to_owned(), hint: Some(hint.to_owned()) })
}

/// `table`, or `schema.table`: the schema (`public` if there is none) and the table.
pub(crate) fn table(text: &str) -> Result<(String, String), NameError> {
    let mut names = names(text)?;
    match (names.pop(), names.pop(), names.pop()) {
        (Some(table), None, None) => Ok(("public".to_owned(), table)),
        (Some(table), Some(schema), None) => Ok((schema, table)),
        _ => refuse("more than a schema and a table", "the database is `database` of the destination"),
    }
}

/// A column.
pub(crate) fn column(text: &str) -> Result<String, NameError> {
    let mut names = names(text)?;
    match (names.pop(), names.is_empty()) {
        (Some(column), true) => Ok(column),
        _ => refuse("more than a name", "a column is a name, or a name in double quotes"),
    }
}

/// Names with dots between them; at least one.
fn names(text: &str) -> Result<Vec<String>, NameError> {
    let mut names = Vec::new();
    let mut rest = text;
    loop {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_name(quoted)?,
            None => bare_name(rest)?,
        };
        if name.len() > NAME_BYTES_MAX {
            return refuse("a name of more than 127 bytes", "Redshift takes no longer ones");
        }
        names.push(name);
        match after.strip_prefix('.') {
            Some(after) => rest = after,
            None if after.is_empty() => return Ok(names),
            None => return refuse("something behind a name", "a name of other characters stands in double quotes"),
        }
    }
}

fn bare_name(text: &str) -> Result<(String, &str), NameError> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    let end = text.find(|c| !good(c)).unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return refuse("a name begins with a letter or `_`", "others stand in double quotes, as in '\"2026\"'");
    }
    Ok((name.to_ascii_lowercase(), after))
}

/// The name up to the closing quote, in which `""` is one quote.
fn quoted_name(text: &str) -> Result<(String, &str), NameError> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let Some(at) = rest.find('"') else { return refuse("a quoted name without an end", "it ends with `\"`") };
        name.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => break,
        }
    }
    if name.is_empty() || name.chars().any(char::is_control) {
        return refuse("an empty name, or one with a control character", "for example '\"Order Lines\"'");
    }
    Ok((name, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_mean_what_they_mean_in_sql() {
        let named = |text: &str| table(text).expect(text);
        assert_eq!(named("Orders"), ("public".to_owned(), "orders".to_owned()));
        assert_eq!(named("sales.Orders_$1"), ("sales".to_owned(), "orders_$1".to_owned()));
        assert_eq!(named(r#""My ""Schema""".orders"#), (r#"My "Schema""#.to_owned(), "orders".to_owned()));
        assert_eq!(column(r#""a.b""#), Ok("a.b".to_owned()));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in
            ["", ".", "a.", "a.b.c", "a b", "a;b", "a-b", "1a", "\"", "\"a", "\"\"", "\"a\"b", "a(b)", "a'", "\"a\nb\""]
        {
            assert!(table(text).is_err(), "{text}");
        }
        assert!(column("a.b").is_err() && column(&"a".repeat(128)).is_err() && column(&"a".repeat(127)).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(\"|\"\"|\\.|[a-zé $;']){0,12}") {
            let _ = (table(&text), column(&text));
        }
    }
}
