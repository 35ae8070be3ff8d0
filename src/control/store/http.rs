//! Requests to a server of a store: HTTP/1.1, a connection each, bounded in bytes. A connection ends with what holds it.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HeaderMap;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinHandle, spawn_local};

use super::Server;
use crate::config::snapshot::StoreKind;
use crate::limits::{HEAD_BYTES, STORE_ANSWER_BYTES};

/// What is asked for.
pub struct Ask<'a> {
    pub method: Method,
    pub target: &'a str,
    /// A field, and a secret.
    pub credential: Option<(&'static str, &'a str)>,
    /// JSON.
    pub body: String,
}

/// An answer whose body comes as it is read.
pub struct Answer {
    pub status: StatusCode,
    pub fields: HeaderMap,
    body: Incoming,
    seen: BytesMut,
    connection: JoinHandle<()>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Sends one request. Errors: why there is no answer.
pub async fn ask(server: &Server, kind: StoreKind, ask: Ask<'_>) -> Result<Answer, String> {
    let stream = server.connect(kind).await?;
    match &server.tls {
        None => over(stream, server, kind, ask).await,
        Some((client, name)) => {
            let connector = tokio_rustls::TlsConnector::from(client.clone());
            let shaken = connector.connect(name.clone(), stream).await;
            over(shaken.map_err(|error| format!("no secure connection: {error}"))?, server, kind, ask).await
        }
    }
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    server: &Server,
    kind: StoreKind,
    ask: Ask<'_>,
) -> Result<Answer, String> {
    let broken = |error: hyper::Error| format!("the exchange broke off: {error}");
    let mut builder = http1::Builder::new();
    builder.max_buf_size(2 * HEAD_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let connection = spawn_local(async move { drop(connection.await) });
    let host = match server.endpoint.host.contains(':') {
        true => format!("[{}]:{}", server.endpoint.host, server.port(kind)),
        false => format!("{}:{}", server.endpoint.host, server.port(kind)),
    };
    let mut request = Request::builder()
        .method(ask.method)
        .uri(ask.target)
        .header("host", host)
        .header("user-agent", concat!("ringway/", env!("CARGO_PKG_VERSION"), " (configuration)"))
        .header("accept", "application/json");
    if !ask.body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    if let Some((name, secret)) = ask.credential {
        let mut value = hyper::header::HeaderValue::from_str(secret)
            .map_err(|_| "the credential has a character that no header field can have".to_owned())?;
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(ask.body))).map_err(|_| "it cannot be asked for".to_owned())?;
    let answer = match sender.send_request(request).await {
        Ok(answer) => answer,
        Err(error) => {
            connection.abort();
            return Err(broken(error));
        }
    };
    let (head, body) = answer.into_parts();
    Ok(Answer { status: head.status, fields: head.headers, body, seen: BytesMut::new(), connection })
}

impl Answer {
    /// The whole body. Errors: it is too long, or breaks off.
    pub async fn whole(mut self) -> Result<Bytes, String> {
        while self.more().await? {}
        Ok(std::mem::take(&mut self.seen).freeze())
    }

    /// The next line of a body that does not end; none at its end. Dropped while it waits, nothing is lost.
    pub async fn line(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.seen) {
                let line = self.seen.split_to(end + 1).freeze();
                return Ok(Some(line.slice(..end)));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    async fn more(&mut self) -> Result<bool, String> {
        match self.body.frame().await {
            None => Ok(false),
            Some(Err(error)) => Err(format!("its answer breaks off: {error}")),
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                if self.seen.len() + length > STORE_ANSWER_BYTES {
                    return Err(format!("its answer has over {STORE_ANSWER_BYTES} bytes"));
                }
                self.seen.extend(frame.into_data().unwrap_or_default());
                Ok(true)
            }
        }
    }
}
