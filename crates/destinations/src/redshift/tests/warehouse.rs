//! A warehouse in a few lines behind the Data API's JSON: a ledger, a count of rows, and what a test wants to go wrong.
//! Beside it, S3 is the emulator: a COPY reads its manifest and its objects from there.

use std::collections::BTreeSet;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use standpipe_emulator::{Connection, Emulator, Options};

use super::*;

/// What happens to the next batch with a COPY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// The connection breaks before the service has it.
    LostBefore,
    /// The service has it, and it finishes; the answer is lost.
    LostAfter,
    /// Refused with this code.
    Busy(&'static str),
    /// A 500 before anything.
    Internal,
    /// FAILED with this text, without effect.
    Failed(&'static str),
    /// FAILED with this text although it took effect.
    FailedAfter(&'static str),
    /// ABORTED, without effect.
    Aborted,
    /// ABORTED although it took effect.
    AbortedAfter,
    /// The service forgets the statement, which had no effect.
    Forgotten,
    /// The service forgets the statement, which took effect.
    ForgottenAfter,
    /// It runs until it is cancelled.
    Hangs,
    /// It runs until it is cancelled, which comes too late.
    HangsThenWins,
}

/// A batch as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) token: String,
    pub(super) workgroup: String,
    pub(super) database: String,
    pub(super) secret: String,
    pub(super) sqls: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Statement {
    id: String,
    token: String,
    status: &'static str,
    error: Option<String>,
    rows: Vec<Vec<Value>>,
    wins: bool,
    sqls: Vec<String>,
}

#[derive(Default)]
struct Warehouse {
    ledger_made: bool,
    /// cid, shard, manifest.
    ledger: Vec<(String, String, String)>,
    rows: usize,
    fates: Vec<Fate>,
    statements: Vec<Statement>,
    batches: Vec<Arrived>,
    cancelled: usize,
    refused: Vec<(u64, String, String)>,
    /// What was loaded, by key.
    loaded: BTreeMap<String, Bytes>,
}

#[derive(Clone)]
pub(super) struct World {
    emulator: Arc<Emulator>,
    connection: Connection,
    warehouse: Arc<Mutex<Warehouse>>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

type Answered = Result<Value, (u16, String)>;

impl World {
    pub(super) fn new() -> Self {
        let emulator = Emulator::new(Options::new(Arc::new(|| 1_790_000_000_000))).expect("in memory");
        emulator.create_bucket("staging").expect("a bucket");
        let connection = emulator.connect("test");
        Self { emulator, connection, warehouse: Arc::default() }
    }

    fn warehouse(&self) -> MutexGuard<'_, Warehouse> {
        self.warehouse.lock().expect("no test panics with the lock held")
    }

    /// What happens to the next batches with a COPY.
    pub(super) fn fates(&self, fates: &[Fate]) {
        self.warehouse().fates = fates.iter().rev().copied().collect();
    }

    pub(super) fn refuse_rows(&self, rows: &[(u64, &str, &str)]) {
        let rows = rows.iter().map(|(line, column, why)| (*line, (*column).to_owned(), (*why).to_owned()));
        self.warehouse().refused = rows.collect();
    }

    pub(super) fn batches(&self) -> Vec<Arrived> {
        self.warehouse().batches.clone()
    }

    pub(super) fn rows(&self) -> usize {
        self.warehouse().rows
    }

    pub(super) fn ledger(&self) -> usize {
        self.warehouse().ledger.len()
    }

    pub(super) fn ledger_made(&self) -> bool {
        self.warehouse().ledger_made
    }

    pub(super) fn cancelled(&self) -> usize {
        self.warehouse().cancelled
    }

    pub(super) fn object(&self, key: &str) -> Option<Bytes> {
        self.emulator.object("staging", key)
    }

    pub(super) fn objects_under(&self, prefix: &str) -> usize {
        self.emulator.objects("staging").iter().filter(|object| object.key.starts_with(prefix)).count()
    }

    /// A request to the Data API.
    fn api(&self, operation: &str, input: &Value) -> Result<Answered, ConnectorError> {
        match operation {
            "BatchExecuteStatement" => self.batch(input),
            "DescribeStatement" => Ok(self.describe(input["Id"].as_str().unwrap_or_default())),
            "GetStatementResult" => Ok(self.result(input["Id"].as_str().unwrap_or_default())),
            "CancelStatement" => Ok(self.cancel(input["Id"].as_str().unwrap_or_default())),
            other => panic!("{other} is not asked for"),
        }
    }

    fn batch(&self, input: &Value) -> Result<Answered, ConnectorError> {
        let text = |name: &str| input[name].as_str().unwrap_or_default().to_owned();
        let sqls: Vec<String> = input["Sqls"]
            .as_array()
            .expect("sqls")
            .iter()
            .map(|sql| sql.as_str().expect("a text").to_owned())
            .collect();
        let token = text("ClientToken");
        // Whatever has no guard is a question, or what may be done again.
        if !sqls.iter().any(|sql| sql.contains("1/(1-")) {
            return Ok(self.execute(&sqls));
        }
        let mut warehouse = self.warehouse();
        let loads = sqls.iter().any(|sql| sql.starts_with("COPY"));
        warehouse.batches.push(Arrived {
            token: token.clone(),
            workgroup: text("WorkgroupName"),
            database: text("Database"),
            secret: text("SecretArn"),
            sqls: sqls.clone(),
        });
        let known = warehouse.statements.iter().find(|one| one.token == token).map(|one| one.id.clone());
        let fate = if loads { warehouse.fates.pop() } else { None };
        let lost = || ConnectorError::io("the connection was reset".into());
        match fate {
            Some(Fate::LostBefore) => return Err(lost()),
            Some(Fate::Busy(code)) => return Ok(Err((400, code.to_owned()))),
            Some(Fate::Internal) => return Ok(Err((500, "InternalServerException".to_owned()))),
            _ => {}
        }
        if let Some(id) = known {
            return if fate == Some(Fate::LostAfter) { Err(lost()) } else { Ok(Ok(json!({ "Id": id }))) };
        }
        let mut one = Statement {
            id: format!("statement-{}", warehouse.statements.len()),
            token,
            status: "FINISHED",
            sqls: sqls.clone(),
            ..Statement::default()
        };
        let has_effect = !matches!(
            fate,
            Some(Fate::Failed(_) | Fate::Aborted | Fate::Forgotten | Fate::Hangs | Fate::HangsThenWins)
        );
        if has_effect && let Err(error) = self.transaction(&mut warehouse, &sqls) {
            (one.status, one.error) = ("FAILED", Some(error));
        }
        match fate {
            Some(Fate::Failed(error) | Fate::FailedAfter(error)) => {
                (one.status, one.error) = ("FAILED", Some(error.to_owned()));
            }
            Some(Fate::Aborted | Fate::AbortedAfter) => one.status = "ABORTED",
            Some(Fate::Hangs) => one.status = "STARTED",
            Some(Fate::HangsThenWins) => (one.status, one.wins) = ("STARTED", true),
            _ => {}
        }
        let id = one.id.clone();
        if !matches!(fate, Some(Fate::Forgotten | Fate::ForgottenAfter)) {
            warehouse.statements.push(one);
        }
        if fate == Some(Fate::LostAfter) { Err(lost()) } else { Ok(Ok(json!({ "Id": id }))) }
    }

    /// LOCK, guard, COPY, INSERT: all of it or nothing.
    fn transaction(&self, warehouse: &mut Warehouse, sqls: &[String]) -> Result<(), String> {
        let missing = || "ERROR: relation \"standpipe_ledger_orders\" does not exist".to_owned();
        if !warehouse.ledger_made {
            return Err(missing());
        }
        let [lock, rest @ ..] = sqls else { panic!("an empty batch") };
        assert_eq!(lock, LOCK);
        let (forget, rest) = match rest {
            [first, rest @ ..] if first.starts_with("DELETE") => (literals(first).first().cloned(), rest),
            rest => (None, rest),
        };
        let kept = |row: &&(String, String, String)| !(Some(&row.0) == forget.as_ref() && row.2 == "retracted");
        let mut ledger: Vec<_> = warehouse.ledger.iter().filter(kept).cloned().collect();
        let [guard, work @ ..] = rest else { panic!("no guard: {sqls:?}") };
        assert!(guard.starts_with("SELECT 1/(1-LEAST(COUNT(*),1)) FROM"), "{guard}");
        let cid = literals(guard).pop().expect("a cid");
        if ledger.iter().any(|(known, ..)| *known == cid) {
            return Err("ERROR: Divide by zero".to_owned());
        }
        let (mut rows, mut loaded) = (0, BTreeMap::new());
        for sql in work {
            if sql.starts_with("COPY ") {
                rows += self.copy(&literals(sql)[0], &mut loaded)?;
            }
        }
        let insert = work.last().expect("an INSERT");
        for row in insert.split("VALUES ").nth(1).expect("values").split("), (") {
            let of = literals(row);
            ledger.push((of[0].clone(), of[1].clone(), of.last().expect("a manifest").clone()));
        }
        warehouse.ledger = ledger;
        warehouse.rows += rows;
        warehouse.loaded.extend(loaded);
        Ok(())
    }

    /// Rows of the objects that a manifest names.
    fn copy(&self, url: &str, loaded: &mut BTreeMap<String, Bytes>) -> Result<usize, String> {
        let key = |url: &str| url.strip_prefix("s3://staging/").expect("our bucket").to_owned();
        let manifest = self.object(&key(url)).ok_or("ERROR: Problem reading manifest file - NoSuchKey")?;
        let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
        let mut rows = 0;
        for entry in manifest["entries"].as_array().expect("entries") {
            assert_eq!(entry["mandatory"], true);
            let key = key(entry["url"].as_str().expect("a url"));
            let object = self.object(&key).ok_or("ERROR: Mandatory url is not present in manifest listing")?;
            assert_eq!(entry["meta"]["content_length"].as_u64(), Some(object.len() as u64));
            rows += object.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
            loaded.insert(key, object);
        }
        Ok(rows)
    }

    fn execute(&self, sqls: &[String]) -> Answered {
        let mut warehouse = self.warehouse();
        let (locked, sql) = match sqls {
            [sql] => (false, sql),
            [lock, sql] if lock == LOCK => (true, sql),
            other => panic!("not asked for: {other:?}"),
        };
        let id = format!("statement-{}", warehouse.statements.len());
        let mut one = Statement { id: id.clone(), status: "FINISHED", sqls: sqls.to_vec(), ..Statement::default() };
        if sql.starts_with("CREATE TABLE IF NOT EXISTS") {
            warehouse.ledger_made = true;
        } else if sql.contains("information_schema.tables") {
            let there = ["orders"].into_iter().chain(warehouse.ledger_made.then_some("standpipe_ledger_orders"));
            let asked = literals(sql);
            one.rows =
                there.filter(|name| asked.iter().any(|asked| asked == name)).map(|name| vec![json!(name)]).collect();
        } else if sql.contains("sys_load_error_detail") {
            let row = |(line, column, why): &(u64, String, String)| {
                let text = |text: &str| json!(text);
                vec![text("s3://staging/x"), json!(line), text(column), text("int4"), json!(7), json!(1207), text(why)]
            };
            one.rows = warehouse.refused.iter().map(row).collect();
        } else if sql.starts_with("SELECT manifest FROM") {
            assert!(locked, "the ledger is asked under its lock");
            let cid = literals(sql).pop().expect("a cid");
            let found = warehouse.ledger.iter().find(|(known, ..)| *known == cid);
            one.rows = found.map(|(_, _, manifest)| vec![json!(manifest)]).into_iter().collect();
            if !warehouse.ledger_made {
                (one.status, one.error) = ("FAILED", Some("ERROR: relation does not exist".to_owned()));
            }
        } else if sql.starts_with("DELETE FROM") {
            assert!(locked, "the ledger is pruned under its lock");
        } else {
            panic!("not asked for: {sql}");
        }
        warehouse.statements.push(one);
        Ok(json!({ "Id": id }))
    }

    fn describe(&self, id: &str) -> Answered {
        let warehouse = self.warehouse();
        let Some(one) = warehouse.statements.iter().find(|one| one.id == id) else {
            return Err((400, "ResourceNotFoundException".to_owned()));
        };
        let part = |n: usize| json!({ "Id": format!("{id}:{n}"), "Status": one.status, "RedshiftQueryId": 100 + n });
        let parts: Vec<Value> = (1..=one.sqls.len()).map(part).collect();
        Ok(json!({ "Id": id, "Status": one.status, "Error": one.error, "SubStatements": parts }))
    }

    fn result(&self, id: &str) -> Answered {
        let warehouse = self.warehouse();
        let (id, statement) = id.split_once(':').expect("a statement of a batch");
        let one = warehouse.statements.iter().find(|one| one.id == id).expect("a statement that was described");
        assert_eq!(statement, one.sqls.len().to_string(), "the question stands last");
        let field = |value: &Value| match value {
            Value::Number(number) => json!({ "longValue": number }),
            other => json!({ "stringValue": other }),
        };
        let records: Vec<Value> = one.rows.iter().map(|row| row.iter().map(field).collect()).collect();
        Ok(json!({ "Records": records, "TotalNumRows": records.len() }))
    }

    fn cancel(&self, id: &str) -> Answered {
        let mut warehouse = self.warehouse();
        warehouse.cancelled += 1;
        let place = warehouse.statements.iter().position(|one| one.id == id).expect("one that was described");
        if warehouse.statements[place].wins {
            let sqls = warehouse.statements[place].sqls.clone();
            self.transaction(&mut warehouse, &sqls).expect("it wins");
            warehouse.statements[place].status = "FINISHED";
            return Err((400, "ValidationException".to_owned()));
        }
        warehouse.statements[place].status = "ABORTED";
        Ok(json!({ "Status": true }))
    }
}

/// What stands first wherever the ledger is read or written.
const LOCK: &str = "LOCK TABLE \"public\".\"standpipe_ledger_orders\"";

/// The texts between single quotes.
fn literals(sql: &str) -> Vec<String> {
    sql.split('\'').skip(1).step_by(2).map(str::to_owned).collect()
}

impl HttpClient for World {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for World {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Some(operation) =
            request.headers().get("x-amz-target").and_then(|target| target.strip_prefix("RedshiftData."))
        else {
            return self.connection.call(request);
        };
        let input: Value = serde_json::from_slice(request.body().bytes().unwrap_or_default()).expect("JSON");
        let (status, body) = match self.api(operation, &input) {
            Err(error) => return HttpConnectorFuture::ready(Err(error)),
            Ok(Ok(answer)) => (200, answer),
            Ok(Err((status, code))) => (status, json!({ "__type": code, "message": "as the test says" })),
        };
        let response = HttpResponse::new(status.try_into().expect("a status"), SdkBody::from(body.to_string()));
        HttpConnectorFuture::ready(Ok(response))
    }
}

/// A staged object is visible when it was loaded, whatever becomes of it then; other objects when they are there.
#[async_trait]
impl Witness for World {
    async fn visible(&self, key: &str) -> Option<Bytes> {
        if key.contains("errors/") { self.object(key) } else { self.warehouse().loaded.get(key).cloned() }
    }

    async fn open_uploads(&self) -> usize {
        let known: BTreeSet<String> = self.warehouse().ledger.iter().map(|(cid, ..)| cid.clone()).collect();
        let staged = self.emulator.objects("staging").into_iter().filter(|object| {
            let ours = !object.key.contains("errors/") && !object.key.contains("manifests/");
            ours && !known.iter().any(|cid| object.key.contains(cid.as_str()))
        });
        self.emulator.open_uploads("staging").len() + staged.count()
    }
}
