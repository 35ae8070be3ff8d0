//! One client connection while it is busy: its socket and its buffers. Owned by the connection's task.
//! An idle connection has none of this: its buffers are back in the core's pool.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;

use super::balance::Seen;
use super::core::Core;
use super::generation::Generation;
use super::memory::Reserved;
use super::pace::Pace;
use crate::config::snapshot::{ForwardedField, TrustedProxies};
use crate::net::watch::Wait;
use crate::net::{Cancel, Transport, now_ms};
use crate::wire::forwarded;
use crate::wire::http1::{Framing, Persistence, RequestHead};

/// After a refusal, how long what the client still sends is read and dropped, so that it gets to see the answer.
const LINGER_MS: u64 = 1000;

/// Room a read must find, so that an ordinary request comes in one piece.
pub const READ_ROOM_BYTES: usize = 4 << 10;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// By its socket, or as a proxy tells it.
    pub address: Option<IpAddr>,
    /// What stands for the names in its certificate, those that count first in front; `None` if it has shown none.
    pub certificate: Option<Rc<[[u8; 32]]>>,
}

pub struct ClientConnection<'a> {
    pub socket: &'a mut Transport,
    pub peer: Peer,
    /// Bytes from the client; those before `at` belong to requests that are over.
    pub input: Vec<u8>,
    pub at: usize,
    /// Bytes to the client that are not sent yet. As the input, it is a buffer of the core's while the exchange runs, and
    /// none while it waits with nothing in it.
    pub output: Vec<u8>,
    /// The head of the request in hand; its spans count from `at`.
    pub head: RequestHead,
    /// What the body of the request in hand takes.
    pub memory: Reserved,
    /// The client was seen to have ended its direction, which it says once.
    pub half_closed: bool,
    /// When it last counted as active.
    pub seen: Seen,
    /// Of a pipelined request: set once one behind it is begun.
    pub followed: Option<Rc<Cell<bool>>>,
    cancel: Rc<RefCell<Cancel>>,
    timeout_write_ms: u64,
    /// How the client takes the answer in hand.
    pace: Pace,
}

/// How a wait for client bytes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    Some,
    /// The client has ended its direction.
    End,
    /// The time was over and nothing had come.
    Quiet,
}

impl<'a> ClientConnection<'a> {
    pub fn new(generation: &Generation, socket: &'a mut Transport, peer: Peer) -> ClientConnection<'a> {
        let cancel = Rc::new(RefCell::new(Cancel::new()));
        ClientConnection {
            socket,
            peer,
            input: Vec::new(),
            at: 0,
            output: Vec::new(),
            head: RequestHead::default(),
            memory: Reserved::nothing(&generation.memory.requests),
            half_closed: false,
            seen: Seen::default(),
            followed: None,
            cancel,
            timeout_write_ms: generation.snapshot.server.timeout_write_ms,
            pace: Pace::new(generation.snapshot.server.timeout_write_ms, generation.snapshot.server.rate_min_bytes),
        }
    }

    /// Sends what `output` holds, and that the answer ends here: for a stream of HTTP/2.
    pub async fn finish(&mut self, timeout_ms: u64) -> io::Result<()> {
        self.watch_write(timeout_ms, self.output.len());
        self.socket.finish(&self.output).await
    }

    /// Gives the buffers back.
    pub fn release(self, core: &Core) {
        core.memory.buffers.give(self.input);
        core.memory.buffers.give(self.output);
    }

    /// The bytes of the request in hand and whatever follows it.
    pub fn pending(&self) -> &[u8] {
        self.input.get(self.at..).unwrap_or(&[])
    }

    /// For whom a trusted proxy sends the request in hand, if it says so.
    pub fn proxied(&self, proxies: &TrustedProxies) -> Option<IpAddr> {
        let (form, name) = match proxies.field {
            ForwardedField::XForwardedFor => (forwarded::Form::XForwardedFor, "x-forwarded-for"),
            ForwardedField::Forwarded => (forwarded::Form::Forwarded, "forwarded"),
        };
        let values = self.head.fields.get_all(self.pending(), name);
        forwarded::client(values, form, |address| proxies.has(Some(address)))
    }

    /// Passes over `length` bytes: they are done with.
    pub fn consume(&mut self, length: usize) {
        self.at = (self.at + length).min(self.input.len());
        if self.at == self.input.len() {
            self.input.clear();
            self.at = 0;
        }
    }

    /// Bytes of the request in hand, if all of it is here: what to pass over when it is refused.
    pub fn unread_of_request(&self, persistence: Persistence) -> Option<usize> {
        if persistence == Persistence::Close {
            return None;
        }
        let whole = match self.head.framing {
            Framing::Empty => self.head.length,
            Framing::Length(length) => self.head.length.checked_add(usize::try_from(length).ok()?)?,
            // Decoded or not, nobody knows here: the connection ends.
            Framing::Chunked | Framing::UntilClose => return None,
        };
        (self.pending().len() >= whole).then_some(whole)
    }

    /// Takes `length` bytes of the body out from behind the head: what follows is the next request.
    pub fn take_out_body(&mut self, length: usize) {
        let start = (self.at + self.head.length).min(self.input.len());
        self.input.drain(start..(start + length).min(self.input.len()));
        self.head.framing = Framing::Empty;
    }

    /// Makes room for at least `more` bytes behind what has come.
    pub fn make_room(&mut self, more: usize) {
        if self.input.capacity() - self.input.len() >= more {
            return;
        }
        if self.at > 0 {
            self.input.drain(..self.at);
            self.at = 0;
        }
        if self.input.capacity() - self.input.len() < more {
            self.input.reserve(more);
        }
    }

    /// Reads more, if it comes until `deadline_ms`. What is to be sent is sent before: the client may wait for it with the
    /// rest of its next request.
    pub async fn fill(&mut self, core: &Core, deadline_ms: u64, wait: Wait) -> io::Result<Filled> {
        if !self.await_bytes(core, deadline_ms, wait).await? {
            return Ok(Filled::Quiet);
        }
        self.make_room(READ_ROOM_BYTES);
        let (result, input) = self.socket.read(std::mem::take(&mut self.input)).await;
        self.input = input;
        Ok(if result? == 0 { Filled::End } else { Filled::Some })
    }

    /// As `fill`, for a body: `take` gets the bytes, says how many it takes, and has to take some.
    pub async fn fill_apart(
        &mut self,
        core: &Core,
        deadline_ms: u64,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> io::Result<Filled> {
        if !self.await_bytes(core, deadline_ms, Wait::ForRest).await? {
            return Ok(Filled::Quiet);
        }
        let mut take = Some(take);
        let taken =
            poll_fn(|context| self.socket.poll_take(context, |bytes| take.take().map_or(0, |take| take(bytes))));
        Ok(if taken.await? == 0 { Filled::End } else { Filled::Some })
    }

    /// Waits until there is something to read. False: nothing has come.
    async fn await_bytes(&mut self, core: &Core, deadline_ms: u64, wait: Wait) -> io::Result<bool> {
        self.flush(self.timeout_write_ms).await?;
        if now_ms() >= deadline_ms {
            return Ok(false); // a client that always has a byte more would never be waited for
        }
        self.lend(core);
        self.socket.watch().cancel_at(deadline_ms, &self.cancel, wait);
        let waited = self.socket.readable_or_cancelled(&self.cancel).await;
        self.need(core);
        match waited {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether another core could go on from here: nothing of a request has come, and nothing of an answer is left.
    pub fn may_move(&self) -> bool {
        !self.socket.is_stream() && self.pending().is_empty() && self.output.is_empty() && !self.half_closed
    }

    /// An answer begins: how slowly the client took the one before is not held against it.
    pub fn begin_answer(&mut self) {
        self.pace.restart();
    }

    /// From now on the client has so long for `bytes`, and no longer than `timeout_ms` between two of them.
    fn watch_write(&self, timeout_ms: u64, bytes: usize) {
        if self.socket.is_pipelined() {
            return self.socket.watch().clear();
        }
        self.socket.watch().shut_down_stuck(timeout_ms, self.pace.total_left_ms(bytes));
    }

    /// Sends what `output` holds. A client that takes nothing for `timeout_ms`, or is slower than `server.rate_min`, is cut
    /// off.
    pub async fn flush(&mut self, timeout_ms: u64) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        self.watch_write(timeout_ms, self.output.len());
        let result = match self.socket.post(&self.output) {
            Some(result) => result,
            None => {
                let begun_ms = now_ms();
                let (result, output) = self.socket.write(std::mem::take(&mut self.output)).await;
                self.pace.note(now_ms().saturating_sub(begun_ms), output.len());
                self.output = output;
                result
            }
        };
        self.output.clear();
        if result.is_err() {
            // A part is out: without a reset, an answer that ends with its connection would look whole.
            self.socket.make_close_unclean();
        }
        result
    }

    /// Waits until what was flushed has left for the kernel: before the connection ends, or lies idle.
    pub async fn settle(&mut self, timeout_ms: u64) -> io::Result<()> {
        self.watch_write(timeout_ms, 0);
        let result = self.socket.settle().await;
        if result.is_err() {
            self.socket.make_close_unclean(); // as in `flush`
        }
        result
    }

    /// Sends what is left, ends our direction, and reads on for a little: closing at once would reset the connection, and
    /// the client might lose the answer that tells it why (RFC 9112 9.6).
    pub async fn linger(&mut self, generation: &Generation) {
        let timeout_ms = generation.snapshot.server.timeout_write_ms;
        // Of a body that was too large or too slow there may be much here.
        generation.memory.buffers.give(std::mem::take(&mut self.input));
        self.at = 0;
        if self.flush(timeout_ms).await.is_err() || self.settle(timeout_ms).await.is_err() {
            return;
        }
        if self.socket.finish_writing().await.is_err() {
            return;
        }
        let deadline_ms = now_ms() + LINGER_MS;
        let mut read = 0;
        while read as u64 <= generation.snapshot.server.body_max_bytes {
            self.input.clear();
            self.at = 0;
            match self.fill(generation, deadline_ms, Wait::ForRest).await {
                Ok(Filled::Some) => read += self.input.len(),
                Ok(Filled::End | Filled::Quiet) | Err(_) => return,
            }
        }
    }

    /// Gives the buffers back in which there is nothing, before a wait: thousands of connections that wait need none, and
    /// the two that all use in turn stay in the near caches.
    pub fn lend(&mut self, core: &Core) {
        for buffer in [&mut self.input, &mut self.output] {
            if buffer.is_empty() {
                core.memory.buffers.give(std::mem::take(buffer));
            }
        }
    }

    /// Takes the buffers again that were lent.
    pub fn need(&mut self, core: &Core) {
        for buffer in [&mut self.input, &mut self.output] {
            if buffer.capacity() == 0 {
                *buffer = core.memory.buffers.take();
            }
        }
    }

    /// As `flush`, and `bytes` behind.
    pub async fn flush_with(&mut self, bytes: Bytes, timeout_ms: u64) -> io::Result<()> {
        self.flush(timeout_ms).await?;
        self.watch_write(timeout_ms, bytes.len());
        let (begun_ms, length) = (now_ms(), bytes.len());
        let result = self.socket.write_bytes(bytes).await;
        self.pace.note(now_ms().saturating_sub(begun_ms), length);
        result
    }
}
