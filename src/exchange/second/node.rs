//! One server of the second level, as one core uses it: its connection, and whether it is worth asking. Owned by the core; one task
//! keeps the connection.

use std::cell::Cell;
use std::io;

use secrecy::ExposeSecret;

use super::link::Link;
use super::settings::Settings;
use crate::net::tls::{self, TlsContext, TlsSettings};
use crate::net::{Dial, DialOptions, Duplex, FastOpen, dial_any, now_ms, sleep_ms};
use crate::wire::cluster::Master;
use crate::wire::resp::{self, Reply};

/// To connect, to secure the connection, and to be admitted: each.
const CONNECT_MS: u64 = 1_000;
/// Between two attempts to connect: at first, and at most.
const AGAIN_MS: u64 = 100;
const AGAIN_MAX_MS: u64 = 5_000;
/// After so many look-ups in a row that brought nothing in time, none is made for a while; each one more doubles it.
const FAILURES: u32 = 3;
const REST_MS: u64 = 1_000;
const REST_MAX_MS: u64 = 30_000;
/// RFC 8305 5.
const STAGGER_MS: u64 = 250;

pub struct Node {
    pub master: Master,
    pub link: Link,
    /// Look-ups that failed, in a row, and until when none is made.
    failures: Cell<u32>,
    rests_until_ms: Cell<u64>,
    /// It is no master any more.
    is_retired: Cell<bool>,
}

impl Node {
    pub fn new(master: Master) -> Node {
        Node {
            master,
            link: Link::default(),
            failures: Cell::new(0),
            rests_until_ms: Cell::new(0),
            is_retired: Cell::new(false),
        }
    }

    /// Whether a look-up is worth its wait.
    pub fn may_be_asked(&self) -> bool {
        self.link.is_open() && now_ms() >= self.rests_until_ms.get()
    }

    pub fn succeeded(&self) {
        self.failures.set(0);
    }

    pub fn failed(&self) {
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        if let Some(more) = failures.checked_sub(FAILURES) {
            let rest_ms = REST_MS.saturating_mul(1 << more.min(10)).min(REST_MAX_MS);
            self.rests_until_ms.set(now_ms().saturating_add(rest_ms));
        }
    }

    /// Nothing is asked of it from here on; its task ends.
    pub fn retire(&self) {
        self.is_retired.set(true);
        self.link.close();
    }

    /// Keeps a connection until it is retired. `lost` is told why there is none, each time.
    pub async fn run(&self, settings: &Settings, lost: impl Fn(String)) {
        let mut again_ms = AGAIN_MS;
        let tls = settings.tls.as_ref().map(|tls| TlsSettings { server_name: self.master.host.clone(), ..tls.clone() });
        let context = match tls.as_ref().map(TlsContext::new).transpose() {
            Ok(context) => context,
            Err(error) => return lost(error.to_string()),
        };
        while !self.is_retired.get() {
            let why = match self.connect(settings, context.as_ref()).await {
                // While it connected, something else became the master.
                Ok(_) if self.is_retired.get() => return,
                Ok(mut stream) => {
                    again_ms = AGAIN_MS;
                    self.link.serve(&mut stream).await.to_string()
                }
                Err(why) => why,
            };
            if self.is_retired.get() {
                return;
            }
            lost(why);
            sleep_ms(again_ms).await;
            again_ms = (again_ms * 2).min(AGAIN_MAX_MS);
        }
    }

    async fn connect(&self, settings: &Settings, context: Option<&TlsContext>) -> Result<Duplex, String> {
        let told = |error: io::Error| format!("cannot connect: {error}");
        let options = DialOptions { timeout_ms: CONNECT_MS, fast_open: FastOpen::Off, stagger_ms: STAGGER_MS };
        let addresses: Vec<_> = self.master.addresses.iter().copied().map(Dial::Tcp).collect();
        let (socket, _) = dial_any(&addresses, options).await.map_err(told)?;
        let mut stream: Duplex = match context {
            None => socket.into(),
            Some(context) => match tls::connect(socket, context, CONNECT_MS).await {
                Ok((stream, _)) => stream.into(),
                Err(fault) => return Err(format!("no secure connection: {fault}")),
            },
        };
        introduce(settings, &mut stream).await?;
        Ok(stream)
    }
}

/// Says who this is, and waits for what Redis thinks of it. Errors: what it says, or that it says nothing.
async fn introduce(settings: &Settings, stream: &mut Duplex) -> Result<(), String> {
    let Settings { user, password, database, .. } = settings;
    let mut commands = Vec::new();
    let mut count = 0;
    if let Some(password) = password {
        let (user, password) = (user.as_ref().map(String::as_bytes), password.expose_secret().as_bytes());
        let parts = [Some(&b"AUTH"[..]), user, Some(password)];
        resp::command(&parts.into_iter().flatten().collect::<Vec<_>>(), &mut commands);
        count += 1;
    }
    if *database > 0 {
        resp::command(&[b"SELECT", database.to_string().as_bytes()], &mut commands);
        count += 1;
    }
    resp::command(&[b"PING"], &mut commands);
    count += 1;
    stream.watch().shut_down_at(now_ms() + CONNECT_MS);
    let (written, _) = stream.write(commands).await;
    written.map_err(|error| error.to_string())?;
    let mut input = Vec::with_capacity(1 << 10);
    while count > 0 {
        match resp::reply(&input, 1 << 10).map_err(|fault| fault.to_string())? {
            Some((Reply::Error(span), _)) => {
                return Err(format!("Redis refuses: {}", String::from_utf8_lossy(span.of(&input))));
            }
            Some((_, length)) => {
                input.drain(..length);
                count -= 1;
            }
            None => {
                input.reserve(1 << 10);
                let read;
                (read, input) = stream.read(input).await;
                if read.map_err(|error| error.to_string())? == 0 {
                    return Err("Redis says nothing".to_owned());
                }
            }
        }
    }
    stream.watch().clear();
    Ok(())
}
