//! One HTTP/2 connection from a client: moves its frames, spawns a task for each stream, and ends it when it is idle for too
//! long, when the node drains, or when the client misbehaves. Owns the transport; knows nothing of what a request means.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;

use crate::exchange::balance::Seen;
use crate::exchange::client::Peer;
use crate::exchange::connection;
use crate::exchange::generation::Current;
use crate::net::http2::server::{Incoming, Stream, accept};
use crate::net::watch::{Wait, Watch};
use crate::net::{Cancel, Duplex, Transport, now_ms};

/// How long the last frames of a connection without streams may take, GOAWAY and its acknowledgement included.
const CLOSE_MS: u64 = 5_000;
/// How long, and for how many bytes, a connection that has ended is read on, so that its client gets to see the end.
const LINGER_MS: u64 = 1_000;
const LINGER_BYTES: usize = 256 << 10;
/// How old a connection has to be before its client is asked to connect anew for the sake of balance: not every client is good at
/// it. In a simulation few get that old.
const SETTLED_MS: u64 = if cfg!(sim) { 500 } else { 10_000 };

/// What is waited for next.
enum Next {
    Stream(Stream),
    /// Streams, or a head, began or ended to be open, or the client reads on: the time-out is another one.
    Changed,
    /// The time is over, or the node drains.
    Cancelled,
    Ended,
}

/// Serves a connection on which HTTP/2 was agreed; `early` are bytes that were read of it already.
pub async fn connection(current: Rc<Current>, duplex: Duplex, early: Bytes, peer: Peer) {
    let snapshot = current.get().snapshot.clone();
    let (timeout_head_ms, timeout_idle_ms) = (snapshot.server.timeout_head_ms, snapshot.server.timeout_idle_ms);
    let timeout_write_ms = snapshot.server.timeout_write_ms;
    drop(snapshot);
    // The transport is the library's from here on: time-outs have a watch of their own.
    let watch = Watch::detached();
    let cancel = Rc::new(RefCell::new(Cancel::new()));
    watch.cancel_at(now_ms().saturating_add(timeout_head_ms), &cancel, Wait::ForRest);
    let Some(Ok(mut incoming)) = unless_cancelled(&cancel, accept(duplex, early)).await else { return };
    let (mut is_retiring, mut is_over) = (false, false);
    let (core, settled_ms, mut seen) = (current.core(), now_ms().saturating_add(SETTLED_MS), Seen::default());
    let mut busy = None;
    loop {
        let is_idle = !incoming.has_streams();
        if is_idle == busy.is_some() {
            busy = (!is_idle).then(|| core.balance.hold());
        }
        let in_block = incoming.is_in_block();
        let stuck_at = incoming.stuck_at();
        let patience_ms = match (is_idle, is_retiring) {
            _ if is_over => CLOSE_MS,
            // Streams that have said everything have no time-out any more.
            _ if stuck_at.is_some() => timeout_write_ms,
            // The client can say nothing else before the end of the head that it has begun.
            _ if in_block => timeout_head_ms,
            (true, true) => CLOSE_MS,
            (true, false) => timeout_idle_ms,
            // The streams have time-outs of their own.
            (false, _) => u64::MAX,
        };
        let wait = if is_retiring || in_block || stuck_at.is_some() { Wait::ForRest } else { Wait::ForRequest };
        watch.cancel_at(now_ms().saturating_add(patience_ms), &cancel, wait);
        match next(&mut incoming, (is_idle, in_block, stuck_at), &cancel).await {
            Next::Stream(stream) => {
                core.balance.note(&mut seen);
                // What does not wait, such as a hit, needs no task of its own.
                let mut served = core.tasks.start(serve, (current.clone(), stream, peer.clone()));
                poll_fn(|context| Poll::Ready(served.poll(&core.tasks, context).is_ready())).await;
                served.detach();
                if core.balance.has_gift() && !is_retiring && !core.is_draining() {
                    let now_ms = now_ms();
                    if now_ms >= settled_ms && core.balance.take_reconnect(now_ms) {
                        // RFC 9113 6.8: what runs goes on, and the client opens another connection, which can move.
                        is_retiring = true;
                        incoming.retire();
                    }
                }
            }
            Next::Changed => {}
            Next::Cancelled if is_over || stuck_at.is_some() => return,
            Next::Cancelled if in_block && incoming.is_in_block() => {
                is_over = true;
                incoming.end();
            }
            // The streams that are open may end.
            Next::Cancelled if !is_retiring => {
                is_retiring = true;
                incoming.retire();
            }
            Next::Cancelled if !is_idle => {}
            Next::Cancelled => return,
            Next::Ended => {
                watch.cancel_at(now_ms().saturating_add(LINGER_MS), &cancel, Wait::ForRest);
                let _ = unless_cancelled(&cancel, incoming.linger(LINGER_BYTES)).await;
                return;
            }
        }
    }
}

/// `before`: whether it was idle, in a field block, and where its client did not read on.
async fn next(incoming: &mut Incoming<Duplex>, before: (bool, bool, Option<u64>), cancel: &RefCell<Cancel>) -> Next {
    let mut cancelled = pin!(Cancel::cancelled(cancel));
    poll_fn(|context| match incoming.poll_stream(context) {
        Poll::Ready(Some(stream)) => Poll::Ready(Next::Stream(stream)),
        Poll::Ready(None) => Poll::Ready(Next::Ended),
        Poll::Pending if before != (!incoming.has_streams(), incoming.is_in_block(), incoming.stuck_at()) => {
            Poll::Ready(Next::Changed)
        }
        Poll::Pending => cancelled.as_mut().poll(context).map(|()| Next::Cancelled),
    })
    .await
}

/// What `future` gives; `None` if `cancel` came before.
async fn unless_cancelled<F: Future>(cancel: &RefCell<Cancel>, future: F) -> Option<F::Output> {
    let (mut future, mut cancelled) = (pin!(future), pin!(Cancel::cancelled(cancel)));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => cancelled.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// Serves one stream. A client that resets it is noticed whatever the exchange waits for.
async fn serve((current, stream, peer): (Rc<Current>, Stream, Peer)) {
    let (lookout, alarm) = (stream.lookout(), stream.watch().alarm());
    let mut transport = Transport::Stream(Box::new(stream));
    let mut is_reset = false;
    let mut served = pin!(connection::stream(&current, &mut transport, peer));
    poll_fn(|context| {
        if !is_reset && lookout.poll_reset(context).is_ready() {
            is_reset = true;
            alarm.interrupt();
        }
        served.as_mut().poll(context)
    })
    .await;
}
