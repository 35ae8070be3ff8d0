//! What one core keeps of one backend: its connections, who waits for them, and what is known of its health and speed.
//! Owned by the core. Knows nothing of requests.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::Waker;

use shards::breaker::{Change, State};
use shards::{Breaker, BreakerRules, Concurrency, CoreId, Latency, Millis, Pool, PoolBounds, Queue, StreamBounds};

use super::lately::Lately;
use super::node::{BackendId, NodeBackend};
use super::permits::CorePermits;
use super::shared::SharedConnections;
use crate::config::snapshot::{Backend, ConcurrencyRule, Protocol};
use crate::net::tls::{Agreed, TlsContext, TlsError};
use crate::net::{Dial, Duplex};
use crate::observe::counters::BackendCounters;

/// How fast a backend's latency of the past counts for less.
const LATENCY_HALF_LIFE_MS: u64 = 10_000;
/// In which span errors are set against requests, how many requests it takes for a judgement, and how much longer a
/// backend that goes on failing stays out.
const BREAKER_WINDOW_MS: u64 = 10_000;
const BREAKER_VOLUME: u32 = 20;
const EJECT_GROWTH: u64 = 16;

pub struct BackendState {
    node: Arc<NodeBackend>,
    core: usize,
    /// Resolved; a backend may have several.
    pub addresses: RefCell<Arc<[Dial]>>,
    /// How its connections are secured; sessions to resume are this core's own.
    pub tls: Option<TlsContext>,
    protocol: Protocol,
    /// Connections of HTTP/1.1, and those of HTTP/2.
    pub pool: RefCell<Pool<Duplex, Dial>>,
    pub streams: SharedConnections,
    /// What it agreed to speak last, where that is its to choose.
    pub agreed: Cell<Option<Agreed>>,
    /// Next address to try.
    pub next_address: Cell<usize>,
    /// This core's permits for connections of HTTP/1.1, and for those of HTTP/2.
    pub permits: CorePermits,
    pub http2_permits: CorePermits,
    /// Who waits for a connection, or for a stream.
    pub queue: RefCell<Queue<Waker>>,
    /// How many requests it gets at a time, where that is to be found.
    pub concurrency: Option<RefCell<Concurrency>>,
    pub breaker: RefCell<Breaker>,
    pub latency: RefCell<Latency>,
    /// When it last answered a request well.
    pub answered: Cell<Millis>,
    pub failed_lately: Lately,
    /// It does not know the option by which a stream is asked for its usage.
    pub refuses_usage: Cell<bool>,
    /// Requests in flight of the other cores, as of the last look.
    elsewhere: Cell<u64>,
}

impl BackendState {
    /// For one of `cores` cores. Errors: its connections cannot be secured as it wants.
    pub fn new(node: Arc<NodeBackend>, settings: &Backend, core: CoreId, cores: u16) -> Result<BackendState, TlsError> {
        let tls = node.tls.as_ref().map(TlsContext::new).transpose()?;
        let addresses = node.addresses.clone();
        let share = |of_node: u32| of_node.div_ceil(u32::from(cores.max(1)));
        let pool = PoolBounds {
            idle_max: settings.connections.max as usize,
            open_max: None, // by permits
            open_min: share(settings.connections.min) as usize,
            idle_ms: settings.timeout_idle_ms,
        };
        let streams = StreamBounds {
            connections_max: 0, // by permits
            streams_max: settings.http2_streams,
            idle_ms: settings.timeout_idle_ms,
        };
        let health = &settings.health;
        let rules = BreakerRules {
            errors_in_row: health.errors_in_row,
            error_percent: health.error_percent,
            window_ms: BREAKER_WINDOW_MS,
            volume_min: BREAKER_VOLUME,
            eject_ms: health.eject_ms,
            eject_max_ms: health.eject_ms.saturating_mul(EJECT_GROWTH),
            probes: health.probes,
            slow_start_ms: health.slow_start_ms,
        };
        let permits = CorePermits::new(node.permits.clone());
        let http2_permits = CorePermits::new(node.http2_permits.clone());
        let concurrency = match settings.concurrency {
            ConcurrencyRule::AsConnected => None,
            ConcurrencyRule::Adaptive { least } => {
                let streams = settings.http2_connections.max.saturating_mul(settings.http2_streams);
                let most = match (settings.protocol, &settings.tls) {
                    (Protocol::Http1, _) | (Protocol::Auto, None) => settings.connections.max,
                    (Protocol::Http2, _) => streams,
                    (Protocol::Auto, Some(_)) => streams.max(settings.connections.max),
                };
                Some(RefCell::new(Concurrency::new(share(least), most)))
            }
        };
        let limit = concurrency.as_ref().map_or(u32::MAX, |found| found.borrow().limit());
        let state = BackendState {
            pool: RefCell::new(Pool::new(pool, addresses.clone())),
            streams: SharedConnections::new(streams, addresses.clone(), share(settings.http2_connections.min) as usize),
            addresses: RefCell::new(addresses),
            tls,
            protocol: settings.protocol,
            agreed: Cell::new(None),
            next_address: Cell::new(0),
            // Bounded by the queues in front of it.
            queue: RefCell::new(Queue::new(permits.held().min(limit), u32::MAX)),
            concurrency,
            permits,
            http2_permits,
            breaker: RefCell::new(Breaker::new(rules)),
            latency: RefCell::new(Latency::new(LATENCY_HALF_LIFE_MS)),
            answered: Cell::new(Millis(0)),
            failed_lately: Lately::default(),
            refuses_usage: Cell::new(false),
            elsewhere: Cell::new(0),
            core: usize::from(core.0),
            node,
        };
        state.queue.borrow_mut().resize(state.capacity().min(limit));
        Ok(state)
    }

    pub fn id(&self) -> BackendId {
        self.node.id
    }

    pub fn name(&self) -> &Arc<str> {
        &self.node.name
    }

    /// This core's numbers of it.
    pub fn counters(&self) -> &BackendCounters {
        &self.node.counters[self.core]
    }

    /// How many requests of this core it gets at a time; beyond all bounds where that is not looked for.
    pub fn limit(&self) -> u32 {
        self.concurrency.as_ref().map_or(u32::MAX, |found| found.borrow().limit())
    }

    /// Whether it gets as many as it may, and more would have to wait.
    pub fn is_full(&self) -> bool {
        self.concurrency.is_some() && self.queue.borrow().taken() >= self.limit()
    }

    /// Requests in flight of this core.
    pub fn in_flight(&self) -> u32 {
        self.counters().in_flight.get() as u32
    }

    /// Those of all cores; of the others, as of the last look.
    pub fn in_flight_anywhere(&self) -> u32 {
        (self.counters().in_flight.get() + self.elsewhere.get()) as u32
    }

    /// Looks at the other cores' counts.
    pub fn look_elsewhere(&self) {
        let others = self.node.counters.iter().enumerate().filter(|(core, _)| *core != self.core);
        self.elsewhere.set(others.map(|(_, of)| of.in_flight.get()).sum());
    }

    /// It is no longer asked: what lies idle is closed, and its permits are returned.
    pub fn close_idle(&self) {
        let mut closing = Vec::new();
        self.pool.borrow_mut().drain(&mut closing);
        drop(closing);
        self.streams.close_idle();
    }

    /// Whether it can be asked at all.
    pub fn has_addresses(&self) -> bool {
        !self.addresses.borrow().is_empty()
    }

    /// Whether requests to it go as streams of HTTP/2, as far as that is known.
    pub fn speaks_http2(&self) -> bool {
        match self.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Auto => self.agreed.get() == Some(Agreed::Http2),
        }
    }

    /// Whether it is only reached by HTTP/2 that begins without a word of agreement: nothing else can be said to it.
    pub fn knows_only_http2(&self) -> bool {
        self.protocol == Protocol::Http2 && self.tls.is_none()
    }

    /// As `speaks_http2`, or it was not asked yet.
    pub fn may_speak_http2(&self) -> bool {
        let unasked = self.tls.is_some() && self.agreed.get().is_none();
        self.speaks_http2() || unasked && self.protocol == Protocol::Auto
    }

    /// It came into or out of service by what this core found.
    pub fn note_change(&self, change: &Change) {
        self.counters().state.set(state_number(change.to));
    }

    /// Sets the gauges.
    pub fn publish(&self) {
        let (of, pool) = (self.counters(), self.pool.borrow());
        of.state.set(state_number(self.breaker.borrow().state()));
        of.connections_idle.set(pool.idle() as u64);
        of.connections_busy.set(pool.leased() as u64);
        let (connections, streams) = self.streams.counts();
        of.http2_connections.set(connections);
        of.http2_streams.set(streams);
        of.concurrency_limit.set(self.concurrency.as_ref().map_or(0, |found| u64::from(found.borrow().limit())));
    }

    /// It has agreed to what is spoken: that decides how many requests it may have at a time.
    pub fn learn(&self, agreed: Agreed, now: Millis) {
        if self.agreed.replace(Some(agreed)) != Some(agreed) {
            self.keep_used();
            self.fit(now);
        }
    }

    /// The permits that bound what it gets: for connections of the protocol that it speaks, as far as that is known.
    pub fn permits(&self) -> &CorePermits {
        if self.speaks_http2() { &self.http2_permits } else { &self.permits }
    }

    /// How many requests the permits that this core holds are good for.
    pub fn capacity(&self) -> u32 {
        match self.speaks_http2() {
            true => self.streams.streams.borrow().capacity(self.http2_permits.held() as usize),
            false => self.permits.held(),
        }
    }

    /// Connections that need a permit each, whether requests use them or not.
    pub fn counted(&self) -> u32 {
        match self.speaks_http2() {
            true => self.streams.streams.borrow().counted() as u32,
            false => self.pool.borrow().open() as u32,
        }
    }

    /// Returns the permits of both kinds that are not used. Nobody waits for one.
    pub fn keep_used(&self) {
        let taken = self.queue.borrow().taken();
        let (of_http1, of_http2) = if self.speaks_http2() { (0, taken) } else { (taken, 0) };
        if self.permits.are_lent() {
            self.permits.keep(of_http1.max(self.pool.borrow().open() as u32));
            self.http2_permits.keep(self.streams.streams.borrow().needed(of_http2) as u32);
        }
    }

    /// Lets the queue give out what the permits of this core are good for, as far as the limit allows.
    pub fn fit(&self, now: Millis) {
        let mut woken = Vec::new();
        {
            let mut queue = self.queue.borrow_mut();
            queue.resize(self.capacity().min(self.limit()));
            woken.extend(std::iter::from_fn(|| queue.grant(now)));
            self.permits().show(queue.front());
        }
        woken.into_iter().for_each(Waker::wake);
    }

    /// Takes one more permit for a connection of HTTP/2, for a request that has its turn. Whether there was one.
    pub fn take_http2(&self) -> bool {
        const MOST_URGENT: u8 = 0;
        let taken = self.http2_permits.take(MOST_URGENT);
        if taken && self.speaks_http2() {
            let mut queue = self.queue.borrow_mut();
            queue.resize(self.capacity().min(self.limit()));
        }
        taken
    }
}

/// How the metrics say it.
fn state_number(state: State) -> u64 {
    match state {
        State::Serving => 0,
        State::Probing => 1,
        State::Tripped => 2,
    }
}
