//! The end of a connection whose client may still be sending. Owns nothing; never waits without bound.

use super::client::{ClientConnection, Filled};
use super::generation::Generation;
use crate::net::now_ms;
use crate::net::watch::Wait;

/// After a refusal, how long what the client still sends is read and dropped, so that it gets to see the answer.
const LINGER_MS: u64 = 1000;

/// Sends what is left, ends our direction, and reads on for a little: closing at once would reset the connection, and
/// the client might lose the answer that tells it why (RFC 9112 9.6).
pub async fn linger(core: &Generation, client: &mut ClientConnection<'_>) {
    let timeout_ms = core.snapshot.server.timeout_write_ms;
    // Of a body that was too large or too slow there may be much here.
    core.memory.buffers.give(std::mem::take(&mut client.input));
    client.at = 0;
    if client.flush(timeout_ms).await.is_err() || client.settle(timeout_ms).await.is_err() {
        return;
    }
    if client.socket.finish_writing().await.is_err() {
        return;
    }
    let deadline_ms = now_ms() + LINGER_MS;
    let mut read = 0;
    while read as u64 <= core.snapshot.server.body_max_bytes {
        client.input.clear();
        client.at = 0;
        match client.fill(core, deadline_ms, Wait::ForRest).await {
            Ok(Filled::Some) => read += client.input.len(),
            Ok(Filled::End | Filled::Quiet) | Err(_) => return,
        }
    }
}
