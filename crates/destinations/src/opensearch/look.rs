//! Beside `batch -> stage`: what a person is told of the servers, and of where documents go, before anything runs.
//!
//! By questions alone (GET). What we may not ask is no fault: a worker needs less. What is wrong for certain is said with
//! what to change; what the first document makes by itself is said, too.
//! Never: makes an index, a template or a data stream.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::Value;
use standpipe_flow::{DeliveryError, Found, Look};

use super::{Auth, DocumentId, OpenSearch, answer};
use crate::http::Answer;

/// The oldest Elasticsearch whose actions have no types.
const ELASTICSEARCH_MIN: u32 = 7;

/// Every server, then the index or the data stream.
pub(super) async fn all(of: &OpenSearch, seen: &mut Vec<Look>) {
    if of.settings.serverless {
        return collection(of, seen).await;
    }
    let mut one = None;
    let mut reached = false;
    for (node, name) in of.nodes.names().enumerate() {
        let answer = of.nodes.look_at(vec![node], "/").await;
        let (look, cluster) = server(of, &name, answer);
        seen.push(look);
        reached |= cluster.is_some();
        match (&one, cluster) {
            (Some((first, known)), Some(cluster)) if *known != cluster => {
                let look = Look::wrong(&name, format!("it belongs to another cluster than {first}"));
                seen.push(look.hint("`endpoints` are servers of one cluster; another cluster is another destination"));
            }
            (None, Some(cluster)) => one = Some((name, cluster)),
            _ => {}
        }
    }
    if reached {
        place(of, seen).await;
    }
}

/// What a server says of itself, and its cluster if it is one that we deliver to.
fn server(of: &OpenSearch, name: &str, answer: Result<Answer, DeliveryError>) -> (Look, Option<String>) {
    #[derive(Deserialize)]
    struct Root {
        version: Version,
        #[serde(default)]
        cluster_uuid: String,
    }
    #[derive(Deserialize)]
    struct Version {
        number: String,
        distribution: Option<String>,
    }
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return (away(name, error), None),
    };
    if matches!(answer.status, 401 | 403) {
        return (denied(of, name, &answer), None);
    }
    if let Err(error) = answer::plain(&answer) {
        let look = Look::failed(name, error);
        return (look.hint("an endpoint is `https://HOST`, with a path only where a proxy wants one"), None);
    }
    let Ok(root) = serde_json::from_slice::<Root>(&answer.body) else {
        return (Look::wrong(name, "what answers is neither OpenSearch nor Elasticsearch"), None);
    };
    let number = clean(&root.version.number);
    if root.version.distribution.as_deref() == Some("opensearch") {
        return (Look::fine(name, format!("OpenSearch {number}")), Some(root.cluster_uuid));
    }
    let major = number.split('.').next().and_then(|major| major.parse::<u32>().ok()).unwrap_or(0);
    if major < ELASTICSEARCH_MIN {
        let look = Look::wrong(name, format!("Elasticsearch {number}: its actions have types"));
        return (look.hint("Elasticsearch 7.0 or later, or OpenSearch"), None);
    }
    (Look::fine(name, format!("Elasticsearch {number}")), Some(root.cluster_uuid))
}

/// One that cannot be reached, or must not be.
fn away(name: &str, error: DeliveryError) -> Look {
    let look = Look::failed(name, error);
    if look.found != Found::Silent {
        return look;
    }
    look.hint("its name and port, and whether this machine may reach it: a security group, a VPC, a network policy")
}

fn denied(of: &OpenSearch, name: &str, answer: &Answer) -> Look {
    let says = answer::plain(answer).err().map(|error| error.to_string()).unwrap_or_default();
    let hint = match (of.nodes.auth(), of.settings.serverless) {
        (Auth::SigV4(_), true) => {
            "`aoss:APIAccessAll` for the role, and a data access policy of the collection that names it, with \
             `aoss:CreateIndex`, `aoss:WriteDocument`, `aoss:DescribeIndex`"
        }
        (Auth::SigV4(_), false) => {
            "`es:ESHttpGet` and `es:ESHttpPost` for the role (deploy/iam/kinesis-to-opensearch.json), and with fine-grained \
             access control a role of the domain that it is mapped to"
        }
        (Auth::Basic { .. }, _) => "the user, the password, or a role of the cluster for that user",
        (Auth::None, _) => {
            "the server wants to know who comes: `auth: sigv4`, or `auth: { basic: { user: ..., password: ... } }`"
        }
    };
    Look::denied(name, says.trim_start_matches("halted: ")).hint(hint)
}

/// A collection has no root, no templates and no data streams to be asked for.
async fn collection(of: &OpenSearch, seen: &mut Vec<Look>) {
    let name = of.nodes.names().next().unwrap_or_default();
    let path = format!("/_cat/indices/{}*", encoded(&of.settings.index));
    seen.push(match of.nodes.look(&path).await {
        Ok(answer) if matches!(answer.status, 401 | 403) => denied(of, &name, &answer),
        // Without an index of that name it is there all the same.
        Ok(answer) if answer.status == 404 => Look::fine(name, "the collection lets us in; it has no such index yet"),
        Ok(answer) => match answer::plain(&answer) {
            Ok(()) => Look::fine(name, "the collection lets us in"),
            Err(error) => Look::failed(name, error),
        },
        Err(error) => away(&name, error),
    });
    if of.settings.data_stream {
        let look = Look::wrong("data stream", "collections of OpenSearch Serverless have none");
        seen.push(look.hint("`data_stream: false`"));
    }
}

/// What is there under the names that documents go to.
#[derive(Deserialize, Default)]
struct Resolved {
    #[serde(default)]
    indices: Vec<Named>,
    #[serde(default)]
    aliases: Vec<Alias>,
    #[serde(default)]
    data_streams: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Alias {
    name: String,
    #[serde(default)]
    indices: Vec<String>,
}

/// A template of the server's.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Template {
    name: String,
    data_stream: bool,
}

/// Where the next document goes.
async fn place(of: &OpenSearch, seen: &mut Vec<Look>) {
    let settings = &of.settings;
    let index = settings.index_of(of.clock.wall());
    let what = format!("{} {index}", if settings.data_stream { "data stream" } else { "index" });
    let resolved = match json::<Resolved>(of, &format!("/_resolve/index/{}*", encoded(&settings.index))).await {
        Ok(resolved) => resolved,
        Err(why) => {
            let look = Look::note(what, format!("whether it is there was not told: {why}"));
            return seen.push(look.hint("nothing that a worker needs: the first document shows it"));
        }
    };
    let template = template(of, &index).await;
    let look = found(&what, (&index, settings.data_stream), &resolved, template.as_ref());
    let there = resolved.has(&index);
    seen.push(look);
    let cluster = json::<Value>(of, CLUSTER_SETTINGS).await.unwrap_or_default();
    let setting =
        |path: &str| ["transient", "persistent", "defaults"].iter().find_map(|layer| at(&cluster[*layer], path));
    let makes = setting("action.auto_create_index").is_none_or(|text| auto_created(&text, &index));
    if !makes && (!there || settings.rotation != super::Rotation::None) {
        let look = Look::wrong(what, "the cluster makes no index of that name by itself");
        seen.push(look.hint("`action.auto_create_index` of the cluster, or make it before the first document"));
    }
    if setting("rest.action.multi.allow_explicit_index").as_deref() == Some("false") {
        let look = Look::wrong("bulk requests", "the cluster refuses actions that name their index, as all of ours do");
        seen.push(look.hint("`rest.action.multi.allow_explicit_index: true` of the cluster"));
    }
    if settings.document_id == DocumentId::None {
        seen.push(Look::note("ids", "by the server: requests that were under way when a worker ended are there twice"));
    }
}

/// Both settings, whichever way they are set.
const CLUSTER_SETTINGS: &str = "/_cluster/settings?include_defaults=true&filter_path=*.action.auto_create_index,\
                                *.rest.action.multi.allow_explicit_index";

/// A value within a value, by the names on the way.
fn at(value: &Value, path: &str) -> Option<String> {
    let found = path.split('.').try_fold(value, |value, name| value.get(name))?;
    found.as_str().map(str::to_owned).or_else(|| found.as_bool().map(|whether| whether.to_string()))
}

impl Resolved {
    fn has(&self, name: &str) -> bool {
        let all = self.indices.iter().chain(&self.data_streams).map(|one| &one.name);
        all.chain(self.aliases.iter().map(|alias| &alias.name)).any(|known| known == name)
    }
}

fn found(what: &str, (name, data_stream): (&str, bool), resolved: &Resolved, template: Option<&Template>) -> Look {
    let named = |all: &[Named]| all.iter().any(|one| one.name == name);
    let (is_stream, is_index) = (named(&resolved.data_streams), named(&resolved.indices));
    let alias = resolved.aliases.iter().find(|alias| alias.name == name);
    match (data_stream, template) {
        (true, _) if is_stream => Look::fine(what, "there"),
        (true, _) if is_index || alias.is_some() => {
            let is = if is_index { "an index" } else { "an alias" };
            Look::wrong(what, format!("{name} is {is}, not a data stream"))
                .hint("`data_stream: false`, or another name")
        }
        (true, Some(Template { name, data_stream: true })) => {
            Look::fine(what, format!("made with the first document, by template {}", clean(name)))
        }
        (true, _) => Look::wrong(what, "no template makes it a data stream: the first document would make an index")
            .hint(format!(
                r#"PUT _index_template/{name} {{"index_patterns":["{name}"],"data_stream":{{}},"priority":200}}"#
            )),
        (false, _) if is_stream => {
            Look::wrong(what, format!("{name} is a data stream")).hint("`data_stream: true`, or another name")
        }
        (false, _) if is_index => Look::fine(what, "there"),
        (false, _) if alias.is_some() => {
            let of = alias.map_or(0, |alias| alias.indices.len());
            if of <= 1 {
                return Look::fine(what, "an alias of one index");
            }
            Look::note(what, format!("an alias of {of} indices")).hint("documents go to the one with `is_write_index`")
        }
        (false, Some(Template { name: template, data_stream: true })) => {
            let says = format!("template {} would make a data stream of it", clean(template));
            Look::wrong(what, says).hint("`data_stream: true`, or another name")
        }
        (false, Some(template)) => {
            Look::fine(what, format!("made with the first document, by template {}", clean(&template.name)))
        }
        (false, None) => Look::note(what, "made with the first document; the server guesses the types of its fields")
            .hint("an index template says them"),
    }
}

/// The template that a new index of this name is made by: the one of the highest priority, before those of the old kind.
async fn template(of: &OpenSearch, index: &str) -> Option<Template> {
    #[derive(Deserialize, Default)]
    struct Composable {
        #[serde(default)]
        index_templates: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        name: String,
        index_template: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        #[serde(default)]
        index_patterns: Vec<String>,
        #[serde(default)]
        priority: i64,
        data_stream: Option<Value>,
    }
    let composable: Composable = json(of, "/_index_template").await.unwrap_or_default();
    let fit = composable
        .index_templates
        .into_iter()
        .filter(|entry| entry.index_template.index_patterns.iter().any(|pattern| matches(pattern, index)));
    if let Some(entry) = fit.max_by_key(|entry| entry.index_template.priority) {
        return Some(Template { name: entry.name, data_stream: entry.index_template.data_stream.is_some() });
    }
    let old: Value = json(of, "/_template?filter_path=*.index_patterns").await.unwrap_or_default();
    let patterns = |template: &Value| -> Vec<String> {
        serde_json::from_value(template["index_patterns"].clone()).unwrap_or_default()
    };
    let fits = |template: &Value| patterns(template).iter().any(|pattern| matches(pattern, index));
    let (name, _) = old.as_object()?.iter().find(|(_, template)| fits(template))?;
    Some(Template { name: name.clone(), data_stream: false })
}

/// Asks; what does not answer with what was asked for is told in a few words.
async fn json<T: for<'de> Deserialize<'de>>(of: &OpenSearch, path: &str) -> Result<T, String> {
    let answer = of.nodes.look(path).await.map_err(|error| error.to_string())?;
    answer::plain(&answer).map_err(|error| error.to_string().trim_start_matches("halted: ").to_owned())?;
    serde_json::from_slice(&answer.body).map_err(|_| "the answer is not what was asked for".to_owned())
}

/// Whether a pattern fits: `*` is any text.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = pattern.contains('*').then(|| parts.next_back().unwrap_or_default()) else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// `action.auto_create_index`: a truth value, or patterns with `+` and `-`, of which the first that fits decides.
fn auto_created(setting: &str, index: &str) -> bool {
    match setting {
        "true" => return true,
        "false" => return false,
        _ => {}
    }
    for pattern in setting.split(',').map(str::trim) {
        let (yes, pattern) = match pattern.strip_prefix('-') {
            Some(pattern) => (false, pattern),
            None => (true, pattern.strip_prefix('+').unwrap_or(pattern)),
        };
        if matches(pattern, index) {
            return yes;
        }
    }
    false
}

/// A name within a path.
fn encoded(name: &str) -> String {
    let mut path = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => path.push(byte as char),
            _ => drop(write!(path, "%{byte:02X}")),
        }
    }
    path
}

/// A name from outside, for a line.
fn clean(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Resolved {
        serde_json::from_str(text).expect("it is an answer")
    }

    fn says(data_stream: bool, there: &str, template: Option<(&str, bool)>) -> (Found, String) {
        let template = template.map(|(name, data_stream)| Template { name: name.to_owned(), data_stream });
        let look = found("it", ("logs", data_stream), &resolved(there), template.as_ref());
        (look.found, look.says)
    }

    #[test]
    fn what_is_there_under_the_name_is_told_from_what_should_be() {
        use Found::{Fine, Note, Wrong};
        let stream = r#"{"data_streams":[{"name":"logs"}]}"#;
        let index = r#"{"indices":[{"name":"logs"},{"name":"logs-2"}]}"#;
        let alias = r#"{"aliases":[{"name":"logs","indices":["a","b"]}]}"#;
        assert_eq!(says(true, stream, None).0, Fine);
        assert_eq!(says(true, index, None).1, "logs is an index, not a data stream");
        assert_eq!(says(true, "{}", Some(("t", true))).0, Fine);
        assert_eq!((says(true, "{}", Some(("t", false))).0, says(true, "{}", None).0), (Wrong, Wrong));
        assert_eq!(says(false, stream, None).1, "logs is a data stream");
        assert_eq!(says(false, index, None).0, Fine);
        assert_eq!(says(false, alias, None), (Note, "an alias of 2 indices".to_owned()));
        assert_eq!(says(false, "{}", Some(("t", true))).0, Wrong);
        assert_eq!(says(false, "{}", Some(("t", false))).0, Fine);
        assert_eq!(says(false, r#"{"indices":[{"name":"logs-2"}]}"#, None).0, Note);
    }

    #[test]
    fn patterns_fit_as_the_server_has_them() {
        for (pattern, name, fits) in [
            ("logs", "logs", true),
            ("logs", "logs-1", false),
            ("logs-*", "logs-1", true),
            ("*", "anything", true),
            ("*-1", "logs-1", true),
            ("l*s-*1", "logs-21", true),
            ("l*s-*1", "logs-2", false),
            ("logs*logs", "logs", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
        for (setting, made) in
            [("true", true), ("false", false), ("+a*,-logs*", false), ("-a*,+logs*", true), ("a*", false)]
        {
            assert_eq!(auto_created(setting, "logs-1"), made, "{setting}");
        }
        assert_eq!(encoded("a-é"), "a-%C3%A9");
    }
}
