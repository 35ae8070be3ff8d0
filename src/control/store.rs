//! The store that the configuration is in, as the background core reads it: the document, and news of its changes. Servers are
//! asked in order until one answers, each for a bounded time. Nothing a request waits for; what is in force stays so.

mod consul;
mod etcd;
mod http; // requests to servers that speak JSON
mod redis;

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use self::etcd::Tokens;
use crate::config::snapshot::{Endpoint, Store, StoreKind};
use crate::limits::STORED_CONFIG_BYTES;
use crate::net::tls::{TlsContext, TlsSettings};

/// How often a silent watch is asked whether it still lives.
const SILENCE: Duration = Duration::from_secs(5);

/// What the store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub text: String,
    /// By which the store, or a checksum, tells it from others.
    pub revision: String,
}

/// Why there is no document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No server can be asked, or none answers as it should.
    Unavailable(String),
    /// The store has none that could be a configuration.
    Unusable(String),
}

impl Fault {
    pub fn why(&self) -> &str {
        match self {
            Fault::Unavailable(why) | Fault::Unusable(why) => why,
        }
    }
}

/// What a watch tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// From here on, changes are heard of; there may have been some before.
    Connected,
    /// The document may have changed.
    Changed,
}

/// A server, and how its connections are secured.
struct Server {
    endpoint: Endpoint,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// A store. Owned by the background core.
pub struct Link {
    pub settings: Store,
    servers: Vec<Server>,
    /// The server that answered last.
    first: Cell<usize>,
    tokens: Tokens,
}

impl Link {
    /// `tls`: of each endpoint, none for those in plain text. Errors: certificates that cannot be used.
    pub fn new(settings: Store, tls: Vec<Option<TlsSettings>>) -> Result<Link, String> {
        let client = |settings: TlsSettings| TlsContext::new(&settings).map(|context| context.client());
        let servers = settings.endpoints.iter().cloned().zip(tls).map(|(endpoint, tls)| {
            let tls = tls.map(client).transpose().map_err(|error| error.to_string())?;
            Ok(Server { endpoint, tls })
        });
        let servers = servers.collect::<Result<Vec<_>, String>>()?;
        Ok(Link { settings, servers, first: Cell::new(0), tokens: Tokens::default() })
    }

    /// What the store has now.
    pub async fn fetch(&self) -> Result<Document, Fault> {
        let found = self.of_any(|server| async move {
            match self.settings.kind {
                StoreKind::Etcd => etcd::fetch(self, server).await,
                StoreKind::Consul => consul::fetch(self, server).await,
                StoreKind::Redis => redis::fetch(self, server).await,
            }
        });
        let Some(found) = found.await? else {
            let key = &self.settings.key;
            return Err(Fault::Unusable(format!("there is no key \"{key}\"; write the configuration there")));
        };
        if found.value.len() > STORED_CONFIG_BYTES {
            return Err(Fault::Unusable(format!("the value has over {STORED_CONFIG_BYTES} bytes")));
        }
        match String::from_utf8(found.value) {
            Ok(text) => Ok(Document { text, revision: found.revision }),
            Err(_) => Err(Fault::Unusable("the value is not UTF-8 text".to_owned())),
        }
    }

    /// Watches the document until that fails; why it did.
    pub async fn watch(&self, tell: &dyn Fn(News)) -> String {
        let first = self.first.get();
        let why = match self.servers.get(first) {
            None => "it has no servers".to_owned(),
            Some(server) => {
                let why = match self.settings.kind {
                    StoreKind::Etcd => etcd::watch(self, server, tell).await,
                    StoreKind::Consul => consul::watch(self, server, tell).await,
                    StoreKind::Redis => redis::watch(self, server, tell).await,
                };
                format!("{}: {why}", server.endpoint)
            }
        };
        // The next one, unless somebody found one meanwhile.
        if self.first.get() == first {
            self.first.set((first + 1) % self.servers.len().max(1));
        }
        why
    }

    /// Asks one server after another, beginning with the one that answered last.
    async fn of_any<'a, T, F>(&'a self, ask: impl Fn(&'a Server) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, String>> + 'a,
    {
        let (first, count) = (self.first.get(), self.servers.len());
        let mut faults = Vec::new();
        for place in (0..count).map(|step| (first + step) % count) {
            let server = &self.servers[place];
            match self.within(ask(server)).await {
                Ok(found) => {
                    self.first.set(place);
                    return Ok(found);
                }
                Err(why) => faults.push(format!("{}: {why}", server.endpoint)),
            }
        }
        Err(Fault::Unavailable(faults.join("; ")))
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let limit_ms = self.settings.timeout_ms;
        let late = |_| Err(format!("it does not answer within {limit_ms} ms"));
        timeout(Duration::from_millis(limit_ms), work).await.unwrap_or_else(late)
    }
}

/// The value of the key, as a store has it.
struct Found {
    value: Vec<u8>,
    revision: String,
}

impl Server {
    fn port(&self, kind: StoreKind) -> u16 {
        self.endpoint.port.unwrap_or(kind.default_port())
    }

    /// Errors: its name leads nowhere.
    async fn addresses(&self, kind: StoreKind) -> Result<Vec<SocketAddr>, String> {
        let host = (self.endpoint.host.as_str(), self.port(kind));
        match tokio::net::lookup_host(host).await {
            Ok(addresses) => Ok(addresses.collect()),
            Err(error) => Err(format!("its name cannot be resolved: {error}")),
        }
    }

    /// A connection to any of its addresses.
    async fn connect(&self, kind: StoreKind) -> Result<TcpStream, String> {
        let mut why = "its name has no addresses".to_owned();
        for address in self.addresses(kind).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => why = unreached(&error),
            }
        }
        Err(why)
    }
}

fn unreached(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "the connection is refused".to_owned(),
        _ => format!("cannot connect: {error}"),
    }
}

/// Fetches the document now, with a runtime of its own: for what happens before the cores start. A store that refuses the
/// connection may be starting too, and is asked again until `patience` is over.
///
/// # Errors
/// As those of [`Link::fetch`].
pub fn fetch_now(link: &Link, patience: Duration) -> Result<Document, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Fault::Unavailable(format!("no runtime to ask it with: {error}")))?;
    let found = tokio::task::LocalSet::new().block_on(&runtime, async {
        let deadline = Instant::now() + patience;
        loop {
            match link.fetch().await {
                Err(Fault::Unavailable(why)) => {
                    let pause = tokio::time::sleep(Duration::from_millis(200));
                    if timeout_at(deadline, pause).await.is_err() {
                        return Err(Fault::Unavailable(why));
                    }
                }
                other => return other,
            }
        }
    });
    runtime.shutdown_background();
    found
}
