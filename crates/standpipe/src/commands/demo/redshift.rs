//! The demo into Redshift: a table behind a Data API endpoint that runs on this machine (the repository has one, in front
//! of PostgreSQL), read back by a query.
//!
//! The endpoint reads the staged objects from the demo's own S3, so it must know where that is, and the demo listens there.
//! Never: AWS; a table that is not the demo's.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use standpipe_destinations::Redshift;

use super::count::{Count, Row, Tally};
use super::fleet;
use super::producer::Produced;
use super::scene::{BUCKET, FOLDER, Scene};
use super::target::{Target, Told};
use crate::environment;
use crate::exit::Usage;
use crate::terminal::grouped;

/// Where the Data API is, as the AWS SDK has it.
const DATA_API: &str = "AWS_ENDPOINT_URL_REDSHIFT_DATA";
/// Where that endpoint looks for objects, as the AWS SDK has it.
const OBJECTS: &str = "AWS_ENDPOINT_URL_S3";
/// What to do where there is none.
const START: &str = "\n  start one, with a PostgreSQL behind it:\n\n    tests/peers/run redshift --serve\n\n  \
                     then, in another terminal, the command that it prints";
/// The demo's own: it is dropped first.
const TABLE: &str = "standpipe_demo_orders";
const LEDGER: &str = "standpipe_ledger_standpipe_demo_orders";
/// What an order is made of.
const COLUMNS: &str = "id BIGINT, placed_at TIMESTAMP, customer VARCHAR(16), country VARCHAR(2), currency VARCHAR(3), \
                       total FLOAT8, express BOOL, items SUPER";

/// A table of a warehouse on this machine.
pub struct Warehouse {
    url: String,
    objects: SocketAddr,
    redshift: Option<Redshift>,
    rows: u64,
    loads: u64,
}

impl Warehouse {
    /// What the environment says of it.
    ///
    /// # Errors
    /// It says nothing: what to start is said.
    pub fn from_environment() -> Result<Self> {
        let get = |name: &str| environment::get(name).filter(|value| !value.is_empty());
        Self::new(get(DATA_API).as_deref(), get(OBJECTS).as_deref())
    }

    /// With the endpoint of the Data API, and where it looks for objects.
    pub fn new(data_api: Option<&str>, objects: Option<&str>) -> Result<Self> {
        let (Some(url), Some(objects)) = (data_api, objects) else {
            let missing = if data_api.is_none() { DATA_API } else { OBJECTS };
            return Err(Usage(format!(
                "--destination redshift needs a Redshift Data API: {missing} is not set{START}"
            ))
            .into());
        };
        let on_this_machine = |name: &str, url: &str| {
            let address = url.strip_prefix("http://").and_then(|rest| rest.trim_end_matches('/').parse().ok());
            let local = address.filter(|address: &SocketAddr| address.ip().is_loopback());
            local.ok_or_else(|| Usage(format!("{name} is {url}: the demo takes http://127.0.0.1:PORT alone{START}")))
        };
        on_this_machine(DATA_API, url)?;
        let objects = on_this_machine(OBJECTS, objects)?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), objects, redshift: None, rows: 0, loads: 0 })
    }

    async fn ask(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let redshift = self.redshift.as_ref().context("the table has not been made")?;
        Ok(redshift.query(sql).await?)
    }

    async fn number(&self, sql: &str) -> Result<u64> {
        let rows = self.ask(sql).await?;
        let cell = rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
        cell.and_then(|cell| cell.parse().ok()).with_context(|| format!("no number: {sql}"))
    }
}

#[async_trait]
impl Target for Warehouse {
    fn opening(&self, _dir: &Path) -> String {
        format!("delivered by COPY into the table {TABLE} behind {}", self.url)
    }

    fn listen(&self) -> SocketAddr {
        self.objects
    }

    fn endpoints(&self) -> String {
        format!(", redshift_data: \"{}\"", self.url)
    }

    fn destination(&self) -> String {
        format!(
            "      - redshift:
          id: warehouse
          workgroup: demo
          database: dev
          staging: {{ bucket: {BUCKET}, prefix: {FOLDER}/, compression: gzip }}
          error_prefix: \"errors/!{{firehose:error-output-type}}/\"
          copy:
            table: public.{TABLE}
            options: \"JSON 'auto' TIMEFORMAT 'auto'\"
          buffer: {{ size: 16MiB, interval: 2s }}
"
        )
    }

    async fn prepare(&mut self, scene: &Scene) -> Result<()> {
        let platform = fleet::platform(&scene.url).await;
        self.redshift = Some(standpipe_worker::redshift(&scene.config, &scene.config.pipelines[0], None, &platform)?);
        if let Err(error) = self.ask("SELECT 1").await {
            bail!("the Redshift Data API at {} does not answer: {error}{START}", self.url);
        }
        for sql in [
            format!("DROP TABLE IF EXISTS {LEDGER}"),
            format!("DROP TABLE IF EXISTS {TABLE}"),
            format!("CREATE TABLE {TABLE} ({COLUMNS})"),
        ] {
            self.ask(&sql).await.with_context(|| format!("the table {TABLE} cannot be made"))?;
        }
        Ok(())
    }

    async fn rows(&mut self, _scene: &Scene) -> Result<u64> {
        // A look that fails says what the last one said: the next look is a moment away.
        match self.number(&format!("SELECT COUNT(*) FROM {TABLE}")).await {
            Ok(rows) => self.rows = rows,
            Err(error) => tracing::warn!(%error, "the rows were not counted"),
        }
        Ok(self.rows)
    }

    async fn count(&mut self, _scene: &Scene, produced: &Produced) -> Result<Count> {
        self.loads = self.number(&format!("SELECT COUNT(DISTINCT cid) FROM {LEDGER}")).await?;
        let rows = self.ask(&format!("SELECT id, customer, total FROM {TABLE}")).await?;
        let mut tally = Tally::new(produced);
        for row in &rows {
            let cell = |n: usize| row.get(n).and_then(Option::as_deref);
            let id = cell(0).and_then(|cell| cell.parse().ok());
            let total = cell(2).and_then(|cell| cell.parse().ok()).unwrap_or(f64::NAN);
            tally.row(&Row { id, customer: cell(1).unwrap_or_default(), total });
        }
        Ok(tally.end())
    }

    fn told(&self, _scene: &Scene, count: &Count) -> Told {
        let (rows, loads) = (grouped(count.delivered), grouped(self.loads));
        Told {
            what: "the table",
            delivered: format!("{rows} rows in the table {TABLE}, by {loads} loads"),
            after: format!(
                "The rows are in {TABLE}, a row for each load and shard in {LEDGER}.\nQuery them:\n\n  \
                 select country, count(*), round(sum(total)) from {TABLE} group by country order by country\n"
            ),
            directory: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_start_is_said_where_there_is_no_endpoint() {
        let here = Some("http://127.0.0.1:4610");
        for (data_api, objects, named) in [
            (None, None, DATA_API),
            (None, here, DATA_API),
            (here, None, OBJECTS),
            (Some("https://redshift-data.example.com"), here, DATA_API),
            (here, Some("http://10.0.0.1:4600"), OBJECTS),
            (here, Some("http://127.0.0.1"), OBJECTS),
        ] {
            let told = Warehouse::new(data_api, objects).err().expect("refused").to_string();
            assert!(told.contains(named) && told.contains("tests/peers/run redshift --serve"), "{told}");
        }
        let warehouse = Warehouse::new(Some("http://127.0.0.1:4611/"), here).expect("both are here");
        assert_eq!((warehouse.url.as_str(), warehouse.listen().port()), ("http://127.0.0.1:4611", 4610));
    }
}
