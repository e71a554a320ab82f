//! Implements, of the arrow `what the user wrote -> what it means`: what partners want who take Firehose's HTTP protocol.
//!
//! One row a partner: address, key, size, compression, what must be among the common attributes. A row that was not read in
//! the partner's own documents or in a client of AWS says so in `docs/guide/http.md`.
//! Never: a rule of the protocol itself.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;

const MIB: u64 = 1 << 20;

/// A partner, as it stands in a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum PresetName {
    /// Logs of Datadog.
    Datadog,
    /// Metrics of Datadog.
    DatadogMetrics,
    /// Logs of New Relic.
    NewRelic,
    /// Metrics of New Relic.
    NewRelicMetrics,
    /// Logs of Dynatrace.
    Dynatrace,
    /// Metrics of Dynatrace.
    DynatraceMetrics,
    /// Coralogix.
    Coralogix,
    /// Honeycomb.
    Honeycomb,
    /// Elastic Cloud.
    Elastic,
    /// LogicMonitor.
    Logicmonitor,
    /// Logs of Logz.io.
    LogzIo,
    /// Sumo Logic.
    SumoLogic,
    /// Splunk Observability Cloud.
    SplunkObservability,
    /// Grafana: Cloud, Alloy or Agent.
    Grafana,
    /// MongoDB, by an endpoint of one's own.
    Mongodb,
}

/// What a partner wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Preset {
    /// The name of the company or product.
    pub(crate) partner: &'static str,
    /// Where it answers.
    pub(crate) place: Place,
    /// What the access key is; `None`: there is none.
    pub(crate) key: Option<&'static str>,
    /// Requests are compressed unless the config says otherwise.
    pub(crate) gzip: bool,
    /// `buffer.size`: the default, and the most.
    pub(crate) buffer_bytes: (u64, u64),
    /// Names that must be among the common attributes, and what they are.
    pub(crate) attributes: &'static [(&'static str, &'static str)],
}

/// Where a partner answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// At one of these, by site; the first is the default.
    Sites(&'static [(&'static str, &'static str)]),
    /// At an address with a part of one's own in the place of `{}`.
    Named {
        /// The address.
        url: &'static str,
        /// What the part is.
        what: &'static str,
    },
    /// At an address of one's own: what it is, with an example.
    Own(&'static str),
}

impl PresetName {
    pub(crate) fn preset(self) -> Preset {
        let of = |partner, place, key, gzip, buffer_bytes: (u64, u64), attributes| Preset {
            partner,
            place,
            key,
            gzip,
            buffer_bytes: (buffer_bytes.0 * MIB, buffer_bytes.1 * MIB),
            attributes,
        };
        match self {
            Self::Datadog => of("Datadog", DATADOG, Some("an API key"), true, (4, 4), &[]),
            Self::DatadogMetrics => of("Datadog", DATADOG_METRICS, Some("an API key"), true, (4, 4), &[]),
            Self::NewRelic => of("New Relic", NEW_RELIC, Some("a license key"), true, (1, 64), &[]),
            Self::NewRelicMetrics => of("New Relic", NEW_RELIC_METRICS, Some("a license key"), true, (1, 64), &[]),
            Self::Dynatrace => of("Dynatrace", DYNATRACE, Some("an API token"), true, (5, 64), &[]),
            Self::DynatraceMetrics => of("Dynatrace", DYNATRACE_METRICS, Some("an API token"), true, (5, 64), DT_URL),
            Self::Coralogix => of("Coralogix", CORALOGIX, Some("a Send-Your-Data key"), true, (6, 64), CORALOGIX_NAMES),
            Self::Honeycomb => of("Honeycomb", HONEYCOMB, Some("an ingest key"), true, (15, 64), &[]),
            Self::Elastic => of("Elastic", ELASTIC, Some("an encoded API key"), true, (1, 1), ES_STREAM),
            Self::Logicmonitor => of("LogicMonitor", LOGICMONITOR, Some("a key"), true, (5, 64), &[]),
            Self::LogzIo => of("Logz.io", LOGZ_IO, Some("a shipping token"), true, (5, 64), &[]),
            Self::SumoLogic => of("Sumo Logic", SUMO_LOGIC, None, true, (1, 64), &[]),
            Self::SplunkObservability => {
                of("Splunk Observability", SPLUNK_OBSERVABILITY, Some("an access token"), true, (1, 64), &[])
            }
            Self::Grafana => of("Grafana", GRAFANA, Some("USER:TOKEN"), true, (5, 64), &[]),
            Self::Mongodb => of("MongoDB", MONGODB, Some("the key that your endpoint asks for"), false, (5, 16), &[]),
        }
    }
}

const DATADOG: Place = Place::Sites(&[
    ("us1", "https://aws-kinesis-http-intake.logs.datadoghq.com/v1/input"),
    ("us3", "https://aws-kinesis-http-intake.logs.us3.datadoghq.com/api/v2/logs?dd-protocol=aws-kinesis-firehose"),
    ("us5", "https://aws-kinesis-http-intake.logs.us5.datadoghq.com/api/v2/logs?dd-protocol=aws-kinesis-firehose"),
    ("ap1", "https://aws-kinesis-http-intake.logs.ap1.datadoghq.com/api/v2/logs?dd-protocol=aws-kinesis-firehose"),
    ("eu", "https://aws-kinesis-http-intake.logs.datadoghq.eu/v1/input"),
    ("gov", "https://aws-kinesis-http-intake.logs.ddog-gov.com/v1/input"),
]);
const DATADOG_METRICS: Place = Place::Sites(&[
    ("us1", "https://awsmetrics-intake.datadoghq.com/v1/input"),
    ("us5", "https://event-platform-intake.us5.datadoghq.com/api/v2/awsmetrics"),
    ("ap1", "https://event-platform-intake.ap1.datadoghq.com/api/v2/awsmetrics"),
    ("eu", "https://awsmetrics-intake.datadoghq.eu/v1/input"),
]);
const NEW_RELIC: Place = Place::Sites(&[
    ("us", "https://aws-api.newrelic.com/firehose/v1"),
    ("eu", "https://aws-api.eu.newrelic.com/firehose/v1"),
]);
const NEW_RELIC_METRICS: Place = Place::Sites(&[
    ("us", "https://aws-api.newrelic.com/cloudwatch-metrics/v1"),
    ("eu", "https://aws-api.eu.newrelic.com/cloudwatch-metrics/v1"),
]);
const DYNATRACE: Place = Place::Named {
    url: "https://{}.live.dynatrace.com/api/v2/logs/ingest/aws_firehose",
    what: "the environment's id, as in `abc12345`",
};
const DYNATRACE_METRICS: Place = Place::Sites(&[
    ("global", "https://aws.cloud.dynatrace.com/metrics"),
    ("us", "https://us.aws.cloud.dynatrace.com/metrics"),
    ("eu", "https://eu.aws.cloud.dynatrace.com/metrics"),
]);
const DT_URL: &[(&str, &str)] = &[("dt-url", "the environment's address, as in `https://abc12345.live.dynatrace.com`")];
const CORALOGIX: Place =
    Place::Named { url: "https://ingress.{}/aws/firehose", what: "the domain, as in `eu1.coralogix.com`" };
const CORALOGIX_NAMES: &[(&str, &str)] =
    &[("applicationName", "the application in Coralogix"), ("subsystemName", "the subsystem in Coralogix")];
const HONEYCOMB: Place = Place::Named { url: "https://api.honeycomb.io/1/kinesis_events/{}", what: "the dataset" };
const ELASTIC: Place = Place::Own("the deployment's, as in `https://NAME.es.eu-west-1.aws.elastic-cloud.com`");
const ES_STREAM: &[(&str, &str)] = &[("es_datastream_name", "the data stream, as in `logs-app-default`")];
const LOGICMONITOR: Place = Place::Named { url: "https://{}.logicmonitor.com", what: "the account" };
const LOGZ_IO: Place = Place::Own("the listener of your region, as in `https://aws-firehose-logs-listener.logz.io`");
const SUMO_LOGIC: Place = Place::Own("that of a source, with its token: `url: ${SUMO_URL}` keeps it out of the file");
const SPLUNK_OBSERVABILITY: Place =
    Place::Named { url: "https://ingest.{}.signalfx.com/v1/cloudwatch_metric_stream", what: "the realm, as in `eu0`" };
const GRAFANA: Place = Place::Own("that of your stack, as in `https://aws-CELL.grafana.net/aws-logs/api/v1/push`");
const MONGODB: Place =
    Place::Own("that of an API in front of it, as in `https://ID.execute-api.eu-west-1.amazonaws.com/STAGE`");

impl Preset {
    /// The address, from what the user wrote of it.
    ///
    /// # Errors
    /// What the partner wants.
    pub(crate) fn url(&self, site: Option<&str>) -> Result<Cow<'static, str>, String> {
        match (self.place, site) {
            (Place::Sites(sites), None) => Ok(sites[0].1.into()),
            (Place::Sites(sites), Some(site)) => match sites.iter().find(|(name, _)| *name == site) {
                Some((_, url)) => Ok((*url).into()),
                None => {
                    let names: Vec<String> = sites.iter().map(|(name, _)| format!("`{name}`")).collect();
                    Err(format!("{} has the sites {}", self.partner, names.join(", ")))
                }
            },
            (Place::Named { url, .. }, Some(site)) => Ok(url.replace("{}", site).into()),
            (Place::Named { what, .. }, None) => Err(format!("{} needs `site`: {what}", self.partner)),
            (Place::Own(what), _) => Err(format!("{} needs `url`: {what}", self.partner)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [PresetName; 15] = [
        PresetName::Datadog,
        PresetName::DatadogMetrics,
        PresetName::NewRelic,
        PresetName::NewRelicMetrics,
        PresetName::Dynatrace,
        PresetName::DynatraceMetrics,
        PresetName::Coralogix,
        PresetName::Honeycomb,
        PresetName::Elastic,
        PresetName::Logicmonitor,
        PresetName::LogzIo,
        PresetName::SumoLogic,
        PresetName::SplunkObservability,
        PresetName::Grafana,
        PresetName::Mongodb,
    ];

    #[test]
    fn every_address_of_a_preset_is_one() {
        for preset in ALL.map(PresetName::preset) {
            let sites: Vec<Option<&str>> = match preset.place {
                Place::Sites(sites) => sites.iter().map(|(site, _)| Some(*site)).chain([None]).collect(),
                Place::Named { .. } => vec![Some("mine")],
                Place::Own(_) => continue,
            };
            for site in sites {
                let url = preset.url(site).expect("an address");
                assert!(url.starts_with("https://") && crate::names::url(&url).is_ok(), "{url}");
            }
        }
    }

    #[test]
    fn every_preset_keeps_the_protocols_limits() {
        for preset in ALL.map(PresetName::preset) {
            let (default, most) = preset.buffer_bytes;
            assert!(MIB <= default && default <= most && most <= 64 * MIB, "{}", preset.partner);
        }
    }
}
