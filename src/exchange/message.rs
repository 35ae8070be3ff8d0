//! What crosses cores. The owner of a fingerprint answers one `Ask` with one message; a follower on another core then hears
//! from the leader's core alone. Bodies cross as reference-counted immutable bytes.

use std::sync::Arc;

use bytes::Bytes;
use shards::quota::{self, Fetched, LimitId};
use shards::{CoreId, Fingerprint};

use super::answer::{AnswerHead, End};
use super::entry::{Acceptable, Entry};
use super::epochs::Epoch;
use super::kept::{Kept, Slice, TakenBack};
use super::moved::MovedConnection;
use super::purge_numbers::Numbered;
use super::tags::Tags;
use crate::config::snapshot::Limit;
use crate::net::channel::{Class, Payload};
use crate::observe::spans::Span;
use crate::upstream::message::UpstreamMessage;
use crate::upstream::node::NodeGeneration;
use crate::wire::cluster::Topology;

/// Everything that one core can say to another.
pub enum Message {
    /// Asker to owner: is there an answer, or a flight?
    Ask { fingerprint: Fingerprint, acceptable: Acceptable, from: CoreId },
    /// Asker to owner: flight `number` is silent; let me go on without it.
    TakeOver { fingerprint: Fingerprint, number: u64, acceptable: Acceptable, from: CoreId },
    /// Owner to asker: here is the answer; see `owner::ask_own`.
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
    /// Data core to background core: Redis says that a key is elsewhere.
    SecondLevelMoved { from: CoreId },
    /// Data core to background core: Redis has lost these purges, scopes and the numbers that it gave.
    SecondLevelLostPurges { from: CoreId, lost: Numbered },
    /// Background core to data cores: these are the servers of Redis now.
    SecondLevel(Arc<Topology>),
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
    /// Home core of a limit to background core, for the store of all nodes.
    QuotaFetch { limit: LimitId, fetch: quota::Fetch, from: CoreId },
    /// What it says, if anything.
    QuotaFetched { limit: LimitId, fetch: quota::Fetch, answer: Option<Fetched> },
    /// Background core to data cores: whether that store is there, and how many nodes share it.
    QuotaStore(quota::Store),
    /// Home core of limits to background core: what counts against them, to be kept over a restart.
    QuotaKept { counted: Vec<quota::Counted> },
    /// Background core to data cores: what do you know of these limits?
    QuotaState { number: u64, limits: Arc<[Limit]> },
    /// The answer, in their order.
    QuotaStates { from: CoreId, number: u64, states: Vec<quota::LimitState> },
    /// Background core to data cores: another process keeps the ledgers of limits from now on.
    QuotaGive,
    /// The answer, once in the life of a process.
    QuotaHanded { ledgers: Box<quota::InParts<quota::Ledger>> },
    /// Home core of a limit to background core, for core `core` of the process before.
    QuotaGrantBefore { core: u16, limit: LimitId, grant: quota::Grant },
    /// Data core to I/O core: lines of the access log, and how many were dropped before these.
    Log { from: CoreId, lines: Vec<u8>, dropped: u64 },
    /// Data core to background core: spans to be sent.
    Spans(Vec<Span>),
    /// I/O core to data core: the buffer of a `Log`, and how many of its lines could not be written.
    LogBuffer { lines: Vec<u8>, lost: u64 },
    /// Background core to I/O core: the access log was moved away; open it by its name again.
    Reopen,
    /// To the owner of embeddings: which of these are there? By their places in a request.
    AskParts { number: u64, wanted: Vec<(u32, Fingerprint)>, tags: Tags, from: CoreId },
    /// The answer.
    Parts { number: u64, found: Vec<(u32, Arc<Entry>)> },
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
    /// To a core that has less to do: serve this connection. From one that drains: I do not.
    Connection(Box<MovedConnection>),
    /// The answer: it counts as this core's.
    ConnectionTaken,
    /// Background core to data cores: something was purged; drop it.
    Purged,
    /// Background core to data cores: a drain is about to begin; say so to who asks whether this node is ready.
    Unready,
    /// Background core to data cores: accept nothing more, finish what runs.
    Drain,
    /// Background core to data core: as `Drain`, but another process accepts from now on, on the addresses of these places.
    /// Idle connections of HTTP/1.1 stay for `grace_ms`.
    HandOver { kept: Arc<[bool]>, grace_ms: u64 },
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
            Message::SecondLevelMoved { .. } | Message::SecondLevelLostPurges { .. } => Class::Control,
            Message::SecondLevel(_) => Class::Control,
            Message::Generation(_) | Message::InForce { .. } => Class::Control,
            Message::QuotaAsk { .. } | Message::QuotaGrant { .. } | Message::QuotaSettle { .. } => Class::Control,
            Message::QuotaFetch { .. } | Message::QuotaFetched { .. } | Message::QuotaStore(_) => Class::Control,
            Message::QuotaKept { .. } | Message::HandOver { .. } => Class::Control,
            Message::QuotaState { .. } | Message::QuotaStates { .. } => Class::Control,
            Message::QuotaGive | Message::QuotaHanded { .. } | Message::QuotaGrantBefore { .. } => Class::Control,
            Message::Unready | Message::Drain | Message::Halt => Class::Control,
            Message::Stop | Message::Drained { .. } => Class::Control,
            Message::Reopen | Message::Purged => Class::Control,
            Message::Connection(_) | Message::ConnectionTaken => Class::Control,
            Message::Snapshot { .. } | Message::SnapshotAsk { .. } | Message::SnapshotEnded { .. } => Class::Control,
            Message::TakenBack { .. } | Message::SavePurges { .. } | Message::PurgesSaved { .. } => Class::Control,
            Message::SnapshotSlice { .. } | Message::TakeBack { .. } => Class::Request,
            Message::AskParts { .. } | Message::Parts { .. } => Class::Request,
            Message::Log { .. } | Message::LogBuffer { .. } | Message::Spans(_) => Class::Log,
        }
    }

    fn bytes(&self) -> u64 {
        let entry = |entry: &Option<Arc<Entry>>| entry.as_ref().map_or(0, |entry| entry.size_bytes());
        match self {
            Message::Found { entry, .. } | Message::Keep { entry, .. } => entry.size_bytes(),
            Message::Lead { stale, .. } | Message::Alone { stale, .. } => entry(stale),
            Message::Settle { kept, .. } => entry(kept),
            Message::Feed { bytes, .. } => bytes.len() as u64,
            Message::Connection(moved) => moved.transport.bytes(),
            Message::Log { lines, .. } | Message::LogBuffer { lines, .. } => lines.capacity() as u64,
            Message::QuotaKept { counted } => size_of_val(&counted[..]) as u64,
            Message::QuotaState { limits, .. } => size_of_val(&limits[..]) as u64,
            Message::QuotaStates { states, .. } => size_of_val(&states[..]) as u64,
            Message::SnapshotSlice { slice, .. } => slice.kept.iter().map(|kept| kept.entry.size_bytes()).sum(),
            Message::AskParts { wanted, .. } => size_of_val(&wanted[..]) as u64,
            Message::Parts { found, .. } => found.iter().map(|(_, entry)| entry.size_bytes()).sum(),
            Message::TakeBack { kept } => kept.iter().map(|kept| kept.entry.size_bytes()).sum(),
            Message::SavePurges { table, .. } => table.len() as u64,
            Message::Spans(spans) => spans.iter().map(Span::size_bytes).sum(),
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
