//! TLS sessions of one backend on one core that can be resumed: a resumed handshake costs the backend no signature. One
//! core owns it; the library requires a lock, which is never contended.

// The library requires the store to be shareable between threads; this one never is.
#![allow(clippy::disallowed_types)]

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

use crate::net::now_ms;

/// How long a session may be resumed; a shorter lifetime set by the server applies as well.
const KEPT_MS: u64 = 3_600_000;

/// Most TLS 1.3 tickets, each for one connection. A server sends two per connection; a pool that opens more connections
/// at once uses full handshakes for the rest.
const TICKETS_MAX: usize = 32;

/// A context has one server name, so the library always passes the same one.
#[derive(Default)]
pub(super) struct Sessions(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    group: Option<NamedGroup>,
    /// With the time of arrival in milliseconds.
    tls12: Option<(u64, Tls12ClientSessionValue)>,
    tickets: VecDeque<(u64, Tls13ClientSessionValue)>,
}

impl Sessions {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_fresh(came_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(came_ms) < KEPT_MS
}

impl fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sessions(..)")
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.kept().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.kept().tls12 = Some((now_ms(), value));
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let now_ms = now_ms();
        let mut kept = self.kept();
        kept.tls12.take_if(|(came_ms, _)| !is_fresh(*came_ms, now_ms));
        kept.tls12.as_ref().map(|(_, value)| value.clone())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.kept().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut kept = self.kept();
        if kept.tickets.len() == TICKETS_MAX {
            kept.tickets.pop_front();
        }
        kept.tickets.push_back((now_ms(), value));
    }

    /// The newest ticket: it stays valid longest, and the oldest are evicted anyway.
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let (came_ms, value) = self.kept().tickets.pop_back()?;
        if is_fresh(came_ms, now_ms()) {
            return Some(value);
        }
        // The others are older still.
        self.kept().tickets.clear();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT_MS, is_fresh};

    #[test]
    fn a_session_is_kept_for_an_hour() {
        assert!(is_fresh(5, 5) && is_fresh(5, 5 + KEPT_MS - 1));
        assert!(!is_fresh(5, 5 + KEPT_MS));
        assert!(is_fresh(9, 5), "a coarse clock may be read a tick earlier on the same core");
    }
}
