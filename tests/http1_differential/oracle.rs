//! hyper's reading of the same bytes, over a transport in memory, polled by hand.

use crate::Message;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use ringway::wire::http1::Asked;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Polls before a connection counts as stuck. Each poll that does not end it reads or writes at least once.
const POLLS: usize = 10_000;

/// Gives `input` in pieces, then the end of the stream; takes and forgets what is written.
struct Wire {
    input: Vec<u8>,
    at: usize,
    piece: usize,
    /// Whether anything was written yet. A client's side gives nothing before it: hyper refuses answers nobody asked.
    is_open: Rc<Cell<bool>>,
}

impl Wire {
    fn new(input: &[u8], piece: usize, is_open: bool) -> Wire {
        Wire { input: input.to_vec(), at: 0, piece, is_open: Rc::new(Cell::new(is_open)) }
    }
}

impl Read for Wire {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, mut out: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.is_open.get() {
            return Poll::Pending;
        }
        let length = self.piece.min(self.input.len() - self.at).min(out.remaining());
        out.put_slice(&self.input[self.at..self.at + length]);
        self.at += length;
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_open.set(true);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// All requests hyper's server reads to their end.
pub fn requests(input: &[u8], piece: usize) -> Vec<Message> {
    let messages = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let messages = messages.clone();
        async move {
            let (head, body) = request.into_parts();
            if let Ok(content) = body.collect().await {
                let authority = head.uri.authority().map(|authority| authority.as_str().to_lowercase());
                let path = head.uri.path_and_query().map_or("", |path| path.as_str());
                messages.borrow_mut().push(Message {
                    start: format!("{} {} {path}", head.method, authority.unwrap_or_default()),
                    fields: fields(&head.headers),
                    content: content.to_bytes().to_vec(),
                });
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.half_close(true).header_read_timeout(None).auto_date_header(false);
    let mut connection = pin!(builder.serve_connection(Wire::new(input, piece, true), service));
    let mut context = Context::from_waker(Waker::noop());
    let ended = (0..POLLS).any(|_| connection.as_mut().poll(&mut context).is_ready());
    assert!(ended, "hyper's server is stuck: {}", input.escape_ascii());
    messages.take()
}

/// The final response, if hyper's client reads it to its end.
pub fn response(input: &[u8], asked: Asked, piece: usize) -> Vec<Message> {
    let mut context = Context::from_waker(Waker::noop());
    let mut exchange = pin!(async {
        let wire = Wire::new(input, piece, false);
        let handshake = hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(wire).await;
        let (mut sender, connection) = handshake.expect("a handshake does no I/O");
        let method = if asked == Asked::Head { Method::HEAD } else { Method::GET };
        let request = Request::builder().method(method).uri("/").body(Empty::new()).expect("the request is good");
        let answer = async {
            let (head, body) = sender.send_request(request).await.ok()?.into_parts();
            let content = body.collect().await.ok()?.to_bytes().to_vec();
            Some(Message { start: head.status.as_u16().to_string(), fields: fields(&head.headers), content })
        };
        // The connection must be polled for the answer to come, also after it has failed to deliver it.
        let (mut answer, mut connection) = (pin!(answer), pin!(connection));
        let mut is_over = false;
        std::future::poll_fn(move |context| {
            if !is_over {
                is_over = connection.as_mut().poll(context).is_ready();
            }
            answer.as_mut().poll(context)
        })
        .await
    });
    for _ in 0..POLLS {
        if let Poll::Ready(message) = exchange.as_mut().poll(&mut context) {
            return message.into_iter().collect();
        }
    }
    panic!("hyper's client is stuck: {}", input.escape_ascii());
}

fn fields(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let pairs = headers.iter().map(|(name, value)| (name.as_str().to_string(), value.as_bytes().to_vec()));
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs
}
