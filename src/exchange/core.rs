//! What one data core owns, in parts. Every task of the core holds it by `Rc`; nothing in it is shared with another core but
//! the configuration, which does not change, answers, which are immutable, and the atomic counts of the board.

use std::cell::{Cell, OnceCell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use shards::{Cache, CoreId, Fingerprint, Shard};

use super::balance::Balance;
use super::board::Board;
use super::buffers::{BUFFERS_A_NODE, Buffers, Spare};
use super::entry::Entry;
use super::epochs::{Epoch, Epochs};
use super::flight::Flight;
use super::flight::free_list::FreeList;
use super::memory::RequestMemory;
use super::message::Message;
use super::parts::Questions;
use super::purges::Purges;
use super::quota::Quota;
use super::scratch::{Fresh, Scratch};
use super::second::SecondLevel;
use crate::config::snapshot::Snapshot;
use crate::net::channel::Outbox;
use crate::net::{Panics, TaskPool};
use crate::observe::counters::{Counters, MemoryGauges};
use crate::observe::log::LogBuffer;
use crate::observe::series::{SeriesIndex, TemplateKey, UsageKey};
use crate::observe::spans::{Span, SpanBuffer};
use crate::upstream::message::Recipient;
use crate::upstream::upstreams::CoreHandle;
use crate::wire::http1::encode::DATE_BYTES;
use crate::wire::http1::{KnownHeads, RequestHead, ResponseHead, encode};

/// Flights of one owner core at a time; beyond, requests go upstream unjoined.
const FLIGHTS_MAX: usize = 64 << 10;
/// Share of a core's cache budget for copies of other cores' hot entries: 1 / this.
const NEAR_SHARE: u64 = 16;
/// A flight that is not settled for so long has lost its leader: a whole answer's longest time-out stays below.
const FLIGHT_LIMIT_MS: u64 = 3_600_000;

pub struct Core {
    /// Which core it is, its numbers, and how backends post messages.
    pub handle: Rc<CoreHandle>,
    pub outbox: Rc<Outbox<Message>>,
    pub cache: CoreCache,
    pub flights: Flights,
    pub memory: Memory,
    /// Memory of the tasks that read backends.
    pub tasks: TaskPool,
    /// What tenants may spend.
    pub quota: Quota,
    /// Where each series of requests counts.
    pub series: RefCell<SeriesIndex>,
    pub usage: RefCell<SeriesIndex<UsageKey>>,
    pub template_series: RefCell<SeriesIndex<TemplateKey>>,
    pub log: RefCell<LogBuffer>,
    /// Spans of recorded traces.
    spans: RefCell<SpanBuffer>,
    /// Which of its connections go to other cores.
    pub balance: Balance,
    /// The drain's deadline has passed.
    pub halting: Cell<bool>,
}

/// One core's part of the cache.
pub struct CoreCache {
    /// What this core owns of the answers and of the flights.
    pub shard: RefCell<Shard<Arc<Entry>>>,
    /// Copies of hot entries that other cores own.
    pub near: RefCell<Cache<NearCopy>>,
    /// Since when copies are out of date.
    pub epochs: Arc<Epochs>,
    /// What may not be served any more.
    pub purges: Arc<Purges>,
    /// The second level, if there is one.
    pub second: OnceCell<Rc<SecondLevel>>,
    /// Embeddings that other cores were asked for.
    pub asked: Questions,
    /// How far the walk through shard and near copies has come that drops what was purged; none if there is none.
    pub weeding: Cell<Option<(u32, u32)>>,
}

/// The flights that exchanges of one core take part in.
#[derive(Default)]
pub struct Flights {
    pub joinable: RefCell<HashMap<Fingerprint, Rc<Flight>>>,
    /// How many began without their owner's knowledge.
    pub local: Cell<u64>,
    /// Those that nobody is in, for the next.
    pub free: FreeList,
    /// Those that feed other cores, by number; one that can no longer be joined stands here alone.
    pub feeding: RefCell<HashMap<(Fingerprint, u64), Rc<Flight>>>,
    /// Those whose calls go on though nobody reads them.
    pub draining: RefCell<Vec<Rc<Flight>>>,
    /// Copies of other cores' flights whose place in the map a newer flight has taken, and that are still fed.
    pub displaced: RefCell<Vec<Rc<Flight>>>,
}

/// Memory that requests use in turn.
pub struct Memory {
    pub scratch: RefCell<Scratch>,
    /// Bytes of large events that have not come whole.
    pub event_bytes: Rc<Cell<u64>>,
    /// What was last written to a flight's log.
    pub fresh: RefCell<Fresh>,
    pub buffers: Buffers,
    pub requests: Rc<RequestMemory>,
    /// Heads for reuse: their lists of fields have grown.
    pub request_heads: Spare<RequestHead>,
    pub response_heads: Spare<ResponseHead>,
    /// Heads of clients, and of backends, that came lately.
    pub known_requests: RefCell<KnownHeads<RequestHead>>,
    pub known_responses: RefCell<KnownHeads<ResponseHead>>,
    /// The second, and how HTTP writes it.
    date: RefCell<(u64, [u8; DATE_BYTES])>,
}

/// A copy of an entry that another core owns.
pub struct NearCopy {
    pub entry: Arc<Entry>,
    /// Of its owner, when that one gave it.
    pub epoch: Epoch,
}

impl Deref for Core {
    type Target = CoreHandle;

    fn deref(&self) -> &CoreHandle {
        &self.handle
    }
}

impl CoreCache {
    fn new(count: u16, snapshot: &Snapshot, board: &Board) -> CoreCache {
        // Also where the cache is off: a reload may switch it on.
        let budget = snapshot.cache.memory_bytes / u64::from(count.max(1));
        let near = if count > 1 { budget / NEAR_SHARE } else { 0 };
        CoreCache {
            shard: RefCell::new(Shard::new(budget - near, FLIGHTS_MAX, snapshot.cache.stale_if_error_ms)),
            near: RefCell::new(Cache::new(near)),
            epochs: board.epochs.clone(),
            purges: board.purges.clone(),
            second: OnceCell::new(),
            asked: Questions::default(),
            weeding: Cell::new(None),
        }
    }

    /// Sets the gauges.
    pub fn publish(&self, counters: &Counters) {
        let (shard, near) = (self.shard.borrow(), self.near.borrow());
        counters.cache_bytes.set(shard.cache().used_bytes() + near.used_bytes());
        counters.cache_entries.set(shard.cache().len() as u64);
    }
}

impl Memory {
    fn new(id: CoreId, count: u16, snapshot: &Snapshot, board: &Arc<Board>) -> Memory {
        Memory {
            scratch: RefCell::default(),
            event_bytes: Rc::default(),
            fresh: RefCell::default(),
            buffers: Buffers::new(BUFFERS_A_NODE / count.max(1) as usize),
            requests: RequestMemory::new(board.clone(), id, snapshot.server.request_memory_bytes),
            request_heads: Spare::default(),
            response_heads: Spare::default(),
            known_requests: RefCell::default(),
            known_responses: RefCell::default(),
            date: RefCell::new((u64::MAX, [b' '; DATE_BYTES])),
        }
    }

    /// Sets the gauges.
    pub fn publish(&self, gauges: &MemoryGauges) {
        gauges.requests.set(self.requests.used_bytes());
        gauges.events.set(self.event_bytes.get());
        gauges.buffers.set(self.buffers.free_bytes());
    }

    /// Appends a `date` field; formatted once a second.
    pub fn write_date(&self, out: &mut Vec<u8>) {
        let now = crate::net::unix_ms() / 1000;
        let mut date = self.date.borrow_mut();
        if date.0 != now {
            *date = (now, encode::date(now));
        }
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(&date.1);
        out.extend_from_slice(b"\r\n");
    }
}

/// Where the background core's channel stands: behind that of the I/O core.
fn background(data_cores: u16) -> usize {
    usize::from(data_cores) + 1
}

impl Core {
    pub fn new(id: CoreId, count: u16, snapshot: &Snapshot, board: &Arc<Board>, outbox: Outbox<Message>) -> Core {
        let panics = Panics::default();
        let counters = board.counters(id).clone();
        let outbox = Rc::new(outbox);
        let post = {
            let (outbox, counters) = (outbox.clone(), counters.clone());
            move |to, message| {
                let to = match to {
                    Recipient::Data(core) => usize::from(core.0),
                    Recipient::Background => background(count),
                };
                if outbox.post(to, Message::Upstream(message)).is_err() {
                    counters.messages_dropped.add(1);
                }
            }
        };
        Core {
            outbox,
            cache: CoreCache::new(count, snapshot, board),
            flights: Flights::default(),
            memory: Memory::new(id, count, snapshot, board),
            tasks: TaskPool::new(panics.clone()),
            quota: Quota::default(),
            series: RefCell::default(),
            usage: RefCell::default(),
            template_series: RefCell::default(),
            log: RefCell::new(LogBuffer::new(&snapshot.log.access)),
            spans: RefCell::default(),
            balance: Balance::new(id, board.clone()),
            halting: Cell::new(false),
            handle: Rc::new(CoreHandle {
                id,
                count,
                counters,
                panics,
                warming: Cell::new(false),
                draining: Cell::new(false),
                leaving: Cell::new(false),
                post: Box::new(post),
            }),
        }
    }

    /// The core that owns `fingerprint`.
    pub fn owner(&self, fingerprint: &Fingerprint) -> CoreId {
        shards::placement::owner(fingerprint, self.count)
    }

    /// Sends a message to another data core. A message that a stalled core cannot take is dropped and counted: what waits
    /// for its answer has a time-out.
    pub fn post(&self, to: CoreId, message: Message) {
        if self.outbox.post(usize::from(to.0), message).is_err() {
            self.counters.messages_dropped.add(1);
        }
    }

    /// Sends a message to the background core.
    pub fn post_background(&self, message: Message) {
        if self.outbox.post(background(self.count), message).is_err() {
            self.counters.messages_dropped.add(1);
        }
    }

    /// Whether no further request is to be sent here: it drains, or is about to.
    pub fn is_leaving(&self) -> bool {
        self.is_draining() || self.handle.leaving.get()
    }

    /// Whether it takes no new connections.
    pub fn is_draining(&self) -> bool {
        self.handle.draining.get()
    }

    /// Sends a message to the I/O core, whose channel stands behind those of the data cores.
    pub fn post_io(&self, message: Message) {
        if self.outbox.post(usize::from(self.count), message).is_err() {
            self.counters.messages_dropped.add(1);
        }
    }

    /// Takes over what a new configuration says of its permanent parts.
    pub fn adopt(&self, snapshot: &Snapshot) {
        self.memory.requests.resize(snapshot.server.request_memory_bytes);
        self.cache.shard.borrow_mut().keep_stale_for(snapshot.cache.stale_if_error_ms);
    }

    /// Forgets the flights of leaders that were lost.
    pub fn sweep(&self) {
        self.cache.shard.borrow_mut().sweep(self.now(), FLIGHT_LIMIT_MS);
    }

    /// Sends the log's lines to the I/O core, whose channel stands behind those of the data cores.
    pub fn flush_log(&self) {
        let mut log = self.log.borrow_mut();
        let Some((lines, dropped)) = log.take() else { return };
        if let Err(Message::Log { lines, dropped, .. }) =
            self.outbox.post(usize::from(self.count), Message::Log { from: self.id, lines, dropped })
        {
            log.refused(lines, dropped);
        }
    }

    /// Takes a span that has ended.
    pub fn push_span(&self, span: Span) {
        if self.spans.borrow_mut().push(span) {
            self.flush_spans();
        }
    }

    /// Sends the spans to the background core.
    pub fn flush_spans(&self) {
        let spans = self.spans.borrow_mut().take();
        if spans.is_empty() {
            return;
        }
        if let Err(Message::Spans(spans)) = self.outbox.post(background(self.count), Message::Spans(spans)) {
            self.counters.spans_dropped.add(spans.len() as u64);
        }
    }

    /// Whether nothing is open or running: a drained core may stop.
    pub fn is_idle(&self) -> bool {
        self.counters.connections.get() == 0 && self.counters.flights.get() == 0
    }
}
