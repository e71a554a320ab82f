//! What a request asks for, checked as the service checks it: one cluster or workgroup, one way to log in, bounds.
//!
//! Signatures and credentials are not looked at.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::exception::Exception;
use crate::sql::dialect::parameters_of;

/// Most statements of a batch (BatchExecuteStatement, `Sqls`).
const STATEMENTS_MAX: usize = 40;
/// Most bytes of a statement (Data API, "Considerations").
const STATEMENT_BYTES_MAX: usize = 100 * 1024;
/// Most seconds that an answer may wait.
const WAIT_SECONDS_MAX: i64 = 30;

/// ExecuteStatement and BatchExecuteStatement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(crate) struct Execute {
    pub(crate) sql: Option<String>,
    pub(crate) sqls: Vec<String>,
    pub(crate) cluster_identifier: Option<String>,
    pub(crate) workgroup_name: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) db_user: Option<String>,
    pub(crate) secret_arn: Option<String>,
    pub(crate) statement_name: Option<String>,
    pub(crate) with_event: Option<bool>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) client_token: Option<String>,
    pub(crate) execution_mode: Option<String>,
    pub(crate) result_format: Option<String>,
    pub(crate) session_id: Option<String>,
    pub(crate) session_keep_alive_seconds: Option<i64>,
    pub(crate) wait_time_seconds: Option<i64>,
}

/// A named value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parameter {
    name: String,
    value: String,
}

/// DescribeStatement, GetStatementResult and CancelStatement.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct ById {
    pub(crate) id: String,
    pub(crate) next_token: Option<String>,
    pub(crate) wait_time_seconds: Option<i64>,
}

/// ListStatements.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct List {
    pub(crate) next_token: Option<String>,
    pub(crate) max_results: Option<usize>,
    pub(crate) statement_name: Option<String>,
    pub(crate) status: Option<String>,
}

/// Reads a body.
///
/// # Errors
/// It is no such request.
pub(crate) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Exception> {
    serde_json::from_slice(body).map_err(|error| Exception::validation(format!("invalid request: {error}")))
}

impl Execute {
    /// The statements.
    pub(crate) fn statements(&self) -> &[String] {
        match &self.sql {
            Some(sql) => std::slice::from_ref(sql),
            None => &self.sqls,
        }
    }

    /// Whether one transaction holds them all.
    pub(crate) fn is_transaction(&self) -> bool {
        self.execution_mode.as_deref() != Some("AUTO_COMMIT")
    }

    /// Values by name.
    pub(crate) fn values(&self) -> BTreeMap<String, String> {
        self.parameters.iter().map(|parameter| (parameter.name.clone(), parameter.value.clone())).collect()
    }

    /// What two requests under one token must have alike.
    pub(crate) fn fingerprint(&self) -> String {
        let same = Self { client_token: None, wait_time_seconds: None, ..self.clone() };
        serde_json::to_string(&same).unwrap_or_default()
    }

    /// Checks everything that can be checked before anything runs; `batch` says which operation it is.
    ///
    /// # Errors
    /// A ValidationException that names the field.
    pub(crate) fn check(&self, batch: bool) -> Result<(), Exception> {
        let refuse = |message: &str| Err(Exception::validation(message));
        if batch != self.sql.is_none() || (self.sql.is_some() && !self.sqls.is_empty()) {
            return refuse("Sql is for ExecuteStatement, Sqls for BatchExecuteStatement");
        }
        let statements = self.statements();
        if statements.is_empty() || statements.len() > STATEMENTS_MAX {
            return refuse("Member must have length between 1 and 40: Sqls");
        }
        if statements.iter().any(|sql| sql.len() > STATEMENT_BYTES_MAX) {
            return refuse("Query string length exceeds 100 KB");
        }
        self.check_login()?;
        if self.client_token.as_ref().is_some_and(|token| token.is_empty() || token.len() > 64) {
            return refuse("Member must have length between 1 and 64: ClientToken");
        }
        if !batch && self.execution_mode.is_some() {
            return refuse("ExecutionMode is for BatchExecuteStatement");
        }
        if !matches!(self.execution_mode.as_deref(), None | Some("TRANSACTION" | "AUTO_COMMIT")) {
            return refuse("Member must satisfy enum value set: [TRANSACTION, AUTO_COMMIT]: ExecutionMode");
        }
        if self.result_format.as_deref().is_some_and(|format| format != "JSON") {
            return refuse("ResultFormat other than JSON is not supported by this endpoint");
        }
        if self.session_id.is_some() || self.session_keep_alive_seconds.is_some() {
            return refuse("sessions are not supported by this endpoint");
        }
        check_wait(self.wait_time_seconds)?;
        self.check_parameters()
    }

    fn check_login(&self) -> Result<(), Exception> {
        let refuse = |message: &str| Err(Exception::validation(message));
        match (&self.cluster_identifier, &self.workgroup_name) {
            (Some(_), Some(_)) => return refuse("Specify either ClusterIdentifier or WorkgroupName, not both"),
            (None, None) => return refuse("Either ClusterIdentifier or WorkgroupName must be specified"),
            _ => {}
        }
        if self.database.as_deref().is_none_or(str::is_empty) {
            return refuse("Database must be specified");
        }
        if self.db_user.is_some() && self.secret_arn.is_some() {
            return refuse("Specify either DbUser or SecretArn, not both");
        }
        if self.db_user.is_some() && self.workgroup_name.is_some() {
            return refuse("DbUser can't be specified with WorkgroupName");
        }
        // A name is as good as an ARN (API reference).
        if self.secret_arn.as_ref().is_some_and(String::is_empty) {
            return refuse("SecretArn must not be empty");
        }
        Ok(())
    }

    fn check_parameters(&self) -> Result<(), Exception> {
        let used: BTreeSet<String> = self.statements().iter().flat_map(|sql| parameters_of(sql)).collect();
        let values = self.values();
        if values.len() < self.parameters.len() {
            return Err(Exception::validation("Parameters list contains duplicate names"));
        }
        let unused: Vec<&str> = values.keys().filter(|name| !used.contains(*name)).map(String::as_str).collect();
        if !unused.is_empty() {
            let unused = unused.join(", ");
            let message = format!("Parameters list contains unused parameters. Unused parameters: [{unused}]");
            return Err(Exception::validation(message));
        }
        match used.iter().find(|name| !values.contains_key(*name)) {
            Some(name) => Err(Exception::validation(format!("Parameter {name} is used and has no value"))),
            None if values.values().any(String::is_empty) => {
                Err(Exception::validation("Member must have length greater than or equal to 1: Parameters"))
            }
            None => Ok(()),
        }
    }
}

/// Checks WaitTimeSeconds.
///
/// # Errors
/// It is out of its bounds.
pub(crate) fn check_wait(seconds: Option<i64>) -> Result<(), Exception> {
    if seconds.is_some_and(|seconds| !(1..=WAIT_SECONDS_MAX).contains(&seconds)) {
        return Err(Exception::validation("Member must be between 1 and 30: WaitTimeSeconds"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<(), Exception> {
        read::<Execute>(text.as_bytes())?.check(text.contains("Sqls"))
    }

    #[test]
    fn one_cluster_and_one_way_to_log_in() {
        for good in [
            r#"{"Sql":"SELECT 1","ClusterIdentifier":"c","Database":"dev","DbUser":"u"}"#,
            r#"{"Sql":"SELECT 1","ClusterIdentifier":"c","Database":"dev"}"#,
            r#"{"Sql":"SELECT 1","WorkgroupName":"w","Database":"dev","SecretArn":"arn:aws:s"}"#,
            r#"{"Sqls":["SELECT :a"],"WorkgroupName":"w","Database":"dev","Parameters":[{"name":"a","value":"1"}]}"#,
        ] {
            assert_eq!(checked(good), Ok(()), "{good}");
        }
        for bad in [
            r#"{"Sql":"SELECT 1","ClusterIdentifier":"c","WorkgroupName":"w","Database":"dev"}"#,
            r#"{"Sql":"SELECT 1","Database":"dev"}"#,
            r#"{"Sql":"SELECT 1","ClusterIdentifier":"c"}"#,
            r#"{"Sql":"SELECT 1","ClusterIdentifier":"c","Database":"dev","DbUser":"u","SecretArn":"arn:aws:s"}"#,
            r#"{"Sql":"SELECT 1","WorkgroupName":"w","Database":"dev","DbUser":"u"}"#,
            r#"{"Sqls":[],"WorkgroupName":"w","Database":"dev"}"#,
            r#"{"Sql":"SELECT 1","WorkgroupName":"w","Database":"dev","WaitTimeSeconds":31}"#,
            r#"{"Sql":"SELECT 1","WorkgroupName":"w","Database":"dev","Unknown":1}"#,
            r#"{"Sql":"SELECT 1","WorkgroupName":"w","Database":"dev","Parameters":[{"name":"a","value":"1"}]}"#,
            r#"{"Sql":"SELECT :a","WorkgroupName":"w","Database":"dev"}"#,
        ] {
            assert_eq!(checked(bad).map_err(|exception| exception.kind), Err("ValidationException"), "{bad}");
        }
    }

    #[test]
    fn a_token_binds_all_but_itself_and_the_wait() {
        let read = |text: &str| read::<Execute>(text.as_bytes()).expect("a request").fingerprint();
        let one = read(r#"{"Sql":"SELECT 1","ClientToken":"a","WaitTimeSeconds":3}"#);
        assert_eq!(one, read(r#"{"Sql":"SELECT 1","ClientToken":"b"}"#));
        assert_ne!(one, read(r#"{"Sql":"SELECT 2","ClientToken":"a"}"#));
    }
}
