//! What one data core owns. Every task of the core holds it by `Rc`; nothing in it is shared with another core but the
//! configuration, which does not change, answers, which are immutable, and the atomic counts of the board.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use hashbrown::HashMap;
use shards::balancer::{Ring, RoundRobin, hash};
use shards::{
    Breaker, BreakerRules, Budget, Cache, CoreId, Fingerprint, Latency, Millis, Pool, PoolBounds, Quantile, Queue,
    Shard, StreamBounds,
};

use super::call::Call;
use super::connect::Shared;
use super::epochs::{Epoch, Epochs};
use super::flight::{Flight, FreeList};
use super::load::{Board, Load};
use super::memory::RequestMemory;
use super::messages::{Entry, Message};
use super::meter;
use super::permits::{Cap, CorePermits, Sharing, streams_max};
use super::queue;
use super::send::StaticHeaders;
use super::suspects::Lately;
use crate::config::snapshot::{Balance, CacheMode, Model, Protocol, Snapshot};
use crate::dialect::Shapes;
use crate::limits::SCRATCH_BYTES;
use crate::net::channel::Outbox;
use crate::net::tls::{Agreed, TlsContext};
use crate::net::{Dial, Duplex, Panics, TaskPool, give_memory_back, now_ms};
use crate::observe::counters::{Counter, Counters, Held};
use crate::observe::log::LogBuffer;
use crate::observe::series::SeriesIndex;
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
    pub snapshot: Arc<Snapshot>,
    /// Addresses of each backend, resolved; a backend may have several.
    pub addresses: RefCell<Vec<Arc<[Dial]>>>,
    /// How each backend's connections are secured; sessions to resume are this core's own.
    pub tls: Vec<Option<TlsContext>>,
    pub outbox: Outbox<Message>,
    /// What this core owns of the cache and of the flights.
    pub shard: RefCell<Shard<Arc<Entry>>>,
    /// Copies of hot entries that other cores own.
    pub near: RefCell<Cache<NearCopy>>,
    /// Since when copies are out of date.
    pub epochs: Arc<Epochs>,
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
    /// By backend: connections of HTTP/1.1, and those of HTTP/2.
    pub pools: Vec<RefCell<Pool<Duplex, Dial>>>,
    pub streams: Vec<Shared>,
    /// What all requests to a backend say.
    pub static_headers: Vec<StaticHeaders>,
    /// What the backends agreed to speak last, where that is theirs to choose.
    pub agreed: Vec<Cell<Option<Agreed>>>,
    /// Whether connections are being opened ahead of need.
    pub warming: Cell<bool>,
    /// Next address to try, a backend.
    pub turns: Vec<Cell<usize>>,
    /// By model.
    pub spread: Vec<RefCell<Spread>>,
    /// This core's permits of the node's caps, by model and by backend.
    pub model_permits: Vec<CorePermits>,
    pub backend_permits: Vec<CorePermits>,
    /// Whether a task looks for permits that other cores return.
    pub borrowing: Cell<bool>,
    /// Who waits for a turn, by model and by backend.
    pub model_queues: Vec<RefCell<Queue<Waker>>>,
    pub backend_queues: Vec<RefCell<Queue<Waker>>>,
    /// By backend.
    pub breakers: Vec<RefCell<Breaker>>,
    pub latencies: Vec<RefCell<Latency>>,
    /// When each backend last answered a request well.
    pub answered: Vec<Cell<Millis>>,
    pub failed_lately: Vec<Lately>,
    pub load: Load,
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
    /// Where each series of requests counts.
    pub series: RefCell<SeriesIndex>,
    pub log: RefCell<LogBuffer>,
    pub panics: Panics,
    pub draining: Cell<bool>,
    /// The drain's deadline has passed.
    pub halting: Cell<bool>,
    date: RefCell<(u64, [u8; crate::wire::http1::encode::DATE_BYTES])>,
}

/// How a model's requests are spread, and how often they may be repeated: this core's part.
pub struct Spread {
    pub round_robin: RoundRobin,
    pub cursor: usize,
    pub ring: Ring,
    /// A number a target: those of a lower one are asked first.
    pub tiers: Vec<u16>,
    /// Until when a target asked to be left alone. A rate limit is of one model, not of all that its backend has.
    pub cool_until: Vec<Millis>,
    /// Scratch of a decision: a weight a target, 0 for those that cannot be asked now.
    pub shares: Vec<u32>,
    pub retries: Budget,
    pub hedges: Budget,
    /// How long first contents take, by form.
    pub first_content: [Quantile; 2],
}

impl Spread {
    fn new(snapshot: &Snapshot, model: &Model, cores: u32) -> Spread {
        let names: Vec<u64> =
            model.targets.iter().map(|target| hash(snapshot.backends[target.backend].name.as_bytes())).collect();
        let weights: Vec<u32> = model.targets.iter().map(|target| target.weight).collect();
        let tiers = model.targets.iter().map(|target| snapshot.tier(target.backend)).collect();
        Spread {
            round_robin: RoundRobin::new(weights.len()),
            cursor: 0,
            ring: Ring::new(&names, &weights),
            tiers,
            cool_until: vec![Millis(0); weights.len()],
            shares: Vec::with_capacity(weights.len()),
            retries: Budget::new(model.retry_budget_percent, RETRY_RESERVE.div_ceil(cores)),
            hedges: Budget::new(model.hedge_percent, HEDGE_RESERVE),
            first_content: [Quantile::new(), Quantile::new()],
        }
    }
}

/// Retries of a node that its requests have not earned yet: as many as may be in flight when a backend dies.
const RETRY_RESERVE: u32 = 100;
/// The same for hedges, a core.
const HEDGE_RESERVE: u32 = 2;
/// How fast a backend's latency of the past counts for less.
const LATENCY_HALF_LIFE_MS: u64 = 10_000;
/// In which span errors are set against requests, how many requests it takes for a judgement, and how much longer a
/// backend that goes on failing stays out.
const BREAKER_WINDOW_MS: u64 = 10_000;
const BREAKER_VOLUME: u32 = 20;
const EJECT_GROWTH: u64 = 16;

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

impl Core {
    pub fn new(
        id: CoreId,
        count: u16,
        snapshot: Arc<Snapshot>,
        addresses: Vec<Arc<[Dial]>>,
        tls: Vec<Option<TlsContext>>,
        board: Arc<Board>,
        outbox: Outbox<Message>,
    ) -> Core {
        let cores = u64::from(count.max(1));
        let share = |of_node: u32| of_node.div_ceil(u32::from(count.max(1)));
        let budget = match snapshot.cache.mode {
            CacheMode::On => snapshot.cache.memory_bytes / cores,
            CacheMode::Off => 0,
        };
        let near = if count > 1 { budget / NEAR_SHARE } else { 0 };
        let pools = snapshot.backends.iter().zip(&addresses).map(|(backend, addresses)| {
            let bounds = PoolBounds {
                idle_max: match Cap::of_backend(backend).sharing {
                    Sharing::Lent => backend.connections.max as usize,
                    Sharing::Divided => share(backend.connections.max) as usize,
                },
                open_max: None, // by permits
                open_min: share(backend.connections.min) as usize,
                idle_ms: backend.timeout_idle_ms,
            };
            RefCell::new(Pool::new(bounds, addresses.clone()))
        });
        let spread = snapshot.models.iter().map(|model| RefCell::new(Spread::new(&snapshot, model, u32::from(count))));
        let of_core = |node: &Vec<_>| -> Vec<CorePermits> { node.iter().cloned().map(CorePermits::new).collect() };
        let (model_permits, backend_permits) = (of_core(&board.model_permits), of_core(&board.backend_permits));
        let queue = |permits: &CorePermits, waiting: u32| RefCell::new(Queue::new(permits.held(), waiting));
        let models = model_permits.iter().zip(&snapshot.models);
        let model_queues = models.map(|(permits, model)| queue(permits, share(model.max_pending_requests))).collect();
        // Bounded by the queues in front of them.
        let backend_queues = backend_permits.iter().map(|permits| queue(permits, u32::MAX)).collect();
        let streams = snapshot.backends.iter().zip(&addresses).map(|(backend, addresses)| {
            let bounds = StreamBounds {
                connections_max: share(backend.http2_connections.max) as usize,
                streams_max: backend.http2_streams,
                idle_ms: backend.timeout_idle_ms,
            };
            Shared::new(bounds, addresses.clone(), share(backend.http2_connections.min) as usize)
        });
        let breakers = snapshot.backends.iter().map(|backend| {
            let health = &backend.health;
            RefCell::new(Breaker::new(BreakerRules {
                errors_in_row: health.errors_in_row,
                error_percent: health.error_percent,
                window_ms: BREAKER_WINDOW_MS,
                volume_min: BREAKER_VOLUME,
                eject_ms: health.eject_ms,
                eject_max_ms: health.eject_ms.saturating_mul(EJECT_GROWTH),
                probes: health.probes,
                slow_start_ms: health.slow_start_ms,
            }))
        });
        let latencies = snapshot.backends.iter().map(|_| RefCell::new(Latency::new(LATENCY_HALF_LIFE_MS)));
        let panics = Panics::default();
        Core {
            id,
            count,
            tls,
            outbox,
            shard: RefCell::new(Shard::new(budget - near, FLIGHTS_MAX, snapshot.cache.stale_if_error_ms)),
            near: RefCell::new(Cache::new(near)),
            epochs: board.epochs.clone(),
            flights: RefCell::default(),
            local_flights: Cell::new(0),
            free_flights: FreeList::default(),
            calls: TaskPool::new(panics.clone()),
            feeding: RefCell::default(),
            displaced: RefCell::default(),
            pools: pools.collect(),
            streams: streams.collect(),
            addresses: RefCell::new(addresses),
            static_headers: snapshot.backends.iter().map(StaticHeaders::of).collect(),
            agreed: snapshot.backends.iter().map(|_| Cell::new(None)).collect(),
            warming: Cell::new(false),
            turns: snapshot.backends.iter().map(|_| Cell::new(0)).collect(),
            spread: spread.collect(),
            model_queues,
            backend_queues,
            model_permits,
            backend_permits,
            borrowing: Cell::new(false),
            breakers: breakers.collect(),
            latencies: latencies.collect(),
            request_memory: RequestMemory::new(board.clone(), id, snapshot.server.request_memory_bytes),
            answered: snapshot.backends.iter().map(|_| Cell::new(Millis(0))).collect(),
            failed_lately: snapshot.backends.iter().map(|_| Lately::default()).collect(),
            scratch: RefCell::default(),
            event_bytes: Rc::default(),
            fresh: RefCell::default(),
            request_heads: Spare::default(),
            response_heads: Spare::default(),
            known_requests: RefCell::default(),
            known_responses: RefCell::default(),
            buffers: Buffers::new(BUFFERS_A_NODE / count.max(1) as usize),
            counters: board.counters(id).clone(),
            series: RefCell::new(SeriesIndex::new(snapshot.models.len() as u32, snapshot.tenants.len() as u32)),
            load: Load::new(board, id, snapshot.backends.len()),
            log: RefCell::new(LogBuffer::new(&snapshot.log.access)),
            panics,
            draining: Cell::new(false),
            halting: Cell::new(false),
            date: RefCell::new((u64::MAX, [b' '; crate::wire::http1::encode::DATE_BYTES])),
            snapshot,
        }
    }

    /// Whether it matters how long a model's first contents take.
    pub fn times_first_content(&self, model: usize) -> bool {
        let model = &self.snapshot.models[model];
        model.hedge_percent > 0 || model.balance == Balance::P2c
    }

    /// Whether requests to this backend go as streams of HTTP/2, as far as that is known.
    pub fn speaks_http2(&self, backend: usize) -> bool {
        match self.snapshot.backends[backend].protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Auto => self.agreed[backend].get() == Some(Agreed::Http2),
        }
    }

    /// As `speaks_http2`, or it was not asked yet.
    pub fn may_speak_http2(&self, backend: usize) -> bool {
        let unasked = self.tls[backend].is_some() && self.agreed[backend].get().is_none();
        self.speaks_http2(backend) || unasked && self.snapshot.backends[backend].protocol == Protocol::Auto
    }

    /// A backend has agreed to what is spoken: that decides how many requests it may have at a time.
    pub fn learn(&self, backend: usize, agreed: Agreed) {
        if self.agreed[backend].replace(Some(agreed)) == Some(agreed) {
            return;
        }
        let settings = &self.snapshot.backends[backend];
        let turns = match agreed {
            Agreed::Http1 => settings.connections.max,
            Agreed::Http2 => streams_max(settings),
        };
        let mut queue = self.backend_queues[backend].borrow_mut();
        queue.resize(self.backend_permits[backend].divide(turns));
        while let Some(next) = queue.grant() {
            next.wake();
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

    /// Sends a message to the background core, which stands behind the I/O core in the mail.
    pub fn post_background(&self, message: Message) {
        if self.outbox.post(usize::from(self.count) + 1, message).is_err() {
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

    /// Housekeeping, about once a second: closes connections idle for too long, sends on what waited, flushes the log.
    pub fn tick(&self) {
        let now = self.now();
        let mut closing = Vec::new();
        for pool in &self.pools {
            pool.borrow_mut().reap(now, &mut closing);
        }
        drop(closing);
        self.streams.iter().for_each(|shared| shared.reap(now));
        queue::release_all(self);
        self.shard.borrow_mut().sweep(now, FLIGHT_LIMIT_MS);
        self.outbox.flush();
        self.flush_log();
        self.counters.log_lines_dropped.set(self.log.borrow().dropped_ever());
        self.buffers.settle();
        meter::publish(self);
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
    fn settle(&self) {
        let (users, crowd) = (self.users.get(), self.crowd.get());
        if crowd >= CROWD_MIN && users <= crowd / 4 {
            self.crowd.set(users);
            give_memory_back();
        }
    }
}
