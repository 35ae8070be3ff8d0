//! Where the second level of the cache is.

use std::path::PathBuf;

use secrecy::SecretString;

use crate::config::value::decoded;

/// The second level of the cache.
#[derive(Clone, Debug)]
pub struct Redis {
    pub layout: RedisLayout,
    /// Names or IP addresses without brackets, and ports: the server; the Sentinels; or servers of the cluster that know the others.
    pub hosts: Vec<(String, u16)>,
    /// Of the servers, not of Sentinels.
    pub user: Option<String>,
    pub password: Option<SecretString>,
    pub database: u32,
    /// TLS, to servers and Sentinels.
    pub is_secure: bool,
    /// PEM file of the roots to trust; `None` for the system's.
    pub tls_ca: Option<PathBuf>,
    /// Longest wait of a request for it.
    pub timeout_ms: u64,
}

/// How the servers belong together.
#[derive(Clone, Debug)]
pub enum RedisLayout {
    Single,
    /// Sentinels say which one is the master of `service`.
    Sentinel {
        service: String,
        user: Option<String>,
        password: Option<SecretString>,
    },
    Cluster,
}

/// What is written where something else is.
pub const FORMS: &str = "write redis://[user:password@]host[:port][/database], \
                         redis+sentinel://[user:password@]host[:port],.../service[/database] with the addresses of Sentinels, or \
                         redis+cluster://[user:password@]host[:port],...; rediss for TLS";

impl Redis {
    /// Reads `redis[s]://[[user]:password@]host[:port][/database]` and the forms of [`FORMS`]. User and password may be
    /// percent-encoded. Errors: what is wrong; never with a credential in it.
    pub fn of_url(url: &str) -> Result<Redis, String> {
        let nothing = || "is no address of a Redis server".to_owned();
        let (scheme, rest) = url.split_once("://").ok_or_else(nothing)?;
        let (is_secure, word) = match scheme.strip_prefix("rediss").map(|word| (true, word)) {
            Some(secure) => secure,
            None => (false, scheme.strip_prefix("redis").ok_or_else(nothing)?),
        };
        // A password may have a slash or an at-sign in it, a host may not.
        let (credential, rest) =
            rest.rsplit_once('@').map_or((None, rest), |(credential, rest)| (Some(credential), rest));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (layout, port, database) = match word {
            "" => (RedisLayout::Single, 6379, path),
            "+sentinel" => {
                let (service, database) = path.split_once('/').unwrap_or((path, ""));
                if service.is_empty() {
                    return Err("names no service: the name by which the Sentinels know the master".to_owned());
                }
                // As Redis has it (sentinel.c, `sentinel monitor`).
                if !service.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
                    return Err("names a service that no Sentinel can have: letters, digits, \".\", \"_\" and \"-\" are allowed".to_owned());
                }
                (RedisLayout::Sentinel { service: service.to_owned(), user: None, password: None }, 26379, database)
            }
            "+cluster" => (RedisLayout::Cluster, 6379, path),
            "-sentinel" | "-cluster" => {
                return Err(format!("begins with {scheme}://, which is spelled with \"+\" here"));
            }
            _ => return Err(nothing()),
        };
        let database = match database {
            "" => 0,
            database => database.parse().map_err(|_| "ends with a database that is no number".to_owned())?,
        };
        if matches!(layout, RedisLayout::Cluster) && database > 0 {
            return Err("names a database, and a cluster has number 0 alone".to_owned());
        }
        let hosts: Option<Vec<_>> = authority.split(',').map(|host| host_and_port(host, port)).collect();
        let hosts = hosts.ok_or_else(|| "has a host or a port that cannot be one".to_owned())?;
        if hosts.len() > 1 && matches!(layout, RedisLayout::Single) {
            return Err("names several servers, which redis+sentinel:// or redis+cluster:// have".to_owned());
        }
        let text = |part: &str| {
            String::from_utf8(decoded(part.as_bytes()))
                .map_err(|_| "has a user or a password that is not UTF-8".to_owned())
        };
        let (user, password) = match credential {
            None => (None, None),
            Some(credential) => {
                let (user, password) =
                    credential.split_once(':').ok_or_else(|| "has a user and no password".to_owned())?;
                (Some(text(user)?).filter(|user| !user.is_empty()), Some(SecretString::from(text(password)?)))
            }
        };
        Ok(Redis { layout, hosts, user, password, database, is_secure, tls_ca: None, timeout_ms: 0 })
    }
}

fn host_and_port(text: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_host) {
        return None;
    }
    let port = port.map_or(Some(default), |port| port.parse().ok().filter(|port| *port > 0))?;
    Some((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn read(url: &str) -> Redis {
        Redis::of_url(url).unwrap_or_else(|why| panic!("{url}: {why}"))
    }

    #[test]
    fn urls_are_read() {
        let read = |url: &str| {
            let redis = read(url);
            assert!(matches!(redis.layout, RedisLayout::Single));
            let password = redis.password.as_ref().map(|password| password.expose_secret().to_owned());
            let [(host, port)] = &redis.hosts[..] else { panic!("{:?}", redis.hosts) };
            (host.clone(), *port, redis.user, password, redis.database, redis.is_secure)
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(read("redis://h"), ("h".to_owned(), 6379, None, None, 0, false));
        assert_eq!(read("rediss://u:p@h.x:1/7"), ("h.x".to_owned(), 1, text("u"), text("p"), 7, true));
        assert_eq!(read("redis://:a%40b/c@10.0.0.1/"), ("10.0.0.1".to_owned(), 6379, None, text("a@b/c"), 0, false));
        assert_eq!(read("redis://[::1]:7"), ("::1".to_owned(), 7, None, None, 0, false));
    }

    #[test]
    fn urls_of_sentinels_and_clusters_are_read() {
        let redis = read("redis+sentinel://u:p/w@s1,s2:7,[::1]/main/2");
        assert!(matches!(&redis.layout, RedisLayout::Sentinel { service, .. } if service == "main"));
        assert_eq!(redis.hosts, [("s1", 26379), ("s2", 7), ("::1", 26379)].map(|(host, port)| (host.to_owned(), port)));
        assert_eq!((redis.user.as_deref(), redis.database, redis.is_secure), (Some("u"), 2, false));
        let redis = read("rediss+cluster://a,b:7/0");
        assert!(matches!(redis.layout, RedisLayout::Cluster) && redis.is_secure);
        assert_eq!(redis.hosts, [("a", 6379), ("b", 7)].map(|(host, port)| (host.to_owned(), port)));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (bad, says) in [
            ("", "no address"),
            ("h", "no address"),
            ("http://h", "no address"),
            ("redis+ring://h", "no address"),
            ("redis://", "host or a port"),
            ("redis://h:x", "host or a port"),
            ("redis://h:0", "host or a port"),
            ("redis://a b", "host or a port"),
            ("redis://h/x", "no number"),
            ("redis://u@h", "no password"),
            ("redis://:secret@h,i", "several servers"),
            ("redis+sentinel://:secret@h", "no service"),
            ("redis+sentinel://h//2", "no service"),
            ("redis+sentinel://h/a%20b", "no Sentinel can have"),
            ("redis+sentinel://h,/a", "host or a port"),
            ("redis+sentinel://h/a/b", "no number"),
            ("redis+cluster://:secret@h/2", "number 0 alone"),
            ("redis-cluster://h", "spelled with \"+\""),
        ] {
            let why = Redis::of_url(bad).expect_err(bad);
            assert!(why.contains(says) && !why.contains("secret"), "{bad}: {why}");
        }
    }
}
