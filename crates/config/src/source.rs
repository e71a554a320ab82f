//! Implements, of the arrow `what the user wrote -> what it means`: the texts of the files, and places in them.
//!
//! Never: reads a file or parses anything.

use std::ops::Range;

/// The files of one configuration, in the order in which they were given.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    files: Vec<SourceFile>,
}

#[derive(Debug)]
struct SourceFile {
    name: String,
    text: String,
}

/// Bytes of one of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    /// Which file, by its number in [`Sources`].
    pub(crate) file: usize,
    /// The first byte.
    pub(crate) start: usize,
    /// The byte after the last one.
    pub(crate) end: usize,
}

/// One line of a file with a place in it, for a drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    pub(crate) file: String,
    /// 1 for the first line.
    pub(crate) line: usize,
    /// In characters, 1 for the first one.
    pub(crate) column: usize,
    /// The line itself, without its end.
    pub(crate) text: String,
    /// The bytes of `text` that are meant.
    pub(crate) span: Range<usize>,
}

/// Keys whose value is a secret when it stands there as text.
const SECRET_KEYS: [&str; 5] = ["password", "token", "access_key", "private_key", "secret_key"];

/// The line with stars, byte for byte, where a secret is written out: a finding is shown on terminals and in the logs of
/// builds.
pub(crate) fn masked(line: &str) -> String {
    let mut hidden: Vec<Range<usize>> = Vec::new();
    for key in SECRET_KEYS {
        for (at, _) in line.match_indices(key) {
            let rest = &line[at + key.len()..];
            let Some(value) = rest.trim_start_matches(['"', '\'', ' ']).strip_prefix(':') else { continue };
            let value = value.trim_start();
            let begin = line.len() - value.len();
            let end = value.find([',', '}']).or_else(|| value.find(" #")).unwrap_or(value.len());
            if !value.starts_with(['{', '$']) {
                hidden.push(begin..begin + value[..end].trim_end().len());
            }
        }
    }
    for (at, _) in line.match_indices("://") {
        let host = &line[at + 3..];
        let authority = &host[..host.find(['/', ' ', '"', ',']).unwrap_or(host.len())];
        if let Some(end) = authority.rfind('@') {
            hidden.push(at + 3..at + 3 + end);
        }
    }
    let star = |(at, c): (usize, char)| {
        let hide = hidden.iter().any(|range| range.contains(&at));
        if hide { "*".repeat(c.len_utf8()) } else { c.to_string() }
    };
    line.char_indices().map(star).collect()
}

impl Sources {
    /// Adds a file and gives its number. A byte order mark is left out, so that places agree with the parser's.
    pub(crate) fn add(&mut self, name: &str, text: &str) -> usize {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        self.files.push(SourceFile { name: name.to_owned(), text });
        self.files.len() - 1
    }

    /// How many files there are.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// The name of a file; empty for a number that was never given.
    pub(crate) fn name(&self, file: usize) -> &str {
        self.files.get(file).map_or("", |f| &f.name)
    }

    /// The text of a file; empty for a number that was never given.
    pub(crate) fn text(&self, file: usize) -> &str {
        self.files.get(file).map_or("", |f| &f.text)
    }

    /// The text at a place.
    pub(crate) fn slice(&self, at: At) -> &str {
        let at = self.within(at);
        self.text(at.file).get(at.start..at.end).unwrap_or_default()
    }

    /// The line of a place. A place of several lines is cut at the end of its first one; an empty place is taken for the
    /// word that begins there.
    pub(crate) fn excerpt(&self, at: At) -> Excerpt {
        let at = self.within(at);
        let text = self.text(at.file);
        let begin = text[..at.start].rfind('\n').map_or(0, |i| i + 1);
        let end = text[at.start..].find('\n').map_or(text.len(), |i| at.start + i);
        let line_text = text[begin..end].trim_end_matches('\r');
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let word = text[at.start..].find(|c| !word(c)).unwrap_or(text.len() - at.start);
        let stop = if at.end > at.start { at.end } else { at.start + word };
        let stop = stop.min(begin + line_text.len()).max(at.start);
        Excerpt {
            file: self.files.get(at.file).map(|f| f.name.clone()).unwrap_or_default(),
            line: text[..begin].matches('\n').count() + 1,
            column: text[begin..at.start].chars().count() + 1,
            text: masked(line_text),
            span: (at.start - begin).min(line_text.len())..(stop - begin).min(line_text.len()),
        }
    }

    /// The place of a part of a value, when the value stands in the file as it is (in quotes or not, without escapes);
    /// the whole value otherwise.
    pub(crate) fn part(&self, at: At, value: &str, part: &Range<usize>) -> At {
        let written = self.slice(at);
        let quote = usize::from(written.starts_with(['"', '\'']));
        let same = written.get(quote..written.len().saturating_sub(quote)) == Some(value);
        if !same || value.get(part.clone()).is_none() {
            return at;
        }
        At { file: at.file, start: at.start + quote + part.start, end: at.start + quote + part.end }
    }

    /// The place moved inside its file and onto whole characters.
    fn within(&self, at: At) -> At {
        let text = self.text(at.file);
        let start = text.floor_char_boundary(at.start);
        let end = text.ceil_char_boundary(at.end.max(start));
        At { file: at.file, start, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_written_out_is_not_shown() {
        let shown = [
            (
                "  auth: { basic: { user: me, password: hunter2 } }",
                "  auth: { basic: { user: me, password: ******* } }",
            ),
            ("  password: \"hünter\"  # mine", "  password: *********  # mine"),
            ("  password: { env: PASSWORD }", "  password: { env: PASSWORD }"),
            ("  password: ${PASSWORD}", "  password: ${PASSWORD}"),
            ("  endpoint: http://user:pw@host:9200/x", "  endpoint: http://*******@host:9200/x"),
            ("  prefix: a@b", "  prefix: a@b"),
        ];
        for (line, expected) in shown {
            assert_eq!(masked(line), expected);
            assert_eq!(masked(line).len(), line.len(), "spans stay");
        }
    }

    #[test]
    fn a_place_is_counted_in_lines_and_characters() {
        let mut sources = Sources::default();
        let file = sources.add("a.yaml", "\u{feff}a: 1\r\nb: é x\n");
        let excerpt = sources.excerpt(At { file, start: 12, end: 13 });
        assert_eq!((excerpt.line, excerpt.column, excerpt.text.as_str()), (2, 6, "b: é x"));
        assert_eq!(&excerpt.text[excerpt.span], "x");
        let beyond = sources.excerpt(At { file, start: 900, end: 990 });
        assert_eq!((beyond.line, beyond.span), (3, 0..0));
    }

    #[test]
    fn a_part_of_a_value_is_found_within_its_quotes() {
        let mut sources = Sources::default();
        let file = sources.add("a.yaml", "p: \"in/x\"");
        let at = At { file, start: 3, end: 9 };
        assert_eq!(sources.slice(sources.part(at, "in/x", &(3..4))), "x");
        assert_eq!(sources.part(at, "other", &(3..4)), at);
    }
}
