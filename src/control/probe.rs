//! One question to one backend: a GET over a connection of its own, which is what a new request would need too. Any answer
//! below 500 says that the server lives. Bounded in time and in bytes; the body is not read.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Empty;
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::net::Dial;

/// What is asked of a backend, and how.
#[derive(Clone)]
pub struct Target {
    /// With the backend's base path in front.
    pub path: String,
    pub authority: String,
    /// The backend's own credential, for paths of the API; a health path needs none and gets none.
    pub credential: Option<(&'static str, HeaderValue)>,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    pub tls: Option<Secure>,
    /// HTTP/2 by prior knowledge where there is no TLS to agree on it.
    pub http2: bool,
}

/// How the connection is secured.
#[derive(Clone)]
pub struct Secure {
    pub client: Arc<rustls::ClientConfig>,
    pub server_name: rustls::pki_types::ServerName<'static>,
}

/// Asks each address until one answers well. Errors: why the last one did not, in words for an operator.
pub async fn ask(target: &Target, addresses: &[Dial]) -> Result<(), String> {
    let mut why = "its name leads to no address".to_owned();
    let limit = Duration::from_millis(target.timeout_ms);
    for address in addresses {
        match tokio::time::timeout(limit, ask_one(target, address)).await {
            Ok(Ok(status)) if status < 500 => return Ok(()),
            Ok(Ok(status)) => why = format!("{} answers {status}", target.path),
            Ok(Err(error)) => why = error,
            Err(_) => why = format!("{} is not answered within {} ms", target.path, target.timeout_ms),
        }
    }
    Err(why)
}

async fn ask_one(target: &Target, address: &Dial) -> Result<u16, String> {
    match address {
        Dial::Tcp(address) => secured(target, TcpStream::connect(address).await.map_err(unreached)?).await,
        Dial::Unix(path) => secured(target, unix(path.clone()).await.map_err(unreached)?).await,
    }
}

async fn unix(path: PathBuf) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}

fn unreached(error: io::Error) -> String {
    format!("it cannot be reached: {}", error.kind())
}

async fn secured(target: &Target, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<u16, String> {
    let Some(secure) = &target.tls else { return spoken(target, stream, target.http2).await };
    let connector = tokio_rustls::TlsConnector::from(secure.client.clone());
    let shaken = connector.connect(secure.server_name.clone(), stream).await;
    let stream = shaken.map_err(|error| format!("no secure connection: {error}"))?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    spoken(target, stream, http2).await
}

async fn spoken(
    target: &Target,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    http2: bool,
) -> Result<u16, String> {
    let io = TokioIo::new(stream);
    let odd = |error: hyper::Error| format!("its answer is not HTTP: {error}");
    let answer = if http2 {
        let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .max_header_list_size(crate::limits::HEAD_BYTES as u32)
            .handshake(io)
            .await
            .map_err(odd)?;
        // The answer's head comes while the connection is driven; neither outlives the other.
        let scheme = if target.tls.is_some() { "https" } else { "http" };
        let request = request(target, &format!("{scheme}://{}{}", target.authority, target.path))?;
        drive(connection, sender.send_request(request)).await
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(2 * crate::limits::HEAD_BYTES)
            .handshake(io)
            .await
            .map_err(odd)?;
        let request = request(target, &target.path)?;
        drive(connection, sender.send_request(request)).await
    };
    answer.map(|answer| answer.status().as_u16()).map_err(odd)
}

fn request(target: &Target, uri: &str) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::get(uri)
        .header("user-agent", concat!("ringway/", env!("CARGO_PKG_VERSION"), " (health)"))
        .header("accept", "*/*");
    if !uri.contains("://") {
        request = request.header("host", &target.authority);
    }
    if let Some((name, value)) = &target.credential {
        request = request.header(*name, value);
    }
    request.body(Empty::new()).map_err(|error| format!("{} cannot be asked for: {error}", target.path))
}

/// Waits for the answer while the connection is at work.
async fn drive(
    connection: impl Future<Output = hyper::Result<()>>,
    answer: impl Future<Output = hyper::Result<hyper::Response<Incoming>>>,
) -> hyper::Result<hyper::Response<Incoming>> {
    let (mut connection, mut answer) = (std::pin::pin!(connection), std::pin::pin!(answer));
    let mut over = false;
    std::future::poll_fn(|context| {
        // What the connection ended with shows in the answer.
        over = over || connection.as_mut().poll(context).is_ready();
        answer.as_mut().poll(context)
    })
    .await
}
