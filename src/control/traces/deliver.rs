//! One batch over one connection: OTLP/HTTP on HTTP/1.1, or OTLP/gRPC on HTTP/2. Bounded in time by the caller, and in bytes.

use std::io;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::HeaderMap;
use hyper::rt::Executor;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use prost::Message;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{JoinHandle, spawn_local};

use super::Settings;
use super::proto::ExportResponse;
use crate::config::snapshot::{Address, TraceProtocol};
use crate::limits::HEAD_BYTES;

/// Most of an answer that is read: it has no content, or a sentence.
const ANSWER_BYTES: usize = 64 << 10;

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The receiver took all but so many, and says why.
    Taken { rejected: u64, why: String },
    /// It may take it later; after so long, if it says so.
    Later { why: String, after_ms: Option<u64> },
    /// It will never take it.
    Refused { why: String },
}

impl Delivered {
    fn later(why: impl Into<String>) -> Delivered {
        Delivered::Later { why: why.into(), after_ms: None }
    }
}

/// A connection to the receiver.
pub struct Connection {
    sender: Sender,
    /// Drives it; ends with it.
    driver: JoinHandle<()>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// hyper's tasks of an HTTP/2 connection.
#[derive(Clone)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        drop(spawn_local(task));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Errors: why there is none, for operators.
    pub async fn open(settings: &Settings) -> Result<Connection, String> {
        let failed = |error: io::Error| format!("cannot be reached: {error}");
        match &settings.of.address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
                let _ = stream.set_nodelay(true);
                let Some((client, name)) = &settings.tls else { return Connection::over(settings, stream).await };
                let connector = tokio_rustls::TlsConnector::from(client.clone());
                let secured = connector.connect(name.clone(), stream).await;
                Connection::over(settings, secured.map_err(|error| format!("no secure connection: {error}"))?).await
            }
            Address::Unix(path) => Connection::over(settings, UnixStream::connect(path).await.map_err(failed)?).await,
        }
    }

    async fn over<S>(settings: &Settings, stream: S) -> Result<Connection, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (io, failed) = (TokioIo::new(stream), |error: hyper::Error| format!("does not speak HTTP: {error}"));
        match settings.of.protocol {
            TraceProtocol::Http => {
                let mut builder = http1::Builder::new();
                builder.max_buf_size(2 * HEAD_BYTES);
                let (sender, connection) = builder.handshake(io).await.map_err(failed)?;
                let driver = spawn_local(async move { drop(connection.await) });
                Ok(Connection { sender: Sender::Http1(sender), driver })
            }
            TraceProtocol::Grpc => {
                let mut builder = http2::Builder::new(Local);
                builder.max_header_list_size(HEAD_BYTES as u32);
                let (sender, connection) = builder.handshake(io).await.map_err(failed)?;
                let driver = spawn_local(async move { drop(connection.await) });
                Ok(Connection { sender: Sender::Http2(sender), driver })
            }
        }
    }

    /// Whether it can be used again.
    pub fn is_open(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => !sender.is_closed(),
            Sender::Http2(sender) => !sender.is_closed(),
        }
    }

    /// Sends a batch and reads the answer. Errors: the connection broke.
    pub async fn deliver(&mut self, settings: &Settings, batch: &Bytes) -> Result<Delivered, String> {
        let broke = |error: hyper::Error| format!("the connection broke: {error}");
        match &mut self.sender {
            Sender::Http1(sender) => {
                let request = request(settings, batch.clone())?;
                sender.ready().await.map_err(broke)?;
                let answer = sender.send_request(request).await.map_err(broke)?;
                Ok(of_http(answer).await)
            }
            Sender::Http2(sender) => {
                // A message in gRPC's framing: not compressed, its length, itself.
                let length = u32::try_from(batch.len()).map_err(|_| "the batch is too large".to_owned())?;
                let message = [&[0], &length.to_be_bytes()[..], batch].concat();
                let request = request(settings, message.into())?;
                sender.ready().await.map_err(broke)?;
                let answer = sender.send_request(request).await.map_err(broke)?;
                Ok(of_grpc(answer).await)
            }
        }
    }
}

fn request(settings: &Settings, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
    let of = &settings.of;
    let builder = Request::builder().method(Method::POST);
    let mut builder = match of.protocol {
        TraceProtocol::Http => {
            builder.uri(&of.path).header("host", &of.authority).header("content-type", "application/x-protobuf")
        }
        TraceProtocol::Grpc => {
            let scheme = if settings.tls.is_some() { "https" } else { "http" };
            let timeout = format!("{}m", of.timeout_ms.min(99_999_999));
            let builder = builder.uri(format!("{scheme}://{}{}", of.authority, of.path)).header("te", "trailers");
            builder.header("content-type", "application/grpc").header("grpc-timeout", timeout)
        }
    };
    builder = builder.header("user-agent", concat!("ringway/", env!("CARGO_PKG_VERSION"), " (traces)"));
    for (name, value) in &of.headers {
        builder = builder.header(name, value.expose_secret());
    }
    builder.body(Full::new(body)).map_err(|error| format!("cannot be asked: {error}"))
}

/// The body of an answer, and what follows it; none if it is too large or breaks off.
async fn whole(answer: Response<Incoming>) -> Option<(Bytes, HeaderMap)> {
    let collected = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await.ok()?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Some((collected.to_bytes(), trailers))
}

fn taken(message: &[u8]) -> Delivered {
    // One that cannot be read has been taken all the same.
    let partial = ExportResponse::decode(message).ok().and_then(|answer| answer.partial_success).unwrap_or_default();
    Delivered::Taken { rejected: partial.rejected_spans.max(0) as u64, why: printable(&partial.error_message) }
}

async fn of_http(answer: Response<Incoming>) -> Delivered {
    let status = answer.status().as_u16();
    let after = answer.headers().get("retry-after").and_then(|after| after.to_str().ok()?.trim().parse::<u64>().ok());
    let body = whole(answer).await.map(|(body, _)| body).unwrap_or_default();
    let why = format!("answers {status}");
    match status {
        200..=299 => taken(&body),
        // OTLP/HTTP, "Failures": these alone may be sent again.
        429 | 502..=504 => Delivered::Later { why, after_ms: after.map(|seconds| seconds.saturating_mul(1000)) },
        _ => Delivered::Refused { why },
    }
}

async fn of_grpc(answer: Response<Incoming>) -> Delivered {
    if answer.status() != 200 {
        let (status, why) = (answer.status().as_u16(), format!("answers {}", answer.status().as_u16()));
        return if matches!(status, 429 | 502..=504) { Delivered::later(why) } else { Delivered::Refused { why } };
    }
    let head = answer.headers().clone();
    let Some((body, trailers)) = whole(answer).await else { return Delivered::later("breaks off its answer") };
    let field = |name| trailers.get(name).or_else(|| head.get(name)).and_then(|value| value.to_str().ok());
    let Some(code) = field("grpc-status").and_then(|code| code.parse::<u32>().ok()) else {
        return Delivered::Refused { why: "answers without a grpc-status".to_owned() };
    };
    let why = format!("answers gRPC status {code}: {}", printable(field("grpc-message").unwrap_or("")));
    match code {
        0 => taken(body.get(5..).unwrap_or(&[])),
        // OTLP/gRPC, "Failures": cancelled, deadline exceeded, resource exhausted, aborted, out of range, unavailable, data loss.
        1 | 4 | 8 | 10 | 11 | 14 | 15 => Delivered::later(why),
        _ => Delivered::Refused { why },
    }
}

/// What a receiver says, fit for a line of the log.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
