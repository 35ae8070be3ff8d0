//! Where the configuration is, if it is not in a file of the node.

use std::fmt;

use secrecy::SecretString;
use strum::{EnumString, VariantNames};

use super::Tls;

/// The words of `config.source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum SourceWord {
    File,
    Etcd,
    Consul,
    Redis,
}

/// What kind of store it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    Etcd,
    Consul,
    Redis,
}

impl StoreKind {
    pub fn label(self) -> &'static str {
        match self {
            StoreKind::Etcd => "etcd",
            StoreKind::Consul => "consul",
            StoreKind::Redis => "redis",
        }
    }

    /// Where its servers listen unless they are told otherwise.
    pub fn default_port(self) -> u16 {
        match self {
            StoreKind::Etcd => 2379,
            StoreKind::Consul => 8500,
            StoreKind::Redis => 6379,
        }
    }
}

/// A store, and what in it is the configuration.
#[derive(Clone, Debug)]
pub struct Store {
    pub kind: StoreKind,
    /// At least one, asked in order.
    pub endpoints: Vec<Endpoint>,
    pub key: String,
    pub user: Option<String>,
    pub password: Option<SecretString>,
    pub token: Option<SecretString>,
    /// For endpoints with TLS; the server's name is that of the endpoint.
    pub tls: Tls,
    /// For one endpoint to answer.
    pub timeout_ms: u64,
}

impl Store {
    /// `etcd:ringway/config`: the place that messages name.
    pub fn called(&self) -> String {
        format!("{}:{}", self.kind.label(), self.key)
    }
}

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Redis,
}

/// One server of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub scheme: Scheme,
    pub is_secure: bool,
    /// A name or an IP address, without brackets.
    pub host: String,
    pub port: Option<u16>,
    pub database: u32,
}

impl Endpoint {
    /// Reads `scheme://host[:port][/database]`. None: it is something else.
    pub fn of(text: &str) -> Option<Endpoint> {
        let (scheme, rest) = text.split_once("://")?;
        let (scheme, is_secure) = match scheme {
            "http" => (Scheme::Http, false),
            "https" => (Scheme::Http, true),
            "redis" => (Scheme::Redis, false),
            "rediss" => (Scheme::Redis, true),
            _ => return None,
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let database = match (scheme, path) {
            (_, "") => 0,
            (Scheme::Redis, number) => number.parse().ok()?,
            (Scheme::Http, _) => return None,
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_host) {
            return None;
        }
        let port = match port {
            None => None,
            Some(port) => Some(port.parse().ok().filter(|port| *port > 0)?),
        };
        Some(Endpoint { scheme, is_secure, host: host.to_owned(), port, database })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.scheme, self.is_secure) {
            (Scheme::Http, false) => "http",
            (Scheme::Http, true) => "https",
            (Scheme::Redis, false) => "redis",
            (Scheme::Redis, true) => "rediss",
        };
        match self.host.contains(':') {
            true => write!(out, "{scheme}://[{}]", self.host)?,
            false => write!(out, "{scheme}://{}", self.host)?,
        }
        if let Some(port) = self.port {
            write!(out, ":{port}")?;
        }
        if self.database > 0 {
            write!(out, "/{}", self.database)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_spelled() {
        for text in ["http://h:1", "https://10.0.0.7", "redis://[::1]:6379/2", "rediss://a.b:1"] {
            assert_eq!(Endpoint::of(text).unwrap_or_else(|| panic!("{text}")).to_string(), text);
        }
        for bad in [
            "",
            "h:1",
            "ftp://h",
            "http://",
            "http://h/x",
            "http://h:0",
            "redis://h/x",
            "redis://u:p@h",
            "http://[h]",
            "http://a b",
        ] {
            assert_eq!(Endpoint::of(bad), None, "{bad}");
        }
    }
}
