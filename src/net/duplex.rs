//! The byte stream to a backend under HTTP/1.1 and HTTP/2: a socket, plain or with TLS. One task owns it. Abandoning a
//! pending read or write loses no byte in the middle of the stream. Uses only the traits of `tokio`, for HTTP/2;
//! nothing may need its runtime.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Socket, Transport, next_round, tls::TlsStream, watch::Watch};
use crate::limits::SLICE_BYTES;

#[cfg(all(test, not(sim)))]
mod tests;

/// An owned, connected stream.
pub struct Duplex {
    stream: Stream,
}

enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream>),
}

impl From<Socket> for Duplex {
    fn from(socket: Socket) -> Duplex {
        Duplex { stream: Stream::Plain(socket) }
    }
}

impl From<TlsStream> for Duplex {
    fn from(stream: TlsStream) -> Duplex {
        Duplex { stream: Stream::Tls(Box::new(stream)) }
    }
}

impl From<Transport> for Duplex {
    /// A stream of HTTP/2 or a pipelined request is no connection of its own: it must not be one.
    fn from(transport: Transport) -> Duplex {
        match transport {
            Transport::Plain(socket) => socket.into(),
            Transport::Tls(stream) => Duplex { stream: Stream::Tls(stream) },
            Transport::Stream(_) | Transport::Pipelined(_) => unreachable!("streams are made of connections"),
        }
    }
}

impl Duplex {
    /// The watch of the underlying socket: deadlines and hang-ups.
    pub fn watch(&self) -> &Watch {
        match &self.stream {
            Stream::Plain(socket) => socket.watch(),
            Stream::Tls(stream) => stream.watch(),
        }
    }

    /// Reads once, appending to `buffer` within its spare capacity (which must not be empty). 0 is the end of the
    /// stream; under TLS an end without close_notify is an `UnexpectedEof`.
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

    /// See [`Socket::post`].
    pub fn post(&mut self, bytes: &[u8]) -> Option<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.post(bytes),
            Stream::Tls(stream) => stream.post(bytes),
        }
    }

    /// Writes all of `buffer` to the kernel. Each partial write counts as progress for the watch.
    pub async fn write(&mut self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        match &mut self.stream {
            Stream::Plain(socket) => socket.write(buffer).await,
            Stream::Tls(stream) => (stream.write_all(&buffer).await, buffer),
        }
    }

    /// As `write`, for shared bytes.
    pub async fn write_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.write_bytes(bytes).await,
            Stream::Tls(stream) => stream.write_all(&bytes).await,
        }
    }

    /// Writes all of `bytes` in slices, between which other tasks run. Each partial write counts as progress for the watch.
    pub async fn write_in_slices(&mut self, bytes: &[u8]) -> io::Result<()> {
        for slice in bytes.chunks(SLICE_BYTES) {
            let mut left = slice;
            while !left.is_empty() {
                match poll_fn(|context| self.poll_write_part(left, context)).await? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    count => left = &left[count..],
                }
            }
            if slice.len() == SLICE_BYTES {
                next_round().await;
            }
        }
        poll_fn(|context| self.poll_pass_on(context)).await
    }

    /// Shuts down the write direction after everything written before; under TLS sends close_notify.
    pub async fn finish_writing(&mut self) -> io::Result<()> {
        poll_fn(|context| Pin::new(&mut *self).poll_shutdown(context)).await
    }

    /// Makes the next close a reset, so that the peer cannot take what was sent for a complete message.
    pub fn make_close_unclean(&mut self) {
        match &mut self.stream {
            Stream::Plain(socket) => socket.make_close_unclean(),
            Stream::Tls(stream) => stream.make_close_unclean(),
        }
    }

    /// As `read`, appending whatever is there.
    pub fn poll_read_all(&mut self, buffer: &mut Vec<u8>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_take(context, |bytes| {
            buffer.extend_from_slice(bytes);
            bytes.len()
        })
    }

    /// Writes a part of `bytes`, if there is room; its length.
    pub fn poll_write_part(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(context, bytes)
    }

    /// Passes on to the kernel what a session holds back.
    pub fn poll_pass_on(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_flush(context)
    }

    /// See `finish_writing`.
    pub fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(context)
    }

    /// Prepares a connection that becomes idle before its first read for [`Duplex::is_quiet`].
    pub fn rest(&self) {
        if let Stream::Plain(socket) = &self.stream {
            socket.rest(); // under TLS the handshake has already read
        }
    }

    /// Whether an idle kept-alive connection is still open and has no input; required before reuse.
    pub fn is_quiet(&mut self) -> bool {
        match &mut self.stream {
            Stream::Plain(socket) => socket.is_quiet(),
            Stream::Tls(stream) => stream.is_quiet(),
        }
    }

    fn poll_take(&mut self, context: &mut Context<'_>, take: impl FnOnce(&[u8]) -> usize) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.poll_take(context, take),
            Stream::Tls(stream) => stream.poll_take(context, take),
        }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A read of 0 bytes would mean the end of the stream.
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let taken = self.poll_take(context, |bytes| {
            let taken = bytes.len().min(buffer.remaining());
            buffer.put_slice(&bytes[..taken]);
            taken
        });
        taken.map_ok(drop)
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.poll_write(bytes, context),
            Stream::Tls(stream) => stream.poll_write(bytes, context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.poll_write_parts(parts, context),
            Stream::Tls(stream) => stream.poll_write_parts(parts, context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => stream.poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(socket) => {
                let settled = ready!(socket.poll_settled(context));
                socket.finish_writing();
                Poll::Ready(settled)
            }
            Stream::Tls(stream) => stream.poll_shutdown(context),
        }
    }
}
