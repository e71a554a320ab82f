//! The demo into OpenSearch: an index of a server that runs on this machine, read back document by document.
//!
//! Never: a server elsewhere; an index that is not the demo's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use serde_json::{Value, json};
use standpipe_destinations::http::dial::Tcp;
use standpipe_destinations::http::{Bounds, Http, Method, Origin, Request, Trust};

use super::count::{Count, Row, Tally};
use super::fleet;
use super::producer::Produced;
use super::scene::{BUCKET, FOLDER, Scene};
use super::target::{Target, Told};
use crate::environment;
use crate::exit::Usage;
use crate::terminal::grouped;

/// Where the server is.
const SERVER: &str = "STANDPIPE_DEMO_OPENSEARCH";
/// What to do where there is none.
const START: &str = "\n  name one that runs on this machine and lets everybody in:\n\n    \
                     STANDPIPE_DEMO_OPENSEARCH=http://127.0.0.1:9200 standpipe demo --destination opensearch\n\n  \
                     or let the repository start one and play the demo on it: tests/peers/run opensearch --demo";
/// The demo's own: it is deleted first.
const INDEX: &str = "standpipe-demo-orders";
/// Documents that are read back at a time, and the bytes that they have at most.
const PAGE: usize = 5_000;
const PAGE_BYTES_MAX: usize = 16 << 20;
/// A question.
const WHOLE_MAX: Duration = Duration::from_secs(30);
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// An index of a server on this machine.
pub struct Search {
    server: Origin,
    http: Option<Http>,
    documents: u64,
}

impl Search {
    /// What the environment says of it.
    ///
    /// # Errors
    /// It says nothing: what to start is said.
    pub fn from_environment() -> Result<Self> {
        Self::new(environment::get(SERVER).filter(|value| !value.is_empty()).as_deref())
    }

    /// With the server's address.
    pub fn new(url: Option<&str>) -> Result<Self> {
        let Some(url) = url else {
            return Err(Usage(format!("--destination opensearch needs a server: {SERVER} is not set{START}")).into());
        };
        let origin = Origin::parse(url).filter(|origin| {
            let here = ["127.0.0.1", "localhost", "::1"].contains(&origin.host.as_str());
            here && !origin.secure && origin.base.is_empty()
        });
        let elsewhere = || Usage(format!("{SERVER} is {url}: the demo takes http://127.0.0.1:PORT alone{START}"));
        Ok(Self { server: origin.ok_or_else(elsewhere)?, http: None, documents: 0 })
    }

    /// Status and body of an answer.
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<(u16, Value)> {
        let http = self.http.as_ref().context("the server has not been asked yet")?;
        let request = Request {
            method,
            path: path.to_owned(),
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.map(|body| body.to_string()).unwrap_or_default().into(),
        };
        let bounds = Bounds { whole_max: WHOLE_MAX, answer_bytes_max: PAGE_BYTES_MAX };
        let answer = http.send(&self.server, &request, bounds).await?;
        Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()))
    }

    /// The body of an answer that says yes.
    async fn done(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        match self.ask(method, path, body).await? {
            (200..=299, answer) => Ok(answer),
            (status, answer) => {
                let kind = answer["error"]["type"].as_str().unwrap_or("no type is given");
                bail!("{} answered {status}: {kind}", self.server)
            }
        }
    }
}

#[async_trait]
impl Target for Search {
    fn opening(&self, _dir: &Path) -> String {
        format!("delivered as documents into the index {INDEX} of {}", self.server)
    }

    fn destination(&self) -> String {
        format!(
            "      - opensearch:
          id: search
          endpoint: {}
          auth: none
          index: {INDEX}
          rotation: none
          buffer: {{ size: 5MiB, interval: 1s }}
          backup: {{ bucket: {BUCKET}, prefix: {FOLDER}/, error_prefix: \"errors/!{{firehose:error-output-type}}/\" }}
",
            self.server
        )
    }

    async fn prepare(&mut self, scene: &Scene) -> Result<()> {
        let platform = fleet::platform(&scene.url).await;
        let trust = Trust::new(None).map_err(anyhow::Error::msg)?;
        self.http = Some(Http::new(Arc::new(Tcp { allow_private: true }), trust, CONNECT_MAX, platform.clock));
        if let Err(error) = self.done(Method::GET, "/", None).await {
            bail!("no OpenSearch that lets everybody in answers: {error:#}{START}");
        }
        let path = format!("/{INDEX}");
        self.ask(Method::DELETE, &path, None).await?;
        let (keyword, double) = (json!({ "type": "keyword" }), json!({ "type": "double" }));
        let properties = json!({ "id": { "type": "long" }, "customer": keyword, "country": keyword, "total": double });
        let settings = json!({ "number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "500ms" });
        let index = json!({ "settings": settings, "mappings": { "properties": properties } });
        self.done(Method::PUT, &path, Some(index))
            .await
            .with_context(|| format!("the index {INDEX} cannot be made"))?;
        Ok(())
    }

    async fn rows(&mut self, _scene: &Scene) -> Result<u64> {
        // A look that fails says what the last one said: the next look is a moment away.
        match self.done(Method::GET, &format!("/{INDEX}/_count"), None).await {
            Ok(answer) => self.documents = answer["count"].as_u64().unwrap_or(self.documents),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "the documents were not counted"),
        }
        Ok(self.documents)
    }

    async fn count(&mut self, _scene: &Scene, produced: &Produced) -> Result<Count> {
        self.done(Method::POST, &format!("/{INDEX}/_refresh"), None).await?;
        let mut tally = Tally::new(produced);
        let first = json!({ "size": PAGE, "_source": ["id", "customer", "total"], "sort": ["_doc"] });
        let mut page = self.done(Method::POST, &format!("/{INDEX}/_search?scroll=1m"), Some(first)).await?;
        loop {
            let hits = page["hits"]["hits"].as_array().context("no page of documents came back")?;
            if hits.is_empty() {
                return Ok(tally.end());
            }
            for order in hits.iter().map(|hit| &hit["_source"]) {
                let customer = order["customer"].as_str().unwrap_or_default();
                let total = order["total"].as_f64().unwrap_or(f64::NAN);
                tally.row(&Row { id: order["id"].as_i64(), customer, total });
            }
            let next = json!({ "scroll": "1m", "scroll_id": page["_scroll_id"] });
            page = self.done(Method::POST, "/_search/scroll", Some(next)).await?;
        }
    }

    fn told(&self, _scene: &Scene, count: &Count) -> Told {
        let url = self.server.url(&format!("/{INDEX}/_search?size=0&filter_path=aggregations"));
        let of_country = json!({ "aggs": { "country": { "terms": { "field": "country" } } } });
        Told {
            what: "the index",
            delivered: format!("{} documents in the index {INDEX}", grouped(count.delivered)),
            after: format!(
                "The documents are in {INDEX}.\nQuery them:\n\n  \
                 curl -s -H content-type:application/json '{url}' -d '{of_country}'\n"
            ),
            directory: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_start_is_said_where_there_is_no_server() {
        let elsewhere = [
            "https://127.0.0.1:9200",
            "http://10.0.0.1:9200",
            "http://search.example.com",
            "9200",
            "http://localhost:9200/x",
        ];
        for url in [None].into_iter().chain(elsewhere.map(Some)) {
            let told = Search::new(url).err().expect("refused").to_string();
            assert!(told.contains(SERVER) && told.contains("tests/peers/run opensearch --demo"), "{told}");
        }
        let search = Search::new(Some("http://127.0.0.1:9200/")).expect("it is here");
        assert_eq!(search.server.to_string(), "http://127.0.0.1:9200");
    }
}
