//! The admin listener: health, metrics, status, configuration, purges and drain, over HTTP/1.1 on the background core. Reads
//! what the cores publish in place and sends them nothing. Slow clients can hold only a bounded number of connections
//! for a bounded time, and nothing else waits for them.

pub mod client; // asks an admin listener, for commands
mod guard; // authorization
mod heap; // /debug/heap
mod limits; // /v1/limits
mod live; // samples, rates and points
mod logs; // /v1/log-level, /v1/reopen
mod page; // the page at /, and its files
mod profile; // /debug/profile
mod purge; // /v1/purge
pub mod reload; // /v1/reload
mod routes; // the routes
mod scaling; // /v1/scaling
mod snapshot; // /v1/snapshot
pub mod source; // where the configuration comes from
pub mod status; // /v1/status
mod stream; // /v1/live
mod transitions; // backends that came out of service and back
mod usage; // /v1/usage

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use shards::breaker::Reason;
use shards::quota::{Counted, Now};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::spawn_local;

use self::guard::Guard;
use self::live::Live;
use self::scaling::{Sample, Scaling};
use super::nodes::{Nodes, ToldPurges};
use super::shared::SharedLimits;
use super::traces::Exporter;
use super::usage::Usage;
use crate::config::snapshot::{PurgeScope, Snapshot};
use crate::limits::{ADMIN_CONNECTIONS, ADMIN_HEAD_BYTES};
use crate::net::{now_ms, unix_ms};
use crate::observe::counters::Counters;
use crate::observe::histogram::{OWN_TIME_US, Totals};
use crate::observe::process::Process;
use crate::observe::scrape::{Labels, Node, Scrape};
use crate::observe::snapshots::Snapshots;

/// Longest wait for a request head, whether the first or a later one of the same connection.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// A connection ends after this time, even if it is busy; a scraper opens another one.
const CONNECTION_LIMIT: Duration = Duration::from_secs(120);
/// Additional time for the answer that is in progress then.
const LAST_LIMIT: Duration = Duration::from_secs(5);
/// Pause after an accept that failed for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often the cores are looked at, and how many looks are between two samples for the scaling advice.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const SCALING_EVERY: u32 = 5;

/// The listening socket.
pub enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// Purges a scope; its name for other nodes, and the purge's number.
pub type Purge = Box<dyn Fn(&PurgeScope) -> (String, u64) + Send>;

/// What the admin listener reports on.
pub struct Parts {
    pub in_force: InForce,
    /// By core.
    pub counters: Vec<Arc<Counters>>,
    pub plan: CorePlan,
    /// Addresses that clients connect to.
    pub listening: Vec<String>,
    /// Makes no core serve what is in this scope; its name for other nodes, and the purge's number; see [`Admin::purged`].
    pub purge: Purge,
    /// Whether purges are written down, and snapshots of the cache.
    pub keeps: bool,
    pub snapshots: Arc<Snapshots>,
    /// The state directory, and what it has of limits.
    pub usage: (Option<PathBuf>, Vec<Counted>),
    pub source: source::Source,
    /// Set once every core serves.
    pub serving: Arc<AtomicBool>,
}

/// The configuration in force.
#[derive(Clone)]
pub struct InForce {
    pub generation: u64,
    pub snapshot: Arc<Snapshot>,
    /// The names behind the counters, and the counters of its backends and models, in the snapshot's order.
    pub labels: Arc<Labels>,
}

/// The core plan, for display.
#[derive(Clone, Debug, Default)]
pub struct CorePlan {
    pub summary: String,
    /// The CPU of each data core; none for one that floats.
    pub data: Vec<Option<usize>>,
    pub io: Option<usize>,
    pub background: Option<usize>,
    /// `cpu` or `hash`, and why.
    pub steering: String,
    pub steering_reason: String,
}

/// The state of the admin listener. Owned by the background core.
pub struct Admin {
    parts: Parts,
    in_force: RefCell<InForce>,
    guard: RefCell<Guard>,
    started_ms: u64,
    draining: Cell<bool>,
    drain_asked: Notify,
    purged: Notify,
    snapshots: snapshot::State,
    reopen_asked: Notify,
    /// Those that share a Redis with this one.
    nodes: OnceCell<Rc<Nodes>>,
    traces: OnceCell<Rc<Exporter>>,
    limits: OnceCell<Rc<SharedLimits>>,
    limit_states: limits::State,
    transitions: transitions::State,
    /// By a backend's name: the fault of the last check, while checks fail.
    check_faults: RefCell<HashMap<String, String>>,
    /// By core: its recent utilization, and its CPU time.
    busy: RefCell<Vec<(f64, f64)>>,
    scaling: RefCell<Scaling>,
    live: RefCell<Live>,
    /// The newest event of `/v1/live`, for its watchers.
    updates: watch::Sender<bytes::Bytes>,
    reload: reload::State,
    usage: Usage,
    source: RefCell<source::Source>,
}

impl Admin {
    pub fn new(mut parts: Parts) -> Rc<Admin> {
        let (state, counted) = std::mem::take(&mut parts.usage);
        let admin = Admin {
            usage: Usage::new(state, parts.counters.clone(), counted),
            in_force: RefCell::new(parts.in_force.clone()),
            guard: RefCell::new(Guard::of(&parts.in_force.snapshot.admin)),
            started_ms: now_ms(),
            draining: Cell::new(false),
            drain_asked: Notify::new(),
            purged: Notify::new(),
            snapshots: snapshot::State::default(),
            reopen_asked: Notify::new(),
            nodes: OnceCell::new(),
            traces: OnceCell::new(),
            limits: OnceCell::new(),
            limit_states: limits::State::new(parts.counters.len()),
            transitions: RefCell::default(),
            check_faults: RefCell::default(),
            busy: RefCell::new(vec![(0.0, 0.0); parts.counters.len()]),
            scaling: RefCell::default(),
            live: RefCell::default(),
            updates: watch::Sender::new(bytes::Bytes::new()),
            reload: reload::State::default(),
            source: RefCell::new(parts.source.clone()),
            parts,
        };
        Rc::new(admin)
    }

    /// Takes what the cores have counted since the last time.
    pub fn collect_usage(&self) {
        let labels = self.in_force.borrow().labels.clone();
        self.usage.collect(&labels, unix_ms());
    }

    /// About once a second: looks whether a day has ended.
    pub fn tick_usage(&self) {
        self.usage.tick(&self.in_force.borrow().labels, unix_ms());
    }

    /// What counts against limits has changed.
    pub fn counted(&self, counted: Vec<Counted>) {
        self.usage.counted(counted);
    }

    /// Brings the files of the state directory up to date.
    pub async fn write_usage(&self) {
        self.collect_usage();
        self.usage.write(Now { mono: shards::Millis(now_ms()), unix_ms: unix_ms() }).await;
    }

    /// Marks the node as draining.
    pub fn draining(&self) {
        self.draining.set(true);
        self.end_reloads();
    }

    /// Waits until a client requests the drain.
    pub async fn drain_asked(&self) {
        self.drain_asked.notified().await;
    }

    /// Every core serves by this now.
    pub fn put_in_force(&self, in_force: InForce) {
        let is_there = |name: &String| in_force.snapshot.backends.iter().any(|backend| backend.name == *name);
        self.check_faults.borrow_mut().retain(|name, _| is_there(name));
        self.transitions.borrow_mut().retain(|name, _| is_there(name));
        self.guard.replace(Guard::of(&in_force.snapshot.admin));
        self.in_force.replace(in_force);
    }

    /// Purges are told to these, too.
    pub fn reach(&self, nodes: Rc<Nodes>) {
        let _ = self.nodes.set(nodes);
    }

    /// Scrapes tell what became of its spans.
    pub fn count_spans(&self, traces: Rc<Exporter>) {
        let _ = self.traces.set(traces);
    }

    /// Scrapes tell whether they are shared just now.
    pub fn watch_limits(&self, limits: Rc<SharedLimits>) {
        let _ = self.limits.set(limits);
    }

    /// Something was purged at the wish of another node.
    pub fn purged_elsewhere(&self) {
        self.purged.notify_one();
    }

    /// Redis has lost these purges, as a data core has found.
    pub fn purges_lost(&self, lost: &[(String, u64)]) {
        self.nodes.get().into_iter().for_each(|nodes| nodes.lost(lost));
    }

    /// What Redis says of purges, as far as it is known, and what it is still to be told; none without Redis.
    pub fn purges_told(&self) -> Option<ToldPurges> {
        self.nodes.get().map(|nodes| nodes.told())
    }

    /// Waits until something was purged: the cores can give memory back, and it is to be written down.
    pub async fn purged(&self) {
        self.purged.notified().await;
    }

    /// Records the result of a backend's check: its fault, or `None` if it passed. What that is called in the log; `None`: it is as
    /// before.
    pub fn checked(&self, backend: &str, fault: Option<String>) -> Option<&'static str> {
        let mut faults = self.check_faults.borrow_mut();
        let (reason, before) = match fault {
            Some(fault) => (Reason::CheckFailed, faults.insert(backend.to_owned(), fault)),
            None => (Reason::CheckPassed, faults.remove(backend)),
        };
        let is_news = before.is_some() == (reason == Reason::CheckPassed);
        is_news.then(|| self.turned(backend, reason))
    }

    fn is_ready(&self) -> bool {
        self.parts.serving.load(Ordering::Relaxed) && !self.draining.get()
    }

    fn scrape(&self) -> Scrape {
        let in_force = self.in_force.borrow();
        let node = Node {
            generation: in_force.generation,
            last_reload: self.last_reload_was(),
            reloads: self.reloads(),
            transitions: self.transitions(),
            stored: self.stored(),
            limits_store_up: self.limits.get().map(|limits| limits.is_up()),
            busy: self.busy.borrow().clone(),
            process: Process::read(),
            genai: in_force.snapshot.metrics.genai,
            snapshots: self.parts.snapshots.clone(),
            spans: self.traces.get().map(|traces| traces.counts()).unwrap_or_default(),
        };
        Scrape::new(self.parts.counters.clone(), in_force.labels.clone(), node)
    }

    /// Samples the cores, tells watchers, and finds whether more nodes are wanted, forever.
    pub async fn measure(self: Rc<Self>) {
        let mut looks = 0_u32;
        loop {
            self.look(unix_ms());
            self.tell_watchers();
            if looks > 0 && looks.is_multiple_of(SCALING_EVERY) {
                self.sample();
            }
            looks = looks.wrapping_add(1);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn sample(&self) {
        let (counters, busy) = (&self.parts.counters, self.busy.borrow());
        let mut own_time = Totals::new(OWN_TIME_US);
        for core in counters {
            own_time.add(&core.own_time_hit.0);
            own_time.add(&core.own_time_miss.0);
        }
        self.scaling.borrow_mut().add(Sample {
            at_ms: now_ms(),
            requests: counters.iter().map(|core| core.requests.get()).sum(),
            own_time,
            busy_ratio: busy.iter().map(|(ratio, _)| ratio).sum::<f64>() / busy.len().max(1) as f64,
        });
    }

    /// Serves forever. Errors: the listener cannot be used.
    pub async fn serve(self: Rc<Self>, listener: Listener) -> io::Result<()> {
        let slots = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
        match listener {
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::TcpListener::from_std(listener)?;
                loop {
                    let accepted = listener.accept().await.map(|(stream, _)| stream);
                    self.clone().accepted(accepted, &slots).await;
                }
            }
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::UnixListener::from_std(listener)?;
                loop {
                    let accepted = listener.accept().await.map(|(stream, _)| stream);
                    self.clone().accepted(accepted, &slots).await;
                }
            }
        }
    }

    async fn accepted<S>(self: Rc<Self>, stream: io::Result<S>, slots: &Arc<Semaphore>)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let Ok(stream) = stream else { return tokio::time::sleep(ACCEPT_PAUSE).await };
        // A connection above the limit is closed at once: the open ones end soon.
        let Ok(slot) = slots.clone().try_acquire_owned() else { return };
        spawn_local(async move {
            self.connection(stream).await;
            drop(slot);
        });
    }

    async fn connection<S: AsyncRead + AsyncWrite + Unpin + 'static>(self: Rc<Self>, stream: S) {
        let answer = service_fn(|request: Request<Incoming>| {
            let admin = self.clone();
            async move { Ok::<_, Infallible>(admin.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .max_buf_size(ADMIN_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), answer);
        let mut connection = pin!(connection);
        tokio::select! {
            // Errors of a connection concern only its client.
            _ = connection.as_mut() => return,
            () = tokio::time::sleep(CONNECTION_LIMIT) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(LAST_LIMIT, connection).await;
    }
}

#[cfg(test)]
mod tests;
