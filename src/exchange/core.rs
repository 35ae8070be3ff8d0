//! What one data core owns. Every task of the core holds it by `Rc`; nothing in it is shared with another core but the
//! configuration, which does not change, answers, which are immutable, and the atomic counts of the board.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use shards::{Cache, CoreId, Fingerprint, Millis, Shard};

use super::board::Board;
use super::call::Call;
use super::epochs::{Epoch, Epochs};
use super::flight::{Flight, FreeList};
use super::memory::RequestMemory;
use super::messages::{Entry, Message};
use super::purges::Purges;
use super::quota::Quota;
use super::second::SecondLevel;
use crate::config::snapshot::Snapshot;
use crate::dialect::Shapes;
use crate::limits::SCRATCH_BYTES;
use crate::net::channel::Outbox;
use crate::net::{Panics, TaskPool, give_memory_back, now_ms};
use crate::observe::counters::{Counter, Counters, Held};
use crate::observe::log::LogBuffer;
use crate::observe::series::{SeriesIndex, UsageKey};
use crate::upstream::message::Recipient;
use crate::upstream::upstreams::CoreHandle;
use crate::wire::http1::{KnownHeads, RequestHead, ResponseHead};
use crate::wire::json::Tape;

/// Flights of one owner core at a time; beyond, requests go upstream unjoined.
const FLIGHTS_MAX: usize = 64 << 10;
/// Share of a core's cache budget for copies of other cores' hot entries: 1 / this.
const NEAR_SHARE: u64 = 16;
/// A flight that is not settled for so long has lost its leader: a whole answer's longest time-out stays below.
const FLIGHT_LIMIT_MS: u64 = 3_600_000;

pub struct Core {
    pub id: CoreId,
    /// Data cores of the node.
    pub count: u16,
    pub outbox: Rc<Outbox<Message>>,
    /// What its backends need of it.
    pub handle: Rc<CoreHandle>,
    /// What this core owns of the cache and of the flights.
    pub shard: RefCell<Shard<Arc<Entry>>>,
    /// Copies of hot entries that other cores own.
    pub near: RefCell<Cache<NearCopy>>,
    /// Since when copies are out of date.
    pub epochs: Arc<Epochs>,
    /// What may not be served any more.
    pub purges: Arc<Purges>,
    /// The second level of the cache, if there is one.
    pub second: OnceCell<Rc<SecondLevel>>,
    /// How far the walk through shard and near copies has come that drops what was purged; none if there is none.
    pub weeding: Cell<Option<(u32, u32)>>,
    /// Flights that exchanges of this core take part in.
    pub flights: RefCell<HashMap<Fingerprint, Rc<Flight>>>,
    /// How many flights began without their owner's knowledge.
    pub local_flights: Cell<u64>,
    /// Flights nobody is in, for the next.
    pub free_flights: FreeList,
    /// Where upstream calls run.
    pub calls: TaskPool<Call>,
    /// Flights of this core that feed other cores, by number; one that can no longer be joined stands here alone.
    pub feeding: RefCell<HashMap<(Fingerprint, u64), Rc<Flight>>>,
    /// Copies of other cores' flights whose place in the map a newer flight has taken, and that are still fed.
    pub displaced: RefCell<Vec<Rc<Flight>>>,
    pub scratch: RefCell<Scratch>,
    /// Bytes of large events that have not come whole.
    pub event_bytes: Rc<Cell<u64>>,
    /// What was last written to a flight's log.
    pub fresh: RefCell<Fresh>,
    pub buffers: Buffers,
    pub request_memory: Rc<RequestMemory>,
    /// Heads for reuse: their lists of fields have grown.
    pub request_heads: Spare<RequestHead>,
    pub response_heads: Spare<ResponseHead>,
    /// Heads of clients, and of backends, that came lately.
    pub known_requests: RefCell<KnownHeads<RequestHead>>,
    pub known_responses: RefCell<KnownHeads<ResponseHead>>,
    /// Its numbers, which the background core reads in place.
    pub counters: Arc<Counters>,
    /// What tenants may spend.
    pub quota: Quota,
    /// Where each series of requests counts.
    pub series: RefCell<SeriesIndex>,
    pub usage: RefCell<SeriesIndex<UsageKey>>,
    pub log: RefCell<LogBuffer>,
    pub panics: Panics,
    /// The drain's deadline has passed.
    pub halting: Cell<bool>,
    date: RefCell<(u64, [u8; crate::wire::http1::encode::DATE_BYTES])>,
}

/// A copy of an entry that another core owns.
pub struct NearCopy {
    pub entry: Arc<Entry>,
    /// Of its owner, when that one gave it.
    pub epoch: Epoch,
}

/// Memory of the steps that run without an await; every request of the core reuses it.
#[derive(Default)]
pub struct Scratch {
    pub tape: Tape,
    pub shapes: Shapes,
    pub canonical: Vec<u8>,
    pub text: Vec<u8>,
}

impl Scratch {
    /// Gives back what an unusually large request took. What was read is gone then.
    pub fn shrink(&mut self) {
        self.tape.shrink(SCRATCH_BYTES);
        if self.canonical.capacity() > SCRATCH_BYTES {
            self.canonical = Vec::new();
        }
    }
}

/// What was last written to the log of a flight of this core, once more: the log is memory that was long not touched, and
/// reading it back would wait for it.
#[derive(Default)]
pub struct Fresh {
    pub bytes: Vec<u8>,
    /// Counts up; the flight knows which one is its own.
    pub serial: u64,
    /// The same as a chunk. Scratch.
    pub framed: Vec<u8>,
}

/// What is larger than this when the next event comes goes back to the allocator.
const FRESH_KEPT_BYTES: usize = 1 << 20;

impl Fresh {
    pub fn clear(&mut self) {
        for buffer in [&mut self.bytes, &mut self.framed] {
            buffer.clear();
            buffer.shrink_to(FRESH_KEPT_BYTES);
        }
    }
}

/// Where the background core's channel stands: behind that of the I/O core.
fn background(data_cores: u16) -> usize {
    usize::from(data_cores) + 1
}

impl Core {
    pub fn new(id: CoreId, count: u16, snapshot: &Snapshot, board: &Arc<Board>, outbox: Outbox<Message>) -> Core {
        let cores = u64::from(count.max(1));
        // Also where the cache is off: a reload may switch it on.
        let budget = snapshot.cache.memory_bytes / cores;
        let near = if count > 1 { budget / NEAR_SHARE } else { 0 };
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
        let handle = Rc::new(CoreHandle {
            id,
            count,
            counters: counters.clone(),
            panics: panics.clone(),
            warming: Cell::new(false),
            draining: Cell::new(false),
            post: Box::new(post),
        });
        Core {
            handle,
            id,
            count,
            outbox,
            shard: RefCell::new(Shard::new(budget - near, FLIGHTS_MAX, snapshot.cache.stale_if_error_ms)),
            near: RefCell::new(Cache::new(near)),
            epochs: board.epochs.clone(),
            purges: board.purges.clone(),
            second: OnceCell::new(),
            weeding: Cell::new(None),
            flights: RefCell::default(),
            local_flights: Cell::new(0),
            free_flights: FreeList::default(),
            calls: TaskPool::new(panics.clone()),
            feeding: RefCell::default(),
            displaced: RefCell::default(),
            request_memory: RequestMemory::new(board.clone(), id, snapshot.server.request_memory_bytes),
            scratch: RefCell::default(),
            event_bytes: Rc::default(),
            fresh: RefCell::default(),
            request_heads: Spare::default(),
            response_heads: Spare::default(),
            known_requests: RefCell::default(),
            known_responses: RefCell::default(),
            buffers: Buffers::new(BUFFERS_A_NODE / count.max(1) as usize),
            counters,
            quota: Quota::default(),
            series: RefCell::default(),
            usage: RefCell::default(),
            log: RefCell::new(LogBuffer::new(&snapshot.log.access)),
            panics,
            halting: Cell::new(false),
            date: RefCell::new((u64::MAX, [b' '; crate::wire::http1::encode::DATE_BYTES])),
        }
    }

    /// The clock of the shard machines.
    pub fn now(&self) -> Millis {
        Millis(now_ms())
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

    /// Whether it takes no new connections.
    pub fn is_draining(&self) -> bool {
        self.handle.draining.get()
    }

    /// Sends a message to the I/O core, which stands behind the data cores in the mail.
    pub fn post_io(&self, message: Message) {
        if self.outbox.post(usize::from(self.count), message).is_err() {
            self.counters.messages_dropped.add(1);
        }
    }

    /// Appends a `date` field; formatted once a second.
    pub fn write_date(&self, out: &mut Vec<u8>) {
        let now = crate::net::unix_ms() / 1000;
        let mut date = self.date.borrow_mut();
        if date.0 != now {
            *date = (now, crate::wire::http1::encode::date(now));
        }
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(&date.1);
        out.extend_from_slice(b"\r\n");
    }

    /// Takes over what a new configuration says of its permanent parts.
    pub fn adopt(&self, snapshot: &Snapshot) {
        self.request_memory.resize(snapshot.server.request_memory_bytes);
        self.shard.borrow_mut().keep_stale_for(snapshot.cache.stale_if_error_ms);
    }

    /// Forgets the flights of leaders that were lost.
    pub fn sweep(&self) {
        self.shard.borrow_mut().sweep(self.now(), FLIGHT_LIMIT_MS);
    }

    /// Sends the log's lines to the I/O core, which stands behind the data cores in the mail.
    pub fn flush_log(&self) {
        let mut log = self.log.borrow_mut();
        let Some((lines, dropped)) = log.take() else { return };
        if let Err(Message::Log { lines, dropped, .. }) =
            self.outbox.post(usize::from(self.count), Message::Log { from: self.id, lines, dropped })
        {
            log.refused(lines, dropped);
        }
    }

    /// Whether nothing is open or running: a drained core may stop.
    pub fn is_idle(&self) -> bool {
        self.counters.connections.get() == 0 && self.counters.flights.get() == 0
    }
}

/// Buffers a node keeps for reuse.
const BUFFERS_A_NODE: usize = 1000;
/// Size of a pooled buffer. Only the pages that were written are resident.
pub const BUFFER_BYTES: usize = 64 << 10;

/// Most values of a kind kept for reuse.
const SPARE_MAX: usize = 256;

/// Values for reuse whose memory has grown to what is needed.
pub struct Spare<T>(RefCell<Vec<T>>);

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Spare(RefCell::default())
    }
}

impl<T: Default> Spare<T> {
    /// One that was used before, or a new one; what is in it means nothing.
    pub fn take(&self) -> T {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    pub fn give(&self, value: T) {
        let mut spare = self.0.borrow_mut();
        if spare.len() < SPARE_MAX {
            spare.push(value);
        }
    }
}

/// Byte buffers for reuse, so that a busy core does not ask the allocator.
pub struct Buffers {
    free: RefCell<Vec<Vec<u8>>>,
    max: usize,
    /// Connections that use some, and the most there were since memory was last given back.
    users: Counter,
    crowd: Cell<u64>,
}

/// What fewer connections took is not worth looking for.
const CROWD_MIN: u64 = 1024;

impl Buffers {
    fn new(max: usize) -> Buffers {
        Buffers { free: RefCell::new(Vec::with_capacity(max)), max, users: Counter::default(), crowd: Cell::new(0) }
    }

    /// An empty buffer.
    pub fn take(&self) -> Vec<u8> {
        self.free.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Takes a buffer back; one that has grown, or is one too many, goes to the allocator.
    pub fn give(&self, mut buffer: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if buffer.capacity() == BUFFER_BYTES && free.len() < self.max {
            buffer.clear();
            free.push(buffer);
        }
    }

    /// To be held by each connection that uses some.
    pub fn join(&self) -> Held<'_> {
        let held = self.users.hold();
        self.crowd.set(self.crowd.get().max(self.users.get()));
        held
    }

    /// Once a tick: without it, a core that falls quiet after a crowd would keep the crowd's memory.
    pub fn settle(&self) {
        let (users, crowd) = (self.users.get(), self.crowd.get());
        if crowd >= CROWD_MIN && users <= crowd / 4 {
            self.crowd.set(users);
            give_memory_back();
        }
    }
}
