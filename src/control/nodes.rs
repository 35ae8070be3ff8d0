//! Purges over all nodes that share a Redis: one hash there has the number of each scope's last purge, and a channel tells of new
//! ones. A node that was away reads the hash when it comes back. Off the request path; connections of its own.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::redis::{Server, refused, within};
use crate::wire::Span;
use crate::wire::cluster::Topology;
use crate::wire::resp::{self, Reply};

/// How often a silent connection is asked whether it lives; silent for twice as long, it does not.
const PING: Duration = Duration::from_secs(5);
/// Between attempts to reach Redis.
const AGAIN: Duration = Duration::from_secs(1);
const PURGES: &[u8] = b"ringway:1:purges";

/// Gives a scope the next number, which is a time, so that numbers grow even when Redis has lost them; and above the last one that is
/// known here, in case another server's clock is behind.
const SCRIPT: &[u8] = b"local time = redis.call('TIME') \
    local number = time[1] * 1000000 + time[2] \
    local last = math.max(tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0'), tonumber(ARGV[3])) \
    if number <= last then number = last + 1 end \
    number = string.format('%.0f', number) \
    redis.call('HSET', KEYS[1], ARGV[1], number) \
    redis.call('PUBLISH', ARGV[2], ARGV[1] .. ' ' .. number) \
    return number";

/// Gives a scope this number again, which a server has lost.
const AGAIN_SCRIPT: &[u8] = b"local last = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') \
    if last < tonumber(ARGV[2]) then \
        redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) \
        redis.call('PUBLISH', ARGV[3], ARGV[1] .. ' ' .. ARGV[2]) \
    end \
    return 1";

/// Scopes in one write.
const AT_ONCE: usize = 256;

/// What Redis knows of purges.
pub struct ToldPurges {
    /// The last ones that are known of, by its own numbers.
    pub seen: Vec<(String, u64)>,
    /// Scopes that were purged here and of which it does not know yet.
    pub untold: Vec<String>,
}

type Note = dyn Fn(&str, u64);

/// What the rest of the node does about purges.
pub struct Hooks {
    /// Purges the scope with this name on this node.
    pub purge: Box<dyn Fn(&str)>,
    /// The last purge of the scope with this name has this number in Redis, which reads of it are to find there.
    pub note: Box<Note>,
    /// Redis may lack purges that are known of here.
    pub behind: Box<dyn Fn()>,
    /// Redis knows of every purge that was made here.
    pub caught_up: Box<dyn Fn()>,
}

/// The other nodes, by way of Redis. Owned by the background core.
pub struct Nodes {
    server: Server,
    hooks: Hooks,
    /// Scopes purged here of which Redis does not know yet.
    pending: RefCell<Vec<String>>,
    /// The last purges that are known of.
    seen: RefCell<HashMap<String, u64>>,
    telling: Mutex<()>,
    /// Redis may have lost purges: another server has them now, and was not told of the last ones in time; or it was found to lack some.
    is_unsure: Cell<bool>,
    unsure: Notify,
    /// Another server has the purges now, for who listens to the former one.
    left: Notify,
}

impl Nodes {
    pub fn new(server: Server, hooks: Hooks) -> Nodes {
        Nodes {
            server,
            hooks,
            pending: RefCell::default(),
            seen: RefCell::default(),
            telling: Mutex::new(()),
            is_unsure: Cell::new(false),
            unsure: Notify::new(),
            left: Notify::new(),
        }
    }

    /// Redis is to be told that `scope` was purged here.
    pub fn owe(&self, scope: String) {
        self.pending.borrow_mut().push(scope);
    }

    /// Tells Redis what was purged here, and with it the other nodes. Errors: why it could not be told yet; it is tried again.
    pub async fn tell(&self) -> Result<(), String> {
        self.catch_up().await
    }

    async fn catch_up(&self) -> Result<(), String> {
        let _one = self.telling.lock().await;
        let pending = self.pending.borrow().clone();
        if pending.is_empty() {
            return Ok(());
        }
        within(self.send(&pending)).await?;
        // What came meanwhile is told by whoever came with it.
        self.pending.borrow_mut().drain(..pending.len());
        self.caught_up();
        Ok(())
    }

    fn caught_up(&self) {
        if self.pending.borrow().is_empty() && !self.is_unsure.get() {
            (self.hooks.caught_up)();
        }
    }

    /// These servers are asked from now on. If another one has the purges then, nothing serves until it knows of all of them.
    pub fn moving(&self, to: &Topology) {
        let next = to.place_of(PURGES).and_then(|place| to.masters.get(place));
        if next == self.server.masters.of(PURGES).as_ref() {
            return;
        }
        self.is_unsure.set(true);
        (self.hooks.behind)();
        self.unsure.notify_one();
        self.left.notify_one();
    }

    /// Redis has lost these purges, whose scopes nobody reads until it is told of them again.
    pub fn lost(&self, lost: &[(String, u64)]) {
        // Some may have been read before they were heard.
        lost.iter().for_each(|(scope, number)| self.learn(scope, *number));
        self.is_unsure.set(true);
        self.unsure.notify_one();
    }

    /// Hears of the purges that Redis has, and tells it of those that it has lost.
    async fn compare(&self) -> Result<(), String> {
        let (reply, text) = self.server.ask(PURGES, &[b"HGETALL", PURGES]).await?;
        let Reply::Array(parts) = reply else { return Err(refused(&reply, &text)) };
        let mut lost: HashMap<_, _> = self.seen.borrow().clone();
        for pair in parts.chunks(2) {
            if let [Reply::Bulk(scope), Reply::Bulk(last)] = pair
                && let (Ok(scope), Some(number)) = (std::str::from_utf8(scope.of(&text)), number(last, &text))
            {
                if lost.get(scope).is_some_and(|lost| *lost <= number) {
                    lost.remove(scope);
                }
                self.learn(scope, number);
            }
        }
        if !lost.is_empty() {
            (self.hooks.behind)();
            self.is_unsure.set(true);
            self.tell_again(lost.into_iter().collect()).await?;
        }
        if self.is_unsure.replace(false) {
            self.caught_up();
        }
        Ok(())
    }

    async fn tell_again(&self, lost: Vec<(String, u64)>) -> Result<(), String> {
        let mut connection = self.server.connect(PURGES).await?;
        let channel = self.channel();
        for lost in lost.chunks(AT_ONCE) {
            let mut commands = Vec::new();
            for (scope, number) in lost {
                let number = number.to_string();
                let parts = [AGAIN_SCRIPT, b"1", PURGES, scope.as_bytes(), number.as_bytes(), channel.as_bytes()];
                resp::command(&[&[&b"EVAL"[..]], &parts[..]].concat(), &mut commands);
            }
            connection.send_raw(&commands).await?;
            for _ in lost {
                let (reply, text) = connection.next().await?;
                let Reply::Integer(_) = reply else { return Err(refused(&reply, &text)) };
            }
        }
        Ok(())
    }

    async fn send(&self, scopes: &[String]) -> Result<(), String> {
        let mut connection = self.server.connect(PURGES).await?;
        let channel = self.channel();
        for scope in scopes {
            let last = self.seen.borrow().get(scope).copied().unwrap_or(0).to_string();
            let parts: [&[u8]; 7] =
                [b"EVAL", SCRIPT, b"1", PURGES, scope.as_bytes(), channel.as_bytes(), last.as_bytes()];
            let (mut reply, mut text) = connection.ask(&parts).await?;
            if let Reply::Error(_) = reply {
                // Another server may have it.
                (reply, text) = self.server.ask(PURGES, &parts).await?;
            }
            let Reply::Bulk(span) = reply else { return Err(refused(&reply, &text)) };
            if let Some(number) = number(&span, &text) {
                self.note(scope, number);
            }
        }
        Ok(())
    }

    /// Whether purge `number` of `scope` is news.
    fn note(&self, scope: &str, number: u64) -> bool {
        let mut seen = self.seen.borrow_mut();
        let last = seen.entry(scope.to_owned()).or_default();
        let is_new = number > *last;
        *last = number.max(*last);
        (self.hooks.note)(scope, *last);
        is_new
    }

    /// For after a restart.
    pub fn told(&self) -> ToldPurges {
        let seen = self.seen.borrow().iter().map(|(scope, number)| (scope.clone(), *number)).collect();
        ToldPurges { seen, untold: self.pending.borrow().clone() }
    }

    /// These purges were heard of by an earlier process, whose answers come back without what they concern; and these it could not
    /// tell Redis of. Nothing of Redis serves before it knows of all of them.
    pub fn recall(&self, seen: &[(String, u64)], untold: &[String]) {
        seen.iter().for_each(|(scope, number)| _ = self.note(scope, *number));
        self.pending.borrow_mut().extend(untold.iter().cloned());
        if !(seen.is_empty() && untold.is_empty()) {
            self.is_unsure.set(true);
            (self.hooks.behind)();
        }
    }

    fn learn(&self, scope: &str, number: u64) {
        if self.note(scope, number) {
            (self.hooks.purge)(scope);
        }
    }

    fn channel(&self) -> String {
        format!("ringway:1:purged:{}", self.server.access.database)
    }

    /// Tells again what could not be told, for ever.
    pub async fn keep_telling(&self) {
        let mut said = false;
        loop {
            let _ = timeout(AGAIN, self.unsure.notified()).await;
            if self.is_unsure.get() {
                match within(self.compare()).await {
                    Ok(()) => said = false,
                    Err(_) if std::mem::replace(&mut said, true) => {}
                    Err(why) => warn!("redis: it may have lost purges, and nothing is read from it: {why}"),
                }
            }
            let _ = self.catch_up().await;
        }
    }

    /// Purges here what other nodes purge, for ever.
    pub async fn keep_listening(&self) {
        let mut said = false;
        self.server.masters.found().await;
        loop {
            let why = self.listen(&mut said).await;
            if !std::mem::replace(&mut said, true) {
                warn!("redis: purges of other nodes are not heard: {why}");
            }
            sleep(AGAIN).await;
        }
    }

    /// Listens until the connection ends; why it did.
    async fn listen(&self, said: &mut bool) -> String {
        // Whichever server it is now, that one is listened to.
        let _ = timeout(Duration::ZERO, self.left.notified()).await;
        let begun = within(async {
            let mut connection = self.server.connect(PURGES).await?;
            let channel = self.channel();
            let (reply, text) = connection.ask(&[b"SUBSCRIBE", channel.as_bytes()]).await?;
            let Reply::Array(_) = reply else { return Err(refused(&reply, &text)) };
            // Only now: what is purged from here on is heard.
            self.compare().await?;
            Ok(connection)
        });
        let mut connection = match begun.await {
            Ok(connection) => connection,
            Err(why) => return why,
        };
        if std::mem::replace(said, false) {
            info!("redis: purges of other nodes are heard again");
        }
        let mut is_asked = false;
        loop {
            let next = tokio::select! {
                next = timeout(PING, connection.next()) => next,
                () = self.left.notified() => return "another server has them now".to_owned(),
            };
            match next {
                Ok(Ok((reply, text))) => {
                    is_asked = false;
                    self.heard(&reply, &text);
                }
                Ok(Err(why)) => return why,
                Err(_) if is_asked => return "it does not answer".to_owned(),
                Err(_) => {
                    is_asked = true;
                    if let Err(why) = connection.send(&[b"PING"]).await {
                        return why;
                    }
                }
            }
        }
    }

    fn heard(&self, reply: &Reply, text: &[u8]) {
        let Reply::Array(parts) = reply else { return };
        let [Reply::Bulk(kind), _, Reply::Bulk(told)] = &parts[..] else { return };
        if kind.of(text) != b"message" {
            return;
        }
        let told = std::str::from_utf8(told.of(text)).unwrap_or_default();
        if let Some((scope, last)) = told.split_once(' ')
            && let Ok(number) = last.parse()
        {
            self.learn(scope, number);
        }
    }
}

fn number(span: &Span, text: &[u8]) -> Option<u64> {
    std::str::from_utf8(span.of(text)).ok()?.parse().ok()
}
