//! A client of the admin listener, for commands: one request at a time over TCP or a Unix socket, each with a time
//! limit. Not used by a running node.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::request::Builder;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::status::Status;

/// For a whole request.
const LIMIT: Duration = Duration::from_secs(10);
/// For work that a disk has part in.
const LONG_LIMIT: Duration = Duration::from_secs(120);
/// Longest answer: the state of a node with thousands of tenants takes a few megabytes.
const ANSWER_BYTES: usize = 64 << 20;

/// Where an admin listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Host and port.
    Tcp(String),
    Unix(PathBuf),
}

/// Why there is no answer; each says what to look at.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("{0} is no address of an admin listener: write http://HOST:PORT or unix:/PATH")]
    Place(String),
    #[error("the admin listener is reached without TLS; for {0}, forward a port, as by ssh -L")]
    Tls(String),
    #[error("the token has characters that no header field can carry")]
    Token,
    #[error("no connection to the admin listener at {0}: {1}; is the node running, with [admin] on?")]
    Connect(String, io::Error),
    #[error("the admin listener at {0} did not answer in time")]
    Slow(String),
    #[error("the admin listener at {0} broke off: {1}")]
    Broken(String, String),
    #[error("the admin listener at {0} refused ({1}): {2}")]
    Refused(String, u16, String),
    #[error("what answers at {0} is no Ringway of this kind: {1}")]
    Foreign(String, String),
    #[error("no runtime for requests: {0}")]
    Runtime(io::Error),
}

impl Place {
    /// Reads `http://HOST:PORT`, `HOST:PORT` or `unix:/PATH`.
    pub fn parse(text: &str) -> Result<Place, AskError> {
        let wrong = || AskError::Place(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') { Ok(Place::Unix(path.into())) } else { Err(wrong()) };
        }
        if text.starts_with("https://") {
            return Err(AskError::Tls(text.to_owned()));
        }
        let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
        let is_fine = !host.is_empty() && !authority.contains(['/', '@', '?', '#', ' ']) && port.parse::<u16>().is_ok();
        if is_fine { Ok(Place::Tcp(authority.to_owned())) } else { Err(wrong()) }
    }

    fn text(&self) -> String {
        match self {
            Place::Tcp(authority) => authority.clone(),
            Place::Unix(path) => path.display().to_string(),
        }
    }
}

/// Asks one node.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    place: Place,
    token: Option<HeaderValue>,
    limit: Duration,
}

impl Client {
    pub fn new(place: Place, token: Option<&SecretString>) -> Result<Client, AskError> {
        let value = |token: &SecretString| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))?;
            value.set_sensitive(true);
            Ok::<_, hyper::header::InvalidHeaderValue>(value)
        };
        let token = token.map(value).transpose().map_err(|_| AskError::Token)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AskError::Runtime)?;
        Ok(Client { runtime, place, token, limit: LIMIT })
    }

    /// As `self`, for what takes longer.
    pub fn patient(self) -> Client {
        Client { limit: LONG_LIMIT, ..self }
    }

    /// The answer of `/v1/status`.
    pub fn status(&self) -> Result<Status, AskError> {
        let answer = self.ask(Method::GET, "/v1/status", Bytes::new())?;
        serde_json::from_slice(&answer).map_err(|error| AskError::Foreign(self.place.text(), error.to_string()))
    }

    /// Sends JSON, and returns the answer's body.
    pub fn post(&self, path: &str, body: String) -> Result<String, AskError> {
        let answer = self.ask(Method::POST, path, body.into())?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, AskError> {
        let request = Request::builder().method(method).uri(path).header(CONNECTION, "close");
        let work = async {
            let connect = |error| AskError::Connect(self.place.text(), error);
            match &self.place {
                Place::Tcp(authority) => {
                    let stream = TcpStream::connect(authority).await.map_err(connect)?;
                    self.exchange(stream, request, authority, body).await
                }
                Place::Unix(socket) => {
                    let stream = UnixStream::connect(socket).await.map_err(connect)?;
                    self.exchange(stream, request, "localhost", body).await
                }
            }
        };
        let limited = self.runtime.block_on(async { tokio::time::timeout(self.limit, work).await });
        limited.unwrap_or_else(|_| Err(AskError::Slow(self.place.text())))
    }

    async fn exchange<S>(&self, stream: S, request: Builder, host: &str, body: Bytes) -> Result<Bytes, AskError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error: &dyn std::fmt::Display| AskError::Broken(self.place.text(), error.to_string());
        let mut request = request.header(HOST, host).header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        let request = request.body(Full::new(body)).map_err(|error| broken(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        // Ends with its connection, and with the runtime.
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await.map_err(|error| broken(&error))?;
        let body = body.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let said = serde_json::from_slice::<serde_json::Value>(&body).ok();
        let message = said.as_ref().and_then(|said| said["error"]["message"].as_str());
        Err(match message {
            Some(message) => AskError::Refused(self.place.text(), status.as_u16(), message.to_owned()),
            None => AskError::Foreign(self.place.text(), format!("it answers {status}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_addresses_and_sockets() {
        let tcp = |text: &str| Some(Place::Tcp(text.to_owned()));
        let cases = [
            ("http://127.0.0.1:9901", tcp("127.0.0.1:9901")),
            ("http://127.0.0.1:9901/", tcp("127.0.0.1:9901")),
            ("node-1:9901", tcp("node-1:9901")),
            ("http://[::1]:9901", tcp("[::1]:9901")),
            ("unix:/run/a.sock", Some(Place::Unix("/run/a.sock".into()))),
            ("unix:///run/a.sock", Some(Place::Unix("/run/a.sock".into()))),
            ("unix:a.sock", None),
            ("https://node:9901", None),
            ("http://node", None),
            ("http://node:99011", None),
            ("http://me@node:9901", None),
            ("http://node:9901/v1/status", None),
            ("", None),
        ];
        for (text, place) in cases {
            assert_eq!(Place::parse(text).ok(), place, "{text}");
        }
        assert!(Place::parse("https://node:1").unwrap_err().to_string().contains("ssh -L"));
    }
}
