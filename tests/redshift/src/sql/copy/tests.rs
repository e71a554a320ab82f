use proptest::prelude::*;

use super::*;
use crate::sql::token::tokens;

fn copy(sql: &str) -> Result<Copy, String> {
    let parameters = BTreeMap::from([("manifest".to_owned(), "s3://b/of-a-parameter".to_owned())]);
    let all = tokens(sql).map_err(|refused| refused.0)?;
    read(&all, &parameters).map_err(|refused| refused.0)
}

const ROLE: &str = "IAM_ROLE 'arn:aws:iam::123456789012:role/load'";

#[test]
fn a_whole_copy_is_read() {
    let read = copy(&format!(
        "COPY \"Public\".\"Flights\" (\"Id\", carrier) FROM 's3://bucket/m/1.manifest' {ROLE} MANIFEST REGION 'eu-west-1' \
         FORMAT AS JSON 'auto ignorecase' GZIP TIMEFORMAT AS 'epochmillisecs' MAXERROR AS 10 BLANKSASNULL TRUNCATECOLUMNS \
         ACCEPTINVCHARS AS '^' STATUPDATE OFF COMPUPDATE OFF"
    ))
    .expect("a COPY");
    assert_eq!((read.schema.as_deref(), read.table.as_str()), (Some("public"), "flights"));
    assert_eq!(read.columns, Some(vec!["id".to_owned(), "carrier".to_owned()]));
    assert_eq!((read.from.as_str(), read.max_errors), ("s3://bucket/m/1.manifest", 10));
    assert_eq!((read.format, read.compression), (Format::Json { ignore_case: true }, Compression::Gzip));
    assert_eq!((read.rules.time, read.rules.replace_invalid), (TimeFormat::EpochMillis, Some('^')));
    assert!(read.rules.blanks_as_null && read.rules.truncate && !read.rules.empty_as_null);
}

#[test]
fn formats_have_their_defaults() {
    let format = |rest: &str| copy(&format!("COPY t FROM 's3://b/m' {ROLE} MANIFEST {rest}")).map(|copy| copy.format);
    let delimited = |delimiter, quote, skip_lines| Ok(Format::Delimited { delimiter, quote, skip_lines });
    assert_eq!(format(""), delimited(b'|', None, 0));
    assert_eq!(format("CSV IGNOREHEADER 1"), delimited(b',', Some(b'"'), 1));
    assert_eq!(format("FORMAT CSV DELIMITER '\\t' QUOTE AS '%'"), delimited(b'\t', Some(b'%'), 0));
    assert_eq!(format("JSON"), Ok(Format::Json { ignore_case: false }));
    assert_eq!(format("FORMAT AS PARQUET"), Ok(Format::Parquet { serialize_nested: false }));
    assert_eq!(format("STATUPDATE"), delimited(b'|', None, 0));
    assert_eq!(format("COMPUPDATE MAXERROR 3"), delimited(b'|', None, 0), "an option without its value");
}

#[test]
fn the_manifest_may_be_a_parameter() {
    let read = copy(&format!("COPY t FROM :manifest {ROLE} MANIFEST")).expect("a COPY");
    assert_eq!(read.from, "s3://b/of-a-parameter");
}

#[test]
fn what_does_not_fit_is_refused_in_the_words_of_redshift() {
    for (rest, says) in [
        ("MANIFEST", "CREDENTIALS argument is required"),
        ("IAM_ROLE 'me' MANIFEST", "Invalid credentials"),
        (&format!("{ROLE} MANIFEST COMPRESS"), "syntax error at or near \"compress\""),
        (&format!("{ROLE} MANIFEST PARQUET GZIP"), "GZIP argument is not supported for PARQUET based COPY"),
        (&format!("{ROLE} MANIFEST PARQUET MAXERROR 5"), "MAXERROR argument is not supported for PARQUET"),
        (&format!("{ROLE} MANIFEST PARQUET REGION 'eu-west-1'"), "REGION argument is not supported for PARQUET"),
        (&format!("{ROLE} MANIFEST JSON CSV"), "conflicting or redundant options"),
        (&format!("{ROLE} MANIFEST GZIP ZSTD"), "conflicting or redundant options"),
        (&format!("{ROLE} MANIFEST MAXERROR 100001"), "MAXERROR must be between"),
        (&format!("{ROLE} MANIFEST DELIMITER ',,'"), "single ASCII character"),
        (&format!("{ROLE} MANIFEST QUOTE '\"'"), "QUOTE can only be specified with CSV"),
        (&format!("{ROLE} MANIFEST BZIP2"), "BZIP2 argument is not supported by this endpoint"),
        (&format!("{ROLE} CSV"), "without MANIFEST"),
        (&format!("{ROLE} MANIFEST 'x'"), "syntax error at or near \"x\""),
    ] {
        let answer = copy(&format!("COPY t FROM 's3://b/m' {rest}")).expect_err(rest);
        assert!(answer.contains(says), "{rest}: {answer}");
    }
    for sql in ["COPY", "COPY t", "COPY t (", "COPY t (a,) FROM 's3://b/m'", "COPY t FROM", "COPY t FROM 'file'"] {
        assert!(copy(sql).is_err(), "{sql}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(rest in "(CSV|JSON|AS|GZIP|MAXERROR|NULL|'x'|:p|[(),.]|[0-9]|IAM_ROLE|COMPUPDATE|é| ){0,24}") {
        let _ = copy(&format!("COPY t {rest}"));
        let _ = copy(&format!("COPY t FROM 's3://b/m' {rest}"));
    }
}
