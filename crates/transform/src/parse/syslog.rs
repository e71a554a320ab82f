//! `syslog_rfc3164`, `syslog_rfc5424`: a syslog message to JSON, with the names of AWS's blueprint
//! `kinesis-firehose-syslog-to-json`, so that one table does for both.
//!
//! RFC 3164 describes what programs do, in many ways: the priority may be missing (in files it is), the time may be of
//! RFC 3339 (rsyslog's default today), and without a tag `program` and `processid` are null. RFC 5424 is a grammar, and
//! holds. Times stay as they are written: one of RFC 3164 has no year.

use jiff::Timestamp;
use serde_json::{Map, Value};
use standpipe_flow::Record;

use super::line;
use super::line::Line;
use super::object::{Object, add};
use crate::stage::{Fault, Made, Stage};

/// Parameters of the structured data of one message.
const PARAMETERS_MAX: usize = 10_000;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The two RFCs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyslogFormat {
    /// `<34>Oct 11 22:14:15 mymachine su[231]: message`.
    Rfc3164,
    /// `<165>1 2003-10-11T22:14:15.003Z mymachine su 231 ID47 [id@32473 key="value"] message`.
    Rfc5424,
}

/// The stage.
#[derive(Debug)]
pub struct Syslog {
    format: SyslogFormat,
}

impl Syslog {
    /// The stage for a format.
    pub fn new(format: SyslogFormat) -> Self {
        Self { format }
    }
}

impl Stage for Syslog {
    fn name(&self) -> &'static str {
        match self.format {
            SyslogFormat::Rfc3164 => "syslog_rfc3164",
            SyslogFormat::Rfc5424 => "syslog_rfc5424",
        }
    }

    fn apply(&self, record: Record, made: &mut Made) -> Result<(), Fault> {
        let line = Line(line(&record)?);
        let json = match self.format {
            SyslogFormat::Rfc3164 => rfc3164(line),
            SyslogFormat::Rfc5424 => rfc5424(line),
        };
        let json =
            json.map_err(|wrong| Fault::processing("Parse.Syslog", format!("no {} message: {wrong}", self.name())))?;
        made.change(&record, json);
        Ok(())
    }
}

fn rfc3164(mut line: Line<'_>) -> Result<Vec<u8>, &'static str> {
    let priority = if line.0.starts_with('<') { Some(priority(&mut line)?) } else { None };
    let timestamp = bsd_time(&mut line).or_else(|| rfc3339_time(&mut line)).ok_or("it does not begin with a time")?;
    line.spaces();
    let hostname = line.word().ok_or("no hostname follows the time")?;
    let (program, processid, message) = tag(line.0);
    let json = Object::new()
        .field("timestamp", timestamp)
        .field("hostname", hostname)
        .field("program", program)
        .field("processid", processid)
        .field("message", message)
        .field_if("facility", priority.map(|priority| priority / 8))
        .field_if("severity", priority.map(|priority| priority % 8));
    Ok(json.finish())
}

fn rfc5424(mut line: Line<'_>) -> Result<Vec<u8>, &'static str> {
    let priority = priority(&mut line)?;
    if line.word() != Some("1") {
        return Err("the version is not 1");
    }
    let timestamp = nil(line.word().ok_or("it has no time")?);
    if timestamp.is_some_and(|time| time.parse::<Timestamp>().is_err()) {
        return Err("the time is not one of RFC 3339");
    }
    let mut field = |wrong| line.word().map(nil).ok_or(wrong);
    let hostname = field("it has no hostname")?;
    let program = field("it has no app-name")?;
    let processid = field("it has no procid")?;
    let messageid = field("it has no msgid")?;
    let structured_data = structured_data(&mut line)?;
    let message = match line.0 {
        "" => None,
        rest => Some(rest.strip_prefix(' ').ok_or("no space follows the structured data")?),
    };
    let json = Object::new()
        .field("timestamp", timestamp)
        .field("hostname", hostname)
        .field("program", program)
        .field("processid", processid)
        .field("messageid", messageid)
        .field("structured_data", structured_data)
        .field("message", message.map(|message| message.strip_prefix('\u{feff}').unwrap_or(message)))
        .field("facility", priority / 8)
        .field("severity", priority % 8);
    Ok(json.finish())
}

/// `<N>`, at most 191 (RFC 3164 section 4.1.1, RFC 5424 section 6.2.1).
fn priority(line: &mut Line<'_>) -> Result<u8, &'static str> {
    const WRONG: &str = "it does not begin with a priority of 0 to 191 in angle brackets";
    let (digits, rest) = line.0.strip_prefix('<').and_then(|rest| rest.split_once('>')).ok_or(WRONG)?;
    let priority = digits.parse::<u8>().map_err(|_| WRONG)?;
    line.0 = rest;
    if priority <= 191 && !digits.starts_with('+') { Ok(priority) } else { Err(WRONG) }
}

/// `Oct 11 22:14:15`, with a day of one digit or two, and parts of a second.
fn bsd_time<'a>(line: &mut Line<'a>) -> Option<&'a str> {
    let whole = line.0;
    let mut rest = *line;
    let month = rest.word()?;
    rest.spaces();
    let day: u8 = rest.word()?.parse().ok()?;
    let time = rest.word()?;
    let is_time = time.len() >= 7 && time.bytes().all(|byte| byte.is_ascii_digit() || b":.,".contains(&byte));
    if !MONTHS.iter().any(|name| name.eq_ignore_ascii_case(month)) || !(1..=31).contains(&day) || !is_time {
        return None;
    }
    *line = rest;
    Some(whole[..whole.len() - rest.0.len()].trim_end_matches(' '))
}

fn rfc3339_time<'a>(line: &mut Line<'a>) -> Option<&'a str> {
    let mut rest = *line;
    let time = rest.word().filter(|time| time.parse::<Timestamp>().is_ok())?;
    *line = rest;
    Some(time)
}

/// `program[pid]: message`, or a message alone.
fn tag(text: &str) -> (Option<&str>, Option<&str>, &str) {
    let read = || {
        let (program, rest) = text.split_at(text.find([' ', '[', ':'])?);
        let (processid, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map(|(processid, rest)| (Some(processid), rest))?,
            None => (None, rest),
        };
        let message = rest.strip_prefix(':')?;
        let message = if message.is_empty() { message } else { message.strip_prefix(' ')? };
        (!program.is_empty()).then_some((Some(program), processid, message))
    };
    read().unwrap_or((None, None, text))
}

/// A value, or `-`.
fn nil(word: &str) -> Option<&str> {
    (word != "-").then_some(word)
}

/// RFC 5424 section 6.3. Parameters may come again: then they are an array.
fn structured_data(line: &mut Line<'_>) -> Result<Option<Map<String, Value>>, &'static str> {
    if let Some(rest) = line.0.strip_prefix('-') {
        line.0 = rest;
        return Ok(None);
    }
    let mut elements = Map::new();
    let mut room = PARAMETERS_MAX;
    while let Some(rest) = line.0.strip_prefix('[') {
        let end = rest.find([' ', ']']).ok_or(UNENDING)?;
        let id = &rest[..end];
        line.0 = &rest[end..];
        let element = elements.entry(id).or_insert_with(|| Value::Object(Map::new()));
        let parameters = element.as_object_mut().expect("every element is an object");
        loop {
            room = room.checked_sub(1).ok_or("the structured data has more than 10000 parameters")?;
            let Some(rest) = line.0.strip_prefix(' ') else { break };
            let (name, rest) = rest.split_once('=').ok_or("a parameter of the structured data has no value")?;
            line.0 = rest;
            let value = parameter(line).ok_or("a value of the structured data is not in quotes")?;
            add(parameters, name, Value::String(value));
        }
        line.0 = line.0.strip_prefix(']').ok_or(UNENDING)?;
    }
    if elements.is_empty() { Err("it has no structured data") } else { Ok(Some(elements)) }
}

const UNENDING: &str = "the structured data does not end";

/// A value in quotes, with `"`, `\` and `]` escaped by a backslash; before anything else a backslash is itself.
fn parameter(line: &mut Line<'_>) -> Option<String> {
    let mut rest = line.0.strip_prefix('"')?;
    let mut value = String::new();
    loop {
        let at = rest.find(['"', '\\'])?;
        value.push_str(&rest[..at]);
        let escaped = rest[at..].strip_prefix('\\');
        match escaped.map(|escaped| escaped.chars().next()) {
            None => {
                line.0 = &rest[at + 1..];
                return Some(value);
            }
            Some(Some(escaped @ ('"' | '\\' | ']'))) => {
                value.push(escaped);
                rest = &rest[at + 2..];
            }
            Some(_) => {
                value.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
}

#[cfg(test)]
mod tests;
