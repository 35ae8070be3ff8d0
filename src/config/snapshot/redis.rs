//! Where the second level of the cache is.

use std::path::PathBuf;

use secrecy::SecretString;

use crate::config::value::decoded;

/// The second level of the cache.
#[derive(Clone, Debug)]
pub struct Redis {
    pub host: String,
    pub port: u16,
    pub user: Option<String>,
    pub password: Option<SecretString>,
    pub database: u32,
    /// TLS, as in `rediss`.
    pub is_secure: bool,
    /// PEM file of the roots to trust; `None` for the system's.
    pub tls_ca: Option<PathBuf>,
    /// Longest wait of a request for it.
    pub timeout_ms: u64,
}

impl Redis {
    /// Reads `redis[s]://[[user]:password@]host[:port][/database]`, where user and password may be percent-encoded. None: it is
    /// something else.
    pub fn of_url(url: &str) -> Option<Redis> {
        let (is_secure, rest) = match (url.strip_prefix("redis://"), url.strip_prefix("rediss://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return None,
        };
        // A password may have a slash or an at-sign in it, a host may not.
        let (credential, rest) =
            rest.rsplit_once('@').map_or((None, rest), |(credential, rest)| (Some(credential), rest));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_host) {
            return None;
        }
        let text = |part: &str| String::from_utf8(decoded(part.as_bytes())).ok();
        let (user, password) = match credential {
            None => (None, None),
            Some(credential) => {
                let (user, password) = credential.split_once(':')?;
                (Some(text(user)?).filter(|user| !user.is_empty()), Some(SecretString::from(text(password)?)))
            }
        };
        Some(Redis {
            host: host.to_owned(),
            port: port.map_or(Some(6379), |port| port.parse().ok().filter(|port| *port > 0))?,
            user,
            password,
            database: if database.is_empty() { 0 } else { database.parse().ok()? },
            is_secure,
            tls_ca: None,
            timeout_ms: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn urls_are_read() {
        let read = |url: &str| {
            let redis = Redis::of_url(url).unwrap_or_else(|| panic!("{url}"));
            let password = redis.password.as_ref().map(|password| password.expose_secret().to_owned());
            (redis.host, redis.port, redis.user, password, redis.database, redis.is_secure)
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(read("redis://h"), ("h".to_owned(), 6379, None, None, 0, false));
        assert_eq!(read("rediss://u:p@h.x:1/7"), ("h.x".to_owned(), 1, text("u"), text("p"), 7, true));
        assert_eq!(read("redis://:a%40b/c@10.0.0.1/"), ("10.0.0.1".to_owned(), 6379, None, text("a@b/c"), 0, false));
        assert_eq!(read("redis://[::1]:7"), ("::1".to_owned(), 7, None, None, 0, false));
        for bad in
            ["", "h", "http://h", "redis://", "redis://h:x", "redis://h:0", "redis://h/x", "redis://u@h", "redis://a b"]
        {
            assert!(Redis::of_url(bad).is_none(), "{bad}");
        }
    }
}
