//! A line that is read from left to right.

/// What is left of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a>(pub(super) &'a str);

impl<'a> Line<'a> {
    /// What stands before the next space, at least a character; takes the space too.
    pub(super) fn word(&mut self) -> Option<&'a str> {
        let (word, rest) = self.0.split_once(' ').unwrap_or((self.0, ""));
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    /// What stands between two characters; takes a space behind too.
    pub(super) fn between(&mut self, open: char, close: char) -> Option<&'a str> {
        let (inside, rest) = self.0.strip_prefix(open)?.split_once(close)?;
        self.0 = rest.strip_prefix(' ').unwrap_or(rest);
        Some(inside)
    }

    /// What stands in quotes, as it is written: a backslash keeps the next character from ending it. Takes a space
    /// behind too.
    pub(super) fn quoted(&mut self) -> Option<&'a str> {
        let inside = self.0.strip_prefix('"')?;
        let mut escaped = false;
        let end = inside.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        let rest = &inside[end + 1..];
        self.0 = rest.strip_prefix(' ').unwrap_or(rest);
        Some(&inside[..end])
    }

    /// Leaves out spaces.
    pub(super) fn spaces(&mut self) {
        self.0 = self.0.trim_start_matches(' ');
    }
}
