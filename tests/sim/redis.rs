//! The Redis of a story: what nodes share of their answers, with every way to be slow, wrong or gone. Nothing that a client gets
//! may depend on it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use ringway::exchange::second::Settings;
use ringway::net::sim::{Place, between, spawn_at};
use ringway::net::{Dial, Listener, Socket, now_ms, now_us, sleep_ms};
use ringway::wire::cluster::{Master, Topology};
use ringway::wire::resp::{Reply, reply};

use crate::scenario::pick;

const ADDRESS: ([u8; 4], u16) = ([10, 0, 9, 1], 6379);
/// Longest look-ups: what is usual, and what is enough in a slow network.
const TIMEOUTS_MS: [u64; 2] = [5, 200];
const COMMAND_BYTES: usize = 16 << 20;

/// How it behaves from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Each reply takes up to so long.
    Slow(u64),
    /// Nothing is answered until that changes.
    Hangs,
    /// It says what is no reply.
    Babbles,
    /// Values are damaged, or another key's.
    Mistaken,
    /// Errors.
    Refuses,
    /// Connections end.
    Leaves,
}

pub const MOODS: [Mood; 12] = [
    Mood::Well,
    Mood::Well,
    Mood::Well,
    Mood::Well,
    Mood::Well,
    Mood::Slow(4),
    Mood::Slow(40),
    Mood::Hangs,
    Mood::Babbles,
    Mood::Mistaken,
    Mood::Refuses,
    Mood::Leaves,
];

#[derive(Clone, Default)]
pub struct Redis(Rc<Inner>);

#[derive(Default)]
struct Inner {
    mood: Cell<Option<Mood>>,
    /// By key, with the time until which it stays.
    values: RefCell<BTreeMap<Vec<u8>, (Vec<u8>, u64)>>,
    /// The number of the last purge, by its name.
    purges: RefCell<BTreeMap<Vec<u8>, u64>>,
    /// The last number that it gave.
    latest: Cell<u64>,
}

pub fn address() -> Dial {
    Dial::Tcp(SocketAddr::from(ADDRESS))
}

/// How cores speak to it.
pub fn settings() -> Settings {
    let addresses: Arc<[SocketAddr]> = [SocketAddr::from(ADDRESS)].into();
    let master = Master { host: "redis".to_owned(), port: ADDRESS.1, addresses };
    Settings {
        topology: Arc::new(Topology::single(master)),
        is_alone: true,
        tls: None,
        user: None,
        password: None,
        database: 0,
        timeout_ms: pick(&TIMEOUTS_MS),
    }
}

impl Redis {
    /// Starts it.
    pub fn start() -> Redis {
        let redis = Redis::default();
        let (own, listener) = (redis.clone(), Listener::bind(&address()));
        spawn_at(Place::Outside, async move {
            while let Ok(socket) = listener.accept().await {
                spawn_at(Place::Outside, own.clone().serve(socket));
            }
        });
        redis
    }

    pub fn mood(&self) -> Mood {
        self.0.mood.get().unwrap_or(Mood::Well)
    }

    pub fn set_mood(&self, mood: Mood) {
        self.0.mood.set(Some(mood));
    }

    /// Loses everything, as by FLUSHALL or a restart.
    pub fn flush(&self) {
        self.0.values.borrow_mut().clear();
        self.0.purges.borrow_mut().clear();
    }

    /// The scope of this name was purged, and it is told. The purge's number.
    pub fn purged(&self, name: &str) -> u64 {
        // By its clock, so that numbers grow also where it has lost the last ones.
        let latest = (self.0.latest.get() + 1).max(now_us());
        self.0.latest.set(latest);
        self.0.purges.borrow_mut().insert(name.as_bytes().to_vec(), latest);
        latest
    }

    /// It is told again of a purge that it has lost.
    pub fn purged_again(&self, name: &str, number: u64) {
        let mut purges = self.0.purges.borrow_mut();
        let latest = purges.entry(name.as_bytes().to_vec()).or_default();
        *latest = number.max(*latest);
    }

    async fn serve(self, mut socket: Socket) {
        let mut input = Vec::new();
        loop {
            let parts = loop {
                match reply(&input, COMMAND_BYTES).expect("commands are well formed") {
                    Some((Reply::Array(parts), length)) => {
                        let text = |part: &Reply| match part {
                            Reply::Bulk(span) => span.of(&input).to_vec(),
                            other => panic!("a command of {other:?}"),
                        };
                        let parts: Vec<Vec<u8>> = parts.iter().map(text).collect();
                        input.drain(..length);
                        break parts;
                    }
                    Some((other, _)) => panic!("{other:?} is no command"),
                    None => {
                        input.reserve(64 << 10);
                        let (read, buffer) = socket.read(input).await;
                        input = buffer;
                        if !matches!(read, Ok(read) if read > 0) {
                            return;
                        }
                    }
                }
            };
            match self.mood() {
                Mood::Slow(ms) => sleep_ms(between(0, ms)).await,
                Mood::Leaves => return,
                Mood::Hangs => {
                    while self.mood() == Mood::Hangs {
                        sleep_ms(20).await;
                    }
                }
                _ => {}
            }
            let said = match self.mood() {
                Mood::Babbles => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
                Mood::Refuses => b"-LOADING Redis is loading the dataset in memory\r\n".to_vec(),
                _ => self.obey(&parts),
            };
            if socket.write(said).await.0.is_err() {
                return;
            }
        }
    }

    fn obey(&self, parts: &[Vec<u8>]) -> Vec<u8> {
        let bulk = |value: Option<&[u8]>| match value {
            Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
            None => b"$-1\r\n".to_vec(),
        };
        let words: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        match words[..] {
            [b"PING"] => b"+PONG\r\n".to_vec(),
            [b"GET", key] => bulk(self.value(key).as_deref()),
            [b"SET", key, value, b"PX", ttl] => {
                let ttl_ms: u64 = std::str::from_utf8(ttl).expect("digits").parse().expect("milliseconds");
                self.0.values.borrow_mut().insert(key.to_vec(), (value.to_vec(), now_ms() + ttl_ms));
                b"+OK\r\n".to_vec()
            }
            [b"HMGET", _, ref fields @ ..] => {
                let purges = self.0.purges.borrow();
                let numbers = fields.iter().map(|field| purges.get(*field).map(u64::to_string));
                let said = numbers.map(|number| bulk(number.as_ref().map(String::as_bytes)));
                [format!("*{}\r\n", fields.len()).into_bytes(), said.collect::<Vec<_>>().concat()].concat()
            }
            _ => panic!("a core says {parts:?}"),
        }
    }

    fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        let values = self.0.values.borrow();
        let now_ms = now_ms();
        let is_there = |kept: &&(Vec<u8>, u64)| kept.1 > now_ms;
        let own = values.get(key).filter(is_there).map(|(value, _)| value.clone());
        if self.mood() != Mood::Mistaken {
            return own;
        }
        match between(0, 2) {
            0 => values.values().filter(is_there).map(|(value, _)| value.clone()).next_back(),
            1 => own.map(|value| value[..between(0, value.len() as u64) as usize].to_vec()),
            _ => own.map(|mut value| {
                let at = between(0, value.len() as u64 - 1) as usize;
                value[at] ^= 1 << between(0, 7);
                value
            }),
        }
    }
}
