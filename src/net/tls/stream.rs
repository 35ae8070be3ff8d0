//! Bytes in and out of a TLS session over a socket. One task owns it. Ciphertext goes from the kernel's buffers straight
//! into the session and back by plain sends, so a wait that is given up leaves both directions whole.

use std::future::poll_fn;
use std::io::{self, BufRead, IoSlice, Write};
use std::task::{Context, Poll, Waker, ready};

use rustls::client::ClientConnection;

use super::fault::TlsFault;
use crate::net::{Socket, watch::Watch};

/// How often [`TlsStream::is_quiet`] takes in what came: each takes up to 4 KiB, so that a server's tickets fit and one
/// that goes on and on is not listened to.
const QUIET_ROUNDS: u32 = 16;

/// A session on a socket. Dropped, it says that it is done, unless its close was made unclean.
pub struct TlsStream {
    socket: Socket,
    session: ClientConnection,
    records: Records,
    /// What ended the session; every later call says it again.
    fault: Option<TlsFault>,
    writing: Writing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    /// The end of our direction is said, or never will be.
    Ended,
}

/// Where in the records of RFC 8446 5.1 the received bytes stand.
#[derive(Default)]
struct Records {
    /// Bytes of the next header, type and version and length.
    header: [u8; 5],
    have: usize,
    /// Bytes of the body still to come.
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

/// Where the session puts its records.
struct Outgoing<'a, 'b> {
    socket: &'a mut Socket,
    /// `None` where nobody can wait.
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

    /// The watch of the socket underneath.
    pub fn watch(&self) -> &Watch {
        self.socket.watch()
    }

    /// What ALPN agreed on.
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.session.alpn_protocol()
    }

    /// Places of TLS 1.3 that have come.
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
            // Also after a write that failed: the peer has mostly said why before it closed.
            if ready!(self.poll_feed(context))? == 0 {
                return Poll::Ready(Err(TlsFault::Closed.into_error()));
            }
        }
    }

    /// Shows `take` bytes that have come, in place; it says how many it took, at least one. 0 is the end as the peer
    /// announced it; an end that it did not announce is an `UnexpectedEof`.
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
                // What came in front of it is read first; then it is said again.
                Err(error) if self.is_drained() => return Poll::Ready(Err(error)),
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Takes ciphertext in and decrypts it; says how much came, 0 at the end. Only when no plaintext is left unread.
    fn poll_feed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(fault) = &self.fault {
            return Poll::Ready(Err(fault.clone().into_error()));
        }
        // What the protocol owes the peer, such as the answer to a change of keys. What is in its way shows in writing.
        let _ = self.poll_drain(context);
        let TlsStream { socket, session, records, .. } = self;
        let mut refused = None;
        let taken = socket.poll_take(context, |bytes| match session.read_tls(&mut &*bytes) {
            Ok(taken) if taken > 0 => {
                records.advance(&bytes[..taken]);
                taken
            }
            // Behind the end that the peer announced, there is nothing to listen to.
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
            // So that the session knows of the end, too.
            self.session.read_tls(&mut io::empty())?;
        }
        match self.session.process_new_packets() {
            Ok(_) => Poll::Ready(Ok(taken)),
            Err(error) => Poll::Ready(Err(self.fail(error.into()))),
        }
    }

    /// Notes what ended the session, and lets the peer know if that is possible at once.
    fn fail(&mut self, fault: TlsFault) -> io::Error {
        self.drain_now();
        self.writing = Writing::Ended;
        self.fault = Some(fault.clone());
        fault.into_error()
    }

    /// Takes in as much of `bytes` as is allowed to wait, at least one byte, and sends what there is room for.
    pub fn poll_write(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_write_parts(&[IoSlice::new(bytes)], context)
    }

    /// As `poll_write`, of several parts in a row.
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

    /// Sends what waits.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context)).map_err(|error| self.blame(error)).into()
    }

    /// Says that we are done (RFC 8446 6.1), and ends our sending direction.
    pub fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.writing == Writing::Open {
            self.writing = Writing::Ended;
            self.session.send_close_notify();
        }
        ready!(self.poll_flush(context))?;
        self.socket.finish_writing();
        Poll::Ready(Ok(()))
    }

    /// Writes all of `bytes`, down to the kernel.
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

    /// As `poll_drain`, for those who cannot wait.
    fn drain_now(&mut self) {
        while self.session.wants_write() {
            let mut outgoing = Outgoing { socket: &mut self.socket, context: None };
            if !matches!(self.session.write_tls(&mut outgoing), Ok(1..)) {
                return;
            }
        }
    }

    /// Of a write that failed: a peer that refuses us says why, and then closes.
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

    /// Whether an idle connection is still open and silent. Places that came since are put by; they are no noise.
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

    /// Makes the coming close a reset, without a word.
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
