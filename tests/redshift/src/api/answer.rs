//! Answers of the Data API, as JSON: times are seconds since 1970, values are fields of one member.

use serde_json::{Map, Value, json};

use super::statements::{Part, Statement, Status};
use crate::session::Table;

/// Rows of one page of a result.
const PAGE_ROWS: usize = 1000;

/// What both executing operations answer; `waited` adds what one that waited tells.
pub(crate) fn accepted(statement: &Statement, waited: bool) -> Value {
    let mut answer = origin(statement);
    answer.insert("Id".to_owned(), json!(statement.id));
    answer.insert("CreatedAt".to_owned(), json!(statement.created));
    if waited {
        answer.insert("Status".to_owned(), json!(statement.status.name()));
        answer.insert("RedshiftPid".to_owned(), json!(statement.pid));
        answer.insert("HasResultSet".to_owned(), json!(has_result(&statement.parts)));
    }
    Value::Object(answer)
}

/// Where it runs and as whom.
fn origin(statement: &Statement) -> Map<String, Value> {
    let request = &statement.request;
    let named = [
        ("ClusterIdentifier", &request.cluster_identifier),
        ("WorkgroupName", &request.workgroup_name),
        ("Database", &request.database),
        ("DbUser", &request.db_user),
        ("SecretArn", &request.secret_arn),
    ];
    named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?)))).collect()
}

fn has_result(parts: &[Part]) -> bool {
    parts.iter().any(|part| part.table.is_some())
}

/// DescribeStatement of the whole.
pub(crate) fn described(statement: &Statement) -> Value {
    let mut answer = origin(statement);
    let mut put = |name: &str, value: Value| drop(answer.insert(name.to_owned(), value));
    put("Id", json!(statement.id));
    put("Status", json!(statement.status.name()));
    put("CreatedAt", json!(statement.created));
    put("UpdatedAt", json!(statement.updated));
    put("Duration", json!(statement.nanos));
    put("RedshiftPid", json!(statement.pid));
    put("HasResultSet", json!(has_result(&statement.parts)));
    put("ResultFormat", json!("JSON"));
    if let Some(error) = &statement.error {
        put("Error", json!(error));
    }
    if !statement.request.parameters.is_empty() {
        put("QueryParameters", json!(statement.request.parameters));
    }
    match statement.parts.first().filter(|_| !statement.is_batch()) {
        Some(only) => {
            put("QueryString", json!(only.sql));
            put("ResultRows", json!(only.rows));
            put("ResultSize", json!(size(only)));
            put("RedshiftQueryId", json!(only.query_id));
        }
        None => {
            put("ResultRows", json!(-1));
            put("ResultSize", json!(-1));
            put("RedshiftQueryId", json!(0));
            put("ExecutionMode", json!(if statement.request.is_transaction() { "TRANSACTION" } else { "AUTO_COMMIT" }));
            let parts = statement.parts.iter().enumerate();
            put("SubStatements", parts.map(|(place, part)| sub(statement, place, part)).collect());
        }
    }
    Value::Object(answer)
}

/// A statement of a batch, as its parent tells it and as it is described itself.
pub(crate) fn sub(statement: &Statement, place: usize, part: &Part) -> Value {
    let mut answer = json!({
        "Id": format!("{}:{}", statement.id, place + 1),
        "Status": part.status.name(),
        "CreatedAt": statement.created,
        "UpdatedAt": part.updated,
        "Duration": part.nanos,
        "QueryString": part.sql,
        "ResultRows": part.rows,
        "ResultSize": size(part),
        "RedshiftQueryId": part.query_id,
        "HasResultSet": part.table.is_some(),
    });
    if let (Some(error), Some(answer)) = (&part.error, answer.as_object_mut()) {
        answer.insert("Error".to_owned(), json!(error));
    }
    answer
}

fn size(part: &Part) -> i64 {
    let Some(table) = &part.table else { return if part.status == Status::Finished { 0 } else { -1 } };
    let bytes: usize = table.rows.iter().flatten().map(|value| value.as_ref().map_or(0, String::len)).sum();
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// One statement of a list.
pub(crate) fn listed(statement: &Statement) -> Value {
    let request = &statement.request;
    let mut answer = json!({
        "Id": statement.id,
        "Status": statement.status.name(),
        "CreatedAt": statement.created,
        "UpdatedAt": statement.updated,
        "IsBatchStatement": statement.is_batch(),
        "ResultFormat": "JSON",
    });
    if let Some(answer) = answer.as_object_mut() {
        match &request.sql {
            Some(sql) => answer.insert("QueryString".to_owned(), json!(sql)),
            None => answer.insert("QueryStrings".to_owned(), json!(request.sqls)),
        };
        if let Some(name) = &request.statement_name {
            answer.insert("StatementName".to_owned(), json!(name));
        }
        if let Some(secret) = &request.secret_arn {
            answer.insert("SecretArn".to_owned(), json!(secret));
        }
    }
    answer
}

/// A page of a result that begins at a row.
pub(crate) fn page(table: &Table, from: usize) -> Value {
    let to = from.saturating_add(PAGE_ROWS).min(table.rows.len());
    let rows = table.rows.get(from..to).unwrap_or_default();
    let record = |row: &Vec<Option<String>>| -> Value {
        row.iter().zip(&table.columns).map(|(value, (_, kind))| field(value.as_deref(), kind)).collect()
    };
    let mut answer = json!({
        "ColumnMetadata": table.columns.iter().map(|(name, kind)| column(name, kind)).collect::<Vec<_>>(),
        "Records": rows.iter().map(record).collect::<Vec<_>>(),
        "TotalNumRows": table.rows.len(),
    });
    if let Some(answer) = answer.as_object_mut().filter(|_| to < table.rows.len()) {
        answer.insert("NextToken".to_owned(), json!(to.to_string()));
    }
    answer
}

fn column(name: &str, kind: &str) -> Value {
    let (precision, scale) = match kind {
        "int2" => (5, 0),
        "int4" => (10, 0),
        "int8" => (19, 0),
        "float4" => (8, 8),
        "float8" => (17, 17),
        "bool" => (1, 0),
        "date" => (13, 0),
        "timestamp" => (29, 6),
        "timestamptz" => (35, 6),
        _ => (0, 0),
    };
    let number = matches!(kind, "int2" | "int4" | "int8" | "float4" | "float8" | "numeric");
    json!({
        "name": name, "label": name, "typeName": kind, "nullable": 1, "isSigned": number, "isCurrency": false,
        "isCaseSensitive": kind == "varchar" || kind == "bpchar", "precision": precision, "scale": scale,
        "length": 0, "schemaName": "", "tableName": "",
    })
}

fn field(value: Option<&str>, kind: &str) -> Value {
    let Some(text) = value else { return json!({ "isNull": true }) };
    let number = match kind {
        "int2" | "int4" | "int8" => text.parse::<i64>().ok().map(|number| json!({ "longValue": number })),
        // What JSON has no number for stays a string.
        "float4" | "float8" => {
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            number.map(|number| json!({ "doubleValue": number }))
        }
        "bool" => Some(json!({ "booleanValue": text == "t" })),
        _ => None,
    };
    number.unwrap_or_else(|| json!({ "stringValue": text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_fields_of_their_kind_and_pages_follow_each_other() {
        let row =
            vec![Some("7".to_owned()), Some("t".to_owned()), None, Some("0.5".to_owned()), Some("1.50".to_owned())];
        let kinds = ["int8", "bool", "varchar", "float8", "numeric"];
        let table = Table {
            columns: kinds.iter().map(|kind| (format!("c_{kind}"), *kind)).collect(),
            rows: vec![row; PAGE_ROWS + 1],
        };
        let first = page(&table, 0);
        assert_eq!(
            first["Records"][0],
            json!([{"longValue":7},{"booleanValue":true},{"isNull":true},{"doubleValue":0.5},{"stringValue":"1.50"}])
        );
        assert_eq!((&first["NextToken"], &first["TotalNumRows"]), (&json!("1000"), &json!(1001)));
        let second = page(&table, 1000);
        assert_eq!((second["Records"].as_array().map(Vec::len), &second["NextToken"]), (Some(1), &Value::Null));
        assert_eq!(page(&table, 5000)["Records"], json!([]));
    }
}
