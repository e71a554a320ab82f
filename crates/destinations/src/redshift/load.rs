//! `commit -> publish`: a committed receipt becomes rows, once, whoever asks and however often.
//!
//! Error and backup objects become visible; then the manifest is written, which shows from then on that they were, whoever
//! takes them away; one guarded batch runs to its end. Any end other than FINISHED: the ledger says what is true. Absent there, and nothing of this process running: the error's meaning decides
//! what the caller does; whoever else still runs a copy is stopped by the guard. A commit of which something is lost is
//! first made impossible to load (rows of the ledger under its id: the fence), and only then called lost.
//! Never: a guess, a second statement while the first may run, an answer Gone while a load may still come.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use standpipe_flow::{Checksum, CommitId, DeliveryError, Held, Millis, Output, OutputKind, Published, Receipt};

use super::attempts::Task;
use super::manifest::{self, RefusedRow};
use super::outcome::{self, Meaning};
use super::sql::{CopyInto, Load, RETRACTED, ShardRange};
use super::{LastFailure, Redshift, Status, data_api, parted};
use crate::s3::Whole;

/// Pauses between looks at a statement that runs: growing, for a service that does not wait by itself.
const LOOK_FIRST: Duration = Duration::from_millis(100);
const LOOK_LAST: Duration = Duration::from_secs(5);
/// A question waits for loads under way, which hold the ledger locked; after so long it is asked anew.
const ASK_MAX: Duration = Duration::from_secs(900);
/// One load in so many forgets rows of the ledger that are old.
const PRUNE_ONE_IN: u64 = 500;
/// Where manifests lie, behind the staging prefix.
const MANIFESTS: &str = "manifests/";
/// Where error lines for rows that COPY refused lie, behind the staging prefix.
const REFUSED_ROWS: &str = "errors/rows/";

/// What the ledger says of a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ledger {
    Loaded,
    /// Fenced: it will never be loaded.
    Retracted,
    Absent,
}

/// How a batch of statements ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// All of it took effect. The queries of its statements, where they are known.
    Finished(Vec<Option<i64>>),
    /// It says so.
    Failed(String),
}

/// Rows of a question, or what the warehouse says against it.
pub(super) type Answer = Result<data_api::Rows, String>;

/// The query of COPY in a load that finished: what follows it is the INSERT alone.
pub(super) fn query_of_copy(queries: &[Option<i64>]) -> Option<i64> {
    queries.iter().rev().nth(1).copied().flatten()
}

pub(super) async fn receipt(redshift: &Redshift, receipt: &Receipt) -> Result<Published, DeliveryError> {
    let (objects, others) = parted(&receipt.outputs);
    let visible = redshift.publish_others(receipt, others).await?;
    match visible {
        Published::All if objects.is_empty() => Ok(Published::All),
        Published::Gone { outputs, published } if objects.is_empty() => Ok(Published::Gone { outputs, published }),
        Published::All => redshift.load(receipt, &objects).await,
        // Had they never been visible, the commit could not be loaded without them. If somebody has taken them since, that
        // is no reason to deliver them again.
        Published::Gone { .. } if redshift.has_manifest(receipt, &objects).await? => {
            redshift.load(receipt, &objects).await
        }
        Published::Gone { outputs, published } => redshift.lost(receipt, &outputs, published).await,
        Published::GaveUp => Ok(Published::GaveUp),
    }
}

/// A commit that will never be loaded: its staged objects are lost with it, and these others.
pub(super) fn gone(receipt: &Receipt, lost: &[Output], published: bool) -> Published {
    let (objects, _) = parted(&receipt.outputs);
    let is_lost = |output: &&Output| objects.contains(output) || lost.contains(output);
    Published::Gone { outputs: receipt.outputs.iter().filter(is_lost).cloned().collect(), published }
}

impl Redshift {
    /// Makes error and backup objects visible.
    async fn publish_others(&self, receipt: &Receipt, others: Vec<Output>) -> Result<Published, DeliveryError> {
        if others.is_empty() {
            return Ok(Published::All);
        }
        use standpipe_flow::Destination;
        self.s3.publish(&Receipt { outputs: others, ..receipt.clone() }).await
    }

    async fn load(&self, receipt: &Receipt, objects: &[Output]) -> Result<Published, DeliveryError> {
        self.create_ledger().await?;
        let key = self.put_manifest(receipt, objects).await?;
        let url = format!("s3://{}/{key}", self.s3.bucket_name());
        let shards: Vec<ShardRange> = receipt.shards.iter().map(ShardRange::of).collect();
        let (cid, stream) = (receipt.cid, self.settings.stream.as_str());
        let records = objects.iter().map(|object| object.records).sum();
        let load = Load { cid, manifest_url: &url, shards: &shards, stream, records };
        match self.run(cid, Task::Load, &self.settings.copy.load(&load)).await? {
            Ended::Finished(queries) => self.loaded(receipt, query_of_copy(&queries)).await,
            Ended::Failed(text) => self.not_finished(receipt, objects, &text).await,
        }
    }

    /// Writes the manifest, once every other output is visible. The same bytes every time, so that anyone may again.
    async fn put_manifest(&self, receipt: &Receipt, objects: &[Output]) -> Result<String, DeliveryError> {
        let (key, body) = self.manifest(receipt, objects);
        self.s3.put_whole(Whole { key: key.clone(), body, once: false }).await?;
        Ok(key)
    }

    /// Whether the manifest stands there: then every other output has been visible.
    async fn has_manifest(&self, receipt: &Receipt, objects: &[Output]) -> Result<bool, DeliveryError> {
        let (key, body) = self.manifest(receipt, objects);
        let manifest = Output {
            kind: OutputKind::Data,
            bucket: self.s3.bucket_name().to_owned(),
            key,
            held: Held::Object,
            size: body.len() as u64,
            checksum: Checksum::Crc32(String::new()),
            records: 0,
        };
        Ok(self.s3.missing_wholes(&[manifest]).await?.is_empty())
    }

    fn manifest(&self, receipt: &Receipt, objects: &[Output]) -> (String, Bytes) {
        let key = manifest::key(&self.settings.prefix, MANIFESTS, manifest::named(receipt));
        (key, Bytes::from(manifest::manifest(objects)))
    }

    /// The commit is in the table.
    pub(super) async fn loaded(&self, receipt: &Receipt, query: Option<i64>) -> Result<Published, DeliveryError> {
        if self.settings.copy.errors_max > 0 {
            self.tell_refused_rows(manifest::named(receipt), query).await?;
        }
        self.failures().remove(&receipt.cid);
        if self.random.below(PRUNE_ONE_IN) == 0 {
            let [lock, delete] = self.settings.copy.prune_ledger();
            // Its end is of no interest: the next one tries again.
            if let Err(error) = self.api.submit("standpipe prune", &[lock, delete], None).await {
                tracing::debug!(%error, "the ledger was not pruned");
            }
        }
        Ok(Published::All)
    }

    /// The batch did not finish, or says so: the ledger knows.
    async fn not_finished(
        &self,
        receipt: &Receipt,
        objects: &[Output],
        text: &str,
    ) -> Result<Published, DeliveryError> {
        let cid = receipt.cid;
        match self.ledger_of(cid).await? {
            Ledger::Loaded => return self.loaded(receipt, None).await,
            Ledger::Retracted => return Ok(gone(receipt, &[], receipt.outputs.len() > objects.len())),
            Ledger::Absent => {}
        }
        let failure = outcome::failure(text);
        let message = data_api::bounded(text);
        if failure.meaning == Meaning::Missing {
            let missing = self.s3.missing_wholes(objects).await?;
            if !missing.is_empty() {
                tracing::error!(cid = %cid, missing = missing.len(), "staged objects are gone before they were loaded");
                let published = receipt.outputs.len() > objects.len();
                return self.lost(receipt, &[], published).await;
            }
        }
        match failure.meaning {
            // Neither there nor refused for another reason: a copy of ours elsewhere was rolled back in between.
            Meaning::Guard | Meaning::Passing => {
                Err(DeliveryError::Retry { after: None, cause: format!("{}: {message}", failure.code) })
            }
            Meaning::Refused | Meaning::Missing => {
                let rows = self.refused_rows(cid, None).await.unwrap_or_default();
                let shown =
                    rows.first().map_or_else(String::new, |row| format!("; first refused row: {}", row.shown()));
                let cause = format!("{}: {message}{shown}", failure.code);
                self.failures().insert(cid, LastFailure { failure, message, rows });
                Err(DeliveryError::Reject { cause })
            }
        }
    }

    /// Something of the commit is lost: staged objects, or these others. It may be taken back only when no load of it can
    /// come any more.
    pub(super) async fn lost(
        &self,
        receipt: &Receipt,
        lost: &[Output],
        published: bool,
    ) -> Result<Published, DeliveryError> {
        self.create_ledger().await?;
        let shards: Vec<ShardRange> = receipt.shards.iter().map(ShardRange::of).collect();
        let (cid, stream) = (receipt.cid, self.settings.stream.as_str());
        let load = Load { cid, manifest_url: RETRACTED, shards: &shards, stream, records: 0 };
        let ended = self.run(cid, Task::Fence, &self.settings.copy.fence(&load)).await?;
        let Ended::Failed(text) = ended else { return Ok(gone(receipt, lost, published)) };
        match self.ledger_of(cid).await? {
            Ledger::Retracted => Ok(gone(receipt, lost, published)),
            // It was loaded, so its other outputs had been visible before: somebody has taken them away since.
            Ledger::Loaded => self.loaded(receipt, None).await,
            Ledger::Absent => {
                Err(DeliveryError::Retry { after: None, cause: format!("not fenced: {}", data_api::bounded(&text)) })
            }
        }
    }

    /// Runs a batch to its end; the one that is under way already, if there is one. Safe to drop: it is remembered.
    pub(super) async fn run(&self, cid: CommitId, task: Task, sqls: &[String]) -> Result<Ended, DeliveryError> {
        let attempt = self.attempts.begin(cid, task, self.random.next());
        let id = match attempt.id {
            Some(id) => id,
            None => {
                let id = self.api.submit(&self.name(cid), sqls, Some(&attempt.token)).await?;
                self.attempts.taken(cid, task, (&attempt.token, &id));
                id
            }
        };
        let ended = self.end_of(&id).await?;
        self.attempts.ended(cid, task, &attempt.token);
        ended.ok_or_else(|| DeliveryError::Retry {
            after: None,
            cause: "the service does not know the statement any more".to_owned(),
        })
    }

    /// Waits for a batch's final state, however long it runs; `None` if the service does not know it.
    pub(super) async fn end_of(&self, id: &str) -> Result<Option<Ended>, DeliveryError> {
        let mut pause = LOOK_FIRST;
        loop {
            let Some(batch) = self.api.describe(id).await? else { return Ok(None) };
            match batch.status {
                Status::Finished => return Ok(Some(Ended::Finished(batch.queries))),
                Status::Failed => return Ok(Some(Ended::Failed(batch.error))),
                Status::Running => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(LOOK_LAST);
        }
    }

    /// Asks a question, or has something done that may be done again.
    pub(super) async fn ask(&self, sql: &str) -> Result<Answer, DeliveryError> {
        self.ask_last(&[sql.to_owned()]).await
    }

    /// The same with what must come before it in one transaction; the rows are those of the last.
    async fn ask_last(&self, sqls: &[String]) -> Result<Answer, DeliveryError> {
        let id = self.api.submit(&format!("standpipe {}", self.settings.pipeline), sqls, None).await?;
        let again = |cause: &str| DeliveryError::Retry { after: None, cause: cause.to_owned() };
        let ended = tokio::time::timeout(ASK_MAX, self.end_of(&id)).await;
        let is_question = sqls.last().is_some_and(|sql| sql.starts_with("SELECT"));
        match ended.map_err(|_| again("a question was not answered in a quarter of an hour"))?? {
            Some(Ended::Finished(_)) if is_question => Ok(Ok(self.api.rows(&id, sqls.len()).await?)),
            Some(Ended::Finished(_)) => Ok(Ok(Vec::new())),
            Some(Ended::Failed(text)) if outcome::failure(&text).meaning == Meaning::Passing => {
                Err(again(&data_api::bounded(&text)))
            }
            Some(Ended::Failed(text)) => Ok(Err(text)),
            None => Err(again("the service does not know the statement any more")),
        }
    }

    /// What the ledger says. It waits for whatever load holds the ledger locked.
    pub(super) async fn ledger_of(&self, cid: CommitId) -> Result<Ledger, DeliveryError> {
        match self.ask_last(&self.settings.copy.ask_ledger(cid)).await? {
            Ok(rows) => match rows.first().and_then(|row| row.first()) {
                None => Ok(Ledger::Absent),
                Some(Some(manifest)) if manifest == RETRACTED => Ok(Ledger::Retracted),
                Some(_) => Ok(Ledger::Loaded),
            },
            Err(text) => {
                // It may have been dropped: it is made anew before the next load, or not permitted: then that is said.
                self.ledger.store(false, Ordering::Relaxed);
                let cause = format!("the ledger cannot be read: {}", data_api::bounded(&text));
                Err(DeliveryError::Halt { cause })
            }
        }
    }

    /// The rows that COPY refused, as far as the warehouse tells; a right that is missing hides them and nothing else.
    pub(super) async fn refused_rows(
        &self,
        cid: CommitId,
        query: Option<i64>,
    ) -> Result<Vec<RefusedRow>, DeliveryError> {
        match self.ask(&CopyInto::refused_rows(cid, query)).await? {
            Ok(rows) => Ok(rows.iter().map(|row| RefusedRow::of(row)).collect()),
            Err(text) => {
                let error = data_api::bounded(&text);
                tracing::warn!(cid = %cid, error, "the rows that COPY refused cannot be read");
                Ok(Vec::new())
            }
        }
    }

    /// Rows that a load left out (MAXERROR) become an object of error lines, under a key of the commit: written once,
    /// by whoever comes first. Its address.
    pub(super) async fn tell_refused_rows(
        &self,
        (cid, created_at): (CommitId, Millis),
        query: Option<i64>,
    ) -> Result<Option<String>, DeliveryError> {
        let rows = self.refused_rows(cid, query).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let key = manifest::key(&self.settings.prefix, REFUSED_ROWS, (cid, created_at));
        tracing::warn!(cid = %cid, key, rows = rows.len(), "COPY has left rows out");
        let body = Bytes::from(manifest::refused_lines(cid, &rows));
        self.s3.put_whole(Whole { key: key.clone(), body, once: true }).await?;
        Ok(Some(format!("s3://{}/{key}", self.s3.bucket_name())))
    }
}
