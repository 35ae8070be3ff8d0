//! The byte stream from a client: a socket, plain or with TLS, or one stream of HTTP/2 or one pipelined request, which read and write like one. One task owns it, and may lend its sending side to another task
//! of the core. Reads and writes have the meaning of [`Socket`]'s; for a plain socket they cost a branch more.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::http2::server as http2;
use super::watch::Watch;
use super::{Cancel, Socket, next_round, pipelined, tls};
use crate::limits::SLICE_BYTES;

/// An accepted connection.
pub enum Transport {
    Plain(Socket),
    Tls(Box<tls::TlsStream>),
    Stream(Box<http2::Stream>),
    /// The rest of its connection is the next one's: nothing follows the request.
    Pipelined(Box<pipelined::Pipelined>),
}

/// An accepted connection that belongs to no core. Dropping it closes it.
pub enum DetachedTransport {
    Plain(super::DetachedSocket),
    Tls(Box<tls::DetachedStream>),
}

impl DetachedTransport {
    /// What it keeps allocated beside its session.
    pub fn bytes(&self) -> u64 {
        match self {
            DetachedTransport::Plain(socket) => socket.bytes(),
            DetachedTransport::Tls(stream) => stream.bytes(),
        }
    }
}

/// Sends for another task of the same core while the owner of the transport does not write itself.
pub enum DirectWriter {
    Plain(super::DirectWriter),
    Tls(tls::DirectWriter),
    Stream(http2::DirectWriter),
    Pipelined(pipelined::DirectWriter),
}

impl DirectWriter {
    /// False: nothing was written, and the owner has to handle it.
    pub fn post(&self, bytes: &[u8]) -> bool {
        match self {
            DirectWriter::Plain(writer) => writer.post(bytes),
            DirectWriter::Tls(writer) => writer.post(bytes),
            DirectWriter::Stream(writer) => writer.post(bytes),
            DirectWriter::Pipelined(writer) => writer.post(bytes),
        }
    }
}

impl From<Socket> for Transport {
    fn from(socket: Socket) -> Transport {
        Transport::Plain(socket)
    }
}

impl Transport {
    /// See [`Socket::detach`]. Parts of a connection stay.
    pub async fn detach(self) -> Result<DetachedTransport, Transport> {
        match self {
            Transport::Plain(socket) => socket.detach().await.map(DetachedTransport::Plain).map_err(Transport::Plain),
            Transport::Tls(stream) => match stream.detach().await {
                Ok(stream) => Ok(DetachedTransport::Tls(Box::new(stream))),
                Err(stream) => Err(Transport::Tls(Box::new(stream))),
            },
            Transport::Stream(_) | Transport::Pipelined(_) => Err(self),
        }
    }

    /// See [`Socket::attach`].
    pub fn attach(detached: DetachedTransport) -> io::Result<Transport> {
        Ok(match detached {
            DetachedTransport::Plain(socket) => Transport::Plain(Socket::attach(socket)?),
            DetachedTransport::Tls(stream) => Transport::Tls(Box::new(tls::TlsStream::attach(*stream)?)),
        })
    }

    /// Whether it is a connection of its own.
    pub fn is_whole(&self) -> bool {
        matches!(self, Transport::Plain(_) | Transport::Tls(_))
    }

    /// Takes what has come and was decrypted, which would keep it from being detached.
    pub fn take_early(&mut self) -> Vec<u8> {
        match self {
            Transport::Tls(stream) => stream.take_plaintext(),
            Transport::Plain(_) | Transport::Stream(_) | Transport::Pipelined(_) => Vec::new(),
        }
    }

    /// Whether it is one of several streams of a connection, and carries one request.
    pub fn is_stream(&self) -> bool {
        matches!(self, Transport::Stream(_))
    }

    /// Whether it is a pipelined request before it is its turn: others of its connection are answered first, so that how fast
    /// it takes its answer says nothing of its client.
    pub fn is_pipelined(&self) -> bool {
        matches!(self, Transport::Pipelined(_))
    }

    /// Ends the answer to a pipelined request. Of others nothing.
    pub fn end_pipelined(&mut self, after: pipelined::After) {
        if let Transport::Pipelined(answer) = self {
            answer.end(after);
        }
    }

    /// Deadlines and hang-ups of the connection.
    pub fn watch(&self) -> &Watch {
        match self {
            Transport::Plain(socket) => socket.watch(),
            Transport::Tls(stream) => stream.watch(),
            Transport::Stream(stream) => stream.watch(),
            Transport::Pipelined(answer) => answer.watch(),
        }
    }

    /// Waits until a read would return bytes or the end, without holding a buffer.
    pub async fn readable(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.readable().await,
            Transport::Tls(stream) => stream.readable().await,
            Transport::Stream(stream) => stream.readable().await,
            Transport::Pipelined(_) => Ok(()), // the end
        }
    }

    /// As `readable`, but `cancel` ends the wait with an `Interrupted` error.
    pub async fn readable_or_cancelled(&mut self, cancel: &RefCell<Cancel>) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.readable_or_cancelled(cancel).await,
            Transport::Tls(stream) => stream.readable_or_cancelled(cancel).await,
            Transport::Stream(stream) => stream.readable_or_cancelled(cancel).await,
            Transport::Pipelined(_) => Ok(()),
        }
    }

    /// Reads once, appending to `buffer` within its spare capacity (which must not be empty). 0 is the end of the stream.
    pub async fn read(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        match self {
            Transport::Plain(socket) => socket.read(buffer).await,
            Transport::Tls(stream) => stream.read(buffer).await,
            Transport::Stream(stream) => stream.read(buffer).await,
            Transport::Pipelined(_) => (Ok(0), buffer),
        }
    }

    /// See [`Socket::post`].
    pub fn post(&mut self, bytes: &[u8]) -> Option<io::Result<()>> {
        match self {
            Transport::Plain(socket) => socket.post(bytes),
            Transport::Tls(stream) => stream.post(bytes),
            Transport::Stream(_) => None,
            Transport::Pipelined(answer) => answer.post(bytes),
        }
    }

    /// Writes all of `buffer`. Each partial write counts as progress for the watch.
    pub async fn write(&mut self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        match self {
            Transport::Plain(socket) => socket.write(buffer).await,
            Transport::Tls(stream) => (stream.write_all(&buffer).await, buffer),
            Transport::Stream(stream) => (stream.write(&buffer).await, buffer),
            Transport::Pipelined(answer) => (answer.write(&buffer).await, buffer),
        }
    }

    /// As `write`, for shared bytes; many of them in slices, between which other tasks run.
    pub async fn write_bytes(&mut self, mut bytes: Bytes) -> io::Result<()> {
        while bytes.len() > SLICE_BYTES {
            self.write_slice(bytes.split_to(SLICE_BYTES)).await?;
            next_round().await;
        }
        self.write_slice(bytes).await
    }

    async fn write_slice(&mut self, bytes: Bytes) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.write_bytes(bytes).await,
            Transport::Tls(stream) => stream.write_all(&bytes).await,
            Transport::Stream(stream) => stream.write_bytes(bytes).await,
            Transport::Pipelined(answer) => answer.write(&bytes).await,
        }
    }

    /// Waits until the kernel has accepted everything that was written.
    pub async fn settle(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.settle().await,
            Transport::Tls(stream) => stream.settle().await,
            Transport::Stream(_) | Transport::Pipelined(_) => Ok(()), // the connection's task sends it
        }
    }

    /// As `read`, into a buffer that `make` allocates once there is something to read.
    pub fn poll_read_new(
        &mut self,
        buffer: &mut Vec<u8>,
        make: impl FnOnce() -> Vec<u8>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.poll_take(context, |bytes| {
            *buffer = make();
            let taken = bytes.len().min(buffer.capacity());
            buffer.extend_from_slice(&bytes[..taken]);
            taken
        })
    }

    /// Passes received bytes to `take` in place; it returns how many it consumed, at least one. 0 is the end.
    pub fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Transport::Plain(socket) => socket.poll_take(context, take),
            Transport::Tls(stream) => stream.poll_take(context, take),
            Transport::Stream(stream) => stream.poll_take(context, take),
            Transport::Pipelined(_) => Poll::Ready(Ok(0)),
        }
    }

    /// Writes a part of `bytes`, if there is room; its length.
    pub fn poll_write_part(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self {
            Transport::Plain(socket) => socket.poll_write(bytes, context),
            Transport::Tls(stream) => stream.poll_write(bytes, context),
            Transport::Stream(stream) => stream.poll_write_part(bytes, context),
            Transport::Pipelined(answer) => answer.poll_write_part(bytes, context),
        }
    }

    /// Passes on to the kernel what a session holds back.
    pub fn poll_pass_on(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Tls(stream) => stream.poll_flush(context),
            Transport::Plain(_) | Transport::Stream(_) | Transport::Pipelined(_) => Poll::Ready(Ok(())),
        }
    }

    /// See `finish_writing`.
    pub fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Plain(socket) => {
                let settled = ready!(socket.poll_settled(context));
                socket.finish_writing();
                Poll::Ready(settled)
            }
            Transport::Tls(stream) => stream.poll_shutdown(context),
            Transport::Stream(stream) => Poll::Ready(stream.finish_now()),
            Transport::Pipelined(_) => Poll::Ready(Ok(())),
        }
    }

    /// A handle by which another task of this core can write while the owner does not; `patience_ms` bounds how long the
    /// client may take nothing. `None`: not at the moment.
    pub fn direct_writer(&self, patience_ms: u64) -> Option<DirectWriter> {
        match self {
            Transport::Plain(socket) => socket.direct_writer(patience_ms).map(DirectWriter::Plain),
            Transport::Tls(stream) => stream.direct_writer(patience_ms).map(DirectWriter::Tls),
            Transport::Stream(stream) => stream.direct_writer().map(DirectWriter::Stream),
            Transport::Pipelined(answer) => Some(DirectWriter::Pipelined(answer.direct_writer())),
        }
    }

    /// Ends the sending direction once everything was accepted; under TLS with close_notify.
    pub async fn finish_writing(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => {
                socket.finish_writing();
                Ok(())
            }
            Transport::Tls(stream) => stream.finish_writing().await,
            Transport::Stream(stream) => stream.finish(&[]).await,
            Transport::Pipelined(_) => Ok(()),
        }
    }

    /// Sends the rest of an answer and its end; only a stream of HTTP/2 says it.
    pub async fn finish(&mut self, rest: &[u8]) -> io::Result<()> {
        match self {
            Transport::Plain(_) | Transport::Tls(_) | Transport::Pipelined(_) => Ok(()),
            Transport::Stream(stream) => stream.finish(rest).await,
        }
    }

    /// Ends an answer that is not whole: only a stream of HTTP/2 can without the connection's end.
    pub async fn abort(&mut self) {
        match self {
            Transport::Plain(_) | Transport::Tls(_) | Transport::Pipelined(_) => self.make_close_unclean(),
            Transport::Stream(stream) => stream.abort().await,
        }
    }

    /// Makes the next close a reset, so that the client cannot take what was sent for a complete answer.
    pub fn make_close_unclean(&mut self) {
        match self {
            Transport::Plain(socket) => socket.make_close_unclean(),
            Transport::Tls(stream) => stream.make_close_unclean(),
            Transport::Stream(_) | Transport::Pipelined(_) => {} // what is not finished is reset
        }
    }
}
