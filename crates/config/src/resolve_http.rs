//! Implements, of the arrow `what the user wrote -> what it means`: an `http` destination.
//!
//! The rules between fields are here: an address or a preset, what a partner demands, the protocol's limits.
//! Never: asks whether anything answers; shows an address, which may hold a token.

use std::collections::BTreeMap;
use std::time::Duration;

use standpipe_flow::DestinationId;

use crate::config::{HttpEndpoint, RetryFor};
use crate::decode::Located;
use crate::errors::Finding;
use crate::file::Named;
use crate::file::http_endpoint::{HttpEndpointFile, ResponseRule};
use crate::file::opensearch::RequestCompression;
use crate::file::s3::BufferFile;
use crate::limits::{self, Bounds};
use crate::names;
use crate::presets::{Preset, PresetName};
use crate::resolve::Resolver;
use crate::secrets::SecretRef;
use crate::source::At;
use crate::text::{AttributeText, SiteText, UrlText};

impl Resolver<'_> {
    pub(crate) fn http_endpoint(&mut self, path: &str, file: HttpEndpointFile, at: At) -> HttpEndpoint {
        let field = |name: &str| format!("{path}.{name}");
        let id = file.id.and_then(|text| self.text(&field("id"), &text, "a destination's id", names::destination_id));
        let preset = file.preset.as_ref().map(|preset| (preset.value.preset(), preset.at));
        let allow_private = file.allow_private.unwrap_or(false);
        let url = self.url(path, (file.url, file.site), file.preset.as_ref(), at);
        if let Some((url, at)) = &url {
            self.may_be_reached(&field("url"), *at, url, allow_private);
        }
        self.access_key(path, file.access_key.as_ref(), preset, url.as_ref());
        let common_attributes = self.common_attributes(&field("common_attributes"), file.common_attributes, preset);
        let (buffer_bytes, buffer_interval) = self.http_buffer(path, file.buffer.unwrap_or_default(), preset);
        let retry = file.retry.unwrap_or_default().duration;
        let retry = retry.and_then(|text| self.retry_for(&field("retry.for"), &text)).unwrap_or_default();
        let (refused, backup) = file.backup.map(|backup| self.refused(&field("backup"), backup)).unzip();
        if refused.is_none() && retry != RetryFor::Forever {
            let finding = Finding::new(at, &field("backup"), "there is no place for records that are not taken");
            let hint = "`backup: { bucket: NAME, prefix: NAME/ }`, or `retry: { for: forever }`, which waits for somebody instead";
            self.findings.push(finding.hint(hint.to_owned()));
        }
        let gzip = file.content_encoding.map(|encoding| encoding == RequestCompression::Gzip);
        HttpEndpoint {
            id: DestinationId::new(id.unwrap_or_else(|| "http".to_owned())),
            url: url.map(|(url, _)| url).unwrap_or_default(),
            access_key: file.access_key.map(|key| key.value),
            gzip: gzip.unwrap_or(preset.is_some_and(|(preset, _)| preset.gzip)),
            common_attributes,
            headers: self.headers(&field("headers"), file.headers),
            any_2xx: file.response.unwrap_or_default() == ResponseRule::Any2xx,
            source_arn: file
                .source_arn
                .and_then(|text| self.text(&field("source_arn"), &text, "a stream's ARN", names::source_arn)),
            ca_file: file.ca_file.map(|text| self.beside(&text)),
            allow_private,
            buffer_bytes,
            buffer_interval,
            retry,
            refused,
            backup: backup.flatten(),
            when: file.when.and_then(|program| self.jq(&field("when"), &program)),
        }
    }

    /// The address, and where the user wrote of it.
    fn url(
        &mut self,
        path: &str,
        (url, site): (Option<Located<UrlText>>, Option<Located<SiteText>>),
        preset: Option<&Located<PresetName>>,
        at: At,
    ) -> Option<(String, At)> {
        let field = |name: &str| format!("{path}.{name}");
        if let (Some(site), true) = (&site, preset.is_none() || url.is_some()) {
            let finding = Finding::new(site.at, &field("site"), "a site is a part of a preset's address");
            self.findings.push(finding.hint("with `preset: NAME` and without `url`".to_owned()));
        }
        if let Some(url) = url {
            let known = self.text(&field("url"), &url, "an address", names::url)?;
            return Some((known, url.at));
        }
        let Some(preset) = preset else {
            let finding = Finding::new(at, &field("url"), "there is no address");
            self.findings.push(finding.hint("`url: https://HOST/PATH`, or `preset: NAME` for a partner".to_owned()));
            return None;
        };
        let part = match &site {
            Some(text) => Some(self.text(&field("site"), text, "a part of an address", names::site)?),
            None => None,
        };
        match preset.value.preset().url(part.as_deref()) {
            Ok(url) => Some((url.into_owned(), preset.at)),
            Err(wants) => {
                let (at, name) = site.as_ref().map_or((preset.at, "preset"), |site| (site.at, "site"));
                let partner = preset.value.preset().partner;
                let finding = Finding::new(at, &field(name), format!("no address of {partner} is known by this"));
                self.findings.push(finding.hint(wants));
                None
            }
        }
    }

    fn access_key(
        &mut self,
        path: &str,
        key: Option<&Located<SecretRef>>,
        preset: Option<(Preset, At)>,
        url: Option<&(String, At)>,
    ) {
        let path = format!("{path}.access_key");
        if let Some(key) = key {
            if key.value.is_literal() {
                let finding = Finding::new(key.at, &path, "a key in the file");
                self.findings.push(finding.hint("`{ env: NAME }` or `{ file: PATH }`".to_owned()).warning());
            }
            if url.is_some_and(|(url, _)| url.starts_with("http://")) {
                let finding = Finding::new(key.at, &path, "the key goes over the network as it is");
                self.findings.push(finding.hint("an address with `https://`".to_owned()).warning());
            }
        }
        let Some((preset, at)) = preset else { return };
        match (preset.key, key) {
            (Some(what), None) => {
                let finding = Finding::new(at, &path, format!("{} wants a key with every request", preset.partner));
                self.findings.push(finding.hint(format!("`access_key: {{ env: NAME }}`: {what}")));
            }
            (None, Some(key)) => {
                let finding = Finding::new(key.at, &path, format!("{} has no key beside its address", preset.partner));
                self.findings.push(finding.hint("its address holds a token".to_owned()).warning());
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    fn common_attributes(
        &mut self,
        path: &str,
        file: Option<Named<Located<AttributeText>>>,
        preset: Option<(Preset, At)>,
    ) -> Vec<(String, String)> {
        let mut attributes = Vec::new();
        for (name, value) in file.map(|named| named.0).unwrap_or_default() {
            let path = format!("{path}.{}", name.value);
            let known = self.text(&path, &name, "a name of an attribute", names::attribute_name);
            let value = self.text(&path, &value, "a value of an attribute", names::attribute_value);
            if attributes.len() == limits::ATTRIBUTES_MAX {
                let message = format!("more than {} common attributes", limits::ATTRIBUTES_MAX);
                self.findings.push(Finding::new(name.at, &path, message));
            }
            attributes.extend(known.zip(value));
        }
        let Some((preset, at)) = preset else { return attributes };
        for (name, what) in preset.attributes {
            if !attributes.iter().any(|(known, _)| known == name) {
                let message = format!("{} wants the common attribute `{name}`", preset.partner);
                let hint = format!("`common_attributes: {{ {name}: ... }}`: {what}");
                self.findings.push(Finding::new(at, path, message).hint(hint));
            }
        }
        attributes
    }

    fn headers(&mut self, path: &str, file: Option<Named<Located<SecretRef>>>) -> Vec<(String, SecretRef)> {
        let mut headers: BTreeMap<String, At> = BTreeMap::new();
        let mut written = Vec::new();
        for (name, value) in file.map(|named| named.0).unwrap_or_default() {
            let path = format!("{path}.{}", name.value);
            let Some(known) = self.text(&path, &name, "a header of yours", names::header) else { continue };
            if let Some(first) = headers.insert(known.clone(), name.at) {
                let finding = Finding::new(name.at, &path, "the same header twice");
                self.findings.push(finding.label("again here").also(first, "first here"));
            }
            if value.value.is_literal() && ["auth", "key", "token", "secret"].iter().any(|word| known.contains(word)) {
                let finding = Finding::new(value.at, &path, "this may be a secret in the file");
                self.findings.push(finding.hint("`{ env: NAME }` or `{ file: PATH }`".to_owned()).warning());
            }
            written.push((known, value.value));
        }
        written
    }

    fn http_buffer(&mut self, path: &str, file: BufferFile, preset: Option<(Preset, At)>) -> (u64, Duration) {
        let (size_path, interval_path) = (format!("{path}.buffer.size"), format!("{path}.buffer.interval"));
        let (default, most) =
            preset.map_or((limits::BUFFER_BYTES_DEFAULT, limits::HTTP_BUFFER_BYTES.most), |(p, _)| p.buffer_bytes);
        let why =
            if preset.is_some() { "the partner takes no more in one request" } else { limits::HTTP_BUFFER_BYTES.why };
        let bounds = Bounds { most, why, ..limits::HTTP_BUFFER_BYTES };
        let size = file.size.and_then(|text| self.size(&size_path, &text, &bounds));
        let interval = file.interval.and_then(|text| self.duration(&interval_path, &text, &limits::BUFFER_INTERVAL));
        let waits = if preset.is_some() { limits::HTTP_PRESET_INTERVAL } else { limits::BUFFER_INTERVAL_DEFAULT };
        (size.unwrap_or(default), interval.unwrap_or(waits))
    }
}
