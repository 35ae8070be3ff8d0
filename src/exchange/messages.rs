//! What crosses cores, and what a core does with each message. The owner of a fingerprint answers one `Ask` with one
//! message; a follower on another core then hears from the leader's core alone.
//! Bodies cross as reference-counted immutable bytes.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use shards::quota::{self, LimitId};
use shards::{Asked, CoreId, Fingerprint, Inserted, Lookup, Millis, Outcome, Settled};

use super::core::{Core, NearCopy};
use super::epochs::Epoch;
use super::fingerprint::{of_form, of_question};
use super::flight::{AnswerHead, End, Flight, Source};
use super::generation::Current;
use super::purges::{Tags, weed};
use super::snapshot::{self, Kept, Slice, TakenBack};
use crate::dialect::Dialect;
use crate::dialect::facts::{Endpoint, Form, TokenUsage};
use crate::net::channel::{Class, Payload};
use crate::upstream::{self, message::UpstreamMessage, node::NodeGeneration};

/// A stored answer. Always of status 200 and complete.
#[derive(Debug)]
pub struct Entry {
    pub endpoint: Endpoint,
    /// What `body` is: JSON, or the events of a stream without the usage event and without `[DONE]`.
    pub form: Form,
    /// Parameters and all, as the backend said it.
    pub content_type: Cow<'static, [u8]>,
    pub body: Bytes,
    /// A stream's usage event, whole, for clients that ask for it.
    pub usage_event: Option<Bytes>,
    pub tokens: Option<TokenUsage>,
    /// When it was stored, on the monotonic clock all cores share; another node may have done so before that began.
    pub stored_ms: i64,
    pub ttl_ms: u64,
    /// To what it belongs, and how many purges there had been when its call began: see [`Purges`](super::purges::Purges).
    pub tags: Tags,
    pub born: u64,
}

impl Entry {
    /// Heap bytes, for the cache's budget.
    pub fn size_bytes(&self) -> u64 {
        (size_of::<Entry>() + self.body.len() + self.usage_event.as_ref().map_or(0, Bytes::len)) as u64
    }

    /// How long ago it was stored.
    pub fn age_ms(&self, now: Millis) -> u64 {
        u64::try_from((now.0 as i64).saturating_sub(self.stored_ms)).unwrap_or(0)
    }

    /// How long it may still serve.
    pub fn left_ms(&self, now: Millis) -> u64 {
        self.ttl_ms.saturating_sub(self.age_ms(now))
    }

    /// The same answer in the other form, if it can be said exactly, and with its usage.
    pub fn in_form(&self, form: Form) -> Option<Entry> {
        let (body, usage_event) = match (self.form, form) {
            (Form::NonStreaming, Form::NonStreaming) | (Form::Streaming, Form::Streaming) => {
                (self.body.clone(), self.usage_event.clone())
            }
            (Form::NonStreaming, Form::Streaming) => {
                let streamed = Dialect::OpenAi.streamed_of(self.endpoint, &self.body)?;
                (Bytes::from(streamed.events), streamed.usage_event.map(Bytes::from))
            }
            (Form::Streaming, Form::NonStreaming) => {
                // Where the backend did not tell its usage in a stream, asked for the whole answer it may.
                self.tokens?;
                let whole = Dialect::OpenAi.whole_of(self.endpoint, &self.body, self.usage_event.as_deref())?;
                (Bytes::from(whole), None)
            }
        };
        let content_type = match form {
            _ if form == self.form => self.content_type.clone(),
            Form::NonStreaming => Cow::Borrowed(&b"application/json"[..]),
            Form::Streaming => Cow::Borrowed(&b"text/event-stream"[..]),
        };
        Some(Entry { endpoint: self.endpoint, form, content_type, body, usage_event, ..*self })
    }
}

/// Which answers a request can use.
#[derive(Clone, Copy, Debug)]
pub struct Acceptable {
    pub form: Form,
    /// RFC 9111 5.2.1.1.
    pub max_age_ms: Option<u64>,
    pub tags: Tags,
}

impl Acceptable {
    pub fn is_young_enough(&self, entry: &Entry, now: Millis) -> bool {
        self.max_age_ms.is_none_or(|most_ms| entry.age_ms(now) <= most_ms)
    }
}

/// Everything that one core can say to another.
pub enum Message {
    /// Asker to owner: is there an answer, or a flight?
    Ask { fingerprint: Fingerprint, acceptable: Acceptable, from: CoreId },
    /// Asker to owner: flight `number` is silent; let me go on without it.
    TakeOver { fingerprint: Fingerprint, number: u64, acceptable: Acceptable, from: CoreId },
    /// Owner to asker: here is the answer; see [`ask_own`].
    Found { fingerprint: Fingerprint, entry: Arc<Entry>, epoch: Epoch },
    /// Owner to asker: fetch it, and settle this number. An answer that has expired, or that the asker cannot use, may serve if
    /// every backend fails.
    Lead { fingerprint: Fingerprint, number: u64, stale: Option<Arc<Entry>> },
    /// Owner to asker: fetch it for yourself. `stale` as in `Lead`.
    Alone { fingerprint: Fingerprint, stale: Option<Arc<Entry>> },
    /// Owner to the leader's core: let that core follow your flight.
    Join { fingerprint: Fingerprint, number: u64, follower: CoreId },
    /// Leader's core to follower's core: the flight goes on. `bytes` begin at offset `at` of its log; the first message
    /// to a follower, and it alone, is `First` and begins at 0.
    Feed {
        fingerprint: Fingerprint,
        number: u64,
        leader: CoreId,
        part: Part,
        /// Of the flight, see [`Entry`].
        born: u64,
        answer_head: Option<Arc<AnswerHead>>,
        at: u64,
        bytes: Bytes,
        end: Option<End>,
    },
    /// Leader's core to follower's core: no such flight here any more; ask again.
    Gone { fingerprint: Fingerprint, number: u64 },
    /// Follower's core to leader's core: nobody here follows any more.
    Leave { fingerprint: Fingerprint, number: u64, follower: CoreId },
    /// Leader's core to owner: the flight is over.
    Settle { fingerprint: Fingerprint, number: u64, kept: Option<Arc<Entry>> },
    /// To the owner: keep this, which was fetched outside of a flight.
    Keep { fingerprint: Fingerprint, entry: Arc<Entry> },
    /// Of a backend.
    Upstream(UpstreamMessage),
    /// Data core to background core: the connection to Redis ended, or there is none, and why.
    SecondLevelLost { from: CoreId, why: String },
    /// Background core to data cores: from now on this is in force. Answered, also where it is so already.
    Generation(Arc<NodeGeneration>),
    /// Data core to background core: generation `number` is in force here.
    InForce { from: CoreId, number: u64 },
    /// To the home core of a limit: this core needs some of it, or soon will.
    QuotaAsk { limit: LimitId, ask: quota::Ask, from: CoreId },
    /// The answer.
    QuotaGrant { limit: LimitId, grant: quota::Grant },
    /// To the home core of a limit: what was granted and not spent, and what was spent and not granted.
    QuotaSettle { limit: LimitId, period: quota::Period, returned: quota::Returned },
    /// Home core of limits to background core: what counts against them, to be kept over a restart.
    QuotaKept { counted: Vec<quota::Counted> },
    /// Data core to I/O core: lines of the access log, and how many were dropped before these.
    Log { from: CoreId, lines: Vec<u8>, dropped: u64 },
    /// I/O core to data core: the buffer of a `Log`, emptied.
    LogBuffer { lines: Vec<u8> },
    /// Background core to I/O core: the access log was moved away; open it by its name again.
    Reopen,
    /// Background core to I/O core: write a snapshot of the cache.
    Snapshot { number: u64 },
    /// I/O core to data core: hand over a slice of the cache, from slot `at` down or from the last one.
    SnapshotAsk { number: u64, at: Option<u32> },
    /// The answer.
    SnapshotSlice { from: CoreId, slice: Box<Slice> },
    /// I/O core to background core: every snapshot asked for up to this number was written, or was not; why.
    SnapshotEnded { number: u64, result: Result<(), String> },
    /// I/O core to data core: answers of an earlier process.
    TakeBack { kept: Vec<Kept> },
    /// The answer.
    TakenBack { from: CoreId, taken: Box<TakenBack> },
    /// Background core to I/O core: what was purged, for after a restart.
    SavePurges { number: u64, table: Arc<[u8]> },
    /// The answer: purges up to this number outlive the process, or why not.
    PurgesSaved { number: u64, result: Result<(), String> },
    /// Background core to data cores: something was purged; drop it.
    Purged,
    /// Background core to data cores: accept nothing more, finish what runs.
    Drain,
    /// Background core to data core: as `Drain`, but another process accepts from now on, on the addresses of these places.
    HandOver { kept: Arc<[bool]> },
    /// Background core to data cores: the drain's deadline has passed.
    Halt,
    /// To the I/O and background cores: every data core has stopped.
    Stop,
    /// Data core to background core: drained.
    Drained { from: CoreId },
}

impl Payload for Message {
    fn class(&self) -> Class {
        match self {
            Message::Ask { .. } | Message::TakeOver { .. } | Message::Found { .. } | Message::Lead { .. } => {
                Class::Request
            }
            Message::Alone { .. } | Message::Join { .. } | Message::Feed { .. } | Message::Gone { .. } => {
                Class::Request
            }
            Message::Leave { .. } | Message::Settle { .. } | Message::Keep { .. } => Class::Request,
            Message::Upstream(_) | Message::SecondLevelLost { .. } => Class::Control,
            Message::Generation(_) | Message::InForce { .. } => Class::Control,
            Message::QuotaAsk { .. } | Message::QuotaGrant { .. } | Message::QuotaSettle { .. } => Class::Control,
            Message::QuotaKept { .. } | Message::HandOver { .. } => Class::Control,
            Message::Drain | Message::Halt | Message::Stop | Message::Drained { .. } => Class::Control,
            Message::Reopen | Message::Purged => Class::Control,
            Message::Snapshot { .. } | Message::SnapshotAsk { .. } | Message::SnapshotEnded { .. } => Class::Control,
            Message::TakenBack { .. } | Message::SavePurges { .. } | Message::PurgesSaved { .. } => Class::Control,
            Message::SnapshotSlice { .. } | Message::TakeBack { .. } => Class::Request,
            Message::Log { .. } | Message::LogBuffer { .. } => Class::Log,
        }
    }

    fn bytes(&self) -> u64 {
        let entry = |entry: &Option<Arc<Entry>>| entry.as_ref().map_or(0, |entry| entry.size_bytes());
        match self {
            Message::Found { entry, .. } | Message::Keep { entry, .. } => entry.size_bytes(),
            Message::Lead { stale, .. } | Message::Alone { stale, .. } => entry(stale),
            Message::Settle { kept, .. } => entry(kept),
            Message::Feed { bytes, .. } => bytes.len() as u64,
            Message::Log { lines, .. } | Message::LogBuffer { lines } => lines.capacity() as u64,
            Message::QuotaKept { counted } => size_of_val(&counted[..]) as u64,
            Message::SnapshotSlice { slice, .. } => slice.kept.iter().map(|kept| kept.entry.size_bytes()).sum(),
            Message::TakeBack { kept } => kept.iter().map(|kept| kept.entry.size_bytes()).sum(),
            Message::SavePurges { table, .. } => table.len() as u64,
            Message::QuotaSettle { returned, .. } => size_of_val(&returned.unspent[..]) as u64,
            _ => 0,
        }
    }
}

/// Whether a `Feed` is what a follower joined with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    First,
    Next,
}

/// Asks this core's shard on behalf of core `asker`. `fingerprint` names the flight to join: the request's, or that of those
/// whom its answer does not serve. Where there is such an answer it is given, so that the asker joins that one.
pub fn ask_own(
    core: &Core,
    fingerprint: &Fingerprint,
    acceptable: Acceptable,
    asker: CoreId,
    silent: Option<u64>,
) -> Asked<Arc<Entry>> {
    let now = core.now();
    let request = of_question(fingerprint);
    let mut shard = core.shard.borrow_mut();
    if let Some(number) = silent {
        shard.give_up(fingerprint, number);
    }
    let least = core.purges.least(acceptable.tags, &request);
    if least > 0 {
        shard.enter(core.purges.latest(), fingerprint, least);
    }
    let is_current = |entry: &Arc<Entry>| entry.born >= least;
    let entry = loop {
        match shard.ask_for(&request, fingerprint, asker, now) {
            Asked::Hit { value, .. } if is_current(&value) => break value,
            Asked::Hit { .. } => _ = shard.remove(&request),
            Asked::Lead { number, stale } => return Asked::Lead { number, stale: stale.filter(is_current) },
            Asked::Alone { stale } => return Asked::Alone { stale: stale.filter(is_current) },
            other => return other,
        }
    };
    let age_ms = entry.age_ms(now);
    let (is_everyones, hit) = (*fingerprint == request, |value| Asked::Hit { value, age_ms });
    if !acceptable.is_young_enough(&entry, now) {
        return if is_everyones { hit(entry) } else { shard.ask_younger(&request, fingerprint, asker, now) };
    }
    if entry.form == acceptable.form {
        return hit(entry);
    }
    let formed = of_form(&request, acceptable.form);
    if let Lookup::Fresh { value, .. } = shard.peek(&formed, now)
        && value.stored_ms == entry.stored_ms
    {
        return hit(value.clone());
    }
    // Converted once and kept beside the first form until both expire.
    match entry.in_form(acceptable.form).map(Arc::new) {
        Some(converted) => {
            let left_ms = entry.left_ms(now);
            shard.put(formed, converted.clone(), converted.size_bytes(), now, left_ms);
            hit(converted)
        }
        None if *fingerprint != formed => hit(entry),
        None => shard.ask_other(fingerprint, asker, now),
    }
}

/// Ends flight `number` at its owner, this core or another.
pub fn settle(core: &Core, fingerprint: Fingerprint, number: u64, kept: Option<Arc<Entry>>) {
    let owner = core.owner(&fingerprint);
    let request = of_question(&fingerprint);
    let kept = kept.filter(|entry| core.purges.is_current(entry, &request));
    if owner != core.id {
        if kept.is_some() {
            drop_near_copies(core, &request);
        }
        return core.post(owner, Message::Settle { fingerprint, number, kept });
    }
    let outcome = match kept.filter(|entry| is_newest(core, &request, entry)) {
        Some(entry) => {
            Outcome::Store { size_bytes: entry.size_bytes(), ttl_ms: entry.left_ms(core.now()), value: entry }
        }
        None => Outcome::Drop,
    };
    let settled = core.shard.borrow_mut().settle_for(request, fingerprint, number, outcome, core.now());
    if let Settled::Stored { .. } = settled {
        drop_older(core, &request);
    }
}

/// Keeps an answer at its owner, this core or another.
pub fn keep(core: &Core, request: Fingerprint, entry: Arc<Entry>) {
    if !core.purges.is_current(&entry, &request) {
        return;
    }
    let owner = core.owner(&request);
    if owner != core.id {
        drop_near_copies(core, &request);
        return core.post(owner, Message::Keep { fingerprint: request, entry });
    }
    if !is_newest(core, &request, &entry) {
        return;
    }
    let (size_bytes, ttl_ms) = (entry.size_bytes(), entry.left_ms(core.now()));
    let inserted = core.shard.borrow_mut().put(request, entry, size_bytes, core.now(), ttl_ms);
    if let Inserted::Stored { .. } = inserted {
        drop_older(core, &request);
    }
}

/// An answer was stored in place of another: copies of that one elsewhere, and what it was converted to, are out of date.
fn drop_older(core: &Core, request: &Fingerprint) {
    core.epochs.advance(core.id, request);
    let mut shard = core.shard.borrow_mut();
    for form in [Form::NonStreaming, Form::Streaming] {
        shard.remove(&of_form(request, form));
    }
}

/// Whether nothing younger is kept: answers of several calls may reach their owner in another order than they came in.
fn is_newest(core: &Core, request: &Fingerprint, entry: &Entry) -> bool {
    match core.shard.borrow().peek(request, core.now()) {
        Lookup::Fresh { value, .. } | Lookup::Stale { value, .. } => value.stored_ms <= entry.stored_ms,
        Lookup::Absent => true,
    }
}

/// This core has something newer than its copies, which its owner gets to know only now.
fn drop_near_copies(core: &Core, request: &Fingerprint) {
    let mut near = core.near.borrow_mut();
    for form in [Form::NonStreaming, Form::Streaming] {
        near.remove(&of_form(request, form));
    }
}

fn answer(core: &Core, fingerprint: Fingerprint, acceptable: Acceptable, from: CoreId, silent: Option<u64>) {
    // Before it is read what is kept: a copy is not to seem newer than it is.
    let epoch = core.epochs.get(core.id, &fingerprint);
    match ask_own(core, &fingerprint, acceptable, from, silent) {
        Asked::Hit { value: entry, .. } => core.post(from, Message::Found { fingerprint, entry, epoch }),
        Asked::Lead { number, stale } => core.post(from, Message::Lead { fingerprint, number, stale }),
        Asked::Alone { stale } => core.post(from, Message::Alone { fingerprint, stale }),
        Asked::Follow { leader, number } if leader == core.id => join(core, fingerprint, number, from),
        Asked::Follow { leader, number } => core.post(leader, Message::Join { fingerprint, number, follower: from }),
    }
}

/// Lets core `follower` follow a flight of this core; `follower` may be this core itself, whose exchanges asked the
/// owner before the flight began here.
fn join(core: &Core, fingerprint: Fingerprint, number: u64, follower: CoreId) {
    let flight = core.flights.borrow().get(&fingerprint).cloned();
    match flight {
        Some(flight) if flight.is_open_as(number) => {
            flight.add_follower(core, follower);
            core.feeding.borrow_mut().insert((fingerprint, number), flight);
        }
        _ => core.post(follower, Message::Gone { fingerprint, number }),
    }
}

/// Does what one message says. `Drain`, `Halt` and the messages of other kinds of core are for the core's own loop.
pub fn deliver(current: &Current, message: Message) {
    let core = current.core();
    let find = |fingerprint: &Fingerprint| core.flights.borrow().get(fingerprint).cloned();
    let displaced = |fingerprint: &Fingerprint| {
        let flights = core.displaced.borrow();
        let found: Vec<_> = flights.iter().filter(|flight| flight.is_for(fingerprint)).cloned().collect();
        found.into_iter()
    };
    match message {
        Message::Ask { fingerprint, acceptable, from } => answer(core, fingerprint, acceptable, from, None),
        Message::TakeOver { fingerprint, number, acceptable, from } => {
            answer(core, fingerprint, acceptable, from, Some(number));
        }
        Message::Settle { fingerprint, number, kept } => settle(core, fingerprint, number, kept),
        Message::Keep { fingerprint, entry } => keep(core, fingerprint, entry),
        Message::Join { fingerprint, number, follower } => join(core, fingerprint, number, follower),
        Message::Found { fingerprint, entry, epoch } => {
            if !core.purges.is_current(&entry, &of_question(&fingerprint)) {
                // Purged on its way here. Who waits may have come since.
                return find(&fingerprint).into_iter().for_each(|flight| flight.gone(core));
            }
            let left_ms = entry.left_ms(core.now());
            let (size_bytes, copy) = (entry.size_bytes(), NearCopy { entry: entry.clone(), epoch });
            core.near.borrow_mut().insert(of_form(&fingerprint, entry.form), copy, size_bytes, core.now(), left_ms);
            if let Some(flight) = find(&fingerprint) {
                flight.found(core, entry);
            }
        }
        Message::Lead { fingerprint, number, mut stale } => {
            stale = stale.filter(|entry| core.purges.is_current(entry, &of_question(&fingerprint)));
            match find(&fingerprint) {
                Some(flight) if flight.offer(core, number, stale) => {}
                _ => settle(core, fingerprint, number, None),
            }
        }
        Message::Alone { fingerprint, stale } => {
            let stale = stale.filter(|entry| core.purges.is_current(entry, &of_question(&fingerprint)));
            if let Some(flight) = find(&fingerprint) {
                flight.alone(core, stale);
            }
        }
        Message::Feed { fingerprint, number, leader, part, born, answer_head, at, bytes, end } => {
            let source = Source { leader, number };
            if part == Part::First {
                // One copy joined with it. If its readers have left meanwhile, the leader's core is told.
                let waiting = find(&fingerprint).into_iter().chain(displaced(&fingerprint)).find(|f| f.is_asking());
                let least = |flight: &Flight| core.purges.least(flight.tags(), &of_question(&fingerprint));
                match waiting {
                    Some(flight) if born >= least(&flight) => {
                        flight.join_fed(core, source, born, answer_head, &bytes, end);
                    }
                    // Its answer was purged on its way here, and those who wait may have come since.
                    Some(flight) => {
                        flight.gone(core);
                        if end.is_none() {
                            core.post(leader, Message::Leave { fingerprint, number, follower: core.id });
                        }
                    }
                    None if end.is_some() => {}
                    None => core.post(leader, Message::Leave { fingerprint, number, follower: core.id }),
                }
            } else {
                for flight in displaced(&fingerprint).chain(find(&fingerprint)) {
                    flight.fed(core, source, answer_head.clone(), at, &bytes, end.clone());
                }
            }
        }
        // A copy that is fed already has joined before.
        Message::Gone { fingerprint, number } => {
            for flight in displaced(&fingerprint).chain(find(&fingerprint)) {
                flight.gone(core);
                flight.ended_elsewhere(core, number);
            }
        }
        Message::Leave { fingerprint, number, follower } => {
            let flight = core.feeding.borrow().get(&(fingerprint, number)).cloned();
            if let Some(flight) = flight
                && !flight.remove_follower(core, follower)
            {
                core.feeding.borrow_mut().remove(&(fingerprint, number));
            }
        }
        Message::Upstream(message) => upstream::deliver::deliver(&current.get().upstreams, message),
        Message::Generation(node) => {
            let number = node.number;
            // What cannot be secured was found before it was sent.
            if current.replace(node).is_ok() {
                core.post_background(Message::InForce { from: core.id, number });
            }
        }
        Message::Purged => weed(core),
        Message::SnapshotAsk { number, at } => snapshot::give(core, number, at),
        Message::TakeBack { kept } => snapshot::take_back(core, kept),
        Message::QuotaAsk { limit, ask, from } => super::quota::asked(core, limit, ask, from),
        Message::QuotaGrant { limit, grant } => core.quota.granted(limit, grant),
        Message::QuotaSettle { limit, period, returned } => super::quota::settled(core, limit, period, &returned),
        Message::QuotaKept { .. } => {}
        Message::LogBuffer { lines } => core.log.borrow_mut().put_back(lines),
        Message::Log { .. } | Message::Drain | Message::HandOver { .. } | Message::Halt | Message::Reopen => {}
        Message::Stop | Message::Drained { .. } => {}
        Message::SecondLevelLost { .. } => {}
        Message::InForce { .. } => {}
        Message::Snapshot { .. } | Message::SnapshotSlice { .. } | Message::SnapshotEnded { .. } => {}
        Message::TakenBack { .. } | Message::SavePurges { .. } | Message::PurgesSaved { .. } => {}
    }
}
