//! One HTTP/1.1 or HTTP/2 exchange over a connection that is then closed. Owns the connection and its tasks.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use super::{Answer, BODY_BYTES, Target, fault};
use crate::limits::HEAD_BYTES;

/// Requests the target's path over `stream`, and reads at most `most` bytes of the body. Errors: no answer before `deadline`,
/// or an invalid one.
pub async fn over(
    target: &Target,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    speak_http2: bool,
    deadline: Instant,
    most: usize,
) -> Result<Answer, String> {
    let io = TokioIo::new(stream);
    let broken = |error: hyper::Error| fault::broken(&error);
    let late = |_| format!("{} is not answered within {} ms", target.path, target.timeout_ms);
    let answer = if speak_http2 {
        let probe_requests = ProbeRequests::default();
        let mut builder = http2::Builder::new(probe_requests.executor());
        builder.max_header_list_size(HEAD_BYTES as u32).initial_stream_window_size(BODY_BYTES as u32);
        let scheme = if target.tls.is_some() { "https" } else { "http" };
        let request = request(target, &format!("{scheme}://{}{}", target.authority, target.path), &[])?;
        let shaken = timeout_at(deadline, builder.handshake(io)).await.map_err(late)?;
        let (mut sender, connection) = shaken.map_err(broken)?;
        let mut connection = Driven::new(connection);
        let answer = connection.until(deadline, sender.send_request(request)).await;
        let answer = answer.map_err(late)?.map_err(broken)?;
        let status = answer.status().as_u16();
        let body = connection.until(deadline, drain(answer, most)).await.unwrap_or_default();
        drop((sender, connection));
        probe_requests.end(deadline).await;
        Answer { status, body }
    } else {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(2 * HEAD_BYTES);
        let host = ("host", target.authority.as_str());
        // RFC 9112 9.6: no further request follows on this connection.
        let request = request(target, &target.path, &[host, ("connection", "close")])?;
        let shaken = timeout_at(deadline, builder.handshake(io)).await.map_err(late)?;
        let (mut sender, connection) = shaken.map_err(broken)?;
        let mut connection = Driven::new(connection);
        let answer = connection.until(deadline, sender.send_request(request)).await;
        let answer = answer.map_err(late)?.map_err(broken)?;
        let status = answer.status().as_u16();
        let body = connection.until(deadline, drain(answer, most)).await.unwrap_or_default();
        Answer { status, body }
    };
    Ok(answer)
}

fn request(target: &Target, uri: &str, framing: &[(&str, &str)]) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::get(uri);
    for (name, value) in framing {
        request = request.header(*name, *value);
    }
    request = request
        .header("user-agent", concat!("ringway/", env!("CARGO_PKG_VERSION"), " (health)"))
        .header("accept", "*/*");
    if let Some((name, value)) = &target.credential {
        request = request.header(*name, value);
    }
    request.body(Empty::new()).map_err(|error| format!("{} cannot be asked for: {error}", target.path))
}

/// Reads the body to its end or its bound. Errors do not matter: the head has shown that the server is healthy.
async fn drain(answer: Response<Incoming>, most: usize) -> Vec<u8> {
    let (mut body, mut read) = (answer.into_body(), Vec::new());
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.into_data().unwrap_or_default();
        if bytes.len() >= most - read.len() {
            break;
        }
        read.extend_from_slice(&bytes);
    }
    read
}

/// A connection that makes progress only while something is awaited.
struct Driven<C> {
    /// None once it has ended, after which it must not be polled.
    connection: Option<Pin<Box<C>>>,
}

impl<C: Future<Output = hyper::Result<()>>> Driven<C> {
    fn new(connection: C) -> Driven<C> {
        Driven { connection: Some(Box::pin(connection)) }
    }

    /// Waits for `wanted`, until `deadline`. An end of the connection shows in the result of `wanted`.
    async fn until<T>(&mut self, deadline: Instant, wanted: impl Future<Output = T>) -> Result<T, Elapsed> {
        let mut wanted = std::pin::pin!(wanted);
        let both = poll_fn(|context| {
            if let Some(connection) = &mut self.connection
                && connection.as_mut().poll(context).is_ready()
            {
                self.connection = None;
            }
            wanted.as_mut().poll(context)
        });
        timeout_at(deadline, both).await
    }
}

/// The tasks of one HTTP/2 connection. They end when this is dropped, so that a stalled server keeps nothing alive.
#[derive(Default)]
struct ProbeRequests {
    tasks: Rc<RefCell<JoinSet<()>>>,
}

#[derive(Clone)]
struct Spawner(Rc<RefCell<JoinSet<()>>>);

impl<F: Future<Output = ()> + 'static> Executor<F> for Spawner {
    fn execute(&self, task: F) {
        self.0.borrow_mut().spawn_local(task);
    }
}

impl ProbeRequests {
    fn executor(&self) -> Spawner {
        Spawner(self.tasks.clone())
    }

    /// Lets them close the connection, until `deadline`.
    async fn end(self, deadline: Instant) {
        let mut tasks = self.tasks.take();
        let _ = timeout_at(deadline, async { while tasks.join_next().await.is_some() {} }).await;
    }
}

impl Drop for ProbeRequests {
    fn drop(&mut self) {
        // A task may hold a spawner, and with it the set that it is in, so dropping our reference would not stop it.
        self.tasks.borrow_mut().abort_all();
    }
}
