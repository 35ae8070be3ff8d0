//! A connection to Redis from the background core: opened, secured, admitted, one command after another. Off the request path.

use std::fmt;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::masters::{self, Masters};
use crate::limits::REDIS_ELEMENTS;
use crate::wire::cluster::{Kind, Master, Redirection};
use crate::wire::resp::{self, Reply};

/// For a whole conversation: to connect, to be admitted, and to get an answer.
const LIMIT: Duration = Duration::from_secs(2);
/// Largest reply: the number of every scope that was ever purged.
const REPLY_BYTES: usize = 16 << 20;

/// How servers are spoken to.
#[derive(Clone, Default)]
pub struct Access {
    pub tls: Option<Arc<ClientConfig>>,
    pub user: Option<String>,
    pub password: Option<SecretString>,
    pub database: u32,
}

impl fmt::Debug for Access {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Access").field("user", &self.user).field("database", &self.database).finish_non_exhaustive()
    }
}

/// Redis, as far as it is known where it is.
#[derive(Clone)]
pub struct Server {
    pub access: Access,
    pub masters: Rc<Masters>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// A connection that was admitted.
pub struct Connection {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
}

impl Server {
    /// A connection to the master that has `key`. Errors: why there is none.
    pub async fn connect(&self, key: &[u8]) -> Result<Connection, String> {
        let connected = match self.masters.of(key) {
            Some(master) => self.access.connect(&master).await,
            None => Err("which of its servers to ask is not known".to_owned()),
        };
        if connected.is_err() {
            self.masters.doubt();
        }
        connected
    }

    /// Asks the master that has `key`, and another one if it says so.
    pub async fn ask(&self, key: &[u8], parts: &[&[u8]]) -> Result<(Reply, Vec<u8>), String> {
        let (reply, text) = self.connect(key).await?.ask(parts).await?;
        let Reply::Error(span) = &reply else { return Ok((reply, text)) };
        let error = span.of(&text);
        if let Some(Redirection { kind, host, port, .. }) = Redirection::of(error)
            && let Some(from) = self.masters.of(key)
        {
            self.masters.doubt();
            let host = if host.is_empty() { from.host.as_str() } else { host };
            let mut connection = self.access.connect(&masters::server(host, port).await?).await?;
            if kind == Kind::Ask {
                connection.expect_ok(&[b"ASKING"]).await?;
            }
            return connection.ask(parts).await;
        }
        if error.starts_with(b"READONLY") {
            self.masters.doubt();
        }
        Ok((reply, text))
    }
}

impl Access {
    /// A connection that was admitted. Errors: why there is none.
    pub async fn connect(&self, to: &Master) -> Result<Connection, String> {
        let mut why = "its name has no addresses".to_owned();
        for address in to.addresses.iter() {
            match TcpStream::connect(address).await {
                Ok(stream) => return self.admitted(stream, &to.host).await,
                Err(error) => why = format!("cannot connect: {error}"),
            }
        }
        Err(why)
    }

    async fn admitted(&self, stream: TcpStream, host: &str) -> Result<Connection, String> {
        let Access { tls, user, password, database } = self;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(stream),
            Some(client) => {
                let name =
                    ServerName::try_from(host.to_owned()).map_err(|_| format!("\"{host}\" has no certificate"))?;
                let connector = tokio_rustls::TlsConnector::from(client.clone());
                let shaken = connector.connect(name, stream).await;
                Box::new(shaken.map_err(|error| format!("no secure connection: {error}"))?)
            }
        };
        let mut connection = Connection { stream, input: Vec::new() };
        if let Some(password) = password {
            let parts =
                [Some(&b"AUTH"[..]), user.as_ref().map(String::as_bytes), Some(password.expose_secret().as_bytes())];
            connection.expect_ok(&parts.into_iter().flatten().collect::<Vec<_>>()).await?;
        }
        if *database > 0 {
            connection.expect_ok(&[b"SELECT", database.to_string().as_bytes()]).await?;
        }
        Ok(connection)
    }
}

impl Connection {
    pub async fn send(&mut self, parts: &[&[u8]]) -> Result<(), String> {
        let mut command = Vec::new();
        resp::command(parts, &mut command);
        self.send_raw(&command).await
    }

    /// Sends commands that were written before.
    pub async fn send_raw(&mut self, commands: &[u8]) -> Result<(), String> {
        let sent = async {
            self.stream.write_all(commands).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error: io::Error| error.to_string())
    }

    /// The next reply. Dropped while it waits, nothing is lost.
    pub async fn next(&mut self) -> Result<(Reply, Vec<u8>), String> {
        loop {
            if let Some((reply, length)) = self.parsed()? {
                return Ok((reply, self.input.drain(..length).collect()));
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err("it closed the connection".to_owned()),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn parsed(&self) -> Result<Option<(Reply, usize)>, String> {
        resp::long_reply(&self.input, REPLY_BYTES, REDIS_ELEMENTS).map_err(|fault| fault.to_string())
    }

    pub async fn ask(&mut self, parts: &[&[u8]]) -> Result<(Reply, Vec<u8>), String> {
        self.send(parts).await?;
        self.next().await
    }

    async fn expect_ok(&mut self, parts: &[&[u8]]) -> Result<(), String> {
        match self.ask(parts).await? {
            (Reply::Status(_), _) => Ok(()),
            (reply, text) => Err(refused(&reply, &text)),
        }
    }
}

/// What is wrong with a reply that is none of those expected.
pub fn refused(reply: &Reply, text: &[u8]) -> String {
    match reply {
        Reply::Error(span) => format!("it refuses: {}", String::from_utf8_lossy(span.of(text))),
        _ => "it answers something else".to_owned(),
    }
}

/// Waits for a whole conversation. Errors: its own, or that it takes too long.
pub async fn within<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(LIMIT, work).await.unwrap_or_else(|_| Err("it does not answer".to_owned()))
}
