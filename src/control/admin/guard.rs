//! Authorization on the admin listener. With a token, everything except probes requires it. Without one, which is
//! possible only on loopback, requests that a web page could make through a local browser are rejected.

use std::net::IpAddr;

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use crate::config::snapshot::{Admin, Listen};

/// Whether a route is open to probes, which have no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Everybody,
    Operators,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoToken,
    WrongToken,
    ForeignHost,
    ForeignPage,
}

pub struct Guard {
    /// The SHA-256 of the token: comparing hashes leaks nothing useful by timing.
    token: Option<[u8; 32]>,
    is_tcp: bool,
}

impl Guard {
    pub fn of(admin: &Admin) -> Guard {
        let token = admin.token.as_ref().map(|token| Sha256::digest(token.expose_secret().as_bytes()).into());
        Guard { token, is_tcp: matches!(admin.listen, Some(Listen::Tcp(_))) }
    }

    /// Errors: why the request is refused.
    pub fn check(&self, access: Access, changes: bool, fields: &HeaderMap) -> Result<(), Refusal> {
        if access == Access::Everybody {
            return Ok(());
        }
        let text = |name: HeaderName| fields.get(name).and_then(|value| value.to_str().ok());
        if let Some(token) = self.token {
            let sent = text(AUTHORIZATION).ok_or(Refusal::NoToken)?;
            let (scheme, sent) = sent.split_once(' ').ok_or(Refusal::WrongToken)?;
            let is_it = scheme.eq_ignore_ascii_case("bearer")
                && <[u8; 32]>::from(Sha256::digest(sent.trim().as_bytes())) == token;
            return if is_it { Ok(()) } else { Err(Refusal::WrongToken) };
        }
        if !self.is_tcp {
            return Ok(());
        }
        // A page that uses DNS rebinding sends its own name.
        let host = text(HOST).unwrap_or("localhost");
        if !is_this_machine(host) {
            return Err(Refusal::ForeignHost);
        }
        match text(ORIGIN) {
            Some(origin) if changes && origin.strip_prefix("http://") != Some(host) => Err(Refusal::ForeignPage),
            _ => Ok(()),
        }
    }
}

/// Whether a `Host` field is an IP address or a name of this machine.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}
