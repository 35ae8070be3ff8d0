//! The byte stream of a TLS session over a socket. One task owns it. Ciphertext is decrypted directly from the kernel's
//! receive buffers and sent by plain system calls, so an abandoned wait loses nothing in either direction.

use std::future::poll_fn;
use std::io::{self, BufRead, IoSlice, Write};
use std::task::{Context, Poll, Waker, ready};

use rustls::client::ClientConnection;

use super::fault::TlsFault;
use crate::net::{Socket, watch::Watch};

/// How many reads of up to 4 KiB [`TlsStream::is_quiet`] processes: enough for a server's tickets, but bounded if the
/// server never stops sending.
const QUIET_ROUNDS: u32 = 16;

/// A session on a socket. Dropping it sends close_notify, unless its close was made unclean.
pub struct TlsStream {
    socket: Socket,
    session: ClientConnection,
    records: Records,
    /// The fault that ended the session; every later call returns it again.
    fault: Option<TlsFault>,
    writing: Writing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    /// close_notify was sent, or never will be.
    Ended,
}

/// Position of the received bytes within the records of RFC 8446 5.1.
#[derive(Default)]
struct Records {
    /// Bytes of the next header: type, version and length.
    header: [u8; 5],
    have: usize,
    /// Remaining bytes of the body.
    left: usize,
}

impl Records {
    fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let step = self.left.min(bytes.len());
                self.left -= step;
                bytes = &bytes[step..];
                continue;
            }
            let step = (self.header.len() - self.have).min(bytes.len());
            self.header[self.have..self.have + step].copy_from_slice(&bytes[..step]);
            self.have += step;
            bytes = &bytes[step..];
            if self.have == self.header.len() {
                self.have = 0;
                self.left = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
            }
        }
    }

    fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }
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

impl TlsStream {
    pub(super) fn new(socket: Socket, session: ClientConnection) -> TlsStream {
        TlsStream { socket, session, records: Records::default(), fault: None, writing: Writing::Open }
    }

    /// The watch of the underlying socket.
    pub fn watch(&self) -> &Watch {
        self.socket.watch()
    }

    /// The protocol selected by ALPN.
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.session.alpn_protocol()
    }

    /// TLS 1.3 tickets received.
    #[cfg(all(test, not(sim)))]
    pub(in crate::net) fn tickets(&self) -> u32 {
        self.session.tls13_tickets_received()
    }

    pub(super) async fn shake_hands(&mut self) -> Result<(), TlsFault> {
        poll_fn(|context| self.poll_shake_hands(context)).await.map_err(|error| TlsFault::from_io(&error))
    }

    fn poll_shake_hands(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let drained = self.poll_drain(context);
            if !self.session.is_handshaking() {
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
        loop {
            let mut reader = self.session.reader();
            match reader.fill_buf() {
                Ok([]) => return Poll::Ready(Ok(0)),
                Ok(bytes) => {
                    let taken = take(bytes).min(bytes.len());
                    reader.consume(taken);
                    return Poll::Ready(Ok(taken));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Err(self.fault.clone().unwrap_or(TlsFault::Truncated).into_error()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
            match ready!(self.poll_feed(context)) {
                // Plaintext received before the fault is read first; then the fault is returned again.
                Err(error) if self.is_drained() => return Poll::Ready(Err(error)),
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Receives and decrypts; returns how many bytes of ciphertext arrived, 0 at the end. Call it only when all
    /// plaintext was read.
    fn poll_feed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(fault) = &self.fault {
            return Poll::Ready(Err(fault.clone().into_error()));
        }
        // Sends what the protocol requires, such as the response to a key update. Errors show in the next write.
        let _ = self.poll_drain(context);
        let TlsStream { socket, session, records, .. } = self;
        let mut refused = None;
        let taken = socket.poll_take(context, |bytes| match session.read_tls(&mut &*bytes) {
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
        if let Some(error) = refused {
            return Poll::Ready(Err(self.fail(TlsFault::Protocol { what: error.to_string() })));
        }
        if taken == 0 {
            // Tells the session about the end, too.
            self.session.read_tls(&mut io::empty())?;
        }
        match self.session.process_new_packets() {
            Ok(_) => Poll::Ready(Ok(taken)),
            Err(error) => Poll::Ready(Err(self.fail(error.into()))),
        }
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
            let count = self.session.writer().write_vectored(parts)?;
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
            self.session.send_close_notify();
        }
        ready!(self.poll_flush(context))?;
        self.socket.finish_writing();
        Poll::Ready(Ok(()))
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
        while self.session.wants_write() {
            let mut outgoing = Outgoing { socket: &mut self.socket, context: Some(context) };
            match self.session.write_tls(&mut outgoing) {
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
        while self.session.wants_write() {
            let mut outgoing = Outgoing { socket: &mut self.socket, context: None };
            if !matches!(self.session.write_tls(&mut outgoing), Ok(1..)) {
                return;
            }
        }
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
        self.session.reader().fill_buf().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
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
        if self.writing == Writing::Open && !self.session.is_handshaking() {
            self.session.send_close_notify();
            self.drain_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Records;

    #[test]
    fn records_are_followed_however_they_are_cut() {
        let stream: Vec<u8> = [&[22, 3, 3, 0, 2, 9, 9][..], &[23, 3, 3, 0, 0], &[23, 3, 3, 1, 1], &[7; 257]].concat();
        let ends = [0, 7, 12, stream.len()];
        for cut in 0..=stream.len() {
            for second in cut..=stream.len() {
                let mut records = Records::default();
                for (part, at) in [(&stream[..cut], cut), (&stream[cut..second], second)] {
                    records.advance(part);
                    assert_eq!(records.is_between(), ends.contains(&at), "cut at {cut} and {second}");
                }
            }
        }
    }
}
