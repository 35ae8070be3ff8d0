//! The second level of the cache: answers in Redis, shared by nodes. Asked by the leader of a flight as its first step, so that
//! followers share the look-up; a slow or dead Redis is a miss. What is written is never waited for. Owned by one core.

mod link; // one connection: commands out, replies in

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use secrecy::{ExposeSecret, SecretString};
use shards::Fingerprint;

use self::link::Link;
use super::entry::Entry;
use super::purges::Purges;
use super::tags::Tags;
use super::value::{self, Unusable};
use crate::net::tls::{self, TlsContext, TlsSettings};
use crate::net::within;
use crate::net::{Dial, DialOptions, Duplex, FastOpen, dial_any, now_ms, sleep_ms};
use crate::observe::counters::Counters;
use crate::wire::Span;
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
/// Most groups of names of which the last purge is kept in mind.
const KNOWN_MAX: usize = 4 << 10;

/// Where Redis is, and how it is spoken to.
#[derive(Clone)]
pub struct Settings {
    pub addresses: Arc<[Dial]>,
    pub tls: Option<TlsSettings>,
    pub user: Option<String>,
    pub password: Option<SecretString>,
    pub database: u32,
    /// Longest wait for an answer.
    pub timeout_ms: u64,
}

/// One core's part of the second level.
pub struct SecondLevel {
    settings: Settings,
    counters: Arc<Counters>,
    purges: Arc<Purges>,
    link: Link,
    /// Look-ups that failed, in a row, and until when none is made.
    failures: Cell<u32>,
    rests_until_ms: Cell<u64>,
    /// The last purges, as Redis told of them.
    known: RefCell<HashMap<String, u64>>,
}

/// Names the purges that concern an answer.
struct PurgeFields {
    fields: [String; 5],
}

impl SecondLevel {
    pub fn new(settings: Settings, counters: Arc<Counters>, purges: Arc<Purges>) -> SecondLevel {
        SecondLevel {
            settings,
            counters,
            purges,
            link: Link::default(),
            failures: Cell::new(0),
            rests_until_ms: Cell::new(0),
            known: RefCell::default(),
        }
    }

    /// For a timer.
    pub fn tick(&self) {
        self.link.tick();
    }

    /// The answer to `request`, if there is one that may serve and it comes in time.
    pub async fn look_up(&self, request: &Fingerprint, tags: Tags, most_bytes: u64) -> Option<Entry> {
        let counters = &self.counters.second;
        if !self.link.is_open() || now_ms() < self.rests_until_ms.get() || self.purges.is_ahead() {
            counters.skipped.add(1);
            return None;
        }
        let born = self.purges.latest();
        let (key, purges) = (key(request), PurgeFields::of(tags, request));
        let value = self.link.ask(&[b"GET", key.as_bytes()])?;
        // Behind it: what is purged between the two does not serve.
        let latest = self.link.ask(&purges.command())?;
        let both = async { Some((value.wait().await?, latest.wait().await?)) };
        let replies = within(both, self.settings.timeout_ms).await;
        let Some(((Reply::Bulk(_) | Reply::Nothing, _), (Reply::Array(_), _))) =
            &replies.as_ref().and_then(Option::as_ref)
        else {
            if replies.is_some() {
                counters.failed.add(1)
            } else {
                counters.late.add(1)
            };
            self.failed();
            return None;
        };
        self.failures.set(0);
        let (value, (latest, text)) = replies??;
        let latest = purges.read(&latest, &text);
        self.learn(&purges, &latest);
        let (Reply::Bulk(span), text) = value else {
            counters.misses.add(1);
            return None;
        };
        match value::decode(request, span.of(&text), &latest, most_bytes, (tags, born)) {
            Ok(entry) => {
                counters.hits.add(1);
                Some(entry)
            }
            Err(unusable) => {
                match unusable {
                    Unusable::Damaged => counters.damaged.add(1),
                    Unusable::Expired | Unusable::Purged | Unusable::FromTheFuture => counters.misses.add(1),
                }
                None
            }
        }
    }

    /// The numbers of the last purges that are known of, for a call that begins now.
    pub fn known_purges(&self, request: &Fingerprint, tags: Tags) -> [u64; 5] {
        let known = self.known.borrow();
        PurgeFields::of(tags, request).fields.map(|field| known.get(&field).copied().unwrap_or(0))
    }

    /// Writes an answer, in its own time or not at all.
    pub fn write(&self, request: &Fingerprint, entry: &Entry, purges: &[u64]) {
        let counters = &self.counters.second;
        if !self.link.is_open() {
            return counters.writes_dropped.add(1);
        }
        let value = value::encode(request, entry, purges);
        let ttl_ms = entry.ttl_ms.to_string();
        match self.link.tell(&[b"SET", key(request).as_bytes(), &value, b"PX", ttl_ms.as_bytes()]) {
            true => counters.writes.add(1),
            false => counters.writes_dropped.add(1),
        }
    }

    fn failed(&self) {
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        if let Some(more) = failures.checked_sub(FAILURES) {
            let rest_ms = REST_MS.saturating_mul(1 << more.min(10)).min(REST_MAX_MS);
            self.rests_until_ms.set(now_ms().saturating_add(rest_ms));
        }
    }

    fn learn(&self, purges: &PurgeFields, latest: &[u64]) {
        let mut known = self.known.borrow_mut();
        for (field, latest) in purges.fields.iter().zip(latest).filter(|(_, latest)| **latest > 0) {
            if known.len() >= KNOWN_MAX {
                // Forgotten purges cost a miss each, nothing else.
                known.clear();
            }
            known.insert(field.clone(), *latest);
        }
    }

    /// Connects, and does what is asked for, for ever. `lost` is told why there is no connection, each time.
    pub async fn run(self: Rc<Self>, lost: impl Fn(String)) {
        let mut again_ms = AGAIN_MS;
        let context = match self.settings.tls.as_ref().map(TlsContext::new).transpose() {
            Ok(context) => context,
            Err(error) => return self.report(&lost, error.to_string()),
        };
        loop {
            let why = match self.connect(context.as_ref()).await {
                Ok(mut stream) => {
                    again_ms = AGAIN_MS;
                    self.link.serve(&mut stream).await.to_string()
                }
                Err(why) => why,
            };
            self.report(&lost, why);
            sleep_ms(again_ms).await;
            again_ms = (again_ms * 2).min(AGAIN_MAX_MS);
        }
    }

    fn report(&self, lost: &impl Fn(String), why: String) {
        self.counters.second.disconnects.add(1);
        lost(why);
    }

    async fn connect(&self, context: Option<&TlsContext>) -> Result<Duplex, String> {
        let told = |error: io::Error| format!("cannot connect: {error}");
        let options = DialOptions { timeout_ms: CONNECT_MS, fast_open: FastOpen::Off, stagger_ms: STAGGER_MS };
        let (socket, _) = dial_any(&self.settings.addresses, options).await.map_err(told)?;
        let mut stream: Duplex = match context {
            None => socket.into(),
            Some(context) => match tls::connect(socket, context, CONNECT_MS).await {
                Ok((stream, _)) => stream.into(),
                Err(fault) => return Err(format!("no secure connection: {fault}")),
            },
        };
        self.introduce(&mut stream).await?;
        Ok(stream)
    }

    /// Says who this is, and waits for what Redis thinks of it. Errors: what it says, or that it says nothing.
    async fn introduce(&self, stream: &mut Duplex) -> Result<(), String> {
        let Settings { user, password, database, .. } = &self.settings;
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
}

/// Where an answer stands. Nothing of the request can be read from it.
fn key(request: &Fingerprint) -> String {
    let digits: String = request.0.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("ringway:1:{digits}")
}

/// Where the numbers of the last purges stand.
const PURGES: &[u8] = b"ringway:1:purges";

impl PurgeFields {
    fn of(tags: Tags, request: &Fingerprint) -> PurgeFields {
        PurgeFields { fields: tags.fields(request) }
    }

    fn command(&self) -> [&[u8]; 7] {
        let [a, b, c, d, e] = self.fields.each_ref().map(|field| field.as_bytes());
        [b"HMGET", PURGES, a, b, c, d, e]
    }

    /// The numbers in the reply; 0 for what was never purged.
    fn read(&self, reply: &Reply, text: &[u8]) -> [u64; 5] {
        let mut latest = [0; 5];
        let number = |span: &Span| std::str::from_utf8(span.of(text)).ok().and_then(|digits| digits.parse().ok());
        if let Reply::Array(parts) = reply {
            for (latest, part) in latest.iter_mut().zip(parts) {
                if let Reply::Bulk(span) = part {
                    // What cannot be read may be a purge of a later version: nothing from before it serves.
                    *latest = number(span).unwrap_or(u64::MAX);
                }
            }
        }
        latest
    }
}
