//! How leases look in a table for people: short words, and columns that keep to the terminal's width.

use standpipe_flow::{DestinationPosition, LeaseRow, Millis, Position};
use standpipe_lease::mend::ReceiptSeen;

use crate::terminal;

/// Letters of an owner's name in the table: the host's beginning and the end of the ULID.
const OWNER_LETTERS: usize = 16;
/// Last digits of a sequence number: those that change within a shard.
const DIGITS: usize = 8;

/// A position: `…47483650`, `horizon`, `end`.
pub fn position(position: &Position) -> String {
    let text = match position {
        Position::TrimHorizon => return "horizon".to_owned(),
        Position::ShardEnd => return "end".to_owned(),
        Position::At { sequence, .. } => sequence.as_str(),
    };
    let shown = text.len().checked_sub(DIGITS + 1).map_or(text.to_owned(), |from| format!("…{}", &text[from + 1..]));
    if position.sub() == 0 { shown } else { format!("{shown}.{}", position.sub()) }
}

/// Where a destination stands, and how long ago that record arrived.
pub fn destination(row: &LeaseRow, at: &DestinationPosition, now: Millis) -> String {
    match (&at.at, at.arrival, row.start) {
        (Position::TrimHorizon, _, Some(start)) => format!("since {}", instant(Millis(start.0 / 1000 * 1000))),
        (Position::ShardEnd, ..) | (_, None, _) => position(&at.at),
        (_, Some(arrival), _) => format!("{} {} ago", position(&at.at), age(now.since(arrival).as_secs())),
    }
}

/// An instant: `2026-01-31T12:00:00Z`.
pub fn instant(at: Millis) -> String {
    let instant = i64::try_from(at.0).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    instant.map_or_else(|| format!("{} ms", at.0), |instant| instant.to_string())
}

/// Seconds, minutes, hours or days, whichever is at least one.
fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A worker's name: `web-1-01KAB…3FQ7ZD`.
pub fn owner(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= OWNER_LETTERS {
        return name.to_owned();
    }
    let tail = 6;
    let head: String = letters[..OWNER_LETTERS - tail - 1].iter().collect();
    let tail: String = letters[letters.len() - tail..].iter().collect();
    format!("{head}…{tail}")
}

/// The word for a receipt's state.
pub fn receipt(receipt: Option<&ReceiptSeen>) -> &'static str {
    use standpipe_flow::ReceiptState;
    match receipt {
        None => "unknown",
        Some(ReceiptSeen::Missing) => "no receipt",
        Some(ReceiptSeen::Unreadable(_)) => "unreadable receipt",
        Some(ReceiptSeen::There(receipt)) => match receipt.state {
            ReceiptState::Committed => "COMMITTED",
            ReceiptState::Done => "DONE",
            ReceiptState::Retracted => "RETRACTED",
        },
    }
}

/// One line of the table: its cells, and what does not fit into columns.
#[derive(Debug, Default)]
pub struct Line {
    pub cells: Vec<String>,
    pub notes: Vec<String>,
    /// Something that a person should look at.
    pub alarming: bool,
}

/// Puts lines under a header, in columns two spaces apart. Notes follow on the line if the terminal is wide enough for all
/// of them, else each stands below its lease.
pub fn table(header: &[String], lines: &[Line]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(&line.cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let row = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ")
    };
    let notes = |line: &Line| line.notes.join(", ");
    let columns = terminal::stdout_columns().unwrap_or(usize::MAX);
    let wide = widths.iter().map(|width| width + 2).sum::<usize>();
    let beside = lines.iter().all(|line| line.notes.is_empty() || wide + notes(line).chars().count() <= columns);
    let mut text = format!("{}\n", bold(row(header).trim_end()));
    for line in lines {
        let mut shown = row(&line.cells).trim_end().to_owned();
        if beside && !line.notes.is_empty() {
            shown = format!("{}  {}", row(&line.cells), notes(line));
        } else {
            line.notes.iter().for_each(|note| shown.push_str(&format!("\n    {note}")));
        }
        text.push_str(&if line.alarming { red(&shown) } else { shown });
        text.push('\n');
    }
    text
}

fn bold(text: &str) -> String {
    if terminal::stdout_has_color() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

fn red(text: &str) -> String {
    if terminal::stdout_has_color() { format!("\x1b[31m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_what_tells_them_apart() {
        let sequence = "49590338271490256608559692538361571095921575989136588898";
        assert_eq!(position(&Position::parse(sequence, 0).expect("digits")), "…36588898");
        assert_eq!(position(&Position::parse(sequence, 3).expect("digits")), "…36588898.3");
        assert_eq!(position(&Position::parse("12345678", 0).expect("digits")), "12345678");
        assert_eq!(owner("web-1-01KABCDEFGHJKMNPQRSTVWXYZ0"), "web-1-01K…VWXYZ0");
        assert_eq!(owner("äöüäöüäöüäöüäöüäöü"), "äöüäöüäöü…äöüäöü");
        assert_eq!(owner("short"), "short");
    }

    #[test]
    fn an_age_is_said_in_its_largest_unit() {
        for (seconds, text) in [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d")] {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn columns_line_up_by_letters_not_bytes() {
        let line = |cells: [&str; 2]| Line { cells: cells.map(str::to_owned).to_vec(), ..Line::default() };
        let text = table(&["A".to_owned(), "B".to_owned()], &[line(["…1", "x"]), line(["22", "y"])]);
        assert_eq!(text, "A   B\n…1  x\n22  y\n");
    }
}
