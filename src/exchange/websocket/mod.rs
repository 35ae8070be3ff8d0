//! A WebSocket between a client and a backend: opened as an exchange, then bytes in both directions that mean nothing here.
//! Owns both connections to the end; a side that leaves takes the other one with it.

mod answer; // what the client is told
pub mod fields; // of its opening
mod flow; // one direction
mod open; // the backend that agrees

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use shards::Fault;

use self::flow::{Broken, Flow};
use self::open::{Agreed, Opened};
use super::call::overdue;
use super::client::ClientConnection;
use super::generation::Generation;
use super::record::RequestRecord;
use super::relay::Next;
use super::upstream_request::UpstreamRequest;
use crate::error::Failure;
use crate::limits::WEBSOCKET_ENDING_MS;
use crate::net::watch::{Interrupt, Watch};
use crate::net::{Duplex, now_ms, within};
use crate::upstream::lease::Carrier;
use crate::wire::websocket::{CloseCode, close};

/// How long a client is waited for by name only: a drain that ends wakes it before.
const LOOK_MS: u64 = 60_000;
/// Without a deadline of the client's: time-outs of backends are a day at most.
const NO_DEADLINE_MS: u64 = 2 * 24 * 60 * 60 * 1000;

/// Opens a WebSocket for the client and relays it to its end. Errors: before it was open, for the client to be told; later, for
/// the record.
pub async fn serve(
    generation: &Rc<Generation>,
    client: &mut ClientConnection<'_>,
    record: &mut RequestRecord,
    upstream: &UpstreamRequest,
) -> Result<Next, Failure> {
    let timeout_ms = generation.snapshot.server.timeout_write_ms;
    // Answers to earlier requests do not wait for its backend.
    client.flush(timeout_ms).await.map_err(|_| Failure::ClientGone)?;
    client.socket.watch().guard();
    let opening = within(open::open(generation, upstream), left_ms(upstream));
    let opened = unless_gone(generation, client.socket.watch(), opening).await;
    client.socket.watch().unguard();
    let agreed = match opened?.unwrap_or_else(|| Err(overdue(generation, upstream)))? {
        Opened::Agreed(agreed) => agreed,
        // In HTTP/2 it would say that there is a WebSocket.
        Opened::Answered(passed, ..) if client.socket.is_stream() && passed.status < 300 => {
            return Err(Failure::BackendGarbage);
        }
        Opened::Answered(passed, backend, model) => {
            note(generation, record, upstream, backend, model);
            return Ok(answer::pass_on(generation, record, &passed, &mut client.output));
        }
    };
    note(generation, record, upstream, agreed.plan.backend, agreed.plan.model);
    let Agreed { mut lease, plan, head, mut input, deadlines, mut span, .. } = *agreed;
    let _open = generation.counters.websockets.hold();
    let backend = &generation.snapshot.backends[plan.backend];
    answer::switch(generation, record, backend, &head, &input, &mut client.output);
    input.drain(..head.length);
    client.flush(timeout_ms).await.map_err(|_| Failure::ClientGone)?;
    let early = std::mem::take(&mut client.input);
    let early_at = std::mem::take(&mut client.at);
    client.lend(generation);
    let mut tunnel = Tunnel {
        down: Flow::new(input),
        up: Flow::new(if early.is_empty() { early } else { early[early_at..].to_vec() }),
        is_guarded: false,
        ending_ms: None,
        bounds: Bounds { stream_ms: deadlines.stream_ms, idle_ms: deadlines.idle_ms, stuck_ms: timeout_ms },
    };
    let Carrier::Http1(socket) = lease.carrier() else { return Err(Failure::Internal) };
    socket.watch().clear();
    tunnel.wait_on(client.socket.watch());
    let ended = poll_fn(|context| tunnel.poll(generation, client, socket, context)).await;
    client.socket.watch().clear();
    client.socket.watch().unguard();
    (record.sent_bytes, record.received_bytes) = (tunnel.down.total, tunnel.up.total);
    if let Some(span) = &mut span {
        span.close(ended.as_ref().map(|()| None));
    }
    client.need(generation);
    match ended {
        Ok(()) => Ok(Next::Close),
        Err(Failure::ClientGone) => {
            lease.break_off();
            Err(Failure::ClientGone)
        }
        Err(failure) => {
            let mut code = CloseCode::GoingAway;
            if failure == Failure::BackendTruncated {
                plan.broke_off(Fault::Closed);
                code = CloseCode::BadGateway;
            }
            lease.break_off();
            // In the middle of a message the end alone has to say it.
            if tunnel.down.frames.may_close() && !tunnel.down.is_blocked() {
                client.output.extend_from_slice(&close(code));
                let _ = client.flush(timeout_ms).await;
            }
            Err(failure)
        }
    }
}

/// How long the client waits for it to be open: by default longer than the backend's time-outs.
fn left_ms(upstream: &UpstreamRequest) -> u64 {
    upstream.deadline_ms.map_or(NO_DEADLINE_MS, |at_ms| at_ms.saturating_sub(now_ms()))
}

/// Who answered.
fn note(generation: &Generation, record: &mut RequestRecord, upstream: &UpstreamRequest, backend: usize, model: usize) {
    record.backend = Some(generation.upstreams.backends[backend].name().clone());
    record.served = (model != upstream.model).then(|| generation.snapshot.models[model].name.as_str().into());
}

/// What `work` gives. Errors: the client leaves before, or the node ends.
async fn unless_gone<T>(generation: &Generation, watch: &Watch, work: impl Future<Output = T>) -> Result<T, Failure> {
    let mut work = pin!(work);
    watch.wake_at(now_ms() + LOOK_MS);
    poll_fn(|context| {
        match watch.poll_interrupt(context.waker()) {
            // One that asks for a WebSocket and then says no more has nothing to use it for.
            Some(Interrupt::Gone | Interrupt::Abandoned | Interrupt::HalfClosed) => {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            Some(Interrupt::Deadline) if generation.halting.get() => return Poll::Ready(Err(Failure::Draining)),
            Some(Interrupt::Deadline) => {
                watch.wake_at(now_ms() + LOOK_MS);
                let _ = watch.poll_interrupt(context.waker());
            }
            None => {}
        }
        work.as_mut().poll(context).map(Ok)
    })
    .await
}

/// What ends a WebSocket by itself, on the core's clock or in milliseconds.
struct Bounds {
    stream_ms: u64,
    /// Without a byte in either direction.
    idle_ms: u64,
    /// The client takes nothing.
    stuck_ms: u64,
}

struct Tunnel {
    /// To the client, and from it.
    down: Flow,
    up: Flow,
    is_guarded: bool,
    /// Since when one direction is over.
    ending_ms: Option<u64>,
    bounds: Bounds,
}

impl Tunnel {
    fn poll(
        &mut self,
        generation: &Generation,
        client: &mut ClientConnection<'_>,
        backend: &mut Duplex,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        while let Some(interrupt) = client.socket.watch().poll_interrupt(context.waker()) {
            match interrupt {
                // What it has said before may still go to the backend.
                Interrupt::Gone if self.down.is_over() => {}
                Interrupt::Gone | Interrupt::Abandoned => return Poll::Ready(Err(Failure::ClientGone)),
                Interrupt::HalfClosed => {}
                Interrupt::Deadline => {
                    if let Some(failure) = self.overdue(generation) {
                        return Poll::Ready(Err(failure));
                    }
                    self.wait_on(client.socket.watch());
                }
            }
        }
        let (buffers, counters) = (&generation.memory.buffers, &generation.counters);
        match self.down.poll(backend, client.socket, buffers, &counters.websocket_bytes_down, context) {
            Poll::Ready(Err(Broken::Writing)) => return Poll::Ready(Err(Failure::ClientGone)),
            // What was read before has left.
            Poll::Ready(Err(Broken::Reading)) => return Poll::Ready(Err(Failure::BackendTruncated)),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        match self.up.poll(client.socket, backend, buffers, &counters.websocket_bytes_up, context) {
            Poll::Ready(Err(Broken::Reading)) => return Poll::Ready(Err(Failure::ClientGone)),
            // What it says last is still read.
            Poll::Ready(Err(Broken::Writing)) => self.up.break_off(),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        if self.down.is_over() && self.up.is_over() {
            return Poll::Ready(Ok(()));
        }
        if (self.down.is_over() || self.up.is_over()) && self.ending_ms.is_none() {
            self.ending_ms = Some(now_ms());
            self.wait_on(client.socket.watch());
        }
        // A client that leaves is seen by reading it, unless that waits for the backend.
        let is_unread = self.up.is_blocked();
        if is_unread != self.is_guarded {
            self.is_guarded = is_unread;
            let watch = client.socket.watch();
            if is_unread { watch.guard() } else { watch.unguard() }
        }
        Poll::Pending
    }

    /// Why it has to end now.
    fn overdue(&self, generation: &Generation) -> Option<Failure> {
        let now_ms = now_ms();
        if generation.halting.get() {
            return Some(Failure::Draining);
        }
        if now_ms >= self.bounds.stream_ms {
            return Some(Failure::BackendTimeout);
        }
        if self.down.is_blocked() && now_ms.saturating_sub(self.down.moved_ms) >= self.bounds.stuck_ms {
            return Some(Failure::ClientGone);
        }
        (now_ms >= self.idle_until()).then_some(Failure::WebSocketIdle)
    }

    fn idle_until(&self) -> u64 {
        let moved_ms = self.down.moved_ms.max(self.up.moved_ms);
        match self.ending_ms {
            None => moved_ms.saturating_add(self.bounds.idle_ms),
            Some(ending_ms) => moved_ms.max(ending_ms).saturating_add(self.bounds.idle_ms.min(WEBSOCKET_ENDING_MS)),
        }
    }

    /// Sets when to look next.
    fn wait_on(&self, watch: &Watch) {
        let stuck_ms = now_ms().saturating_add(self.bounds.stuck_ms);
        watch.wake_at(self.idle_until().min(self.bounds.stream_ms).min(stuck_ms));
    }
}
