//! Implements, of the arrow `what the user wrote -> what it means`: names and addresses as their services allow them.
//!
//! Never: repeats the text in an error (it may have come from the environment).

use std::net::SocketAddr;

use crate::config::Stream;
use crate::limits;

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameError {
    /// What is wrong, in words that do not repeat the name.
    pub(crate) reason: String,
    /// What to write.
    pub(crate) hint: Option<String>,
}

fn refuse<T>(reason: impl Into<String>, hint: &str) -> Result<T, NameError> {
    let hint = (!hint.is_empty()).then(|| hint.to_owned());
    Err(NameError { reason: reason.into(), hint })
}

/// A pipeline's name: also a part of table and object names, so it is narrow.
pub(crate) fn pipeline(text: &str) -> Result<(), NameError> {
    const RULE: &str = "small letters, digits and `-`, beginning with a letter";
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        return refuse("it begins with something other than a small letter", RULE);
    }
    if let Some(bad) = text.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')) {
        return refuse(format!("it contains {bad:?}"), RULE);
    }
    at_most(text, limits::PIPELINE_NAME_CHARS_MAX)
}

/// A destination's id: `sp_<id>` is an attribute of the lease row.
pub(crate) fn destination_id(text: &str) -> Result<String, NameError> {
    const RULE: &str = "small letters, digits and `_`, beginning with a letter, at most 16";
    if text.chars().count() > limits::DESTINATION_ID_CHARS_MAX {
        return refuse(format!("it has more than {} characters", limits::DESTINATION_ID_CHARS_MAX), RULE);
    }
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        return refuse("it begins with something other than a small letter", RULE);
    }
    if text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
        return Ok(text.to_owned());
    }
    refuse("it contains something other than small letters, digits and `_`", RULE)
}

/// A stream's name or ARN (Kinesis: `[a-zA-Z0-9_.-]{1,128}`).
pub(crate) fn stream(text: &str) -> Result<Stream, NameError> {
    if !text.starts_with("arn:") {
        simple(text, 1, limits::STREAM_NAME_CHARS_MAX)?;
        return Ok(Stream { name: text.to_owned(), arn: None, region: None, account: None });
    }
    const EXAMPLE: &str = "for example `arn:aws:kinesis:eu-west-1:111122223333:stream/orders`";
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [_, partition, "kinesis", region, account, resource] = parts[..] else {
        return refuse("the ARN is not one of Kinesis", EXAMPLE);
    };
    let Some(name) = resource.strip_prefix("stream/") else {
        return refuse("the ARN does not name a stream", EXAMPLE);
    };
    if !partition.starts_with("aws") || region.is_empty() || account.len() != 12 || !digits(account) {
        return refuse("the ARN lacks its partition, region or account", EXAMPLE);
    }
    if name.contains('/') {
        return refuse("the ARN names a consumer; the stream's own is needed", EXAMPLE);
    }
    simple(name, 1, limits::STREAM_NAME_CHARS_MAX)?;
    let own = |s: &str| Some(s.to_owned());
    Ok(Stream { name: name.to_owned(), arn: own(text), region: own(region), account: own(account) })
}

/// A consumer's name (Kinesis: `[a-zA-Z0-9_.-]{1,128}`).
pub(crate) fn consumer(text: &str) -> Result<String, NameError> {
    simple(text, 1, limits::STREAM_NAME_CHARS_MAX)?;
    Ok(text.to_owned())
}

/// A bucket's name, from itself or its ARN (S3: 3 to 63 small letters, digits, `.` and `-`).
pub(crate) fn bucket(text: &str) -> Result<String, NameError> {
    let name = match text.split_once(":::") {
        Some((arn, name)) if arn.starts_with("arn:aws") && arn.ends_with(":s3") => name,
        _ if text.starts_with("arn:") => {
            return refuse("the ARN is not that of a bucket", "for example `arn:aws:s3:::acme-lake`");
        }
        _ => text,
    };
    let hint = match name {
        _ if name.starts_with("s3://") => "the name alone; what follows it goes into `prefix`",
        _ if name.contains('/') => "what follows the name goes into `prefix`",
        _ => "3 to 63 small letters, digits, `.` and `-`",
    };
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'.' || c == b'-';
    let outer = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let bytes = name.as_bytes();
    let good = (3..=63).contains(&bytes.len())
        && bytes.iter().all(|c| inner(*c))
        && outer(bytes.first())
        && outer(bytes.last())
        && !name.contains("..");
    if good { Ok(name.to_owned()) } else { refuse("S3 has no such names", hint) }
}

/// A DynamoDB table's name (`[a-zA-Z0-9_.-]{3,255}`), short enough for the commit table's name behind it.
pub(crate) fn table(text: &str) -> Result<String, NameError> {
    simple(text, 3, limits::TABLE_NAME_CHARS_MAX)?;
    Ok(text.to_owned())
}

/// A region; new ones appear, so only the form is known.
pub(crate) fn region(text: &str) -> Result<String, NameError> {
    let good = (1..=32).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    if good { Ok(text.to_owned()) } else { refuse("small letters, digits and `-`", "for example `eu-west-1`") }
}

/// An account's number.
pub(crate) fn account(text: &str) -> Result<String, NameError> {
    if text.len() == 12 && digits(text) {
        Ok(text.to_owned())
    } else {
        refuse("an account has 12 digits", "for example `111122223333`")
    }
}

/// A time zone of the IANA database.
pub(crate) fn time_zone(text: &str) -> Result<String, NameError> {
    match jiff::tz::TimeZone::get(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => refuse("there is no such zone", "a name such as `Europe/Berlin`, or `UTC`"),
    }
}

/// One character of one byte that is no letter or digit.
pub(crate) fn character(text: &str) -> Result<u8, NameError> {
    match (text, text.as_bytes()) {
        ("\\t", _) => Ok(b'\t'),
        (_, [one]) if one.is_ascii() && !one.is_ascii_alphanumeric() && !b"\r\n".contains(one) => Ok(*one),
        _ => refuse("one character of ASCII, no letter or digit, is expected", "for example `;`, or `\\t` for a tab"),
    }
}

/// A text with something in it.
pub(crate) fn not_empty(text: &str) -> Result<String, NameError> {
    if text.is_empty() { refuse("it is empty", "for example `####`") } else { Ok(text.to_owned()) }
}

/// How many partitions.
pub(crate) fn partitions(text: &str) -> Result<usize, NameError> {
    count(text, limits::PARTITIONS_MAX)
}

/// How many records may be made of one.
pub(crate) fn pieces(text: &str) -> Result<usize, NameError> {
    count(text, limits::PIECES_MAX)
}

/// Records that columns are inferred from.
pub(crate) fn sample(text: &str) -> Result<usize, NameError> {
    count(text, limits::SAMPLE_MAX)
}

/// Rows of an entry of an ORC index: Firehose's least.
pub(crate) fn stride(text: &str) -> Result<usize, NameError> {
    match text.parse::<usize>() {
        Ok(rows) if (limits::STRIDE_MIN..=limits::STRIDE_MAX).contains(&rows) => Ok(rows),
        _ => refuse(format!("{} to {} are possible", limits::STRIDE_MIN, limits::STRIDE_MAX), "for example `10000`"),
    }
}

/// A share of a hundred.
pub(crate) fn percent(text: &str) -> Result<u8, NameError> {
    match text.parse::<u8>() {
        Ok(share) if share <= 100 => Ok(share),
        _ => refuse("0 to 100 are possible", "for example `80`"),
    }
}

/// How often a function is asked again.
pub(crate) fn retries(text: &str) -> Result<u32, NameError> {
    match text.parse::<u32>() {
        Ok(retries) if retries <= limits::LAMBDA_RETRIES_MAX => Ok(retries),
        _ => refuse(format!("0 to {} are possible", limits::LAMBDA_RETRIES_MAX), "for example `3`"),
    }
}

fn count(text: &str, most: usize) -> Result<usize, NameError> {
    match text.parse::<usize>() {
        Ok(count) if (1..=most).contains(&count) => Ok(count),
        _ => refuse(format!("1 to {most} are possible"), "for example `500`"),
    }
}

/// A Lambda function's name or ARN, with or without a version or alias.
pub(crate) fn function(text: &str) -> Result<String, NameError> {
    const EXAMPLE: &str = "for example `enrich-orders`, or its ARN";
    let name = match text.strip_prefix("arn:") {
        Some(rest) => match rest.splitn(6, ':').collect::<Vec<_>>().as_slice() {
            [partition, "lambda", region, account, "function", name]
                if partition.starts_with("aws") && !region.is_empty() && account.len() == 12 && digits(account) =>
            {
                (*name).to_owned()
            }
            _ => return refuse("the ARN is not that of a function", EXAMPLE),
        },
        None => text.to_owned(),
    };
    let (name, version) = name.split_once(':').unwrap_or((&name, "1"));
    let good = |part: &str, more: &[u8]| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b) || more.contains(&b))
    };
    if good(name, b"") && good(version, b"$") && name.len() <= 140 {
        Ok(text.to_owned())
    } else {
        refuse("letters, digits, `_` and `-`, at most 140", EXAMPLE)
    }
}

/// A worker's id; `None` for `auto`.
pub(crate) fn worker_id(text: &str) -> Result<Option<String>, NameError> {
    if text == "auto" {
        return Ok(None);
    }
    let good = text.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.:-".contains(&c));
    if text.is_empty() || !good {
        return refuse("letters, digits and `_.:-`", "`auto` is new for every process");
    }
    at_most(text, limits::WORKER_ID_CHARS_MAX)?;
    Ok(Some(text.to_owned()))
}

/// The base of a service's addresses, without a slash at its end.
pub(crate) fn endpoint(text: &str) -> Result<String, NameError> {
    const EXAMPLE: &str = "for example `http://127.0.0.1:4600`";
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else {
        return refuse("it does not begin with `http://` or `https://`", EXAMPLE);
    };
    if rest.contains('@') {
        return refuse("a user or password in an address", "credentials come from the SDK's chain");
    }
    let good = |c: char| c.is_ascii_alphanumeric() || "-._:/[]".contains(c);
    if rest.trim_end_matches('/').is_empty() || !rest.chars().all(good) {
        return refuse("no host, or more than a host, a port and a path", EXAMPLE);
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// A whole address, with path and query, that is asked as it stands.
pub(crate) fn url(text: &str) -> Result<String, NameError> {
    const EXAMPLE: &str = "for example `https://ingest.example.com/firehose?x=1`";
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return refuse("it does not begin with `https://` or `http://`", EXAMPLE);
    };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    if host.contains('@') {
        return refuse("a user or password in an address", "a key goes into `access_key`, or into `headers`");
    }
    if text.contains('#') {
        return refuse("a fragment (`#`) is never sent", EXAMPLE);
    }
    let of_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    let of_path = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c);
    if host.is_empty() || !host.chars().all(of_host) || !rest.chars().all(of_path) {
        return refuse("no host, or a character that stands percent-encoded in an address", EXAMPLE);
    }
    at_most(text, limits::URL_CHARS_MAX)?;
    Ok(text.to_owned())
}

/// A part of a preset's address: of a host's name, or of a path.
pub(crate) fn site(text: &str) -> Result<String, NameError> {
    simple(text, 1, limits::URL_CHARS_MAX / 4)?;
    Ok(text.to_owned())
}

/// A header's name (RFC 9110: a token) that is not one of the protocol's or the connection's.
pub(crate) fn header(text: &str) -> Result<String, NameError> {
    const OWN: &[&str] = &[
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = text.to_ascii_lowercase();
    if name.is_empty() || !name.bytes().all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c)) {
        return refuse("letters, digits and `-`", "for example `x-tenant`");
    }
    if OWN.contains(&name.as_str()) || name.starts_with("x-amz-firehose-") {
        return refuse(
            "the protocol says what this header is",
            "for the key `access_key`, for more `common_attributes`",
        );
    }
    at_most(text, limits::ATTRIBUTE_NAME_CHARS_MAX)?;
    Ok(name)
}

/// A name of a common attribute.
pub(crate) fn attribute_name(text: &str) -> Result<String, NameError> {
    if text.is_empty() {
        return refuse("it is empty", "");
    }
    at_most(text, limits::ATTRIBUTE_NAME_CHARS_MAX)?;
    Ok(text.to_owned())
}

/// A value of a common attribute.
pub(crate) fn attribute_value(text: &str) -> Result<String, NameError> {
    at_most(text, limits::ATTRIBUTE_VALUE_CHARS_MAX)?;
    Ok(text.to_owned())
}

/// The ARN that requests name as their source.
pub(crate) fn source_arn(text: &str) -> Result<String, NameError> {
    const EXAMPLE: &str = "for example `arn:aws:firehose:eu-west-1:111122223333:deliverystream/orders`";
    if text.split(':').count() < 6 || !text.starts_with("arn:") || !text.bytes().all(|c| c.is_ascii_graphic()) {
        return refuse("an ARN has six parts", EXAMPLE);
    }
    at_most(text, limits::ARN_CHARS_MAX)?;
    Ok(text.to_owned())
}

/// An address and a port to listen on.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, NameError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    match text.rsplit_once(':') {
        Some(("", port)) if digits(port) => {
            refuse("the address is missing", &format!("for all of them `0.0.0.0:{port}`"))
        }
        Some(("localhost", port)) if digits(port) => {
            refuse("a name instead of an address", &format!("write `127.0.0.1:{port}`"))
        }
        _ => refuse("an address and a port are expected", "for example `0.0.0.0:9464`, or `http: off`"),
    }
}

/// How many leases; `None` for `unlimited`.
pub(crate) fn leases(text: &str) -> Result<Option<u32>, NameError> {
    if text == "unlimited" {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(n) if (1..=limits::LEASES_MAX).contains(&n) => Ok(Some(n)),
        _ => refuse(format!("a number from 1 to {}, or unlimited", limits::LEASES_MAX), "`unlimited` is the default"),
    }
}

/// The end of object keys (Firehose: `FileExtension`).
pub(crate) fn extension(text: &str) -> Result<String, NameError> {
    const RULE: &str = "a dot, then small letters, digits and any of !-_.*'()";
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "!-_.*'()".contains(c);
    if !text.starts_with('.') || text.len() < 2 || !text.chars().all(good) {
        let hint = if text.starts_with(|c: char| c.is_ascii_lowercase()) { "it begins with a dot" } else { RULE };
        return refuse("Firehose has no such extensions", hint);
    }
    at_most(text, limits::EXTENSION_CHARS_MAX)?;
    Ok(text.to_owned())
}

/// A KMS key: alias, id or ARN; whether it exists is found by `check --online`.
pub(crate) fn kms_key(text: &str) -> Result<String, NameError> {
    let id = |t: &str| !t.is_empty() && t.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-' || c.is_ascii_lowercase());
    let good = text.strip_prefix("alias/").is_some_and(|a| !a.is_empty())
        || text.starts_with("arn:") && text.contains(":kms:")
        || id(text) && text.contains('-') && text.bytes().any(|c| c.is_ascii_digit());
    if good { Ok(text.to_owned()) } else { refuse("neither an alias, an id nor an ARN", "for example `alias/lake`") }
}

/// An index, with room for a suffix behind it (OpenSearch: at most 255 bytes, no capital letters, no signs with a meaning
/// of their own in an address).
pub(crate) fn index(text: &str) -> Result<String, NameError> {
    const RULE: &str = "small letters, digits, `-`, `_` and `.`, beginning with a letter or digit";
    if text.starts_with(['-', '_', '+', '.']) {
        return refuse(format!("it begins with {:?}", text.chars().next().unwrap_or_default()), RULE);
    }
    if let Some(bad) = text.chars().find(|c| c.is_uppercase() || c.is_control() || "\\/*?\"<>| ,#:".contains(*c)) {
        return refuse(format!("it contains {bad:?}"), RULE);
    }
    if text.is_empty() || text.len() > limits::INDEX_BYTES_MAX {
        return refuse(format!("1 to {} bytes are possible", limits::INDEX_BYTES_MAX), RULE);
    }
    Ok(text.to_owned())
}

/// A user of HTTP's basic authentication.
pub(crate) fn user(text: &str) -> Result<String, NameError> {
    if text.is_empty() || text.contains(':') || text.chars().any(char::is_control) {
        return refuse("it is empty, or has a colon or a control character", "");
    }
    Ok(text.to_owned())
}

/// Roles for COPY: an ARN, several with commas (chained), or `default`.
pub(crate) fn roles(text: &str) -> Result<String, NameError> {
    let good = |arn: &str| {
        let inner = |c: u8| c.is_ascii_alphanumeric() || b"-_+=,.@:/".contains(&c);
        arn.starts_with("arn:") && arn.contains(":iam:") && arn.contains(":role/") && arn.bytes().all(inner)
    };
    if text == "default" || text.split(',').all(good) {
        at_most(text, limits::ROLES_CHARS_MAX)?;
        return Ok(text.to_owned());
    }
    refuse("a role has an ARN", "for example `arn:aws:iam::111122223333:role/redshift-copy`")
}

/// Letters, digits, `_`, `.` and `-`.
fn simple(text: &str, least: usize, most: usize) -> Result<(), NameError> {
    if !text.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c)) {
        return refuse("it contains something other than letters, digits, `_`, `.` and `-`", "");
    }
    if text.len() < least {
        return refuse(format!("it has fewer than {least} characters"), "");
    }
    at_most(text, most)
}

fn at_most(text: &str, most: usize) -> Result<(), NameError> {
    if text.chars().count() <= most { Ok(()) } else { refuse(format!("it has more than {most} characters"), "") }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn streams_are_names_or_arns() {
        let arn = "arn:aws:kinesis:eu-west-1:111122223333:stream/orders";
        let stream = stream(arn).expect("an ARN");
        assert_eq!((stream.name.as_str(), stream.region.as_deref()), ("orders", Some("eu-west-1")));
        assert_eq!(super::stream("a.b_c-1").expect("a name").arn, None);
        for bad in
            ["", "a b", "arn:aws:s3:::orders", "arn:aws:kinesis:eu-west-1:1:stream/x", &format!("{arn}/consumer/c:1")]
        {
            assert!(super::stream(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn buckets_are_names_or_arns() {
        assert_eq!(bucket("arn:aws:s3:::acme-lake"), Ok("acme-lake".to_owned()));
        assert_eq!(bucket("acme.lake"), Ok("acme.lake".to_owned()));
        for bad in
            ["ab", "Acme", "-acme", "acme..lake", "s3://acme", "acme/x", "arn:aws:kinesis:::acme", "arn:aws:s3:::"]
        {
            assert!(bucket(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_other_names() {
        assert!(pipeline("orders-lake").is_ok() && pipeline("Orders").is_err() && pipeline("a_b").is_err());
        assert!(pipeline(&"a".repeat(63)).is_ok() && pipeline(&"a".repeat(64)).is_err());
        assert!(destination_id("lake_2").is_ok() && destination_id("2lake").is_err());
        assert!(destination_id(&"a".repeat(16)).is_ok() && destination_id(&"a".repeat(17)).is_err());
        assert_eq!(endpoint("http://127.0.0.1:4600/"), Ok("http://127.0.0.1:4600".to_owned()));
        assert!(
            endpoint("127.0.0.1:4600").is_err()
                && endpoint("http://a:b@host").is_err()
                && endpoint("http:///").is_err()
        );
        assert!(listen("0.0.0.0:9464").is_ok() && listen("[::1]:9464").is_ok() && listen(":9464").is_err());
        assert_eq!(leases("unlimited"), Ok(None));
        assert!(leases("0").is_err() && leases("8") == Ok(Some(8)));
        assert!(extension(".json.gz").is_ok() && extension("json").is_err() && extension(".").is_err());
        assert!(
            kms_key("alias/lake").is_ok()
                && kms_key("1234abcd-12ab-34cd-56ef-1234567890ab").is_ok()
                && kms_key("lake").is_err()
        );
        assert!(table("ab").is_err() && table(&"t".repeat(237)).is_ok() && table(&"t".repeat(238)).is_err());
    }

    proptest! {
        #[test]
        fn no_string_panics(text in "(arn:|aws|:|s3|kinesis|stream/|[a-z0-9é./@-]){0,20}") {
            let _ = (pipeline(&text), destination_id(&text), stream(&text), bucket(&text), table(&text), region(&text));
            let _ = (worker_id(&text), endpoint(&text), listen(&text), leases(&text), extension(&text), kms_key(&text));
        }
    }
}
