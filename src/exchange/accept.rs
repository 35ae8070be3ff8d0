//! The head of the next request on a connection. Decides between a request, a quiet connection, and its end.

use super::client::{ClientConnection, Filled};
use super::generation::Current;
use crate::error::Failure;
use crate::net::http2::server::PREFACE;
use crate::net::now_ms;
use crate::net::watch::Wait;
use crate::wire::http1::Progress;

/// A connection that is silent for so long between two requests gives its buffers back and waits without.
const QUIET_MS: u64 = 1000;

/// Whether a connection may begin with HTTP/2's preface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preface {
    Awaited,
    Refused,
}

pub enum Accepted {
    /// `client.head` is filled in.
    Head,
    /// No head, but the beginning of HTTP/2's preface.
    Preface,
    Quiet,
    Closed,
    Refused(Failure),
}

/// Waits for the next request's head.
pub async fn head(current: &Current, client: &mut ClientConnection<'_>, preface: Preface) -> Accepted {
    let (core, mut deadline_ms) = (current.core(), None);
    loop {
        if !client.pending().is_empty() {
            match core.memory.known_requests.borrow_mut().parse_request(&client.input[client.at..], &mut client.head) {
                Ok(Progress::Complete) => return Accepted::Head,
                Ok(Progress::Partial) => {}
                // Its first line is no request line of HTTP/1.1, for this very purpose (RFC 9113 3.4).
                Err(_) if preface == Preface::Awaited && begins_preface(client.pending()) => return Accepted::Preface,
                Err(fault) => {
                    return Accepted::Refused(Failure::BadHead { status: fault.status(), why: fault.to_string() });
                }
            }
            deadline_ms.get_or_insert_with(|| now_ms() + current.get().snapshot.server.timeout_head_ms);
        }
        let wait = if deadline_ms.is_some() { Wait::ForRest } else { Wait::ForRequest };
        match client.fill(core, deadline_ms.unwrap_or_else(|| now_ms() + QUIET_MS), wait).await {
            Ok(Filled::Some) => {}
            // A drain takes back the reads of those that have sent nothing, and then closes what is idle.
            Ok(Filled::Quiet) if deadline_ms.is_none() => return Accepted::Quiet,
            Ok(Filled::Quiet) => return Accepted::Refused(Failure::HeadTimeout),
            Ok(Filled::End) | Err(_) => return Accepted::Closed,
        }
    }
}

/// Whether what has come is the preface, or may become it.
fn begins_preface(bytes: &[u8]) -> bool {
    let length = bytes.len().min(PREFACE.len());
    bytes[..length] == PREFACE[..length]
}
