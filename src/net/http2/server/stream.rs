//! One request and its answer: the request as the text of HTTP/1.1, the answer taken from such text. Windows are reopened only
//! for bytes that were read, and no more is buffered than a client has asked for, so that either side slows the other down.
//! What was not finished is reset: a truncated answer never looks complete.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};

use super::super::{fault, text};
use crate::limits;
use crate::net::watch::{Interrupt, Watch};
use crate::net::{Cancel, random_u64, sleep_ms};

/// Reads and writes like an HTTP/1.1 connection with one request. The end of the answer has to be said by
/// [`Stream::finish`]; dropped before, the stream is reset.
pub struct Stream {
    receiving: Receiving,
    /// Bytes that were not read yet.
    chunk: Bytes,
    sending: Rc<RefCell<Sending>>,
    watch: Watch,
    resets: Resets,
    /// It was asked for one; the answer may make it one.
    is_websocket: bool,
}

enum Receiving {
    Body {
        body: RecvStream,
        framing: Framing,
    },
    /// Everything was received.
    Ended,
}

/// How the text says where the body ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunks,
    /// Not at all: behind the head stands another protocol (RFC 8441).
    Nothing,
}

enum Sending {
    Head(SendResponse<Bytes>),
    Body(SendStream<Bytes>),
    /// Finished or reset.
    Ended,
}

/// Resets by one client, on all streams of its connection: more than some at once are taken for an attack.
#[derive(Clone)]
pub struct Resets(Rc<Cell<Bucket>>);

#[derive(Clone, Copy)]
struct Bucket {
    left: u32,
    since_ms: u64,
}

impl Resets {
    pub(super) fn new(now_ms: u64) -> Resets {
        Resets(Rc::new(Cell::new(Bucket { left: limits::CLIENT_RESETS, since_ms: now_ms })))
    }

    fn count(&self) {
        let Bucket { left, since_ms } = self.0.get();
        self.0.set(Bucket { left: left.saturating_sub(1), since_ms });
    }

    /// Whether the client has used up its resets; they come back with time.
    pub(super) fn is_flood(&self, now_ms: u64) -> bool {
        let Bucket { left, since_ms } = self.0.get();
        let earned = now_ms.saturating_sub(since_ms).saturating_mul(limits::CLIENT_RESETS_A_SECOND.into()) / 1000;
        if earned > 0 {
            let left = u64::from(left).saturating_add(earned).min(u64::from(limits::CLIENT_RESETS)) as u32;
            self.0.set(Bucket { left, since_ms: now_ms });
        }
        self.0.get().left == 0
    }
}

/// Sends for another task of the same core while the owner of the stream does not write itself.
pub struct DirectWriter(Rc<RefCell<Sending>>);

impl DirectWriter {
    /// Sends all of `bytes` if the client has room for them. False: nothing was sent, and the owner has to handle it.
    pub fn post(&self, bytes: &[u8]) -> bool {
        let Ok(mut sending) = self.0.try_borrow_mut() else { return false };
        let Sending::Body(body) = &mut *sending else { return false };
        body.reserve_capacity(bytes.len());
        body.capacity() >= bytes.len() && body.send_data(Bytes::copy_from_slice(bytes), false).is_ok()
    }
}

/// What ends when a client gives a stream up.
pub struct Lookout {
    sending: Rc<RefCell<Sending>>,
    resets: Resets,
}

impl Lookout {
    /// Ready once the client has reset the stream, or the connection is lost. Not to be polled again then.
    pub fn poll_reset(&self, context: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut *self.sending.borrow_mut() {
            Sending::Head(respond) => ready!(respond.poll_reset(context)),
            Sending::Body(body) => ready!(body.poll_reset(context)),
            Sending::Ended => return Poll::Pending,
        };
        if reset.is_ok() {
            self.resets.count();
        }
        Poll::Ready(())
    }
}

impl Stream {
    pub(super) fn new(request: Request<RecvStream>, respond: SendResponse<Bytes>, resets: Resets) -> Stream {
        let (parts, body) = request.into_parts();
        let framing = match parts.headers.contains_key(header::CONTENT_LENGTH) {
            _ if asks_for_websocket(&parts) => Framing::Nothing,
            true => Framing::Length,
            false => Framing::Chunks,
        };
        let has_body = !body.is_end_stream();
        let mut chunk = Vec::with_capacity(1024);
        let receiving = match write_head(&parts, framing, has_body, &mut chunk) {
            Some(()) if has_body => Receiving::Body { body, framing },
            Some(()) => Receiving::Ended,
            None => {
                // No request line or value can be like this: whoever parses it says so.
                chunk = b"\0\r\n\r\n".to_vec();
                Receiving::Ended
            }
        };
        let sending = Rc::new(RefCell::new(Sending::Head(respond)));
        let is_websocket = framing == Framing::Nothing;
        Stream { receiving, chunk: chunk.into(), sending, watch: Watch::detached(), resets, is_websocket }
    }

    /// Its deadlines and alarms end waits as for a socket.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Notices a reset by the client while something else than the stream is waited for.
    pub fn lookout(&self) -> Lookout {
        Lookout { sending: self.sending.clone(), resets: self.resets.clone() }
    }

    pub fn direct_writer(&self) -> Option<DirectWriter> {
        matches!(*self.sending.borrow(), Sending::Body(_)).then(|| DirectWriter(self.sending.clone()))
    }

    /// Waits until a read would return bytes or the end.
    pub fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.chunk.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.check_down(context)?;
        let Receiving::Body { body, framing } = &mut self.receiving else {
            return Poll::Ready(Ok(())); // the end
        };
        let framing = *framing;
        loop {
            match ready!(body.poll_data(context)) {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    // Reopened here, and not when the bytes are taken: they are at once.
                    let _ = body.flow_control().release_capacity(bytes.len());
                    self.chunk = match framing {
                        Framing::Length | Framing::Nothing => bytes,
                        Framing::Chunks => {
                            let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
                            chunk.extend_from_slice(&bytes);
                            chunk.extend_from_slice(b"\r\n");
                            chunk.into()
                        }
                    };
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => {
                    self.receiving = Receiving::Ended;
                    return Poll::Ready(Err(fault::of(&error).into()));
                }
                // At END_STREAM, or before trailers, which end the stream and are ignored.
                None => {
                    self.receiving = Receiving::Ended;
                    if framing == Framing::Chunks {
                        self.chunk = Bytes::from_static(b"0\r\n\r\n");
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    pub async fn readable(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_readable(context)).await
    }

    /// As `readable`, but `cancel` ends the wait with an `Interrupted` error.
    pub async fn readable_or_cancelled(&mut self, cancel: &RefCell<Cancel>) -> io::Result<()> {
        let mut cancelled = pin!(Cancel::cancelled(cancel));
        poll_fn(|context| {
            if let Poll::Ready(result) = self.poll_readable(context) {
                return Poll::Ready(result);
            }
            cancelled.as_mut().poll(context).map(|()| Err(io::ErrorKind::Interrupted.into()))
        })
        .await
    }

    /// Passes received bytes to `take`, which returns how many it consumed, at least one. 0 is the end.
    pub fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_readable(context))?;
        let taken = if self.chunk.is_empty() { 0 } else { take(&self.chunk).min(self.chunk.len()) };
        self.chunk.advance(taken);
        Poll::Ready(Ok(taken))
    }

    /// Appends available bytes to `buffer` within its spare capacity. 0 is the end.
    pub async fn read(&mut self, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        if let Err(error) = self.readable().await {
            return (Err(error), buffer);
        }
        let count = self.chunk.len().min(buffer.capacity() - buffer.len());
        buffer.extend_from_slice(&self.chunk[..count]);
        self.chunk.advance(count);
        (Ok(count), buffer)
    }

    /// Sends all of `bytes`, which begin with a head if none was sent.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let body = self.send_head(bytes, End::Later)?;
        if body < bytes.len() {
            self.write_body(Bytes::copy_from_slice(&bytes[body..]), End::Later).await
        } else {
            Ok(())
        }
    }

    /// As `write`, for shared bytes behind a head.
    pub async fn write_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        self.write_body(bytes, End::Later).await
    }

    /// As `write`, and ends the stream.
    pub async fn finish(&mut self, bytes: &[u8]) -> io::Result<()> {
        let body = self.send_head(bytes, End::Here)?;
        let is_over = matches!(*self.sending.borrow(), Sending::Ended);
        if is_over {
            return Ok(());
        }
        self.write_body(Bytes::copy_from_slice(&bytes[body..]), End::Here).await?;
        *self.sending.borrow_mut() = Sending::Ended;
        Ok(())
    }

    /// Resets the stream, so that the client cannot take what was sent for a complete answer. What can be sent of it leaves
    /// before: there may be an error in it.
    pub async fn abort(&mut self) {
        // The library forgets what it has buffered of a stream that is reset: its task runs first.
        sleep_ms(1).await;
        match std::mem::replace(&mut *self.sending.borrow_mut(), Sending::Ended) {
            Sending::Head(mut respond) => respond.send_reset(Reason::INTERNAL_ERROR),
            Sending::Body(mut body) => body.send_reset(Reason::INTERNAL_ERROR),
            Sending::Ended => {}
        }
    }

    /// Sends the heads at the beginning of `bytes`, if none was sent; returns where the body begins.
    fn send_head(&mut self, bytes: &[u8], end: End) -> io::Result<usize> {
        let mut sending = self.sending.borrow_mut();
        let mut at = 0;
        while let Sending::Head(respond) = &mut *sending {
            if at == bytes.len() {
                return if end == End::Later { Ok(at) } else { Err(io::ErrorKind::InvalidInput.into()) };
            }
            let (length, mut response) = read_head(&bytes[at..]).ok_or(io::ErrorKind::InvalidInput)?;
            at += length;
            // RFC 8441 5: success is said as for any request, and nothing is to be proved.
            if self.is_websocket && response.status() == StatusCode::SWITCHING_PROTOCOLS {
                *response.status_mut() = StatusCode::OK;
                response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
            }
            if response.status().is_informational() {
                respond.send_informational(response).map_err(fault::io_error)?;
                continue;
            }
            let is_all = end == End::Here && at == bytes.len();
            let body = respond.send_response(response, is_all).map_err(fault::io_error)?;
            *sending = if is_all { Sending::Ended } else { Sending::Body(body) };
        }
        Ok(at)
    }

    /// Sends `bytes` as the client's windows allow.
    async fn write_body(&mut self, mut bytes: Bytes, end: End) -> io::Result<()> {
        poll_fn(|context| {
            loop {
                if bytes.is_empty() && end == End::Later {
                    return Poll::Ready(Ok(()));
                }
                if bytes.is_empty() {
                    return Poll::Ready(self.send_data(Bytes::new(), End::Here));
                }
                let room = ready!(self.poll_room(bytes.len(), context))?;
                let part = bytes.split_to(room);
                let is_last = end == End::Here && bytes.is_empty();
                self.send_data(part, if is_last { End::Here } else { End::Later })?;
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
        })
        .await
    }

    /// Sends a part of `bytes` behind the head, as the client's windows allow; its length.
    pub fn poll_write_part(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = ready!(self.poll_room(bytes.len(), context))?;
        self.send_data(Bytes::copy_from_slice(&bytes[..room]), End::Later)?;
        Poll::Ready(Ok(room))
    }

    /// Ends the sending direction behind what was sent.
    pub fn finish_now(&mut self) -> io::Result<()> {
        if !matches!(*self.sending.borrow(), Sending::Ended) {
            self.send_data(Bytes::new(), End::Here)?;
            *self.sending.borrow_mut() = Sending::Ended;
        }
        Ok(())
    }

    fn send_data(&self, bytes: Bytes, end: End) -> io::Result<()> {
        let mut sending = self.sending.borrow_mut();
        let Sending::Body(body) = &mut *sending else { return Err(gone()) };
        body.send_data(bytes, end == End::Here).map_err(fault::io_error)?;
        self.watch.moved();
        Ok(())
    }

    /// Waits for room for some of `wanted` bytes.
    fn poll_room(&self, wanted: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            let mut sending = self.sending.borrow_mut();
            let Sending::Body(body) = &mut *sending else { return Poll::Ready(Err(gone())) };
            body.reserve_capacity(wanted);
            if body.capacity() > 0 {
                return Poll::Ready(Ok(body.capacity().min(wanted)));
            }
            self.check_down(context)?;
            match ready!(body.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(fault::io_error(error))),
                None => return Poll::Ready(Err(gone())),
            }
        }
    }

    /// Errors: the watch has ended the stream.
    fn check_down(&self, context: &mut Context<'_>) -> io::Result<()> {
        match self.watch.poll_down(context.waker()) {
            None => Ok(()),
            Some(Interrupt::Deadline) => Err(io::ErrorKind::TimedOut.into()),
            Some(Interrupt::HalfClosed | Interrupt::Gone | Interrupt::Abandoned) => Err(gone()),
        }
    }
}

/// Whether the answer ends with what is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Here,
    Later,
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// RFC 8441 4: CONNECT with a protocol, to a path.
fn asks_for_websocket(parts: &http::request::Parts) -> bool {
    parts.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"))
}

/// Writes the head of a request. `None`: it has something that text cannot carry.
fn write_head(parts: &http::request::Parts, framing: Framing, has_body: bool, out: &mut Vec<u8>) -> Option<()> {
    let is_websocket = framing == Framing::Nothing;
    out.extend_from_slice(if is_websocket { b"GET" } else { parts.method.as_str().as_bytes() });
    out.push(b' ');
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    match parts.uri.path_and_query() {
        Some(target) if parts.method != Method::CONNECT || is_websocket => {
            out.extend_from_slice(target.as_str().as_bytes())
        }
        _ => out.extend_from_slice(authority.unwrap_or("/").as_bytes()),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // RFC 9113 8.3.1: the authority stands for Host, whatever that says.
    if let Some(authority) = authority {
        out.extend_from_slice(b"host: ");
        out.extend_from_slice(authority.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let but: &[&str] = match is_websocket {
        true => &["host", "sec-websocket-key", "content-length"],
        false if authority.is_some() => &["host"],
        false => &[],
    };
    text::write_fields(&parts.headers, but, out)?;
    if is_websocket {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: ");
        write_nonce(random_u64(), random_u64(), out);
        out.extend_from_slice(b"\r\n");
    }
    if has_body && framing == Framing::Chunks {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Some(())
}

/// RFC 6455 4.1: sixteen random bytes in base64, which HTTP/2 has no need of, but backends have.
fn write_nonce(high: u64, low: u64, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = u128::from(high) << 64 | u128::from(low);
    out.extend((0..21).map(|place| DIGITS[(bits >> (122 - 6 * place)) as usize & 63]));
    // Two bits are left, and four of nothing.
    out.extend([DIGITS[(bits << 4) as usize & 48], b'=', b'=']);
}

/// Reads a head of the gateway's own; with its length.
fn read_head(bytes: &[u8]) -> Option<(usize, Response<()>)> {
    let length = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    // The values share it.
    let head = Bytes::copy_from_slice(&bytes[..length]);
    let mut response = Response::new(());
    let fields = response.headers_mut();
    fields.reserve(FIELDS);
    let (mut status, mut at) = (None, 0);
    for end in memchr::memchr_iter(b'\n', &head[..length - 2]) {
        let line = &head[at..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        at = end + 1;
        if status.is_none() {
            status = Some(StatusCode::from_bytes(line.split(|&byte| byte == b' ').nth(1)?).ok()?);
            continue;
        }
        let colon = memchr::memchr(b':', line)?;
        let name = name(&line[..colon])?;
        if !text::is_of_connection(name.as_str()) {
            let value = line[colon + 1..].trim_ascii();
            let mut value = HeaderValue::from_maybe_shared(head.slice_ref(value)).ok()?;
            // RFC 7541 7.1.3. Each answer has another one: in the table they would displace what repeats.
            value.set_sensitive(is_once(name.as_str()));
            fields.append(name, value);
        }
    }
    *response.status_mut() = status?;
    Some((length, response))
}

/// About as many fields as an answer has.
const FIELDS: usize = 16;

/// Names of the gateway's own that the library does not know.
static OWN: [HeaderName; 4] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-cache"),
    HeaderName::from_static("cache-status"),
    HeaderName::from_static("x-accel-buffering"),
];

fn name(bytes: &[u8]) -> Option<HeaderName> {
    match OWN.iter().find(|own| own.as_str().as_bytes() == bytes) {
        Some(own) => Some(own.clone()),
        None => HeaderName::from_bytes(bytes).ok(),
    }
}

/// Whether the field's value is hardly ever that of the answer before.
fn is_once(name: &str) -> bool {
    name == "x-request-id" || name == "cache-status" || name.starts_with("x-ratelimit-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_without_what_is_of_the_connection() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-type: a/b\r\nTransfer-Encoding: chunked\r\nconnection: close\r\nx: 1\r\nx:2\r\n\r\nbody";
        let (length, response) = read_head(text).unwrap();
        assert_eq!((&text[length..], response.status().as_u16()), (&b"body"[..], 200));
        let (_, spaced) =
            read_head(b"HTTP/1.1 404 Not Found\r\na: \r\nb:\r\nc:  v \r\nx-request-id: 7\r\n\r\n").unwrap();
        let values = ["a", "b", "c", "x-request-id"].map(|name| spaced.headers()[name].as_bytes());
        assert_eq!((spaced.status().as_u16(), values), (404, [&b""[..], b"", b"v", b"7"]));
        let fields: Vec<_> = response.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(fields, [("content-type", &b"a/b"[..]), ("x", b"1"), ("x", b"2")]);
        for cut in 0..length {
            assert!(read_head(&text[..cut]).is_none(), "{cut}");
        }
    }

    #[test]
    fn a_nonce_is_sixteen_bytes_in_base64() {
        let written = |high, low| {
            let mut out = Vec::new();
            write_nonce(high, low, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(0, 0), "AAAAAAAAAAAAAAAAAAAAAA==");
        assert_eq!(written(u64::MAX, u64::MAX), "/////////////////////w==");
        // "the sample nonce", as RFC 6455 1.3 has it.
        let bytes = |text: &[u8; 8]| u64::from_be_bytes(*text);
        assert_eq!(written(bytes(b"the samp"), bytes(b"le nonce")), "dGhlIHNhbXBsZSBub25jZQ==");
    }

    #[test]
    fn resets_come_back_with_time() {
        let resets = Resets::new(0);
        (0..limits::CLIENT_RESETS - 1).for_each(|_| resets.count());
        assert!(!resets.is_flood(0));
        resets.count();
        assert!(resets.is_flood(0) && resets.is_flood(1));
        assert!(!resets.is_flood(1000), "some a second");
        assert!(!resets.is_flood(u64::MAX), "never more than at the beginning");
        assert_eq!(resets.0.get().left, limits::CLIENT_RESETS);
    }
}
