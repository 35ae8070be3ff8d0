//! One health check of one backend: a GET on a new connection, which is what a new request may need too; on a kept
//! connection a server that accepts no new ones would still seem healthy. Any status below 500 is healthy. Bounded in
//! time and in bytes; leaves neither task nor connection behind.

mod fault; // error messages for operators
mod side_by_side; // several at once, for a command
mod talk; // HTTP over a stream

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::config::snapshot::{Backend, Protocol};
use crate::net::Dial;
use crate::net::tls::{TlsContext, TlsFault, TlsSettings};

pub use side_by_side::ask_all;

/// Most body bytes that are read, and ignored, so that the server sees a complete exchange instead of a client that
/// hangs up. Health pages have a few hundred.
const BODY_BYTES: usize = 64 << 10;

/// What to request from a backend, and how.
#[derive(Clone)]
pub struct Target {
    /// Including the backend's base path.
    pub path: String,
    pub authority: String,
    /// The backend's own credential, for paths of the API; a health path gets none.
    pub credential: Option<(&'static str, HeaderValue)>,
    /// For all addresses together.
    pub timeout_ms: u64,
    pub tls: Option<Secure>,
    pub http: Http,
}

/// How the connection is secured.
#[derive(Clone)]
pub struct Secure {
    pub client: Arc<rustls::ClientConfig>,
    pub server_name: rustls::pki_types::ServerName<'static>,
}

/// Which HTTP version to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// The one selected by ALPN; HTTP/1.1 in plain text.
    Agreed,
    /// Only HTTP/2; with prior knowledge in plain text.
    Two,
}

impl Target {
    /// What to request from a backend, and how. Errors: its TLS settings or its credential cannot be used.
    pub fn of(backend: &Backend, path: &str, timeout_ms: u64, tls: Option<&TlsSettings>) -> Result<Target, String> {
        let tls = match tls {
            None => None,
            Some(settings) => {
                let context = TlsContext::new(settings).map_err(|error| error.to_string())?;
                let (client, server_name) = context.client();
                Some(Secure { client, server_name })
            }
        };
        // Only a path of the API gets the credential; a health path does not need it.
        let credential = match &backend.api_key {
            Some(secret) if path.starts_with("/v1/") => {
                let (name, prefix) = (backend.credential_field.name(), backend.credential_field.prefix());
                let value = HeaderValue::from_str(&format!("{prefix}{}", secret.expose_secret()));
                let mut value = value.map_err(|_| "its api_key fits no header field".to_owned())?;
                value.set_sensitive(true);
                Some((name, value))
            }
            _ => None,
        };
        Ok(Target {
            path: String::from_utf8_lossy(&backend.paths.there(path.as_bytes())).into_owned(),
            authority: backend.authority.clone(),
            credential,
            timeout_ms,
            tls,
            http: match backend.protocol {
                Protocol::Auto | Protocol::Http1 => Http::Agreed,
                Protocol::Http2 => Http::Two,
            },
        })
    }
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// As much of it as is wanted; empty where it did not come in time.
    pub body: Vec<u8>,
}

/// Tries addresses until one is healthy, as `ask_for` does. Errors: why none is.
pub async fn ask(target: &Rc<Target>, addresses: &[Dial]) -> Result<(), String> {
    ask_for(target, addresses, BODY_BYTES).await.map(drop)
}

/// Tries addresses until one is healthy. The next one is tried when the last has failed, or in parallel after its share
/// of the time, so that one that hangs does not block the others. Each may continue until the whole timeout has passed.
/// Runs in a `LocalSet`. Errors: why none is healthy, for operators.
pub async fn ask_for(target: &Rc<Target>, addresses: &[Dial], most: usize) -> Result<Answer, String> {
    let started = Instant::now();
    let limit = Duration::from_millis(target.timeout_ms);
    let Ok(count) = u32::try_from(addresses.len().max(1)) else { return Err("it has too many addresses".to_owned()) };
    let (part, deadline) = (limit / count, started + limit);
    let mut waiting = addresses.iter();
    let mut asked = JoinSet::new();
    let mut why = "its name has no addresses".to_owned();
    while let Some(address) = waiting.next() {
        let (target, address) = (target.clone(), address.clone());
        asked.spawn_local(async move { ask_one(&target, &address, deadline, most).await });
        // The last one has all the remaining time.
        let turn = if waiting.len() == 0 { deadline } else { Instant::now() + part };
        while let Ok(Some(answer)) = timeout_at(turn, asked.join_next()).await {
            match answer.unwrap_or_else(|_| Err("the check itself failed".to_owned())) {
                Ok(answer) => return Ok(answer),
                Err(failed) => why = failed,
            }
        }
    }
    // Running attempts report their own timeout.
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failed)) => why = failed,
            Err(_) => {}
        }
    }
    Err(why)
}

async fn ask_one(target: &Target, address: &Dial, deadline: Instant, most: usize) -> Result<Answer, String> {
    let unreached = |error| fault::unreached(&error);
    let late = |_| format!("{} is not answered within {} ms", target.path, target.timeout_ms);
    let answer = match address {
        Dial::Tcp(address) => {
            let stream = timeout_at(deadline, TcpStream::connect(address)).await.map_err(late)?.map_err(unreached)?;
            secured(target, stream, deadline, most).await
        }
        Dial::Unix(path) => {
            let stream = timeout_at(deadline, UnixStream::connect(path)).await.map_err(late)?.map_err(unreached)?;
            secured(target, stream, deadline, most).await
        }
    }?;
    match answer.status {
        500.. => Err(format!("{} answers {}", target.path, answer.status)),
        _ => Ok(answer),
    }
}

async fn secured(
    target: &Target,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    deadline: Instant,
    most: usize,
) -> Result<Answer, String> {
    let Some(secure) = &target.tls else {
        return talk::over(target, stream, target.http == Http::Two, deadline, most).await;
    };
    let connector = tokio_rustls::TlsConnector::from(secure.client.clone());
    let shaken = timeout_at(deadline, connector.connect(secure.server_name.clone(), stream)).await;
    let stream = shaken
        .map_err(|_| fault::insecure(&TlsFault::TimedOut))?
        .map_err(|error| fault::insecure(&fault::of_handshake(&error)))?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    if target.http == Http::Two && !http2 {
        // Requests would fail as well.
        return Err(fault::insecure(&TlsFault::NoHttp2));
    }
    talk::over(target, stream, http2, deadline, most).await
}

#[cfg(test)]
mod tests;
