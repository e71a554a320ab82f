//! `commit -> publish`: what the end of a statement means. PURE; the one place where Redshift's error texts are read.
//!
//! The Data API gives a text, no code; parts of it are stable enough to tell a busy warehouse from a wrong table. Nothing
//! here decides whether a load took effect: the ledger alone does.
//! Codes are those that Firehose logs for Redshift ("Monitoring Amazon Data Firehose, errors of Amazon Redshift").

/// What a failed load means for whoever tries it again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meaning {
    /// The guard refused: the commit is probably loaded. The ledger knows.
    Guard,
    /// It may pass by itself: busy, restarting, in conflict, cancelled.
    Passing,
    /// Redshift refuses this load: data, table, rights, options. Counts towards giving up.
    Refused,
    /// The staged objects are not there: they are looked for.
    Missing,
}

/// A failure by its code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Failure {
    pub(super) code: &'static str,
    pub(super) meaning: Meaning,
}

use Meaning::{Guard, Missing, Passing, Refused};

/// Parts of error texts, in small letters, the first that fits decides. All parts between `|` must be there.
const TABLE: &[(&str, &str, Meaning)] = &[
    ("divi|by zero", "Redshift.AlreadyLoaded", Guard),
    // It may pass.
    ("serializable isolation violation", "Redshift.SerializableIsolation", Passing),
    ("could not serialize", "Redshift.SerializableIsolation", Passing),
    ("deadlock detected", "Redshift.SerializableIsolation", Passing),
    ("conflict with concurrent transaction", "Redshift.SerializableIsolation", Passing),
    ("concurrent transaction", "Redshift.SerializableIsolation", Passing),
    ("cancelled on user", "Redshift.QueryCancelled", Passing),
    ("canceling statement due to lock timeout", "Redshift.QueryCancelled", Passing),
    ("canceling statement", "Redshift.QueryCancelled", Passing),
    ("query cancelled", "Redshift.QueryCancelled", Passing),
    ("abort query", "Redshift.QueryCancelled", Passing),
    ("aborted by", "Redshift.QueryCancelled", Passing),
    ("query (|cancelled by wlm", "Redshift.QueryCancelled", Passing),
    ("resiz", "Redshift.Resize", Passing),
    ("read only", "Redshift.ReadOnlyCluster", Passing),
    ("read-only", "Redshift.ReadOnlyCluster", Passing),
    ("too many clients", "Redshift.TooManyClients", Passing),
    ("too many connections", "Redshift.TooManyConnectionsException", Passing),
    ("connection limit", "Redshift.ConnectionsLimitExceeded", Passing),
    ("connection|closed", "Redshift.ConnectionFailed", Passing),
    ("connection|refused", "Redshift.ConnectionFailed", Passing),
    ("connection|failed", "Redshift.ConnectionFailed", Passing),
    ("could not connect", "Redshift.ConnectionFailed", Passing),
    ("terminating connection", "Redshift.ConnectionFailed", Passing),
    ("server closed the connection", "Redshift.ConnectionFailed", Passing),
    ("the database system is", "Redshift.ConnectionFailed", Passing),
    ("restart", "Redshift.ConnectionFailed", Passing),
    ("out of memory", "Redshift.OutOfMemory", Passing),
    ("slow down", "Redshift.S3SlowDown", Passing),
    ("slowdown", "Redshift.S3SlowDown", Passing),
    ("ssl", "Redshift.SslFailure", Passing),
    // Staged objects.
    ("mandatory", "Redshift.MissingS3File", Missing),
    ("specified key does not exist", "Redshift.MissingS3File", Missing),
    ("nosuchkey", "Redshift.MissingS3File", Missing),
    ("s3 prefix|does not exist", "Redshift.MissingS3File", Missing),
    ("not found|s3", "Redshift.MissingS3File", Missing),
    // The bucket and its rights.
    ("permanentredirect", "Redshift.IncorrectOrMissingRegion", Refused),
    ("bucket you are attempting to access must be addressed", "Redshift.IncorrectOrMissingRegion", Refused),
    ("region", "Redshift.IncorrectOrMissingRegion", Refused),
    ("nosuchbucket", "Redshift.S3BucketNotFound", Refused),
    ("bucket does not exist", "Redshift.S3BucketNotFound", Refused),
    ("s3serviceexception|access", "Redshift.S3BucketAccessDenied", Refused),
    ("not authorized to assume", "Redshift.AccessDenied", Refused),
    ("not authorized to get credentials", "Redshift.AccessDenied", Refused),
    ("iam role", "Redshift.AccessDenied", Refused),
    ("access denied", "Redshift.AccessDenied", Refused),
    ("accessdenied", "Redshift.AccessDenied", Refused),
    ("password authentication failed", "Redshift.AuthenticationFailed", Refused),
    ("authentication failed", "Redshift.AuthenticationFailed", Refused),
    // The database.
    ("must be owner", "Redshift.InsufficientPrivilege", Refused),
    ("permission denied", "Redshift.InsufficientPrivilege", Refused),
    ("insufficient privilege", "Redshift.InsufficientPrivilege", Refused),
    ("database|does not exist", "Redshift.DatabaseNotFound", Refused),
    ("column|does not exist", "Redshift.ColumnNotFound", Refused),
    ("column|of relation", "Redshift.ColumnNotFound", Refused),
    ("relation|could not be opened", "Redshift.RelationCouldNotBeOpened", Refused),
    ("could not open relation", "Redshift.RelationCouldNotBeOpened", Refused),
    ("schema|does not exist", "Redshift.TableNotFound", Refused),
    ("relation|does not exist", "Redshift.TableNotFound", Refused),
    ("table|does not exist", "Redshift.TableNotFound", Refused),
    ("cannot find table", "Redshift.TableNotFound", Refused),
    ("improper qualified name", "Redshift.ImproperQualifiedName", Refused),
    ("disk full", "Redshift.DiskFull", Refused),
    ("no space left", "Redshift.DiskFull", Refused),
    ("disk space quota", "Redshift.DiskSpaceQuotaExceeded", Refused),
    ("quota", "Redshift.DiskSpaceQuotaExceeded", Refused),
    ("transaction id limit", "Redshift.TransactionIdLimitReached", Refused),
    // COPY and its data.
    ("jsonpath", "Redshift.IncorrectJsonPathsFile", Refused),
    ("invalid json", "Redshift.InvalidCopyOptionForJson", Refused),
    ("compression", "Redshift.CompressionMismatch", Refused),
    ("encryption|credential", "Redshift.EncryptionCredentials", Refused),
    ("unmatched number of columns", "Redshift.ColumnMismatch", Refused),
    ("missing column", "Redshift.MissingColumn", Refused),
    ("delimiter", "Redshift.Delimiter", Refused),
    ("copy|option", "Redshift.InvalidCopyOptions", Refused),
    ("spectrum scan error", "Redshift.DataLoadFailed", Refused),
    ("load|failed", "Redshift.DataLoadFailed", Refused),
    ("load_error", "Redshift.DataLoadFailed", Refused),
    ("syntax error", "Redshift.SyntaxError", Refused),
];

/// The text without what stands in quotes: names of the user's, and values.
fn without_names(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut quote = None;
    let mut before = ' ';
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            // An apostrophe within a word quotes nothing.
            None if c == '"' || (c == '\'' && !before.is_alphanumeric()) => quote = Some(c),
            None => out.push(c),
        }
        before = c;
    }
    out
}

/// What a failure's text says.
pub(super) fn failure(text: &str) -> Failure {
    let text = without_names(text).to_lowercase();
    let fits = |parts: &str| parts.split('|').all(|part| text.contains(part));
    let found = TABLE.iter().find(|(parts, ..)| fits(parts));
    found.map_or(Failure { code: "Redshift.LoadFailed", meaning: Refused }, |(_, code, meaning)| Failure {
        code,
        meaning: *meaning,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_firehoses_codes_and_a_meaning() {
        for (text, code, meaning) in [
            ("ERROR: division by zero", "Redshift.AlreadyLoaded", Guard),
            ("ERROR: Divide by zero detail: ...", "Redshift.AlreadyLoaded", Guard),
            (
                "ERROR: 1023 DETAIL: Serializable isolation violation on table - 100",
                "Redshift.SerializableIsolation",
                Passing,
            ),
            ("ERROR: Query (123) cancelled on user's request", "Redshift.QueryCancelled", Passing),
            ("ERROR: Query 12 aborted by WLM rule", "Redshift.QueryCancelled", Passing),
            ("FATAL: terminating connection due to administrator command", "Redshift.ConnectionFailed", Passing),
            ("ERROR: relation \"public.orders\" does not exist", "Redshift.TableNotFound", Refused),
            ("ERROR: Cannot COPY into nonexistent table orders", "Redshift.LoadFailed", Refused),
            ("ERROR: permission denied for relation orders", "Redshift.InsufficientPrivilege", Refused),
            ("ERROR: column \"x\" of relation \"t\" does not exist", "Redshift.ColumnNotFound", Refused),
            (
                "ERROR: Load into table 'orders' failed. Check 'sys_load_error_detail' system table for details.",
                "Redshift.DataLoadFailed",
                Refused,
            ),
            (
                "ERROR: S3ServiceException:Access Denied,Status 403,Error AccessDenied",
                "Redshift.S3BucketAccessDenied",
                Refused,
            ),
            (
                "ERROR: Problem reading manifest file - S3ServiceException:The specified key does not exist.,Status 404,Error NoSuchKey",
                "Redshift.MissingS3File",
                Missing,
            ),
            ("ERROR: disk full", "Redshift.DiskFull", Refused),
            ("something new", "Redshift.LoadFailed", Refused),
        ] {
            assert_eq!(failure(text), Failure { code, meaning }, "{text}");
        }
    }
}
