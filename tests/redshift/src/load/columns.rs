//! A column of the table, and a value as PostgreSQL's text form of COPY carries it.
//!
//! What Redshift checks and PostgreSQL does not is checked here: the length of a string is in bytes, an empty field of
//! any other type is NULL, a time may be a number. The rest is PostgreSQL's own check.

use crate::sql::copy::{Rules, TimeFormat};

/// What kind of value a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// CHAR and VARCHAR, with the most bytes.
    Text(Option<usize>),
    Integer,
    Float,
    Decimal,
    Boolean,
    Date,
    Timestamp,
    Super,
    Other,
}

/// A column that is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) class: Class,
    /// As the tables of load errors call it.
    pub(crate) kind: String,
    pub(crate) not_null: bool,
}

/// Why a row is no row of the table: Redshift's load error codes ("Load error reference").
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowError {
    /// The column, if it is one that is to blame.
    pub(crate) column: Option<usize>,
    pub(crate) code: i32,
    pub(crate) reason: String,
    pub(crate) value: String,
}

impl RowError {
    pub(crate) fn row(code: i32, reason: &str) -> Self {
        Self { column: None, code, reason: reason.to_owned(), value: String::new() }
    }

    fn at(column: usize, code: i32, reason: &str, value: &str) -> Self {
        Self { column: Some(column), code, reason: reason.to_owned(), value: value.chars().take(1024).collect() }
    }
}

impl Column {
    /// Made of what PostgreSQL's catalog says: the name of the type, and `atttypmod`.
    pub(crate) fn new(name: &str, type_name: &str, modifier: i32, not_null: bool) -> Self {
        let length = usize::try_from(modifier - 4).ok();
        let (class, kind) = match type_name {
            "varchar" => (Class::Text(length), "varchar"),
            "bpchar" => (Class::Text(length), "char"),
            "text" => (Class::Text(None), "varchar"),
            "int2" => (Class::Integer, "int2"),
            "int4" => (Class::Integer, "int4"),
            "int8" => (Class::Integer, "int8"),
            "float4" => (Class::Float, "float4"),
            "float8" => (Class::Float, "float8"),
            "numeric" => (Class::Decimal, "numeric"),
            "bool" => (Class::Boolean, "bool"),
            "date" => (Class::Date, "date"),
            "timestamp" => (Class::Timestamp, "timestamp"),
            "timestamptz" => (Class::Timestamp, "timestamptz"),
            "super" | "json" | "jsonb" => (Class::Super, "super"),
            other => (Class::Other, other),
        };
        Self { name: name.to_owned(), class, kind: kind.to_owned(), not_null }
    }

    /// The length of a string column, as text.
    pub(crate) fn length(&self) -> String {
        match self.class {
            Class::Text(Some(bytes)) => bytes.to_string(),
            _ => String::new(),
        }
    }

    /// Redshift's code and reason for a value that PostgreSQL did not take (its SQLSTATE is given).
    pub(crate) fn refused(&self, state: &str) -> (i32, &'static str) {
        match (state, self.class) {
            ("23502", _) => (1213, "Missing data for not-null field"),
            ("22001" | "22026", _) => (1204, "String length exceeds DDL length"),
            ("22021", _) => (1220, "String contains invalid or unsupported UTF8 codepoints."),
            ("22003", Class::Integer) => (1222, "Overflow (Integer valid range exceeded)"),
            ("22003", _) => (1204, "Value exceeds the range of the type"),
            (_, Class::Integer) => (1207, "Invalid digit, Value, Pos 0, Type: Integer"),
            (_, Class::Float) => (1208, "Invalid float value"),
            (_, Class::Decimal) => (1209, "Invalid decimal value"),
            (_, Class::Boolean) => (1210, "Unknown boolean format"),
            (_, Class::Date) => (1205, "Invalid Date Format - length must be 10 or more"),
            (_, Class::Timestamp) => (1206, "Invalid timestamp format or value"),
            (_, Class::Super) => (1224, "Invalid value for the SUPER data type"),
            _ => (1200, "Unknown parse error"),
        }
    }
}

/// Appends a value to a row of PostgreSQL's text form, without a separator. `place` is the column's place in the load.
///
/// # Errors
/// The value does not fit; the row is to be taken back.
pub(crate) fn write(
    out: &mut Vec<u8>,
    place: usize,
    column: &Column,
    value: Option<&str>,
    rules: &Rules,
) -> Result<(), RowError> {
    let value = value.filter(|text| !is_null(column, text, rules));
    let Some(mut text) = value else {
        if column.not_null {
            return Err(RowError::at(place, 1213, "Missing data for not-null field", ""));
        }
        out.extend_from_slice(b"\\N");
        return Ok(());
    };
    match column.class {
        Class::Text(bytes_max) => {
            if rules.trim_blanks {
                text = text.trim_end_matches(' ');
            }
            if let Some(bytes_max) = bytes_max.filter(|bytes_max| text.len() > *bytes_max) {
                if !rules.truncate {
                    return Err(RowError::at(place, 1204, "String length exceeds DDL length", text));
                }
                text = &text[..text.floor_char_boundary(bytes_max)];
            }
            if text.contains('\0') {
                return Err(RowError::at(place, 1218, "Invalid null byte - field longer than 1 byte", text));
            }
            escape(out, text);
        }
        Class::Timestamp if rules.time != TimeFormat::Auto => match instant(text.trim(), rules.time) {
            Some(instant) => out.extend_from_slice(instant.as_bytes()),
            None => return Err(RowError::at(place, 1206, "Invalid timestamp format or value", text)),
        },
        _ => escape(out, text),
    }
    Ok(())
}

/// Whether a field that is there means NULL.
fn is_null(column: &Column, text: &str, rules: &Rules) -> bool {
    let blank = text.bytes().all(|byte| byte == b' ' || byte == b'\t');
    match column.class {
        Class::Text(_) => {
            (rules.empty_as_null && text.is_empty()) || (rules.blanks_as_null && blank && !text.is_empty())
        }
        _ => blank,
    }
}

/// Text with the escapes of PostgreSQL's COPY.
fn escape(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r' | b'\t')) {
        out.extend_from_slice(bytes);
        return;
    }
    for byte in bytes {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => out.push(*other),
        }
    }
}

/// A number since 1970 as a timestamp in UTC, to the microsecond.
fn instant(text: &str, format: TimeFormat) -> Option<String> {
    let micros = match format {
        TimeFormat::EpochMillis => text.parse::<i64>().ok().map(|millis| millis.checked_mul(1000))??,
        _ => {
            let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
            let padded = format!("{fraction:0<6}");
            let fraction: i64 = padded.get(..6)?.parse().ok()?;
            seconds.parse::<i64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction)?
        }
    };
    let instant = jiff::Timestamp::from_microsecond(micros).ok()?;
    Some(instant.strftime("%Y-%m-%d %H:%M:%S.%6f").to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn rules() -> Rules {
        Rules {
            time: TimeFormat::Auto,
            blanks_as_null: false,
            empty_as_null: false,
            truncate: false,
            replace_invalid: None,
            null_as: "\\N".to_owned(),
            fill_record: false,
            ignore_blank_lines: false,
            trim_blanks: false,
        }
    }

    fn written(kind: &str, modifier: i32, value: Option<&str>, rules: &Rules) -> Result<String, i32> {
        let mut out = Vec::new();
        let column = Column::new("c", kind, modifier, false);
        write(&mut out, 0, &column, value, rules).map_err(|error| error.code)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn the_length_of_a_string_is_in_bytes() {
        assert_eq!(written("varchar", 4 + 4, Some("ééé"), &rules()), Err(1204));
        let truncate = Rules { truncate: true, ..rules() };
        assert_eq!(written("varchar", 3 + 4, Some("ééé"), &truncate), Ok("é".to_owned()));
        assert_eq!(written("varchar", 6 + 4, Some("ééé"), &rules()), Ok("ééé".to_owned()));
    }

    #[test]
    fn what_is_null_follows_type_and_rules() {
        let blanks = Rules { blanks_as_null: true, ..rules() };
        let empty = Rules { empty_as_null: true, ..rules() };
        for (kind, value, rules, expected) in [
            ("int4", "", &rules(), "\\N"),
            ("int4", " ", &rules(), "\\N"),
            ("varchar", "", &rules(), ""),
            ("varchar", "", &empty, "\\N"),
            ("varchar", " ", &empty, " "),
            ("varchar", " ", &blanks, "\\N"),
            ("varchar", "", &blanks, ""),
        ] {
            assert_eq!(written(kind, -1, Some(value), rules).as_deref(), Ok(expected), "{kind} {value:?}");
        }
        let column = Column::new("c", "int4", -1, true);
        assert_eq!(write(&mut Vec::new(), 0, &column, None, &rules()).map_err(|error| error.code), Err(1213));
    }

    #[test]
    fn times_may_be_numbers() {
        let millis = Rules { time: TimeFormat::EpochMillis, ..rules() };
        let seconds = Rules { time: TimeFormat::EpochSeconds, ..rules() };
        let told = |value, rules| written("timestamp", -1, Some(value), rules);
        assert_eq!(told("1357034400123", &millis).as_deref(), Ok("2013-01-01 10:00:00.123000"));
        assert_eq!(told("1357034400.5", &seconds).as_deref(), Ok("2013-01-01 10:00:00.500000"));
        for bad in ["2013-01-01", "9223372036854775807", "x", "1.é"] {
            assert_eq!(told(bad, &millis), Err(1206), "{bad}");
            assert_eq!(told(bad, &seconds), Err(1206), "{bad}");
        }
    }

    #[test]
    fn nothing_in_a_value_ends_a_row() {
        assert_eq!(written("varchar", -1, Some("a\tb\\N\n\r"), &rules()).as_deref(), Ok("a\\tb\\\\N\\n\\r"));
        assert_eq!(written("varchar", -1, Some("a\0"), &rules()), Err(1218));
    }
}
