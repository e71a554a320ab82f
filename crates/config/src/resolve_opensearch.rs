//! Implements, of the arrow `what the user wrote -> what it means`: an `opensearch` destination.
//!
//! The rules between fields are here: one endpoint or several, ids and actions that fit, a bucket for what is refused.
//! Never: asks whether anything answers.

use std::path::Path;
use std::time::Duration;

use standpipe_flow::DestinationId;

use crate::config::{Backup, DocumentId, OpenSearch, OpenSearchAuth, Refused, RetryFor, Rotation};
use crate::decode::Located;
use crate::errors::Finding;
use crate::file::opensearch::{
    Action, BasicFile, OpenSearchAuthFile, OpenSearchFile, RefusedFile, RequestCompression, SigV4File, SigV4Service,
};
use crate::file::s3::BackupMode;
use crate::limits;
use crate::names;
use crate::resolve::Resolver;
use crate::source::At;
use crate::text::{EndpointText, PathText, RetryText};
use crate::units;

/// `endpoints: [...]`, as it is written.
type Several = Located<Vec<Located<EndpointText>>>;

impl Resolver<'_> {
    pub(crate) fn opensearch(&mut self, path: &str, file: OpenSearchFile, at: At) -> OpenSearch {
        let field = |name: &str| format!("{path}.{name}");
        let id = file.id.and_then(|text| self.text(&field("id"), &text, "a destination's id", names::destination_id));
        let allow_private = file.allow_private.unwrap_or(true);
        let endpoints = self.endpoints(path, (file.endpoint, file.endpoints), allow_private, at);
        let auth = self.opensearch_auth(&field("auth"), file.auth, endpoints.first().map(String::as_str));
        let data_stream = file.data_stream.unwrap_or(false);
        let rotation = file.rotation.as_ref().map(|rotation| rotation.value);
        if let Some(written) = file.rotation.filter(|rotation| data_stream && rotation.value != Rotation::None) {
            let finding = Finding::new(written.at, &field("rotation"), "a data stream has no rotation of this kind");
            self.findings.push(finding.hint("it is rolled over by a policy of the cluster".to_owned()));
        }
        let serverless = matches!(auth, OpenSearchAuth::SigV4 { serverless: true, .. });
        let document_id = self.document_id(path, file.document_id, file.action, (data_stream, serverless, at));
        let buffer = file.buffer.unwrap_or_default();
        let size = buffer.size.and_then(|text| self.size(&field("buffer.size"), &text, &limits::BUFFER_BYTES));
        let interval =
            buffer.interval.and_then(|text| self.duration(&field("buffer.interval"), &text, &limits::BUFFER_INTERVAL));
        let retry = file.retry.unwrap_or_default().duration;
        let retry = retry.and_then(|text| self.retry_for(&field("retry.for"), &text)).unwrap_or_default();
        let (refused, backup) = file.backup.map(|backup| self.refused(&field("backup"), backup)).unzip();
        if refused.is_none() && retry != RetryFor::Forever {
            let finding = Finding::new(at, &field("backup"), "there is no place for records that are refused for good");
            let hint = "`backup: { bucket: NAME, prefix: NAME/ }`, or `retry: { for: forever }`, which waits for somebody instead";
            self.findings.push(finding.hint(hint.to_owned()));
        }
        OpenSearch {
            id: DestinationId::new(id.unwrap_or_else(|| "opensearch".to_owned())),
            endpoints,
            auth,
            ca_file: file.ca_file.map(|text| self.beside(&text)),
            allow_private,
            index: self.text(&field("index"), &file.index, "an index", names::index).unwrap_or_default(),
            rotation: rotation.unwrap_or(if data_stream { Rotation::None } else { Rotation::Daily }),
            document_id,
            data_stream,
            routing: file.routing.and_then(|program| self.jq(&field("routing"), &program)),
            gzip: file.compression.unwrap_or_default() == RequestCompression::Gzip,
            buffer_bytes: size.unwrap_or(limits::BUFFER_BYTES_DEFAULT),
            buffer_interval: interval.unwrap_or(limits::BUFFER_INTERVAL_DEFAULT),
            retry,
            refused,
            backup: backup.flatten(),
            when: file.when.and_then(|program| self.jq(&field("when"), &program)),
        }
    }

    fn endpoints(
        &mut self,
        path: &str,
        (one, several): (Option<Located<EndpointText>>, Option<Several>),
        allow_private: bool,
        at: At,
    ) -> Vec<String> {
        let written = match (one, several) {
            (Some(one), None) => vec![(format!("{path}.endpoint"), one)],
            (None, Some(several)) => {
                let path = |i| format!("{path}.endpoints[{i}]");
                (0..).zip(several.value).map(|(i, one): (usize, _)| (path(i), one)).collect()
            }
            (Some(one), Some(several)) => {
                let finding = Finding::new(several.at, &format!("{path}.endpoints"), "both an endpoint and several");
                self.findings.push(finding.label("several").also(one.at, "one"));
                return Vec::new();
            }
            (None, None) => Vec::new(),
        };
        if written.is_empty() {
            let finding = Finding::new(at, &format!("{path}.endpoint"), "there is no endpoint");
            let hint = "`endpoint: https://HOST`, or `endpoints: [...]` for several servers of one cluster".to_owned();
            self.findings.push(finding.hint(hint));
        }
        if let Some((path, beyond)) = written.get(limits::ENDPOINTS_MAX) {
            let message = format!("more than {} endpoints", limits::ENDPOINTS_MAX);
            self.findings.push(Finding::new(beyond.at, path, message));
        }
        let mut endpoints = Vec::new();
        for (path, text) in &written {
            let Some(endpoint) = self.text(path, text, "an endpoint", names::endpoint) else { continue };
            self.may_be_reached(path, text.at, &endpoint, allow_private);
            self.has_a_path(path, text, &endpoint);
            endpoints.push(endpoint);
        }
        endpoints
    }

    /// Most proxies that want a path want a short one; one of the API, or of an index, was not meant.
    fn has_a_path(&mut self, path: &str, text: &Located<EndpointText>, endpoint: &str) {
        let behind = endpoint.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, behind)| behind);
        let Some(behind) = behind.filter(|behind| !behind.is_empty()) else { return };
        let shown = if text.from_env { "its path".to_owned() } else { format!("`/{behind}/_bulk`") };
        let finding = Finding::new(text.at, path, format!("documents would go to {shown}"));
        let hint = "an endpoint is `https://HOST`, with a path only where a proxy wants one; the index is `index`";
        self.findings.push(finding.label("this has a path").hint(hint.to_owned()).warning());
    }

    fn opensearch_auth(
        &mut self,
        path: &str,
        file: Located<OpenSearchAuthFile>,
        endpoint: Option<&str>,
    ) -> OpenSearchAuth {
        match file.value {
            OpenSearchAuthFile::None => OpenSearchAuth::None,
            OpenSearchAuthFile::SigV4(settings) => {
                let SigV4File { service, region } = settings.unwrap_or_default();
                let path = format!("{path}.sigv4.region");
                let region = region.and_then(|text| self.text(&path, &text, "a region", names::region));
                let (of_host, serverless) = of_host(endpoint.unwrap_or_default());
                OpenSearchAuth::SigV4 {
                    serverless: service.map_or(serverless, |service| service == SigV4Service::Aoss),
                    region: region.or(of_host),
                }
            }
            OpenSearchAuthFile::Basic(basic) => {
                let BasicFile { user, password } = *basic;
                if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
                    let finding = Finding::new(file.at, path, "the password goes over the network as it is");
                    self.findings.push(finding.hint("an endpoint with `https://`".to_owned()).warning());
                }
                if password.value.is_literal() {
                    let finding =
                        Finding::new(password.at, &format!("{path}.basic.password"), "a password in the file");
                    self.findings.push(finding.hint("`{ env: NAME }` or `{ file: PATH }`".to_owned()).warning());
                }
                let user = self.text(&format!("{path}.basic.user"), &user, "a user", names::user);
                OpenSearchAuth::Basic { user: user.unwrap_or_default(), password: password.value }
            }
        }
    }

    fn document_id<S: AsRef<str>>(
        &mut self,
        path: &str,
        text: Option<Located<S>>,
        action: Option<Located<Action>>,
        (data_stream, serverless, at): (bool, bool, At),
    ) -> DocumentId {
        let id_path = format!("{path}.document_id");
        let id = match text.as_ref().map(|text| text.value.as_ref()) {
            None | Some("generated") => DocumentId::Generated,
            Some("none") => DocumentId::None,
            Some(_) => {
                let written = text.as_ref().and_then(|text| self.jq_or_word(&id_path, text, &["generated", "none"]));
                let program = written.unwrap_or_default();
                let create = data_stream || action.as_ref().is_some_and(|action| action.value == Action::Create);
                DocumentId::Expression { program, create }
            }
        };
        if serverless && id == DocumentId::Generated {
            let finding = Finding::new(at, &id_path, "not every collection takes ids of documents");
            let hint = "for time series and vectors `document_id: none`, with which a record that is sent again is there twice";
            self.findings.push(finding.hint(hint.to_owned()).warning());
        }
        let Some(action) = action else { return id };
        let action_path = format!("{path}.action");
        if !matches!(id, DocumentId::Expression { .. }) {
            let finding = Finding::new(action.at, &action_path, "an action goes with ids of a jq program");
            self.findings
                .push(finding.hint("generated ids are created, and one that is there is this record".to_owned()));
        } else if data_stream && action.value == Action::Index {
            self.findings.push(Finding::new(
                action.at,
                &action_path,
                "documents of a data stream are only ever created",
            ));
        }
        id
    }

    pub(crate) fn retry_for(&mut self, path: &str, text: &Located<RetryText>) -> Option<RetryFor> {
        match text.value.as_ref() {
            "until_retention" => Some(RetryFor::UntilRetention),
            "forever" => Some(RetryFor::Forever),
            _ => {
                let duration: Duration = self.text(path, text, "a duration", units::parse_duration)?;
                self.within(path, text, duration, &limits::RETRY).map(RetryFor::Time)
            }
        }
    }

    pub(crate) fn refused(
        &mut self,
        path: &str,
        Located { value: file, at, .. }: Located<RefusedFile>,
    ) -> (Refused, Option<Backup>) {
        let field = |name: &str| format!("{path}.{name}");
        let mode = file.mode.as_ref().map_or(BackupMode::FailedOnly, |mode| mode.value);
        if let Some(mode) = file.mode.filter(|mode| mode.value == BackupMode::Off) {
            let finding = Finding::new(mode.at, &field("mode"), "what is refused for good must lie somewhere");
            self.findings.push(finding.hint("without `backup` only with `retry: { for: forever }`".to_owned()));
        }
        let bucket = self.text(&field("bucket"), &file.bucket, "a bucket", names::bucket);
        let (prefix, error_prefix) = self.prefixes(path, file.prefix.as_ref(), file.error_prefix.as_ref());
        let prefix_at = file.prefix.as_ref().map_or(at, |prefix| prefix.at);
        if !prefix.query_keys().is_empty() || !prefix.lambda_keys().is_empty() {
            let message = "records as they were read have no partition keys";
            self.findings.push(Finding::new(prefix_at, &field("prefix"), message));
        }
        let (kms_key, bucket_owner) = (self.kms_key(path, file.encryption), self.bucket_owner(path, file.bucket_owner));
        let bucket = bucket.unwrap_or_default();
        let backup = (mode == BackupMode::All).then(|| Backup {
            bucket: bucket.clone(),
            prefix,
            compression: file.compression.unwrap_or_default(),
            kms_key: kms_key.clone(),
            bucket_owner: bucket_owner.clone(),
        });
        (Refused { bucket, error_prefix, kms_key, bucket_owner }, backup)
    }

    /// A path, from the folder of the file that it stands in.
    pub(crate) fn beside(&self, text: &Located<PathText>) -> std::path::PathBuf {
        let folder = Path::new(self.sources.name(text.at.file)).parent().unwrap_or(Path::new(""));
        folder.join(&text.value.0)
    }
}

/// The region and the kind in a host's name: `search-x.eu-west-1.es.amazonaws.com`, `x.eu-west-1.aoss.amazonaws.com`.
fn of_host(endpoint: &str) -> (Option<String>, bool) {
    let host = endpoint.split("://").nth(1).unwrap_or_default();
    let host = host.split(['/', ':']).next().unwrap_or_default();
    let labels: Vec<&str> = host.split('.').collect();
    let of_aws = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn") || host.ends_with(".on.aws");
    match labels.iter().position(|label| matches!(*label, "es" | "aoss")).filter(|_| of_aws) {
        Some(at) if at > 1 => (Some(labels[at - 1].to_owned()), labels[at] == "aoss"),
        _ => (None, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_aws_says_its_region_and_kind() {
        let found = |host: &str| of_host(&format!("https://{host}"));
        let region = Some("eu-west-1".to_owned());
        assert_eq!(found("search-logs-abc.eu-west-1.es.amazonaws.com"), (region.clone(), false));
        assert_eq!(found("vpc-logs-abc.eu-west-1.es.amazonaws.com:443/x"), (region.clone(), false));
        assert_eq!(found("abc.eu-west-1.aoss.amazonaws.com"), (region, true));
        for other in ["logs.example.com", "es.example.com", "10.0.0.1:9200", "es.amazonaws.com", ""] {
            assert_eq!(found(other), (None, false), "{other}");
        }
    }
}
