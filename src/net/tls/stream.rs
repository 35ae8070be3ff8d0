//! The byte stream of a TLS session over a socket. One task owns it, and may lend its sending side to another task of the
//! core. Ciphertext is decrypted directly from the kernel's receive buffers. Small writes are posted like those of a plain
//! socket, others sent by plain system calls, so an abandoned wait loses nothing in either direction.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, BufRead, IoSlice, Write};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use rustls::{Connection, HandshakeKind};

use super::fault::TlsFault;
use super::names;
use super::records::Records;
use crate::net::{self, Cancel, Socket, watch::Watch};

/// How many reads of up to 4 KiB [`TlsStream::is_quiet`] processes: enough for a server's tickets, but bounded if the
/// server never stops sending.
const QUIET_ROUNDS: u32 = 16;

/// A session on a socket. Dropping it sends close_notify, unless its close was made unclean. `None` once it is detached.
pub struct TlsStream(Option<Open>);

/// A session that belongs to no core, between two records or inside one. Dropping it closes the connection uncleanly.
pub struct DetachedStream {
    socket: net::DetachedSocket,
    tls: Connection,
    records: Records,
}

impl DetachedStream {
    /// What its socket keeps allocated.
    pub fn bytes(&self) -> u64 {
        self.socket.bytes()
    }
}

/// What a stream is while a core has it.
pub struct Open {
    socket: Socket,
    session: Rc<RefCell<Session>>,
    records: Records,
    /// The fault that ended the session; every later call returns it again.
    fault: Option<TlsFault>,
    writing: Writing,
}

/// What is read of a peer whose handshake has failed, at most: the largest record four times.
const LINGER_BYTES: usize = 64 << 10;

/// Most plaintext of one posted write: as a record, it fits into a posted send.
const POSTED_BYTES: usize = 15 << 10;

thread_local! {
    /// Ciphertext on its way from a session to the socket.
    static CIPHERTEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What the owner of a stream shares with its direct writers.
struct Session {
    tls: Connection,
    /// Ciphertext that the socket did not accept; it goes before anything else.
    unsent: Vec<u8>,
}

impl Session {
    /// Encrypts `bytes` and hands the record to `post`, which says whether the socket accepted it; if not, it is kept.
    /// Returns false if nothing was encrypted.
    fn post(&mut self, bytes: &[u8], post: impl FnOnce(&[u8]) -> bool) -> bool {
        if !self.unsent.is_empty() || self.tls.wants_write() || bytes.len() > POSTED_BYTES {
            return false;
        }
        CIPHERTEXT.with_borrow_mut(|ciphertext| {
            ciphertext.clear();
            if self.tls.writer().write_all(bytes).is_err() {
                return false; // cannot happen: the session's buffer is empty, and larger
            }
            while self.tls.wants_write() && self.tls.write_tls(ciphertext).is_ok() {}
            if !post(ciphertext) {
                self.unsent.extend_from_slice(ciphertext);
            }
            true
        })
    }
}

/// Sends for another task of the same core while the owner of the stream does not write itself.
pub struct DirectWriter {
    session: Rc<RefCell<Session>>,
    socket: net::DirectWriter,
}

impl DirectWriter {
    /// False: nothing was written, and the owner has to handle it.
    pub fn post(&self, bytes: &[u8]) -> bool {
        // Checked first, because what is encrypted has to be sent.
        self.socket.is_free()
            && self
                .session
                .try_borrow_mut()
                .is_ok_and(|mut session| session.post(bytes, |ciphertext| self.socket.post(ciphertext)))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    /// close_notify was sent, or never will be.
    Ended,
}

/// Where the session writes its records.
struct Outgoing<'a, 'b> {
    socket: &'a mut Socket,
    /// `None` if the caller cannot wait.
    context: Option<&'a mut Context<'b>>,
}

impl Write for Outgoing<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(context) = &mut self.context else { return self.socket.write_now(parts) };
        match self.socket.poll_write_parts(parts, context) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Deref for TlsStream {
    type Target = Open;

    fn deref(&self) -> &Open {
        self.0.as_ref().expect("it is detached by value")
    }
}

impl DerefMut for TlsStream {
    fn deref_mut(&mut self) -> &mut Open {
        self.0.as_mut().expect("it is detached by value")
    }
}

impl TlsStream {
    pub(super) fn new(socket: Socket, session: impl Into<Connection>) -> TlsStream {
        TlsStream::with(socket, session.into(), Records::default())
    }

    fn with(socket: Socket, tls: Connection, records: Records) -> TlsStream {
        let session = Rc::new(RefCell::new(Session { tls, unsent: Vec::new() }));
        TlsStream(Some(Open { socket, session, records, fault: None, writing: Writing::Open }))
    }

    /// See [`Socket::detach`]. Errors: also if there is plaintext, or somebody else may write.
    pub async fn detach(mut self) -> Result<DetachedStream, TlsStream> {
        if !self.may_detach() {
            return Err(self);
        }
        let Some(Open { socket, session, records, fault, writing }) = self.0.take() else { return Err(self) };
        match socket.detach().await {
            Ok(socket) => match Rc::into_inner(session) {
                Some(session) => Ok(DetachedStream { socket, tls: session.into_inner().tls, records }),
                // It was alone, and nobody can have got it since.
                None => unreachable!("a session that nobody shares"),
            },
            Err(socket) => Err(TlsStream(Some(Open { socket, session, records, fault, writing }))),
        }
    }

    /// See [`Socket::attach`].
    pub fn attach(detached: DetachedStream) -> io::Result<TlsStream> {
        Ok(TlsStream::with(Socket::attach(detached.socket)?, detached.tls, detached.records))
    }
}

impl Open {
    /// Takes the plaintext that is here.
    pub fn take_plaintext(&mut self) -> Vec<u8> {
        let mut taken = Vec::new();
        let mut session = self.session.borrow_mut();
        let mut reader = session.tls.reader();
        while let Ok(bytes) = reader.fill_buf()
            && !bytes.is_empty()
        {
            let length = bytes.len();
            taken.extend_from_slice(bytes);
            reader.consume(length);
        }
        taken
    }

    /// Whether the session's state is all there is of it here.
    fn may_detach(&mut self) -> bool {
        let is_all_sent = {
            let session = self.session.borrow();
            session.unsent.is_empty() && !session.tls.wants_write() && !session.tls.is_handshaking()
        };
        let is_alone = Rc::strong_count(&self.session) == 1;
        self.fault.is_none() && self.writing == Writing::Open && is_all_sent && is_alone && self.is_drained()
    }

    /// The watch of the underlying socket.
    pub fn watch(&self) -> &Watch {
        self.socket.watch()
    }

    /// The protocol selected by ALPN.
    pub(super) fn protocol(&self) -> Option<Vec<u8>> {
        self.session.borrow().tls.alpn_protocol().map(<[u8]>::to_vec)
    }

    /// The names of the client's certificate, of a session of this or of an earlier connection; `None` if it has shown none.
    pub fn client_names(&self) -> Option<Vec<String>> {
        let session = self.session.borrow();
        Some(names::names(session.tls.peer_certificates()?.first()?))
    }

    /// TLS 1.3 tickets received.
    #[cfg(all(test, not(sim)))]
    pub(in crate::net) fn tickets(&self) -> u32 {
        match &self.session.borrow().tls {
            Connection::Client(client) => client.tls13_tickets_received(),
            Connection::Server(_) => 0,
        }
    }

    pub(super) async fn shake_hands(&mut self) -> Result<(), TlsFault> {
        poll_fn(|context| self.poll_shake_hands(context)).await.map_err(|error| TlsFault::from_io(&error))
    }

    fn poll_shake_hands(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let drained = self.poll_drain(context);
            if !self.is_handshaking() {
                return drained;
            }
            // Also after a failed write: the peer has usually sent the reason before it closed.
            if ready!(self.poll_feed(context))? == 0 {
                return Poll::Ready(Err(TlsFault::Closed.into_error()));
            }
        }
    }

    /// Passes received bytes to `take` in place; it returns how many it consumed, at least one. 0 is the end after
    /// close_notify; an end without close_notify is an `UnexpectedEof`.
    pub fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_readable(context))?;
        let session = &mut *self.session.borrow_mut();
        let mut reader = session.tls.reader();
        match reader.fill_buf() {
            Ok([]) => Poll::Ready(Ok(0)),
            Ok(bytes) => {
                let taken = take(bytes).min(bytes.len());
                reader.consume(taken);
                Poll::Ready(Ok(taken))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Err(self.fault.clone().unwrap_or(TlsFault::Truncated).into_error()))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Waits until there is plaintext, or an end. Errors: the session has failed.
    pub fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.is_drained() {
            match ready!(self.poll_feed(context)) {
                // Plaintext received before the fault is read first; then the fault is returned again.
                Err(error) if self.is_drained() => return Poll::Ready(Err(error)),
                Ok(_) | Err(_) => {}
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, appending to `buffer` within its spare capacity. 0 is the end after close_notify.
    pub async fn read(&mut self, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let result = poll_fn(|context| {
            self.poll_take(context, |bytes| {
                let taken = bytes.len().min(buffer.capacity() - buffer.len());
                buffer.extend_from_slice(&bytes[..taken]);
                taken
            })
        })
        .await;
        (result, buffer)
    }

    /// See [`Socket::readable`].
    pub async fn readable(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_readable(context)).await
    }

    /// See [`Socket::readable_or_cancelled`].
    pub async fn readable_or_cancelled(&mut self, cancel: &RefCell<Cancel>) -> io::Result<()> {
        while self.is_drained() {
            // The socket has the bytes of a record first, and then has none: the wait for plaintext is one of several.
            let mut nobody = Context::from_waker(Waker::noop());
            match self.poll_feed(&mut nobody) {
                Poll::Ready(Err(error)) if self.is_drained() => return Err(error),
                Poll::Ready(_) => {}
                Poll::Pending => self.socket.readable_or_cancelled(cancel).await?,
            }
        }
        Ok(())
    }

    /// Receives and decrypts; returns how many bytes of ciphertext arrived, 0 at the end. Call it only when all
    /// plaintext was read.
    fn poll_feed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(fault) = &self.fault {
            return Poll::Ready(Err(fault.clone().into_error()));
        }
        // Sends what the protocol requires, such as the response to a key update. Errors show in the next write.
        let _ = self.poll_drain(context);
        let fault = {
            let Open { socket, session, records, .. } = self;
            let tls = &mut session.borrow_mut().tls;
            let mut refused = None;
            let taken = socket.poll_take(context, |bytes| match tls.read_tls(&mut &*bytes) {
                Ok(taken) if taken > 0 => {
                    records.advance(&bytes[..taken]);
                    taken
                }
                // Input after close_notify is ignored.
                Ok(_) => bytes.len(),
                Err(error) => {
                    refused = Some(error);
                    bytes.len()
                }
            });
            let taken = ready!(taken)?;
            if taken == 0 {
                // Tells the session about the end, too.
                tls.read_tls(&mut io::empty())?;
            }
            match refused {
                Some(error) => TlsFault::Protocol { what: error.to_string() },
                None => match tls.process_new_packets() {
                    Ok(_) => return Poll::Ready(Ok(taken)),
                    Err(error) => error.into(),
                },
            }
        };
        Poll::Ready(Err(self.fail(fault)))
    }

    /// Records the fault that ended the session, and sends the alert if that is possible without waiting.
    fn fail(&mut self, fault: TlsFault) -> io::Error {
        self.drain_now();
        self.writing = Writing::Ended;
        self.fault = Some(fault.clone());
        fault.into_error()
    }

    /// Accepts as much of `bytes` as may be buffered, at least one byte, and sends what there is room for.
    pub fn poll_write(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_write_parts(&[IoSlice::new(bytes)], context)
    }

    /// As `poll_write`, gathering several parts.
    pub fn poll_write_parts(&mut self, parts: &[IoSlice<'_>], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if parts.iter().all(|part| part.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        loop {
            if let Some(fault) = &self.fault {
                return Poll::Ready(Err(fault.clone().into_error()));
            }
            if self.writing == Writing::Ended {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let count = self.session.borrow_mut().tls.writer().write_vectored(parts)?;
            match self.poll_drain(context) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.blame(error))),
                _ if count > 0 => return Poll::Ready(Ok(count)),
                Poll::Ready(Ok(())) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Sends what is buffered.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context)).map_err(|error| self.blame(error)).into()
    }

    /// Sends close_notify (RFC 8446 6.1), and shuts down the write direction.
    pub fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.writing == Writing::Open {
            self.writing = Writing::Ended;
            self.session.borrow_mut().tls.send_close_notify();
        }
        ready!(self.poll_flush(context))?;
        ready!(self.socket.poll_settled(context))?;
        self.socket.finish_writing();
        Poll::Ready(Ok(()))
    }

    /// See `poll_shutdown`.
    pub async fn finish_writing(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_shutdown(context)).await
    }

    /// After a failed handshake: sends the alert, ends our direction, and reads on until the peer has ended its own. Closing at
    /// once would reset the connection where something is unread, and the peer could lose the alert.
    pub(super) async fn linger(&mut self, timeout_ms: u64) {
        self.socket.watch().shut_down_at(net::now_ms().saturating_add(timeout_ms));
        if poll_fn(|context| self.poll_drain(context)).await.is_err() {
            return;
        }
        if poll_fn(|context| self.socket.poll_settled(context)).await.is_err() {
            return;
        }
        self.socket.finish_writing();
        let mut left = LINGER_BYTES;
        while left > 0 {
            match poll_fn(|context| self.socket.poll_take(context, <[u8]>::len)).await {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    }

    /// Writes all of `bytes` to the kernel.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        poll_fn(|context| {
            while done < bytes.len() {
                done += ready!(self.poll_write(&bytes[done..], context))?;
            }
            self.poll_flush(context)
        })
        .await
    }

    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (socket, session) = (&mut self.socket, &mut *self.session.borrow_mut());
        while !session.unsent.is_empty() {
            let sent = ready!(socket.poll_write(&session.unsent, context))?;
            session.unsent.drain(..sent);
        }
        while session.tls.wants_write() {
            let mut outgoing = Outgoing { socket, context: Some(context) };
            match session.tls.write_tls(&mut outgoing) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// As `poll_drain`, for callers that cannot wait.
    fn drain_now(&mut self) {
        let (socket, session) = (&mut self.socket, &mut *self.session.borrow_mut());
        if !session.unsent.is_empty() {
            return;
        }
        while session.tls.wants_write() {
            let mut outgoing = Outgoing { socket, context: None };
            if !matches!(session.tls.write_tls(&mut outgoing), Ok(1..)) {
                return;
            }
        }
    }

    /// See [`Socket::post`].
    pub fn post(&mut self, bytes: &[u8]) -> Option<io::Result<()>> {
        if self.fault.is_some() || self.writing == Writing::Ended || !self.socket.is_free() {
            return None;
        }
        let socket = &mut self.socket;
        let is_posted =
            self.session.borrow_mut().post(bytes, |ciphertext| matches!(socket.post(ciphertext), Some(Ok(()))));
        is_posted.then_some(Ok(()))
    }

    /// See [`Socket::direct_writer`].
    pub fn direct_writer(&self, patience_ms: u64) -> Option<DirectWriter> {
        if self.fault.is_some() || self.writing == Writing::Ended {
            return None;
        }
        Some(DirectWriter { session: self.session.clone(), socket: self.socket.direct_writer(patience_ms)? })
    }

    /// Waits until the kernel has accepted everything that was written.
    pub async fn settle(&mut self) -> io::Result<()> {
        poll_fn(|context| {
            ready!(self.poll_flush(context))?;
            self.socket.poll_settled(context)
        })
        .await
    }

    /// Whether the session was resumed by a ticket.
    pub fn is_resumed(&self) -> bool {
        self.session.borrow().tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn is_handshaking(&self) -> bool {
        self.session.borrow().tls.is_handshaking()
    }

    /// Finds the cause of a failed write: a peer that rejects us sends an alert and then closes.
    fn blame(&mut self, error: io::Error) -> io::Error {
        let mut nobody = Context::from_waker(Waker::noop());
        for _ in 0..QUIET_ROUNDS {
            if !self.is_drained() || !matches!(self.poll_feed(&mut nobody), Poll::Ready(Ok(1..))) {
                break;
            }
        }
        self.fault.clone().map_or(error, TlsFault::into_error)
    }

    /// Whether there is neither plaintext nor an end to be read.
    fn is_drained(&mut self) -> bool {
        self.session.borrow_mut().tls.reader().fill_buf().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether an idle connection is still open and has no input. Session tickets received meanwhile are stored and do
    /// not count.
    pub fn is_quiet(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        for _ in 0..QUIET_ROUNDS {
            if self.fault.is_some() || self.writing == Writing::Ended || !self.is_drained() {
                return false;
            }
            if self.socket.is_quiet() {
                return self.records.is_between();
            }
            if let Poll::Ready(Err(_)) = self.poll_feed(&mut nobody) {
                return false;
            }
        }
        false
    }

    /// Makes the next close a reset, without close_notify.
    pub fn make_close_unclean(&mut self) {
        self.writing = Writing::Ended;
        self.socket.make_close_unclean();
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        let Some(open) = &mut self.0 else { return };
        if open.writing == Writing::Open && !open.is_handshaking() {
            open.session.borrow_mut().tls.send_close_notify();
            open.drain_now();
        }
    }
}
