//! HTTP/2 from a client: one connection with many streams, each of which reads and writes like an HTTP/1.1 connection with one
//! request. An [`Incoming`] owns the transport and gives out the streams; one task polls it. Everything a client can make it
//! keep is bounded: streams, heads, bodies that nobody reads yet, answers that the client does not read, resets.

mod blocks; // field blocks that have begun and not ended
mod stream; // one request and its answer, as HTTP/1.1 text

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::Reason;
use h2::server::{Builder, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::blocks::Blocks;
pub use self::stream::{DirectWriter, Resets, Stream};
use super::fault;
use super::gathered::{Gathered, Outgoing, Post, gather};
use crate::limits;
use crate::net::now_ms;

/// What a client may send on one stream before any of it is read; over all streams four times that. With a round-trip time of
/// 100 ms it still allows 2.5 MB/s for one upload.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 4 * STREAM_WINDOW_BYTES;
/// Bytes of one answer that wait for the client to read: about what the kernel buffers for HTTP/1.1.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// The first bytes of a connection (RFC 9113 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Where the type of the first frame stands, behind the preface and the frame's length (RFC 9113 4.1).
const FIRST_KIND: usize = PREFACE.len() + 3;
/// RFC 9113 6.5.
const SETTINGS: u8 = 4;

/// A transport of which some bytes were read already.
struct Begun<T> {
    early: Bytes,
    /// How many bytes were read, up to the header of the first frame.
    read: usize,
    blocks: Blocks,
    signs: Rc<Signs>,
    io: T,
}

/// What the transport tells the connection beside its bytes.
#[derive(Default)]
struct Signs {
    /// A field block has begun and not ended.
    in_block: Cell<bool>,
    /// A read had to wait, and the task has not been woken since.
    is_dry: Cell<bool>,
}

impl<T> Begun<T> {
    /// Errors: the first frame is not SETTINGS (RFC 9113 3.4), which the library does not mind.
    fn check(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(&kind) = bytes.get(FIRST_KIND.wrapping_sub(self.read)).filter(|_| self.read <= FIRST_KIND)
            && kind != SETTINGS
        {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.read = self.read.saturating_add(bytes.len());
        Ok(())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Begun<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.early.is_empty() {
            // The library looks again for each stream that it gives out.
            if self.signs.is_dry.get() {
                return Poll::Pending;
            }
            let read = Pin::new(&mut self.io).poll_read(context, buffer);
            self.signs.is_dry.set(read.is_pending());
            ready!(read)?;
        } else {
            let count = self.early.len().min(buffer.remaining());
            buffer.put_slice(&self.early[..count]);
            self.early.advance(count);
        }
        let (bytes, begun) = (&buffer.filled()[before..], &mut *self);
        begun.signs.in_block.set(begun.blocks.advance(bytes));
        Poll::Ready(if begun.read > FIRST_KIND { Ok(()) } else { begun.check(bytes) })
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Begun<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// A client's connection. Dropping it closes the transport abruptly.
pub struct Incoming<T>
where
    T: AsyncRead + AsyncWrite + Post + Unpin,
{
    connection: Connection<Begun<Gathered<T>>, Bytes>,
    outgoing: Outgoing<T>,
    resets: Resets,
    is_ending: bool,
    signs: Rc<Signs>,
}

/// Waits for the client's preface; `early` is what was read of it already. The caller bounds the wait.
/// Errors: the transport's; `InvalidData` if the client does not speak HTTP/2.
pub async fn accept<T>(io: T, early: Bytes) -> io::Result<Incoming<T>>
where
    T: AsyncRead + AsyncWrite + Post + Unpin,
{
    let signs = Rc::new(Signs::default());
    let (io, outgoing) = gather(io);
    let begun = Begun { early, read: 0, blocks: Blocks::new(PREFACE.len()), signs: signs.clone(), io };
    let handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits::CLIENT_STREAMS)
        .enable_connect_protocol()
        .max_header_list_size(limits::HEAD_BYTES as u32)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(limits::CLIENT_RESETS_AT_ONCE)
        .max_local_error_reset_streams(Some(limits::CLIENT_RESETS_AT_ONCE))
        .handshake(begun);
    let mut handshake = pin!(handshake);
    let connection = poll_fn(|context| {
        signs.is_dry.set(false);
        let shaken = handshake.as_mut().poll(context).map_err(fault::io_error);
        // A client may wait for the settings.
        match outgoing.poll_send(context) {
            Poll::Ready(Err(error)) if shaken.is_pending() => Poll::Ready(Err(error)),
            _ => shaken,
        }
    })
    .await?;
    Ok(Incoming { connection, outgoing, resets: Resets::new(now_ms()), is_ending: false, signs })
}

impl<T> Incoming<T>
where
    T: AsyncRead + AsyncWrite + Post + Unpin,
{
    /// The next request; `None` once the connection has ended. Everything else on the connection moves on only while this is
    /// polled.
    pub fn poll_stream(&mut self, context: &mut Context<'_>) -> Poll<Option<Stream>> {
        if !self.is_ending && self.resets.is_flood(now_ms()) {
            // RFC 9113 10.5: a client that opens streams to reset them.
            self.end();
        }
        match self.connection.poll_accept(context) {
            Poll::Ready(Some(Ok((request, respond)))) => {
                Poll::Ready(Some(Stream::new(request, respond, self.resets.clone())))
            }
            // Whoever is to blame: the library has sent a GOAWAY if there was anything to say.
            Poll::Ready(Some(Err(_)) | None) => Poll::Ready(None),
            Poll::Pending => {
                self.signs.is_dry.set(false);
                match self.outgoing.poll_send(context) {
                    Poll::Ready(Err(_)) => Poll::Ready(None),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    /// Whether the client has begun a field block and not ended it. Nothing else can come before that (RFC 9113 6.10).
    pub fn is_in_block(&self) -> bool {
        self.signs.in_block.get()
    }

    /// How many bytes the transport has taken, if it takes no more.
    pub fn stuck_at(&self) -> Option<u64> {
        self.outgoing.stuck_at()
    }

    /// Sends GOAWAY with ENHANCE_YOUR_CALM, and ends with all streams.
    pub fn end(&mut self) {
        if !std::mem::replace(&mut self.is_ending, true) {
            self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
    }

    /// Whether any stream is open.
    pub fn has_streams(&self) -> bool {
        self.connection.has_streams()
    }

    /// What was sent last is on its way, and closing at once would reset the connection where the client still sends: reads on until
    /// the client has closed, for at most so many bytes.
    pub async fn linger(self, mut most_bytes: usize) {
        let Incoming { connection, outgoing, .. } = self;
        drop(connection);
        poll_fn(|context| outgoing.poll_drain(&mut most_bytes, context)).await;
    }

    /// Sends GOAWAY: no new streams; it ends once those that are open have.
    pub fn retire(&mut self) {
        self.connection.graceful_shutdown();
    }
}
