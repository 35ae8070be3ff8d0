//! One request and its answer: the response head as HTTP/1.1 text, then the bytes of its body. Flow control windows are
//! reopened only for bytes that were read, so a slow reader slows its backend. Returns 0 only at a clean end.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, StatusCode};

use super::text::write_fields;
use super::{Http2Fault, State, fault};
use crate::net::watch::{Interrupt, Watch};

/// How much to reserve if the caller's buffer has no spare capacity.
const READ_BYTES: usize = 16 << 10;

/// Reads like an HTTP/1.1 connection with one answer: interim heads, the head, the body without framing, then 0. A
/// `content-length` in the head is reliable: the body was checked against it. Dropped before its end, the stream is
/// reset with CANCEL; reading a complete answer up to the 0 avoids that.
pub struct Stream {
    stage: Stage,
    chunk: Chunk,
    /// The request's body; dropping the stream also cancels it.
    upload: SendStream<Bytes>,
    received: Received,
    watch: Watch,
    state: Rc<State>,
}

enum Stage {
    Head(ResponseFuture),
    Body(RecvStream),
    Ended(Result<(), Http2Fault>),
}

/// Whether the peer has sent any response: after that, no error proves that the request was not processed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Received {
    Nothing,
    Something,
}

impl Stream {
    pub(super) fn new(response: ResponseFuture, upload: SendStream<Bytes>, state: Rc<State>) -> Stream {
        state.streams_open.set(state.streams_open.get() + 1);
        Stream {
            stage: Stage::Head(response),
            chunk: Chunk { bytes: Bytes::new(), of: Section::Head },
            upload,
            received: Received::Nothing,
            watch: Watch::detached(),
            state,
        }
    }

    /// Sends more of the request's body as the peer's windows allow, and its end with the last. Errors: the peer takes no more,
    /// or a deadline or an alarm of the watch has ended the stream.
    pub async fn send_rest(&mut self, mut bytes: Bytes, is_last: bool) -> io::Result<()> {
        while !bytes.is_empty() {
            self.upload.reserve_capacity(bytes.len());
            let room = poll_fn(|context| {
                if self.watch.poll_down(context.waker()).is_some() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                self.upload.poll_capacity(context).map(|room| match room {
                    Some(Ok(room)) => Ok(room),
                    Some(Err(_)) | None => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
                })
            });
            let room = room.await?.min(bytes.len());
            let part = bytes.split_to(room);
            self.upload.send_data(part, false).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        if is_last {
            self.upload.send_data(Bytes::new(), true).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(())
    }

    /// Its deadlines and alarms end `read` as for a socket; the interrupt remains for the caller to take.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Why it ended, if it did not end cleanly.
    pub fn fault(&self) -> Option<Http2Fault> {
        match self.stage {
            Stage::Ended(Err(fault)) => Some(fault),
            Stage::Ended(Ok(())) | Stage::Head(_) | Stage::Body(_) => None,
        }
    }

    /// Whether nothing more follows, cleanly or not: the end may be known with the last bytes; the next read returns
    /// it.
    pub fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }

    /// Appends available bytes to `buffer` within its spare capacity. 0 is the end of a complete answer. Errors: the
    /// answer is incomplete, and [`Stream::fault`] says why; later reads return the same.
    pub async fn read(&mut self, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        if buffer.len() == buffer.capacity() {
            buffer.reserve(READ_BYTES);
        }
        let result = poll_fn(|context| self.poll_read(&mut buffer, context)).await;
        (result, buffer)
    }

    /// As `read`, for a buffer with spare capacity.
    pub fn poll_read(&mut self, buffer: &mut Vec<u8>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !matches!(self.stage, Stage::Ended(_))
            && let Some(interrupt) = self.watch.poll_down(context.waker())
        {
            self.stage = Stage::Ended(Err(match interrupt {
                Interrupt::Deadline => Http2Fault::TimedOut,
                Interrupt::HalfClosed | Interrupt::Gone | Interrupt::Abandoned => Http2Fault::Abandoned,
            }));
            self.chunk.bytes.clear();
        }
        let before = buffer.len();
        loop {
            self.hand_over(buffer);
            if buffer.len() == buffer.capacity() {
                break;
            }
            let pulled = match self.pull(context) {
                Poll::Pending if buffer.len() == before => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(pulled) => pulled,
            };
            match pulled {
                Ok(Some(chunk)) => self.chunk = chunk,
                Ok(None) => self.stage = Stage::Ended(Ok(())),
                Err(fault) => self.stage = Stage::Ended(Err(fault)),
            }
            if let Stage::Ended(result) = self.stage {
                // Bytes received before the error are returned first; the next read returns the error.
                if buffer.len() == before {
                    return Poll::Ready(result.map(|()| 0).map_err(io::Error::from));
                }
                break;
            }
        }
        Poll::Ready(Ok(buffer.len() - before))
    }

    /// Copies what fits, and reopens the window by as much.
    fn hand_over(&mut self, buffer: &mut Vec<u8>) {
        let bytes = &mut self.chunk.bytes;
        let count = bytes.len().min(buffer.capacity() - buffer.len());
        buffer.extend_from_slice(&bytes[..count]);
        bytes.advance(count);
        if let (Stage::Body(body), Section::Body) = (&mut self.stage, self.chunk.of)
            && count > 0
        {
            // Fails only for a closed stream, which needs no window.
            let _ = body.flow_control().release_capacity(count);
        }
    }

    /// The next bytes of the answer; `None` at its end.
    fn pull(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Http2Fault>> {
        let pulled = match &mut self.stage {
            Stage::Ended(result) => return Poll::Ready(result.map(|()| None)),
            Stage::Head(response) => match response.poll_informational(context) {
                Poll::Ready(Some(interim)) => interim.map(|head| Some(Chunk::head(head.status(), head.headers()))),
                // None: the next head is the final one. Pending: there is no head yet, or the request was not sent yet.
                Poll::Ready(None) | Poll::Pending => match ready!(Pin::new(response).poll(context)) {
                    Ok(response) => {
                        let (parts, body) = response.into_parts();
                        self.stage = Stage::Body(body);
                        Ok(Some(Chunk::head(parts.status, &parts.headers)))
                    }
                    Err(error) => Err(error),
                },
            },
            // None at END_STREAM, or before trailers, which end the stream and are ignored.
            Stage::Body(body) => {
                ready!(body.poll_data(context)).transpose().map(|data| data.map(|bytes| Ok(Chunk::body(bytes))))
            }
        };
        Poll::Ready(match pulled {
            Ok(Some(Err(fault))) => Err(fault),
            Ok(Some(Ok(chunk))) => {
                self.received = Received::Something;
                Ok(Some(chunk))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(match (fault::of(&error), self.received) {
                (Http2Fault::Refused, Received::Something) => Http2Fault::Reset(Reason::REFUSED_STREAM.into()),
                (fault, _) => fault,
            }),
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.state.streams_open.set(self.state.streams_open.get() - 1);
    }
}

/// Received bytes that were not read yet.
struct Chunk {
    bytes: Bytes,
    of: Section,
}

/// Only body bytes count in windows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Head,
    Body,
}

impl Chunk {
    fn body(bytes: Bytes) -> Chunk {
        Chunk { bytes, of: Section::Body }
    }

    /// A head as HTTP/1.1 text.
    fn head(status: StatusCode, fields: &HeaderMap) -> Result<Chunk, Http2Fault> {
        let mut text = Vec::with_capacity(1024);
        text.extend_from_slice(b"HTTP/1.1 ");
        text.extend_from_slice(status.as_str().as_bytes());
        text.extend_from_slice(b" \r\n");
        write_fields(fields, &[], &mut text).ok_or(Http2Fault::Protocol)?;
        text.extend_from_slice(b"\r\n");
        Ok(Chunk { bytes: Bytes::from(text), of: Section::Head })
    }
}
