//! A statement from SUBMITTED to its end: a connection, a transaction at REPEATABLE READ, its parts in order, a commit.
//!
//! The final state follows what PostgreSQL did, but where a fault says otherwise. A cancel is PostgreSQL's own; one that
//! comes too late finds FINISHED.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::NoTls;

use crate::api::statements::{Part, Statement, Status};
use crate::faults::{Fault, Strike};
use crate::load::{Origin, load};
use crate::peer::Peer;
use crate::session::{Session, Table, Trouble};
use crate::sql::dialect::{self, Statement as Sql};

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";
/// A cancel that comes between two statements finds nothing to cancel: it is sent again so often.
const CANCEL_AGAIN: Duration = Duration::from_millis(100);

/// Runs a statement to its end.
pub(crate) async fn run(peer: Arc<Peer>, statement: Statement) {
    let id = statement.id.clone();
    sleep(peer.queued / 2).await;
    peer.statements.change(&id, peer.now(), |now| now.status = Status::Picked);
    sleep(peer.queued / 2).await;
    let begin = Instant::now();
    let ended = Run { peer: &peer, statement: &statement, values: statement.request.values() }.whole().await;
    let (status, error) = match ended {
        Ok(()) => (Status::Finished, None),
        Err(Trouble::Cancelled) => (Status::Aborted, Some(Trouble::Cancelled.to_string())),
        Err(trouble) => {
            if matches!(trouble, Trouble::Serialization(_)) {
                peer.count("serialization failures", 1);
            }
            (Status::Failed, Some(trouble.to_string()))
        }
    };
    peer.count(&format!("ended {}", status.name()), 1);
    peer.statements.change(&id, peer.now(), |now| {
        now.status = status;
        now.error = error;
        now.nanos = nanos(begin);
        // What did not run does not run any more.
        for part in now.parts.iter_mut().filter(|part| !part.status.is_final()) {
            part.status = Status::Aborted;
        }
    });
}

fn nanos(begin: Instant) -> i64 {
    i64::try_from(begin.elapsed().as_nanos()).unwrap_or(i64::MAX)
}

/// What a statement of SQL gave.
struct Gave {
    rows: i64,
    table: Option<Table>,
}

struct Run<'a> {
    peer: &'a Peer,
    statement: &'a Statement,
    values: BTreeMap<String, String>,
}

impl Run<'_> {
    async fn whole(&self) -> Result<(), Trouble> {
        if self.statement.cancel.is_cancelled() {
            return Err(Trouble::Cancelled);
        }
        let database = self.statement.request.database.as_deref().unwrap_or_default();
        if database != self.peer.database {
            return Err(Trouble::said(&format!("FATAL: database \"{database}\" does not exist")));
        }
        let session = Session::open(&self.peer.settings).await?;
        self.change(|now| {
            now.status = Status::Started;
            now.pid = session.pid;
        });
        let mut work = pin!(self.parts(&session));
        tokio::select! {
            ended = &mut work => return ended,
            () = self.statement.cancel.cancelled() => {}
        }
        loop {
            let _ = session.cancel.cancel_query(NoTls).await;
            tokio::select! {
                ended = &mut work => return ended,
                () = sleep(CANCEL_AGAIN) => {}
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Statement)) {
        self.peer.statements.change(&self.statement.id, self.peer.now(), change);
    }

    fn strike(&self, faults: &[Fault]) -> Option<Strike> {
        let copy = self.statement.parts.iter().any(|part| is_copy(&part.sql));
        self.peer.faults.strike(self.statement.operation(), copy, |fault| faults.contains(&fault))
    }

    async fn parts(&self, session: &Session) -> Result<(), Trouble> {
        let count = self.statement.parts.len();
        if !self.statement.is_batch() || self.statement.request.is_transaction() {
            return self.transaction(session, 0..count).await;
        }
        // Each for itself: what fails does not touch the others.
        let mut ended = Ok(());
        for place in 0..count {
            if let Err(trouble) = self.transaction(session, place..place + 1).await {
                ended = Err(trouble);
            }
        }
        ended
    }

    async fn transaction(&self, session: &Session, places: std::ops::Range<usize>) -> Result<(), Trouble> {
        let only = if places.len() == 1 { self.statement.parts.get(places.start) } else { None };
        if let Some(part) = only
            && let Ok(Sql::Alone(sql)) = dialect::read(&part.sql, &self.values)
        {
            let ended = session.count(&sql).await.map(|_| Gave { rows: -1, table: None });
            return self.end_part(places.start, Instant::now(), 0, ended);
        }
        session.run(BEGIN).await?;
        let ended = self.inside(session, places).await;
        if ended.is_err() {
            // The connection may be gone, and the transaction with it.
            let _ = session.run("ROLLBACK").await;
            return ended;
        }
        self.check()?;
        session.run("COMMIT").await?;
        match self.strike(&[Fault::CommitUnclear]) {
            Some(_) => Err(Trouble::Lost("terminating connection during commit".to_owned())),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), Trouble> {
        if self.statement.cancel.is_cancelled() { Err(Trouble::Cancelled) } else { Ok(()) }
    }

    /// All that stands between BEGIN and COMMIT.
    async fn inside(&self, session: &Session, places: std::ops::Range<usize>) -> Result<(), Trouble> {
        let copy = places.clone().find(|place| self.statement.parts.get(*place).is_some_and(|part| is_copy(&part.sql)));
        let gone_after = copy.unwrap_or(places.start);
        for place in places {
            self.check()?;
            let Some(part) = self.statement.parts.get(place) else { continue };
            self.part(session, place, part).await?;
            if place == gone_after && self.strike(&[Fault::ConnectionGone]).is_some() {
                let other = Session::open(&self.peer.settings).await?;
                other.texts(&format!("SELECT pg_terminate_backend({})", session.pid)).await?;
            }
        }
        match self.strike(&[Fault::Aborted, Fault::Serialization]).map(|strike| strike.fault) {
            Some(Fault::Aborted) => Err(Trouble::Cancelled),
            Some(_) => Err(Trouble::Serialization("by a fault".to_owned())),
            None => Ok(()),
        }
    }

    async fn part(&self, session: &Session, place: usize, part: &Part) -> Result<(), Trouble> {
        let query_id = self.peer.new_query();
        self.change(|now| {
            now.parts[place].status = Status::Started;
            now.parts[place].query_id = query_id;
        });
        let begin = Instant::now();
        let ended = match dialect::read(&part.sql, &self.values) {
            Ok(sql) => self.sql(session, sql, query_id).await,
            Err(refused) => Err(Trouble::said(&refused.to_string())),
        };
        self.end_part(place, begin, query_id, ended)
    }

    fn end_part(
        &self,
        place: usize,
        begin: Instant,
        query_id: i64,
        ended: Result<Gave, Trouble>,
    ) -> Result<(), Trouble> {
        let updated = self.peer.now();
        let (status, error, gave, result) = match ended {
            Ok(gave) => (Status::Finished, None, Some(gave), Ok(())),
            Err(Trouble::Cancelled) => (Status::Aborted, None, None, Err(Trouble::Cancelled)),
            Err(trouble) => (Status::Failed, Some(trouble.to_string()), None, Err(trouble)),
        };
        self.change(|now| {
            let part = &mut now.parts[place];
            part.status = status;
            part.error = error;
            part.query_id = query_id;
            part.nanos = nanos(begin);
            part.updated = updated;
            if let Some(gave) = gave {
                part.rows = gave.rows;
                part.table = gave.table.map(Arc::new);
            }
        });
        result
    }

    async fn sql(&self, session: &Session, sql: Sql, query_id: i64) -> Result<Gave, Trouble> {
        let rows = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        match sql {
            Sql::Rows(sql) => {
                let table = session.table(&sql).await?;
                Ok(Gave { rows: rows(table.rows.len() as u64), table: Some(table) })
            }
            Sql::Plain(sql) => Ok(Gave { rows: rows(session.count(&sql).await?), table: None }),
            Sql::Truncate(sql) => {
                session.run(&sql).await?;
                session.run("COMMIT").await?;
                session.run(BEGIN).await?;
                Ok(Gave { rows: -1, table: None })
            }
            Sql::Alone(_) => Err(Trouble::said("VACUUM cannot run inside a transaction block")),
            Sql::Copy(copy) => {
                let origin = Origin { s3: &self.peer.s3, settings: &self.peer.settings, query_id };
                let loaded = load(session, &copy, &origin).await?;
                self.peer.count("copies", 1);
                self.peer.count("rows loaded", loaded.rows);
                self.peer.count("load errors", loaded.errors);
                if let Some(strike) = self.strike(&[Fault::SlowCopy]) {
                    tokio::select! {
                        () = sleep(Duration::from_secs_f64(strike.seconds.clamp(0.0, 3600.0))) => {}
                        () = self.statement.cancel.cancelled() => return Err(Trouble::Cancelled),
                    }
                }
                Ok(Gave { rows: rows(loaded.rows), table: None })
            }
        }
    }
}

/// Whether a statement is a COPY, by its first word.
pub(crate) fn is_copy(sql: &str) -> bool {
    crate::sql::token::tokens(sql).is_ok_and(|all| all.first().is_some_and(|first| first.is("copy")))
}
