//! stdout is data, stderr is for people. Colour is only for terminals, and never with `NO_COLOR`.

use std::io::{self, ErrorKind, IsTerminal, Write};

use crate::environment;

/// Writes data. A reader that has gone away (`standpipe schema | head`) is no error.
///
/// # Errors
/// Those of stdout.
pub fn out(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes for people. There is nobody to tell if that fails.
pub fn err(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether stderr is a terminal that people look at.
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal() && environment::get("TERM").as_deref() != Some("dumb")
}

/// Whether text on stderr may have colours.
pub fn stderr_has_color() -> bool {
    stderr_is_terminal() && !no_color()
}

/// Whether text on stdout may have colours.
pub fn stdout_has_color() -> bool {
    io::stdout().is_terminal() && environment::get("TERM").as_deref() != Some("dumb") && !no_color()
}

/// Columns of the terminal that stdout is; `None` where it is none. `COLUMNS` wins.
pub fn stdout_columns() -> Option<usize> {
    let said = environment::get("COLUMNS").and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    let asked = || io::stdout().is_terminal().then(|| rustix::termios::tcgetwinsize(io::stdout()).ok()).flatten();
    said.or_else(|| asked().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0))
}

/// Asks a yes-or-no question of whoever sits there; anything but yes is no. `None`: nobody sits there.
pub fn ask(question: &str) -> Option<bool> {
    if !io::stdin().is_terminal() || !stderr_is_terminal() {
        return None;
    }
    err(&format!("{question} [y/N] "));
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer).is_ok();
    Some(read && matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Columns of the terminal that stderr is; `None` where it is none. `COLUMNS` wins.
pub fn stderr_columns() -> Option<usize> {
    let said = environment::get("COLUMNS").and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    let asked = || stderr_is_terminal().then(|| rustix::termios::tcgetwinsize(io::stderr()).ok()).flatten();
    said.or_else(|| asked().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0))
}

/// Lines no longer than `columns`, broken between words; what follows a break is indented by `indent` more than its line.
/// A word that is too long stays whole.
pub fn wrapped(text: &str, columns: Option<usize>, indent: usize) -> String {
    let Some(columns) = columns.map(|columns| columns.max(20)) else { return text.to_owned() };
    let mut out = String::with_capacity(text.len() + 16);
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let before = line.len() - line.trim_start_matches(' ').len();
        let mut width = 0;
        for word in line.split_inclusive(' ') {
            let letters = word.trim_end_matches(' ').chars().count();
            if width > before && letters > 0 && width + letters > columns {
                out.truncate(out.trim_end_matches(' ').len());
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', before + indent));
                width = before + indent;
            }
            out.push_str(word);
            width += word.chars().count();
        }
        out.push_str(end);
    }
    out
}

/// What a terminal would act upon is not shown to it: names and texts come from records and from services.
pub fn visible(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}

/// <https://no-color.org>: set, and not empty.
fn no_color() -> bool {
    environment::get("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// The text for stderr, bold and red where that can be.
pub fn red(text: &str) -> String {
    if stderr_has_color() { format!("\x1b[1;31m{text}\x1b[0m") } else { text.to_owned() }
}

/// 1234567 as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 line`, `2,000 lines`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_go_on_indented() {
        let text = "one two three four five\n  lost    some words that are long\n";
        let wanted = "one two three four\nfive\n  lost    some words\n          that are\n          long\n";
        assert_eq!(wrapped(text, Some(20), 0).lines().next(), Some("one two three four"));
        assert_eq!(wrapped(text, None, 8), text);
        assert_eq!(wrapped("averyveryverylongwordthatstaysone\n", Some(20), 0), "averyveryverylongwordthatstaysone\n");
        let (first, second) = wanted.split_at(24);
        assert_eq!(wrapped(&text[..24], Some(20), 0), first);
        assert_eq!(wrapped(&text[24..], Some(20), 8), second);
    }

    #[test]
    fn digits_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!((counted(1, "line"), counted(2000, "line")), ("1 line".to_owned(), "2,000 lines".to_owned()));
    }
}
