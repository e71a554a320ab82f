//! `what the config says -> where a server is`.
//!
//! A path may hold a token (Sumo Logic's does): what is shown of an origin is its scheme, host and port.

use std::fmt;

/// Scheme, host and port, and what paths begin with.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Over TLS.
    pub secure: bool,
    /// The host's name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Put before every path; empty or `/something`. Not shown.
    pub base: String,
}

impl Origin {
    /// Reads `http[s]://host[:port][/path]`, the path being what others are put behind; no user, query or fragment.
    pub fn parse(url: &str) -> Option<Self> {
        let (origin, path) = Self::and_path(url)?;
        (!path.contains('?')).then(|| Self { base: path.trim_end_matches('/').to_owned(), ..origin })
    }

    /// Reads `http[s]://host[:port][/path][?query]` as an origin without a base and a [`super::Request::path`] of it: for
    /// an address that is asked as it stands. No user or fragment.
    pub fn and_path(url: &str) -> Option<(Self, String)> {
        let uri: http::Uri = url.parse().ok()?;
        let secure = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') || url.contains('#') {
            return None;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let path = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        (!host.is_empty()).then_some((Self { secure, host, port, base: String::new() }, path))
    }

    /// The `Host` header: with the port where it is not the scheme's own.
    pub fn host_header(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// The whole address of a path there. Not to be shown.
    pub fn url(&self, path: &str) -> String {
        format!("{self}{}{path}", self.base)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host_header())
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_port_and_base() {
        let read = |url: &str| Origin::parse(url).map(|origin| (origin.to_string(), origin.url("/x")));
        let both = |shown: &str, url: &str| Some((shown.to_owned(), url.to_owned()));
        assert_eq!(
            read("https://Search.Example.com/"),
            both("https://search.example.com", "https://search.example.com/x")
        );
        assert_eq!(read("https://a:9200/token/"), both("https://a:9200", "https://a:9200/token/x"));
        assert_eq!(read("http://[::1]:80"), both("http://[::1]", "http://[::1]/x"));
        assert_eq!(Origin::parse("http://[::1]").map(|origin| origin.host).as_deref(), Some("::1"));
        for bad in [
            "a",
            "ftp://a",
            "http://",
            "http://user:pass@a",
            "https://a?x=1",
            "https://a/?x=1",
            "http://a b",
            "http://a/#x",
        ] {
            assert_eq!(Origin::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_address_that_is_asked_as_it_stands_keeps_its_path_and_query() {
        let read = |url: &str| Origin::and_path(url).map(|(origin, path)| (origin.url(""), path));
        let both = |origin: &str, path: &str| Some((origin.to_owned(), path.to_owned()));
        assert_eq!(read("https://a/api/v2/logs?x=1&y="), both("https://a", "/api/v2/logs?x=1&y="));
        assert_eq!(read("https://a:444/b/"), both("https://a:444", "/b/"));
        assert_eq!(read("https://a"), both("https://a", "/"));
        assert_eq!(read("https://a?x"), both("https://a", "/?x"));
        assert_eq!(read("https://u@a/"), None);
    }

    #[test]
    fn a_path_is_not_shown() {
        let origin = Origin::parse("https://a/receiver/v1/token").expect("an address");
        assert!(!format!("{origin} {origin:?}").contains("token"));
    }
}
