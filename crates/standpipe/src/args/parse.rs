//! Texts of the command line -> what they mean. Every error says what is expected.

use std::time::Duration;

use standpipe_config::units;

/// A time such as `20s`, as in the config.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = units::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("must be more than nothing".to_owned()) } else { Ok(duration) }
}

/// Seconds such as `0.5`.
pub fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "expected seconds, such as 0.5, at most 3600".to_owned())
}

/// An instant such as `2026-01-31T12:00:00Z`.
#[cfg(feature = "emulator")]
pub fn instant(text: &str) -> Result<standpipe_flow::Millis, String> {
    let instant: jiff::Timestamp =
        text.parse().map_err(|_| "expected a time such as 2026-01-31T12:00:00Z".to_owned())?;
    let millis = u64::try_from(instant.as_millisecond()).map_err(|_| "must be after 1970".to_owned())?;
    Ok(standpipe_flow::Millis(millis))
}

/// How fast records are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// So many records a second.
    Records(u64),
    /// So many bytes a second.
    Bytes(u64),
}

/// `500`: records; `20MB`: bytes. Both a second.
pub fn rate(text: &str) -> Result<Rate, String> {
    let rate = match text.parse::<u64>() {
        Ok(records) => Rate::Records(records),
        Err(_) => {
            Rate::Bytes(units::parse_size(text).map_err(|_| "expected records (500) or bytes (20MB)".to_owned())?)
        }
    };
    if matches!(rate, Rate::Records(0) | Rate::Bytes(0)) { Err("must be more than 0".to_owned()) } else { Ok(rate) }
}

/// Where a record's partition key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionKey {
    /// A new one for each record, so that they spread over the shards.
    Random,
    /// A field of the record: the names on the way to it.
    Field(Vec<String>),
}

/// `random`, or a path such as `.user.id`.
pub fn partition_key(text: &str) -> Result<PartitionKey, String> {
    if text == "random" {
        return Ok(PartitionKey::Random);
    }
    let plain = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    match text.strip_prefix('.').map(|path| path.split('.').collect::<Vec<_>>()) {
        Some(names) if names.iter().all(|name| plain(name)) => {
            Ok(PartitionKey::Field(names.into_iter().map(str::to_owned).collect()))
        }
        Some(_) => Err("only plain paths such as .user.id are built yet, no other jq".to_owned()),
        None => Err("expected `random`, or a path such as .user.id".to_owned()),
    }
}

/// A stream to make.
#[cfg(feature = "emulator")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewStream {
    /// Its name.
    pub name: String,
    /// How many shards it begins with.
    pub shards: usize,
}

/// `orders:4`, or `orders` with one shard.
#[cfg(feature = "emulator")]
pub fn stream(text: &str) -> Result<NewStream, String> {
    let (name, shards) = text.split_once(':').unwrap_or((text, "1"));
    let shards = shards.parse().ok().filter(|shards| (1..=10_000).contains(shards));
    match shards {
        Some(shards) if !name.is_empty() => Ok(NewStream { name: name.to_owned(), shards }),
        _ => Err("expected NAME:SHARDS, such as orders:4, with 1 to 10000 shards".to_owned()),
    }
}

/// A function that answers at an address.
#[cfg(feature = "emulator")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFunction {
    /// Its name.
    pub name: String,
    /// `host:port/path`.
    pub address: String,
}

/// `enrich=http://127.0.0.1:9000/path`.
#[cfg(feature = "emulator")]
pub fn function(text: &str) -> Result<NewFunction, String> {
    let expected = || "expected NAME=http://HOST:PORT/PATH, such as enrich=http://127.0.0.1:9000/".to_owned();
    let (name, url) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(expected)?;
    let address = url.strip_prefix("http://").ok_or_else(expected)?;
    let host = address.split('/').next().unwrap_or_default();
    let has_port = host.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !has_port {
        return Err(expected());
    }
    Ok(NewFunction { name: name.to_owned(), address: address.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_records_and_a_size_is_bytes() {
        assert_eq!(rate("500"), Ok(Rate::Records(500)));
        assert_eq!(rate("20MB"), Ok(Rate::Bytes(20 << 20)));
        assert_eq!(rate("64KiB"), Ok(Rate::Bytes(64 << 10)));
        for bad in ["0", "0MB", "", "fast", "-1"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn seconds_may_have_a_fraction() {
        assert_eq!((seconds("0.5"), seconds("3600")), (Ok(0.5), Ok(3600.0)));
        for bad in ["", "-1", "NaN", "inf", "1s", "3601"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[cfg(feature = "emulator")]
    #[test]
    fn a_function_has_a_name_and_an_address_with_its_port() {
        let made = function("enrich=http://127.0.0.1:9000/a?b=c").expect("a function");
        assert_eq!((made.name.as_str(), made.address.as_str()), ("enrich", "127.0.0.1:9000/a?b=c"));
        for bad in
            ["", "enrich", "=http://h:1/", "enrich=https://h:1/", "enrich=http://h/", "enrich=http://:1/", "enrich=h:1"]
        {
            assert!(function(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_partition_key_is_random_or_a_plain_path() {
        assert_eq!(partition_key("random"), Ok(PartitionKey::Random));
        assert_eq!(partition_key(".user.id"), Ok(PartitionKey::Field(vec!["user".to_owned(), "id".to_owned()])));
        for bad in ["", ".", "user", ".a..b", ".a[0]", ".a | tostring", "none"] {
            assert!(partition_key(bad).is_err(), "{bad}");
        }
    }

    #[cfg(feature = "emulator")]
    #[test]
    fn a_stream_has_at_least_one_shard() {
        assert_eq!(stream("orders:4"), Ok(NewStream { name: "orders".to_owned(), shards: 4 }));
        assert_eq!(stream("orders").map(|stream| stream.shards), Ok(1));
        for bad in ["", ":4", "orders:0", "orders:x", "orders:", "orders:4:4"] {
            assert!(stream(bad).is_err(), "{bad}");
        }
    }
}
