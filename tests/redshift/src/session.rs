//! One connection to PostgreSQL, and what goes wrong on it in the words of Redshift.
//!
//! Every statement of the Data API gets a connection of its own, which ends with it.

use std::fmt;
use std::pin::pin;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio::task::JoinSet;
use tokio_postgres::types::Type;
use tokio_postgres::{CancelToken, Client, NoTls, SimpleQueryMessage};

/// Redshift's reading of strings, and times as it prints them.
const START: &str = "SET standard_conforming_strings = off; SET escape_string_warning = off; SET TIME ZONE 'UTC'; \
                     SET datestyle = 'ISO'; SET client_min_messages = warning";

/// Where PostgreSQL is: a connection string, as libpq writes it.
#[derive(Debug, Clone)]
pub(crate) struct Settings(pub(crate) String);

/// A connection.
pub(crate) struct Session {
    client: Client,
    pub(crate) pid: i32,
    pub(crate) cancel: CancelToken,
    _driver: JoinSet<()>,
}

/// Rows of a result.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Table {
    /// Name and type of each column.
    pub(crate) columns: Vec<(String, &'static str)>,
    pub(crate) rows: Vec<Vec<Option<String>>>,
}

/// Why a statement failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// What PostgreSQL, or this endpoint in its place, says.
    Said { message: String, detail: Option<String> },
    /// Two transactions that cannot both be as if alone.
    Serialization(String),
    /// Somebody cancelled it.
    Cancelled,
    /// The connection broke: what became of a commit is not known.
    Lost(String),
}

impl Trouble {
    /// An error of this endpoint's own.
    pub(crate) fn said(message: &str) -> Self {
        Self::Said { message: message.to_owned(), detail: None }
    }

    /// An error of PostgreSQL.
    pub(crate) fn of(error: &tokio_postgres::Error) -> Self {
        let Some(told) = error.as_db_error() else { return Self::Lost(error.to_string()) };
        let message = told.message().to_owned();
        match told.code().code() {
            "40001" | "40P01" => Self::Serialization(message),
            "57014" => Self::Cancelled,
            "57P01" | "57P02" | "57P03" => Self::Lost(message),
            _ => Self::Said { message, detail: told.detail().map(str::to_owned) },
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said { message, detail: None } => write!(f, "ERROR: {message}"),
            Self::Said { message, detail: Some(detail) } => write!(f, "ERROR: {message}\n  Detail: {detail}"),
            Self::Serialization(message) => {
                write!(f, "ERROR: 1023\n  Detail: Serializable isolation violation on a table in Redshift ({message})")
            }
            Self::Cancelled => write!(f, "ERROR: Query cancelled on user's request"),
            Self::Lost(message) => write!(f, "ERROR: the connection to the database was lost: {message}"),
        }
    }
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// PostgreSQL cannot be reached, or takes nobody.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Trouble> {
        let (client, connection) =
            tokio_postgres::connect(&settings.0, NoTls).await.map_err(|error| Trouble::Lost(chain(&error)))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // An error shows in the statement that waits for an answer.
            let _ = connection.await;
        });
        let cancel = client.cancel_token();
        let mut session = Self { client, pid: 0, cancel, _driver: driver };
        session.run(START).await?;
        let pid = session.texts("SELECT pg_backend_pid()").await?;
        session.pid = pid.first().and_then(|row| row.first()?.as_deref()?.parse().ok()).unwrap_or_default();
        Ok(session)
    }

    /// Runs statements without a result.
    pub(crate) async fn run(&self, sql: &str) -> Result<(), Trouble> {
        self.client.batch_execute(sql).await.map_err(|error| Trouble::of(&error))
    }

    /// Runs one statement; how many rows it touched.
    pub(crate) async fn count(&self, sql: &str) -> Result<u64, Trouble> {
        let messages = self.client.simple_query(sql).await.map_err(|error| Trouble::of(&error))?;
        let counts = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::CommandComplete(count) => Some(*count),
            _ => None,
        });
        Ok(counts.sum())
    }

    /// Rows as text.
    pub(crate) async fn texts(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Trouble> {
        let messages = self.client.simple_query(sql).await.map_err(|error| Trouble::of(&error))?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|place| row.get(place).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Rows with the names and types of their columns.
    pub(crate) async fn table(&self, sql: &str) -> Result<Table, Trouble> {
        let prepared = self.client.prepare(sql).await.map_err(|error| Trouble::of(&error))?;
        let columns = prepared.columns().iter().map(|column| (column.name().to_owned(), type_name(column.type_())));
        let columns = columns.collect();
        Ok(Table { columns, rows: self.texts(sql).await? })
    }

    /// Sends rows to a `COPY ... FROM STDIN`; how many it took.
    ///
    /// # Errors
    /// PostgreSQL's own, with the context that names the row.
    pub(crate) async fn put(&self, copy: &str, rows: Bytes) -> Result<u64, tokio_postgres::Error> {
        let sink = self.client.copy_in::<str, Bytes>(copy).await?;
        let mut sink = pin!(sink);
        let sent = sink.send(rows).await;
        match sink.as_mut().finish().await {
            Ok(count) => sent.map(|()| count),
            Err(error) if error.as_db_error().is_some() => Err(error),
            Err(error) => Err(sent.err().unwrap_or(error)),
        }
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Redshift's name of a type.
fn type_name(of: &Type) -> &'static str {
    match *of {
        Type::INT2 => "int2",
        Type::INT4 | Type::OID => "int4",
        Type::INT8 => "int8",
        Type::FLOAT4 => "float4",
        Type::FLOAT8 => "float8",
        Type::NUMERIC => "numeric",
        Type::BOOL => "bool",
        Type::BPCHAR => "bpchar",
        Type::DATE => "date",
        Type::TIMESTAMP => "timestamp",
        Type::TIMESTAMPTZ => "timestamptz",
        Type::JSON | Type::JSONB => "super",
        ref other if other.name() == "super" => "super",
        _ => "varchar",
    }
}
