//! The second level of the cache: answers in Redis, shared by nodes. Asked by the leader of a flight as its first step, so that
//! followers share the look-up; a slow or dead Redis is a miss. What is written is never waited for. Owned by one core.

mod link; // one connection: commands out, replies in
mod node; // one server, and whether it is worth asking
mod settings;

use data_encoding::HEXLOWER;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use shards::Fingerprint;

use self::link::Answer;
use self::node::Node;
pub use self::settings::Settings;
use super::entry::Entry;
use super::purge_numbers::Numbered;
use super::purges::Purges;
use super::tags::Tags;
use super::value::{self, Unusable};
use crate::net::{Panics, now_ms, spawn_lasting, within};
use crate::observe::counters::Counters;
use crate::wire::Span;
use crate::wire::cluster::{Kind, Redirection, Topology};
use crate::wire::resp::Reply;

/// While keys are on their way, each look-up may find that one has moved; and while purges are told again, that one is lost.
const DOUBT_MS: u64 = 100;

/// What the rest of the node does about it.
pub struct Hooks {
    /// There is no connection to a server, and why.
    pub lost: Box<dyn Fn(String)>,
    /// The topology is not right any more.
    pub moved: Box<dyn Fn()>,
    /// Redis has lost these purges: scopes, and the numbers that it gave.
    pub lost_purges: Box<dyn Fn(Numbered)>,
}

/// Who was asked for what, in the course of a look-up.
type Asked = RefCell<Vec<(Rc<Node>, Rc<Answer>)>>;

/// What a look-up brought.
pub enum Looked {
    Found(Entry),
    /// There is nothing that could serve.
    Nothing,
    /// There may be something.
    Unknown,
}

/// One core's part of the second level.
pub struct SecondLevel {
    settings: Settings,
    counters: Arc<Counters>,
    purges: Arc<Purges>,
    hooks: Hooks,
    topology: RefCell<Topology>,
    /// The servers of the topology, in its order.
    nodes: RefCell<Vec<Rc<Node>>>,
    /// When it was last said that the topology is not right, and that purges are lost.
    doubted_ms: Cell<u64>,
    missed_ms: Cell<u64>,
}

/// Names the purges that concern an answer.
struct PurgeFields {
    fields: [String; 5],
}

impl SecondLevel {
    /// It knows no server yet.
    pub fn new(settings: Settings, counters: Arc<Counters>, purges: Arc<Purges>, hooks: Hooks) -> SecondLevel {
        SecondLevel {
            settings,
            counters,
            purges,
            hooks,
            topology: RefCell::default(),
            nodes: RefCell::default(),
            doubted_ms: Cell::new(0),
            missed_ms: Cell::new(0),
        }
    }

    /// For a timer.
    pub fn tick(&self) {
        for node in self.nodes.borrow().iter() {
            node.link.tick();
            self.hear_refusal(node);
        }
    }

    /// From now on these are the servers. Those that stay keep their connections.
    pub fn set_topology(self: &Rc<Self>, topology: &Topology, panics: &Panics) {
        let mut former = self.nodes.take();
        let mut nodes = Vec::with_capacity(topology.masters.len());
        for master in &topology.masters {
            if let Some(place) = former.iter().position(|node| node.master == *master) {
                nodes.push(former.swap_remove(place));
                continue;
            }
            let node = Rc::new(Node::new(master.clone()));
            nodes.push(node.clone());
            let level = self.clone();
            spawn_lasting(panics, move || level.clone().keep_connected(node.clone()));
        }
        former.iter().for_each(|node| node.retire());
        self.nodes.replace(nodes);
        self.topology.replace(topology.clone());
    }

    async fn keep_connected(self: Rc<Self>, node: Rc<Node>) {
        let lost = |why| {
            self.counters.second.disconnects.add(1);
            (self.hooks.lost)(match self.settings.is_alone {
                true => why,
                false => format!("{}:{}: {why}", node.master.host, node.master.port),
            });
        };
        node.run(&self.settings, lost).await;
    }

    fn node_of(&self, key: &[u8]) -> Option<Rc<Node>> {
        let place = self.topology.borrow().place_of(key)?;
        self.nodes.borrow().get(place).cloned()
    }

    /// The answer to `request`, if there is one that may serve and it comes in time.
    pub async fn look_up(&self, request: &Fingerprint, tags: Tags, most_bytes: u64) -> Looked {
        self.try_look_up(request, tags, most_bytes).await.unwrap_or(Looked::Unknown)
    }

    /// None: it could not be asked.
    async fn try_look_up(&self, request: &Fingerprint, tags: Tags, most_bytes: u64) -> Option<Looked> {
        let counters = &self.counters.second;
        let (key, purges) = (key(request), PurgeFields::of(tags, request));
        let nodes = self.node_of(key.as_bytes()).zip(self.node_of(PURGES));
        let nodes = nodes.filter(|(one, other)| one.may_be_asked() && other.may_be_asked());
        // In this order: a purge that is counted here has been told by the time that the level is not behind.
        let born = self.purges.latest();
        let Some((of_value, of_purges)) = nodes.filter(|_| !self.purges.is_ahead()) else {
            counters.skipped.add(1);
            return None;
        };
        // Before Redis is asked: it had these.
        let known = self.purges.numbers.get(tags, request);
        let asked = RefCell::new(Vec::with_capacity(2));
        let (get, latest) = ([b"GET", key.as_bytes()], purges.command());
        let value = self.ask(&of_value, &get, &asked)?;
        // Behind it: what is purged between the two does not serve. On another server it is asked for at the same time: who asks
        // once a purge has returned sees its number all the same.
        let latest_answer = self.ask(&of_purges, &latest, &asked)?;
        let both = async {
            let value = self.reply(&of_value, &value, &get, &asked).await?;
            Some((value, self.reply(&of_purges, &latest_answer, &latest, &asked).await?))
        };
        let replies = within(both, self.settings.timeout_ms).await;
        let Some(((value, value_text), (latest, latest_text))) = replies.flatten() else {
            // Without a reply: late where it is still waited for, else its connection ended.
            let late: Vec<_> = asked.take().into_iter().filter(|(_, answer)| answer.is_pending()).collect();
            if late.is_empty() {
                counters.failed.add(1)
            } else {
                counters.late.add(1)
            }
            late.iter().for_each(|(node, _)| node.failed());
            return None;
        };
        let refusals = [
            (&of_value, &value_text, &value, matches!(value, Reply::Bulk(_) | Reply::Nothing)),
            (&of_purges, &latest_text, &latest, matches!(latest, Reply::Array(_))),
        ];
        let mut is_refused = false;
        for (node, text, reply, is_good) in refusals {
            is_refused |= !is_good;
            match reply {
                _ if is_good => node.succeeded(),
                // The server is well; the map was wrong, and is being mended.
                Reply::Error(span) if Redirection::of(span.of(text)).is_some() => {}
                _ => node.failed(),
            }
        }
        if is_refused {
            counters.failed.add(1);
            return None;
        }
        let latest = purges.read(&latest, &latest_text);
        let readable = latest.map(|number| if number == UNREADABLE { 0 } else { number });
        self.purges.numbers.note_all(tags, request, &readable);
        if latest.iter().zip(known).any(|(latest, known)| *latest < known) {
            counters.skipped.add(1);
            self.miss_purges(&purges, &known, &latest);
            return None;
        }
        let Reply::Bulk(span) = value else {
            counters.misses.add(1);
            return Some(Looked::Nothing);
        };
        match value::decode(request, span.of(&value_text), &latest, most_bytes, (tags, born)) {
            Ok(entry) => {
                counters.hits.add(1);
                Some(Looked::Found(entry))
            }
            Err(Unusable::Damaged) => {
                counters.damaged.add(1);
                None
            }
            Err(unusable) => {
                counters.misses.add(1);
                let is_for_good = !matches!(unusable, Unusable::FromTheFuture | Unusable::Ahead);
                is_for_good.then_some(Looked::Nothing)
            }
        }
    }

    fn ask(&self, node: &Rc<Node>, command: &[&[u8]], asked: &Asked) -> Option<Rc<Answer>> {
        let answer = node.link.ask(command)?;
        asked.borrow_mut().push((node.clone(), answer.clone()));
        Some(answer)
    }

    /// The reply to `command`, asked of another server if this one says so, once.
    async fn reply(
        &self,
        node: &Rc<Node>,
        answer: &Answer,
        command: &[&[u8]],
        asked: &Asked,
    ) -> Option<(Reply, Vec<u8>)> {
        let (reply, text) = answer.wait().await?;
        if let Reply::Error(span) = &reply
            && let Some((to, kind)) = self.redirected(node, span.of(&text))
            && to.may_be_asked()
            && (kind == Kind::Moved || to.link.tell(&[b"ASKING"]))
        {
            return self.ask(&to, command, asked)?.wait().await;
        }
        Some((reply, text))
    }

    /// Where `error` of `node` says that a key is. A slot that has moved is looked for there from now on. None where it says
    /// something else, or names a server that is not known yet.
    fn redirected(&self, node: &Node, error: &[u8]) -> Option<(Rc<Node>, Kind)> {
        let Redirection { kind, slot, host, port } = Redirection::of(error)?;
        let host = if host.is_empty() { &node.master.host } else { host };
        let mut topology = self.topology.borrow_mut();
        let place = topology.place_called(host, port);
        if kind == Kind::Moved || place.is_none() {
            self.doubt();
        }
        let place = place?;
        if kind == Kind::Moved {
            topology.correct(slot, place);
        }
        self.nodes.borrow().get(place).map(|node| (node.clone(), kind))
    }

    /// Says that the topology is not right, now and then.
    fn doubt(&self) {
        let now = now_ms();
        if now >= self.doubted_ms.get().saturating_add(DOUBT_MS) {
            self.doubted_ms.set(now);
            (self.hooks.moved)();
        }
    }

    /// What a write was answered.
    fn hear_refusal(&self, node: &Node) {
        let Some(error) = node.link.take_refusal() else { return };
        self.redirected(node, &error);
        if error.starts_with(b"READONLY") {
            // It is a replica now: what it has may be old.
            self.doubt();
            node.link.close();
        }
    }

    /// The numbers of the last purges that are known of, for a call that begins now.
    pub fn known_purges(&self, request: &Fingerprint, tags: Tags) -> [u64; 5] {
        self.purges.numbers.get(tags, request)
    }

    /// Writes an answer, in its own time or not at all.
    pub fn write(&self, request: &Fingerprint, entry: &Entry, purges: &[u64]) {
        let counters = &self.counters.second;
        let key = key(request);
        let Some(node) = self.node_of(key.as_bytes()).filter(|node| node.link.is_open()) else {
            return counters.writes_dropped.add(1);
        };
        self.hear_refusal(&node);
        let value = value::encode(request, entry, purges);
        let ttl_ms = entry.ttl_ms.to_string();
        match node.link.tell(&[b"SET", key.as_bytes(), &value, b"PX", ttl_ms.as_bytes()]) {
            true => counters.writes.add(1),
            false => counters.writes_dropped.add(1),
        }
    }

    /// Says which purges Redis has lost, now and then: of these scopes `known` was the last number, and `latest` is.
    fn miss_purges(&self, scopes: &PurgeFields, known: &[u64; 5], latest: &[u64; 5]) {
        let now = now_ms();
        if now < self.missed_ms.get().saturating_add(DOUBT_MS) {
            return;
        }
        self.missed_ms.set(now);
        let numbers = known.iter().zip(latest);
        let lost = scopes.fields.iter().zip(numbers).filter(|(_, (known, latest))| latest < known);
        (self.hooks.lost_purges)(lost.map(|(scope, (known, _))| (scope.clone(), *known)).collect());
    }
}

/// Where an answer stands. Nothing of the request can be read from it.
fn key(request: &Fingerprint) -> String {
    format!("ringway:1:{}", HEXLOWER.encode(&request.0))
}

/// In place of a number that cannot be read.
const UNREADABLE: u64 = u64::MAX;

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
                    *latest = number(span).unwrap_or(UNREADABLE);
                }
            }
        }
        latest
    }
}
