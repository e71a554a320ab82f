//! Implements, of the arrow `what the user wrote -> what it means`: the options of a COPY of Redshift.
//!
//! They are read word by word and written anew, so that no other statement and no other clause hides in them. Refused is
//! what this program says itself (where objects are, as whom they are read, their compression), what does not fit the
//! format, and what would lose records without a trace.
//! Never: a statement. Words: Amazon Redshift, "COPY", parameters of data format, conversion and load operations.

use std::ops::Range;

use crate::checks::TextError;
use crate::file::redshift::StagingCompression;

/// What the staged objects of a load hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadKind {
    /// JSON objects.
    Json,
    /// Lines of values.
    Csv,
    /// A Parquet file.
    Parquet,
}

/// The options of a COPY, ready to stand in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopyOptions {
    /// As SQL: the format, the compression, then what was written.
    pub sql: String,
    /// Rows that COPY may refuse before it fails as a whole: `MAXERROR`; `IGNOREALLERRORS` counts as the most.
    pub errors_max: u32,
}

/// `MAXERROR`'s most.
const ERRORS_MAX: u32 = 100_000;
/// Characters of all options together. Ours: a statement of the Data API has at most 100 KB.
const CHARS_MAX: usize = 4096;

/// What follows the word of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    /// `[AS] 'text'`.
    Text,
    /// `[AS] 'text'`, which may be left out.
    MayText,
    /// `[AS] n`.
    Number,
    /// `[AS] WORD`.
    Word,
    /// One of these words, which may be left out.
    MayWord(&'static [&'static str]),
}

/// What an option has to do with the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Any,
    /// Text alone: json_lines and csv.
    Text,
    Csv,
    Json,
    Parquet,
}

const ON_OFF: &[&str] = &["ON", "OFF", "TRUE", "FALSE"];
const PRESET: &[&str] = &["PRESET", "ON", "OFF", "TRUE", "FALSE"];

/// Options that may be given.
const OPTIONS: &[(&str, Takes, Of)] = &[
    ("ACCEPTANYDATE", Takes::Nothing, Of::Text),
    ("ACCEPTINVCHARS", Takes::MayText, Of::Text),
    ("BLANKSASNULL", Takes::Nothing, Of::Text),
    ("COMPROWS", Takes::Number, Of::Text),
    ("COMPUPDATE", Takes::MayWord(PRESET), Of::Text),
    ("CSV", Takes::Nothing, Of::Csv),
    ("DATEFORMAT", Takes::Text, Of::Text),
    ("DELIMITER", Takes::Text, Of::Csv),
    ("EMPTYASNULL", Takes::Nothing, Of::Text),
    ("ENCODING", Takes::Word, Of::Text),
    ("ESCAPE", Takes::Nothing, Of::Csv),
    ("EXPLICIT_IDS", Takes::Nothing, Of::Any),
    ("FILLRECORD", Takes::Nothing, Of::Any),
    ("FIXEDWIDTH", Takes::Text, Of::Csv),
    ("IGNOREALLERRORS", Takes::Nothing, Of::Text),
    ("IGNOREBLANKLINES", Takes::Nothing, Of::Csv),
    ("JSON", Takes::Text, Of::Json),
    ("MAXERROR", Takes::Number, Of::Text),
    ("NULL", Takes::Text, Of::Csv),
    ("QUOTE", Takes::Text, Of::Csv),
    ("REMOVEQUOTES", Takes::Nothing, Of::Csv),
    ("ROUNDEC", Takes::Nothing, Of::Text),
    ("SERIALIZETOJSON", Takes::Nothing, Of::Parquet),
    ("STATUPDATE", Takes::MayWord(ON_OFF), Of::Any),
    ("TIMEFORMAT", Takes::Text, Of::Text),
    ("TRIMBLANKS", Takes::Nothing, Of::Csv),
    ("TRUNCATECOLUMNS", Takes::Nothing, Of::Text),
];

const OURS: &str = "it is always there";
const ROLE: &str = "it is `copy.role`";
const FORMAT: &str = "it is `format` of the destination";
const NOT_STAGED: &str = "staged objects are never of that kind";

/// Options that may not be given, with what to do instead.
const REFUSED: &[(&str, &str)] = &[
    ("ACCESS_KEY_ID", ROLE),
    ("AVRO", NOT_STAGED),
    ("BZIP2", "it is `staging.compression`: none, gzip or zstd"),
    ("CREDENTIALS", ROLE),
    ("ENCRYPTED", NOT_STAGED),
    ("FROM", OURS),
    ("IAM_ROLE", ROLE),
    ("IGNOREHEADER", "staged objects have no header: it would drop records"),
    ("LZOP", "it is `staging.compression`: none, gzip or zstd"),
    ("MANIFEST", OURS),
    ("MASTER_SYMMETRIC_KEY", NOT_STAGED),
    ("NOLOAD", "it would load nothing"),
    ("ORC", FORMAT),
    ("PARQUET", FORMAT),
    ("READRATIO", NOT_STAGED),
    ("REGION", "it is `staging.region`"),
    ("SECRET_ACCESS_KEY", ROLE),
    ("SESSION_TOKEN", ROLE),
    ("SHAPEFILE", NOT_STAGED),
    ("SNAPPY", "it is `staging.compression`: none, gzip or zstd; COPY reads no Snappy"),
    ("SSH", NOT_STAGED),
    ("ZIP", "it is `staging.compression`: none, gzip or zstd; COPY reads no ZIP"),
];

/// Reads options, and adds what the format and the compression need.
pub fn parse(text: &str, kind: LoadKind, compression: StagingCompression) -> Result<CopyOptions, TextError> {
    if text.chars().count() > CHARS_MAX {
        return Err(format!("it has more than {CHARS_MAX} characters").into());
    }
    let tokens = tokens(text)?;
    let mut reader = Reader { text, tokens: &tokens, next: 0, kind, compression, options: Vec::new() };
    while let Some(token) = reader.take() {
        reader.option(token)?;
    }
    Ok(finish(&reader.options, kind, compression))
}

/// One option that was given.
struct Given {
    word: &'static str,
    sql: String,
    number: u32,
}

fn finish(options: &[Given], kind: LoadKind, compression: StagingCompression) -> CopyOptions {
    let has = |words: &[&str]| options.iter().any(|given| words.contains(&given.word));
    let mut sql: Vec<&str> = Vec::new();
    match kind {
        LoadKind::Json if !has(&["JSON"]) => sql.push("JSON 'auto'"),
        LoadKind::Csv if !has(&["CSV", "DELIMITER", "FIXEDWIDTH"]) => sql.push("CSV"),
        LoadKind::Parquet => sql.push("FORMAT AS PARQUET"),
        LoadKind::Json | LoadKind::Csv => {}
    }
    match (kind, compression) {
        (LoadKind::Parquet, _) | (_, StagingCompression::None) => {}
        (_, StagingCompression::Gzip) => sql.push("GZIP"),
        (_, StagingCompression::Zstd) => sql.push("ZSTD"),
    }
    sql.extend(options.iter().map(|given| given.sql.as_str()));
    let errors = options.iter().map(|given| match given.word {
        "MAXERROR" => given.number,
        "IGNOREALLERRORS" => ERRORS_MAX,
        _ => 0,
    });
    CopyOptions { sql: sql.join(" "), errors_max: errors.max().unwrap_or(0) }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    at: Range<usize>,
    kind: TokenKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TokenKind {
    /// In capitals.
    Word(String),
    Number(u32),
    /// A literal, with its quotes.
    Text,
}

fn refuse<T>(at: Range<usize>, reason: impl Into<String>, hint: &str) -> Result<T, TextError> {
    let hint = (!hint.is_empty()).then(|| hint.to_owned());
    Err(TextError { reason: reason.into(), hint, part: Some(at) })
}

/// Words, numbers and literals; nothing else can stand in options.
fn tokens(text: &str) -> Result<Vec<Token>, TextError> {
    let mut tokens = Vec::new();
    let mut rest = text.char_indices().peekable();
    while let Some((start, c)) = rest.next() {
        if c.is_ascii_whitespace() {
            continue;
        }
        if c == '\'' {
            let end = literal_end(text, start)?;
            while rest.next_if(|(at, _)| *at < end).is_some() {}
            tokens.push(Token { at: start..end, kind: TokenKind::Text });
            continue;
        }
        if !(c.is_ascii_alphanumeric() || c == '_') {
            let hint = if c == ';' { "the statement ends by itself" } else { "options are words, numbers and 'texts'" };
            return refuse(start..start + c.len_utf8(), format!("`{}` has no place here", c.escape_default()), hint);
        }
        let mut end = start + 1;
        while rest.next_if(|(_, c)| c.is_ascii_alphanumeric() || *c == '_').is_some() {
            end += 1;
        }
        let word = &text[start..end];
        let kind = match word.parse() {
            Ok(number) => TokenKind::Number(number),
            Err(_) => TokenKind::Word(word.to_ascii_uppercase()),
        };
        tokens.push(Token { at: start..end, kind });
    }
    Ok(tokens)
}

/// The end of a literal that ends at one place, whether a backslash in it escapes or not.
fn literal_end(text: &str, start: usize) -> Result<usize, TextError> {
    let bytes = text.as_bytes();
    let (mut at, mut backslashes) = (start + 1, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => backslashes += 1,
            b'\'' if backslashes % 2 == 1 => {
                return refuse(at - 1..at + 1, "a backslash before a quote", "a quote in a text is doubled: ''");
            }
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 1,
            b'\'' => return Ok(at + 1),
            byte if byte.is_ascii_control() => {
                return refuse(at..at + 1, "a control character in a text", "a tab is '\\t'");
            }
            _ => {}
        }
        if *byte != b'\\' {
            backslashes = 0;
        }
        at += 1;
    }
    refuse(start..text.len(), "the text has no end", "")
}

struct Reader<'a> {
    text: &'a str,
    tokens: &'a [Token],
    next: usize,
    kind: LoadKind,
    compression: StagingCompression,
    options: Vec<Given>,
}

impl<'a> Reader<'a> {
    fn take(&mut self) -> Option<&'a Token> {
        let token = self.tokens.get(self.next)?;
        self.next += 1;
        Some(token)
    }

    fn take_if(&mut self, wanted: impl Fn(&TokenKind) -> bool) -> Option<&'a Token> {
        let token = self.tokens.get(self.next).filter(|token| wanted(&token.kind))?;
        self.next += 1;
        Some(token)
    }

    fn take_word(&mut self, words: &[&str]) -> Option<&'a Token> {
        self.take_if(|kind| matches!(kind, TokenKind::Word(word) if words.contains(&word.as_str())))
    }

    fn option(&mut self, token: &'a Token) -> Result<(), TextError> {
        let TokenKind::Word(word) = &token.kind else {
            return refuse(token.at.clone(), "it belongs to no option", "");
        };
        match word.as_str() {
            "FORMAT" => {
                self.take_word(&["AS"]);
                let Some(format) = self.take_if(|kind| matches!(kind, TokenKind::Word(_))) else {
                    return refuse(token.at.clone(), "FORMAT without a format", "");
                };
                match (&format.kind, self.kind) {
                    // Said twice is said once: the format is written by itself.
                    (TokenKind::Word(word), LoadKind::Parquet) if word == "PARQUET" => Ok(()),
                    _ => self.option(format),
                }
            }
            "GZIP" if self.compression == StagingCompression::Gzip && self.kind != LoadKind::Parquet => Ok(()),
            "ZSTD" if self.compression == StagingCompression::Zstd && self.kind != LoadKind::Parquet => Ok(()),
            "GZIP" | "ZSTD" => {
                let hint = format!("`staging: {{ compression: {} }}` says it", word.to_ascii_lowercase());
                refuse(token.at.clone(), format!("{word} contradicts `staging.compression`"), &hint)
            }
            _ => self.known(token, word),
        }
    }

    fn known(&mut self, token: &'a Token, word: &str) -> Result<(), TextError> {
        if let Some((_, hint)) = REFUSED.iter().find(|(refused, _)| refused == &word) {
            return refuse(token.at.clone(), format!("{word} may not be given"), hint);
        }
        let Some((word, takes, of)) = OPTIONS.iter().copied().find(|(known, ..)| known == &word) else {
            let near = crate::nearest::nearest(word, OPTIONS.iter().map(|(word, ..)| *word));
            let hint = near.map_or_else(String::new, |near| format!("did you mean `{near}`?"));
            return refuse(token.at.clone(), format!("COPY has no option {}", crate::resolve::short(word)), &hint);
        };
        if !self.fits(of) {
            let hint = "columnar files take STATUPDATE, FILLRECORD, EXPLICIT_IDS and SERIALIZETOJSON";
            let hint = if self.kind == LoadKind::Parquet { hint } else { FORMAT };
            return refuse(token.at.clone(), format!("{word} does not go with this format"), hint);
        }
        if self.options.iter().any(|given| given.word == word) {
            return refuse(token.at.clone(), format!("{word} is given twice"), "");
        }
        let given = self.given(token, word, takes)?;
        self.options.push(given);
        Ok(())
    }

    fn fits(&self, of: Of) -> bool {
        match of {
            Of::Any => true,
            Of::Text => self.kind != LoadKind::Parquet,
            Of::Csv => self.kind == LoadKind::Csv,
            Of::Json => self.kind == LoadKind::Json,
            Of::Parquet => self.kind == LoadKind::Parquet,
        }
    }

    fn given(&mut self, token: &Token, word: &'static str, takes: Takes) -> Result<Given, TextError> {
        let mut given = Given { word, sql: word.to_owned(), number: 0 };
        if !matches!(takes, Takes::Nothing | Takes::MayWord(_)) && self.take_word(&["AS"]).is_some() {
            given.sql.push_str(" AS");
        }
        let value = match takes {
            Takes::Nothing => None,
            Takes::Text | Takes::MayText => self.take_if(|kind| *kind == TokenKind::Text),
            Takes::Number => self.take_if(|kind| matches!(kind, TokenKind::Number(_))),
            Takes::Word => self.take_if(|kind| matches!(kind, TokenKind::Word(_))),
            Takes::MayWord(words) => self.take_word(words),
        };
        if let Some(value) = value {
            given.sql.push(' ');
            given.sql.push_str(&self.text[value.at.clone()]);
            if let TokenKind::Number(number) = value.kind {
                given.number = number;
            }
            if word == "MAXERROR" && given.number > ERRORS_MAX {
                return refuse(value.at.clone(), format!("MAXERROR is at most {ERRORS_MAX}"), "");
            }
            return Ok(given);
        }
        let expected = match takes {
            Takes::Text => "a 'text'",
            Takes::Number => "a number",
            Takes::Word => "a word",
            Takes::Nothing | Takes::MayText | Takes::MayWord(_) => return Ok(given),
        };
        refuse(token.at.clone(), format!("{word} needs {expected} behind it"), "")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sql(text: &str, kind: LoadKind) -> String {
        parse(text, kind, StagingCompression::None).expect(text).sql
    }

    fn refused(text: &str, kind: LoadKind) -> String {
        parse(text, kind, StagingCompression::Gzip).expect_err(text).reason
    }

    #[test]
    fn options_are_written_anew_with_what_the_format_needs() {
        assert_eq!(sql("", LoadKind::Json), "JSON 'auto'");
        assert_eq!(
            sql("format as json 's3://b/paths.json' timeformat 'auto' MAXERROR AS 10", LoadKind::Json),
            "JSON 's3://b/paths.json' TIMEFORMAT 'auto' MAXERROR AS 10"
        );
        assert_eq!(sql("", LoadKind::Csv), "CSV");
        assert_eq!(
            sql("delimiter '\\t' escape NULL AS '\\\\N'", LoadKind::Csv),
            "DELIMITER '\\t' ESCAPE NULL AS '\\\\N'"
        );
        assert_eq!(sql("CSV QUOTE AS '%'", LoadKind::Csv), "CSV QUOTE AS '%'");
        assert_eq!(
            sql("format parquet statupdate off SERIALIZETOJSON", LoadKind::Parquet),
            "FORMAT AS PARQUET STATUPDATE off SERIALIZETOJSON"
        );
        assert_eq!(sql("COMPUPDATE STATUPDATE", LoadKind::Json), "JSON 'auto' COMPUPDATE STATUPDATE");
        let gzip = parse("gzip TRUNCATECOLUMNS", LoadKind::Json, StagingCompression::Gzip).expect("it agrees");
        assert_eq!(gzip.sql, "JSON 'auto' GZIP TRUNCATECOLUMNS");
    }

    #[test]
    fn what_would_break_the_promise_or_the_format_is_refused() {
        for text in [
            "MANIFEST",
            "CREDENTIALS 'aws_iam_role=x'",
            "IAM_ROLE 'x'",
            "REGION 'x'",
            "NOLOAD",
            "SNAPPY",
            "ZIP",
            "ZSTD",
            "IGNOREHEADER 1",
            "FORMAT AS PARQUET",
            "CSV",
            "DELIMITER ','",
            "bogus",
            "MAXERROR",
            "MAXERROR 100001",
            "MAXERROR 1 MAXERROR 2",
            "JSON",
            "'auto'",
            "JSON 'auto' 'x'",
            "TIMEFORMAT 5",
            "FORMAT",
            "ACCESS_KEY_ID 'x'",
            "JSON 'auto'; DROP TABLE t",
            "JSON 'auto' -- x",
            "JSON 'auto' /* x */",
            "JSON 'a\\' DROP'",
            "JSON 'a",
            "JSON \"auto\"",
            "JSON 'a\nb'",
            "(",
            "é",
        ] {
            refused(text, LoadKind::Json);
        }
        for text in ["MAXERROR 1", "GZIP", "JSON 'auto'", "TRUNCATECOLUMNS"] {
            refused(text, LoadKind::Parquet);
        }
    }

    #[test]
    fn rows_that_may_be_refused_are_counted() {
        let max = |text: &str| parse(text, LoadKind::Json, StagingCompression::None).expect(text).errors_max;
        assert_eq!([max(""), max("MAXERROR 7"), max("IGNOREALLERRORS")], [0, 7, 100_000]);
    }

    #[test]
    fn the_part_that_is_wrong_is_named() {
        let error = parse("JSON 'auto' MANIFST", LoadKind::Json, StagingCompression::None).expect_err("no option");
        assert_eq!(error.part, Some(12..19));
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_words_numbers_and_whole_texts(
            text in "(JSON|CSV|MAXERROR|NULL|AS|[0-9]{1,3}|'|''|\\\\|;|--|/\\*|[a-z ]|é){0,24}"
        ) {
            for kind in [LoadKind::Json, LoadKind::Csv, LoadKind::Parquet] {
                let Ok(options) = parse(&text, kind, StagingCompression::None) else { continue };
                // Outside of texts there is nothing but words and numbers, however a reader takes backslashes.
                for escapes in [false, true] {
                    let mut inside = false;
                    let mut chars = options.sql.chars();
                    while let Some(c) = chars.next() {
                        match c {
                            '\\' if inside && escapes => drop(chars.next()),
                            '\'' => inside = !inside,
                            c => prop_assert!(inside || c.is_ascii_alphanumeric() || c == '_' || c == ' '),
                        }
                    }
                    prop_assert!(!inside, "{}", options.sql);
                }
            }
        }
    }
}
