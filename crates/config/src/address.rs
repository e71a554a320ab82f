//! Implements, of the arrow `what the user wrote -> what it means`: whether a destination may have its address.
//!
//! Only what can be told from the text: an address that is written as one. Where a name leads is looked at when the
//! connection stands, by the same table ([`standpipe_flow::reach`]). Never: asks a resolver.

use std::net::IpAddr;

use standpipe_flow::reach::{Reach, reach};

use crate::errors::Finding;
use crate::resolve::Resolver;
use crate::source::At;

impl Resolver<'_> {
    /// Notes a finding if nothing is ever sent to this address, or not without `allow_private`.
    pub(crate) fn may_be_reached(&mut self, path: &str, at: At, url: &str, allow_private: bool) {
        match known(host(url)) {
            Some(Reach::Never) => {
                let message = "a link-local address, or one of a cloud's metadata: nothing is ever sent there";
                self.findings.push(Finding::new(at, path, message));
            }
            Some(Reach::Private) if !allow_private => {
                let message = "an address of a private network, or of the machine itself";
                let hint = "`allow_private: true`, if that is where it is".to_owned();
                self.findings.push(Finding::new(at, path, message).hint(hint));
            }
            Some(Reach::Private | Reach::Public) | None => {}
        }
    }
}

/// The host of an address with a scheme, without brackets and port.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// Who may be met there, where the text tells.
fn known(host: &str) -> Option<Reach> {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        return Some(Reach::Private);
    }
    if name == "metadata.google.internal" {
        return Some(Reach::Never);
    }
    host.parse::<IpAddr>().ok().map(reach)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_known_by_its_text() {
        let of = |url: &str| known(host(url));
        for never in [
            "http://169.254.169.254",
            "https://169.254.169.254:443/latest/x",
            "http://[fd00:ec2::254]/",
            "http://metadata.google.internal",
            "http://[::ffff:169.254.169.254]:80",
        ] {
            assert_eq!(of(never), Some(Reach::Never), "{never}");
        }
        for private in [
            "http://127.0.0.1:9200",
            "https://localhost",
            "https://LOCALHOST.:9200/x",
            "http://[::1]:9200",
            "https://10.1.2.3?x=1",
        ] {
            assert_eq!(of(private), Some(Reach::Private), "{private}");
        }
        assert_eq!(of("https://52.1.2.3"), Some(Reach::Public));
        for name in ["https://logs.example.com", "https://10.example.com", "", "https://", "https://["] {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
