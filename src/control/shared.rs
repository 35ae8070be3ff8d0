//! Limits that several nodes share: Redis keeps, for each limit, how much each node was granted in all, as the node itself says
//! with every question. One script answers a question. The home cores ask by messages; the background core, which owns this, sends
//! what has come together in one write, and tells the cores when Redis is gone and when it is back.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use shards::CoreId;
use shards::quota::{Fetch, Fetched, LimitId, Now, Period, Store};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};

use super::redis::{Connection, Server, refused, within};
use crate::limits::SHARED_QUESTIONS;
use crate::net::{now_ms, random_u64, unix_ms};
use crate::wire::resp::{self, Reply};

/// How often a node says that it lives, and for how long it is believed.
const BEAT: Duration = Duration::from_secs(1);
/// Between attempts to reach Redis.
const AGAIN: Duration = Duration::from_secs(1);
/// So many reasons are logged while it fails, each once: one that cannot connect at first may be refused later.
const SAID: usize = 8;
/// Questions in one write.
const AT_ONCE: usize = 256;
/// How long a record is kept after the last word of its node: longer than it counts.
const MINUTE_KEPT_S: u64 = 180;
const DAY_S: u64 = 86_400;

/// Of one slot of a Redis cluster, so that a script may use them together.
const PREFIX: &str = "ringway:1:{limits}:";
const BORN: &str = "ringway:1:{limits}:born";
const NODES: &str = "ringway:1:{limits}:nodes";
/// Until when each record is kept. Records expire by this, not by a time to live: what has one may be evicted where memory is full
/// of answers, and a day's count must not be.
const KEPT: &str = "ringway:1:{limits}:kept";

/// A question: KEYS are the limit's record, when the store began, and `KEPT`; ARGV are the node, the number of its question, what counts of its
/// grants, the limit, what is needed and wanted, how many nodes there are, 1 if something is to be granted, 1 for a minute's limit, and
/// for how many seconds to keep the record. `Model` in the tests of `shards::quota` does the same.
///
/// A store that has begun within three seconds may have forgotten what others were granted: they say so again within one. Until
/// then a node gets its part at most. A minute's record counts for 64 seconds from the last word of its node.
const SCRIPT: &[u8] =
    b"local mine, limit, need, want, nodes = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), \
        tonumber(ARGV[6]), tonumber(ARGV[7]) \
    local time = redis.call('TIME') \
    local ms = time[1] * 1000 + math.floor(time[2] / 1000) \
    local born = tonumber(redis.call('GET', KEYS[2])) \
    if not born then born = ms redis.call('SET', KEYS[2], string.format('%.0f', ms)) end \
    local used, records = mine, redis.call('HGETALL', KEYS[1]) \
    for place = 1, #records, 2 do \
        local amount, at, last = string.match(records[place + 1], '^(%d+) (%d+) (%d+)$') \
        if records[place] == ARGV[1] then \
            if tonumber(last) > tonumber(ARGV[2]) then return {'0', '0'} end \
        elseif ARGV[9] == '1' and ms - at > 64000 then redis.call('HDEL', KEYS[1], records[place]) \
        else used = used + amount end \
    end \
    local free = math.max(limit - used, 0) \
    if ms - born < 3000 then free = math.min(free, math.max(math.floor(limit / nodes) - mine, 0)) end \
    local amount = 0 \
    if ARGV[8] == '1' and need <= free then \
        amount = math.max(math.floor(free / (16 * nodes)), math.min(want, math.floor(free / (2 * nodes))), need) \
    end \
    redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %.0f %s', mine + amount, ms, ARGV[2])) \
    redis.call('ZADD', KEYS[3], string.format('%.0f', ms + ARGV[10] * 1000), KEYS[1]) \
    return {string.format('%.0f', amount), string.format('%.0f', free - amount)}";

/// A node lives: how many do. One that says nothing for ten seconds does not. KEYS are `NODES` and `KEPT`; some records whose time is
/// over are dropped.
const BEAT_SCRIPT: &[u8] = b"local time = redis.call('TIME') \
    local ms = time[1] * 1000 + math.floor(time[2] / 1000) \
    redis.call('ZADD', KEYS[1], string.format('%.0f', ms), ARGV[1]) \
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', ms - 10000)) \
    for _, record in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', ms), 'LIMIT', 0, 256)) do \
        redis.call('DEL', record) \
        redis.call('ZREM', KEYS[2], record) \
    end \
    return redis.call('ZCARD', KEYS[1])";

/// What the rest of the node does about it.
pub struct Hooks {
    pub answer: Box<dyn Fn(Question, Option<Fetched>)>,
    pub store: Box<dyn Fn(Store)>,
}

/// A home core asks.
pub struct Question {
    pub limit: LimitId,
    pub fetch: Fetch,
    pub from: CoreId,
}

/// Owned by the background core.
pub struct SharedLimits {
    server: Server,
    hooks: Hooks,
    /// Names this process; one that is started again is another node.
    node: String,
    /// There are at least so many nodes.
    nodes_min: u16,
    nodes: Cell<u16>,
    serial: Cell<u64>,
    /// How long Redis may take for what is asked at a time.
    patience: Duration,
    is_up: Cell<bool>,
    asked: RefCell<Vec<Question>>,
    news: Notify,
}

impl SharedLimits {
    /// `timeout_ms` is how long a request waits for Redis.
    pub fn new(server: Server, hooks: Hooks, nodes_min: u16, timeout_ms: u64) -> SharedLimits {
        SharedLimits {
            server,
            hooks,
            node: format!("{:016x}", random_u64()),
            nodes_min,
            nodes: Cell::new(nodes_min),
            serial: Cell::new(0),
            patience: Duration::from_millis(timeout_ms.saturating_mul(10).clamp(200, 500)),
            is_up: Cell::new(false),
            asked: RefCell::default(),
            news: Notify::new(),
        }
    }

    /// Whether the last question was answered.
    pub fn is_up(&self) -> bool {
        self.is_up.get()
    }

    /// Asks at the next opportunity; while Redis is down the answer is that there is none.
    pub fn ask(&self, question: Question) {
        let mut asked = self.asked.borrow_mut();
        if self.is_up.get() && asked.len() < SHARED_QUESTIONS {
            asked.push(question);
            self.news.notify_one();
        } else {
            drop(asked);
            (self.hooks.answer)(question, None);
        }
    }

    /// Asks and answers, for ever.
    pub async fn run(&self) {
        let mut said = Vec::new();
        self.server.masters.found().await;
        loop {
            let why = self.session(&mut said).await;
            self.down();
            if said.len() < SAID && !said.contains(&why) {
                let nodes = self.nodes.get();
                warn!(
                    "redis: limits are not shared with other nodes: {why}; meanwhile this node grants 1/{nodes} of each"
                );
                said.push(why);
            }
            sleep(AGAIN).await;
        }
    }

    fn down(&self) {
        self.is_up.set(false);
        (self.hooks.store)(Store::Down { nodes: self.nodes.get() });
        for question in std::mem::take(&mut *self.asked.borrow_mut()) {
            (self.hooks.answer)(question, None);
        }
    }

    /// Until the connection fails; why it did. Clears what was said of earlier ones as soon as it does well.
    async fn session(&self, said: &mut Vec<String>) -> String {
        let mut connection = match within(self.server.connect(BORN.as_bytes())).await {
            Ok(connection) => connection,
            Err(why) => return why,
        };
        let mut beat_at = Instant::now();
        loop {
            let asked = {
                let mut asked = self.asked.borrow_mut();
                let count = asked.len().min(AT_ONCE);
                asked.drain(..count).collect::<Vec<_>>()
            };
            let is_beat = beat_at <= Instant::now();
            if is_beat {
                beat_at = Instant::now() + BEAT;
            }
            if let Err(why) = self.exchange(&mut connection, asked, is_beat).await {
                // Another server may have it by now.
                self.server.masters.doubt();
                return why;
            }
            if is_beat && !std::mem::take(said).is_empty() {
                info!("redis: limits are shared with other nodes again");
            }
            if self.asked.borrow().is_empty() {
                let _ = timeout_at(beat_at, self.news.notified()).await;
            }
        }
    }

    /// One write, and its replies. Every question is answered, whatever happens.
    async fn exchange(&self, connection: &mut Connection, asked: Vec<Question>, is_beat: bool) -> Result<(), String> {
        let mut commands = Vec::new();
        for question in &asked {
            self.write(question, &mut commands);
        }
        if is_beat {
            let keys = [NODES.as_bytes(), KEPT.as_bytes()];
            resp::command(&[b"EVAL", BEAT_SCRIPT, b"2", keys[0], keys[1], self.node.as_bytes()], &mut commands);
        }
        let mut left = asked.into_iter();
        let replies = async {
            connection.send_raw(&commands).await?;
            for _ in 0..left.len() {
                let (reply, text) = connection.next().await?;
                let answer = read(&reply, &text).ok_or_else(|| refused(&reply, &text))?;
                left.next().into_iter().for_each(|question| (self.hooks.answer)(question, Some(answer)));
            }
            if is_beat {
                let (reply, text) = connection.next().await?;
                let Reply::Integer(count) = reply else { return Err(refused(&reply, &text)) };
                self.up(u16::try_from(count).unwrap_or(u16::MAX));
            }
            Ok(())
        };
        let done = timeout(self.patience, replies).await.unwrap_or_else(|_| Err("it does not answer".to_owned()));
        if done.is_err() {
            // Before those that wait hear of it, so that they don't ask again.
            self.down();
        }
        left.for_each(|question| (self.hooks.answer)(question, None));
        done
    }

    fn up(&self, count: u16) {
        let nodes = count.max(self.nodes_min).max(1);
        if self.nodes.replace(nodes) != nodes || !self.is_up.replace(true) {
            self.is_up.set(true);
            (self.hooks.store)(Store::Up { nodes });
        }
    }

    fn write(&self, Question { limit, fetch, .. }: &Question, out: &mut Vec<u8>) {
        let serial = self.serial.get() + 1;
        self.serial.set(serial);
        let (key, kept_s) = match fetch.period {
            Period::Minute => (format!("{PREFIX}{:016x}", limit.0), MINUTE_KEPT_S),
            Period::Day | Period::Week | Period::Month => {
                let now = Now { mono: shards::Millis(now_ms()), unix_ms: unix_ms() };
                let left_s = fetch.period.whole_in_ms(now) / 1000;
                (format!("{PREFIX}{:016x}:{}", limit.0, fetch.slot), left_s + DAY_S)
            }
        };
        let is_minute = u64::from(fetch.period == Period::Minute);
        let numbers = [serial, fetch.mine, fetch.limit, fetch.need, fetch.want, u64::from(self.nodes.get())];
        let flags = [u64::from(fetch.is_ask), is_minute, kept_s];
        let numbers: Vec<String> = numbers.iter().chain(&flags).map(u64::to_string).collect();
        let mut parts: Vec<&[u8]> = vec![b"EVAL", SCRIPT, b"3"];
        parts.extend([&key, BORN, KEPT, &self.node].map(str::as_bytes));
        parts.extend(numbers.iter().map(String::as_bytes));
        resp::command(&parts, out);
    }
}

fn read(reply: &Reply, text: &[u8]) -> Option<Fetched> {
    let Reply::Array(parts) = reply else { return None };
    let number = |part: &Reply| match part {
        Reply::Bulk(span) => std::str::from_utf8(span.of(text)).ok()?.parse().ok(),
        _ => None,
    };
    match &parts[..] {
        [amount, free] => Some(Fetched { amount: number(amount)?, free: number(free)? }),
        _ => None,
    }
}
