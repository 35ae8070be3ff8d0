//! The background core: a tokio runtime on one thread. It handles signals and the drain, checks the backends' health,
//! resolves their names, and logs what the data cores report.

mod limits; // limits beyond this process
mod notices; // messages to other cores, kept until there is room
pub mod reload; // the configuration, read again while the node runs
mod signals; // signals from the operator
mod stored; // the store that the configuration is in
mod watching; // health checks and names of backends

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use shards::breaker::State;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tracing::{error, info, warn};

use self::limits::{Passing, share_limits};
use self::notices::{Notice, Notices};
use self::reload::{InForceOn, Reloader, Source};
use self::signals::{OtherSignals, StopSignals};
use self::stored::Stored;
use self::watching::Watching;
use super::kept::Keeping;
use super::notify;
use super::second::{self, Second};
use super::supervise::{BEAT_MS, Beat, Gate};
use super::takeover::{Giver, LimitsLink, Program, Upgrade};
use crate::config::snapshot::LimitNodes;
use crate::control::Finding;
use crate::control::admin::reload::Trigger;
use crate::control::admin::{self, Admin, InForce};
use crate::control::keep::{Pauses, keep};
use crate::control::masters::Masters;
use crate::control::shared::{Question, SharedLimits};
use crate::control::traces::{self, Exporter};
use crate::control::usage::WRITE_EVERY;
use crate::exchange::message::Message;
use crate::exchange::purges::Purges;
use crate::limits::IDLE_GRACE_MS;
use crate::net::channel::{Inbox, Outbox};
use crate::net::{EventFdReader, Panics, now_ms};
use crate::upstream::message::UpstreamMessage;
use crate::upstream::node::{BackendId, NodeGeneration};
use crate::wire::cluster::Topology;

/// After `Halt`, how long tasks have to notice that their sockets are shut down.
const HALT_LIMIT: Duration = Duration::from_secs(3);
/// How long a stop waits for the receiver of spans.
const SPANS_LIMIT: Duration = Duration::from_secs(2);
/// How often the line that `systemctl status` shows is brought up to date.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How often what was used is taken from the cores: how exactly a day ends.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// How long the cores may take to count what was given back at their end.
const LAST_COUNTS: Duration = Duration::from_millis(50);
/// How often it is looked whether this process may accept.
const GATE_TICK: Duration = Duration::from_millis(5);
/// The same message is not printed more often than this.
const REPEAT_MS: u64 = 10_000;

/// How long the node waits for its last snapshot: less than what service managers grant for a stop, with the drain.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(30);

/// How the node stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Everything that ran has finished.
    Drained,
    /// The deadline passed, or a second signal came: what was still running was aborted.
    Cut,
}

/// The generation in force, or about to be.
type Latest = Rc<RefCell<Arc<NodeGeneration>>>;

/// Everything the background core needs.
pub struct Parts {
    pub data_cores: usize,
    pub generation: Arc<NodeGeneration>,
    pub outbox: Outbox<Message>,
    pub inbox: Inbox<Message>,
    pub beat: Beat,
    pub source: Source,
    pub second: Option<Second>,
    pub traces: Option<traces::Settings>,
    pub purges: Arc<Purges>,
    /// What of the cache is kept for after a restart, if it is.
    pub keeping: Option<Keeping>,
    pub admin: admin::Parts,
    pub admin_listener: Option<admin::Listener>,
    pub gate: Gate,
    pub giver: Arc<Giver>,
    /// To the process before, while that ends.
    pub before: Arc<LimitsLink>,
    /// For a successor to be started from; `None` if none could take over.
    pub program: Option<Program>,
    /// The addresses, all of them, if the service manager keeps their sockets for the next process: they must not be shut down.
    pub stored: Option<Arc<[bool]>>,
}

/// Runs until SIGTERM or SIGINT, then drains the data cores. Errors: the runtime or the signal handlers cannot be set
/// up.
pub fn run(parts: Parts, ready: impl FnOnce(Result<(), String>)) -> Stopped {
    let Parts { data_cores, generation, second: redis, traces, purges, keeping, outbox, inbox, beat, source, .. } =
        parts;
    let Parts { admin, admin_listener, gate, giver, before, program, stored, .. } = parts;
    let keeping = keeping.map(Rc::new);
    let started = generation.snapshot.clone();
    let in_force_on = Rc::new(InForceOn::first(data_cores));
    let latest: Latest = Rc::new(RefCell::new(generation));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            ready(Err(format!("the background core cannot start: {error}")));
            return Stopped::Cut;
        }
    };
    // Channel indices: the data cores come first, then the I/O core.
    let notices = Rc::new(Notices::new(outbox, data_cores + 1));
    let passing = Passing { giver: giver.clone(), before, notices: notices.clone() };
    let admin = Admin::new(admin);
    let mut node = Node {
        admin: admin.clone(),
        shared: None,
        masters: None,
        latest: latest.clone(),
        in_force_on: in_force_on.clone(),
        inbox,
        reader: EventFdReader::default(),
        left: data_cores,
        said: HashMap::new(),
        traces: Exporter::new(traces),
        passing: passing.clone(),
    };
    let stopped = LocalSet::new().block_on(&runtime, async {
        let (mut stop, others) = match (StopSignals::new(&source), OtherSignals::new(&source)) {
            (Ok(stop), Ok(others)) => (stop, others),
            (Err(error), _) | (_, Err(error)) => {
                ready(Err(format!("signals cannot be handled: {error}")));
                return Stopped::Cut;
            }
        };
        ready(Ok(()));
        let panics = Panics::default();
        let traces = node.traces.clone();
        admin.count_spans(traces.clone());
        permanent("sending spans", &panics, {
            let traces = traces.clone();
            move || {
                let traces = traces.clone();
                async move { traces.run().await }
            }
        });
        permanent("sending notices", &panics, {
            let notices = notices.clone();
            move || {
                let notices = notices.clone();
                async move { notices.keep_sending().await }
            }
        });
        permanent("signal handling", &panics, {
            let (others, notices) = (Rc::new(tokio::sync::Mutex::new(others)), notices.clone());
            let (admin, upgrade) = (admin.clone(), Upgrade::new(program));
            move || {
                let (others, notices, admin, upgrade) =
                    (others.clone(), notices.clone(), admin.clone(), upgrade.clone());
                async move { others.lock().await.handle(&notices, data_cores, &admin, &upgrade).await }
            }
        });
        permanent("the heartbeat", &panics, move || {
            let beat = beat.clone();
            async move {
                loop {
                    beat.raise();
                    tokio::time::sleep(Duration::from_millis(BEAT_MS)).await;
                }
            }
        });
        // What ends as soon as another process has taken over.
        let mut until_given = Vec::new();
        if let Some(listener) = admin_listener {
            let (serving, measuring) = (admin.clone(), admin.clone());
            until_given.push(spawn_local(async move {
                while !gate.is_open() {
                    tokio::time::sleep(GATE_TICK).await;
                }
                if let Err(error) = serving.serve(listener).await {
                    error!("the admin listener failed: {error}");
                }
            }));
            permanent("measuring utilization", &panics, move || measuring.clone().measure());
        }
        if notify::is_wanted() {
            let admin = admin.clone();
            let telling = permanent("telling the service manager", &panics, move || keep_told(admin.clone()));
            until_given.push(telling);
        }
        let (counting, writing) = (admin.clone(), admin.clone());
        permanent("counting usage", &panics, move || {
            let admin = counting.clone();
            async move {
                loop {
                    admin.tick_usage();
                    tokio::time::sleep(COUNT_EVERY).await;
                }
            }
        });
        permanent("writing usage", &panics, move || {
            let admin = writing.clone();
            async move {
                loop {
                    tokio::time::sleep(WRITE_EVERY).await;
                    admin.write_usage().await;
                }
            }
        });
        let purging = (admin.clone(), notices.clone(), keeping.clone());
        permanent("purging", &panics, move || {
            let (admin, notices, keeping) = purging.clone();
            async move {
                loop {
                    admin.purged().await;
                    notices.tell(data_cores, &Notice::Purged);
                    if let Some(keeping) = &keeping {
                        let (number, table) = keeping.purged(admin.purges_told());
                        notices.tell_one(data_cores, &Notice::SavePurges { number, table });
                    }
                }
            }
        });
        if let Some(keeping) = &keeping {
            let snapshots = (admin.clone(), notices.clone(), keeping.interval_ms);
            until_given.push(permanent("asking for snapshots", &panics, move || {
                let (admin, notices, interval_ms) = snapshots.clone();
                async move { ask_for_snapshots(&admin, &notices, data_cores, interval_ms).await }
            }));
        }
        let reopening = (admin.clone(), notices.clone());
        permanent("opening the log again", &panics, move || {
            let (admin, notices) = reopening.clone();
            async move {
                loop {
                    admin.reopen_asked().await;
                    notices.tell_one(data_cores, &Notice::Reopen);
                }
            }
        });
        let told = keeping.as_ref().map_or((&[][..], &[][..]), |keeping| keeping.told());
        let limits = latest.borrow().snapshot.limits.clone();
        if let Some(second) = redis {
            match second::server(&second.settings) {
                Ok(server) => {
                    node.masters = Some(server.masters.clone());
                    if limits.nodes == LimitNodes::Shared {
                        let shared = share_limits(&second, server.clone(), limits.nodes_min, (&notices, data_cores), &panics);
                        admin.watch_limits(shared.clone());
                        node.shared = Some(shared);
                    }
                    let nodes = second::nodes(server.clone(), purges, &admin, told);
                    let (telling, listening) = (nodes.clone(), nodes.clone());
                    permanent("telling of purges", &panics, move || {
                        let nodes = telling.clone();
                        async move { nodes.keep_telling().await }
                    });
                    permanent("hearing of purges", &panics, move || {
                        let nodes = listening.clone();
                        async move { nodes.keep_listening().await }
                    });
                    let following = (Rc::new(second), server, nodes, notices.clone());
                    permanent("following the servers of Redis", &panics, move || {
                        let (second, server, nodes, notices) = following.clone();
                        async move {
                            let moved = |topology: &Arc<Topology>| {
                                // Before a core asks them.
                                nodes.moving(topology);
                                notices.tell(data_cores, &Notice::SecondLevel(topology.clone()));
                            };
                            server.masters.follow(&second.layout, &server.access, moved).await;
                        }
                    });
                }
                Err(why) => error!("redis: {why}"),
            }
        }
        limits::tell_states(&admin, &notices, data_cores);
        passing.listen(data_cores as u16, &started);
        let watching = Rc::new(Watching::new(data_cores, latest.clone(), notices.clone(), admin.clone()));
        watching.follow();
        let reloading = match source {
            Source::BuiltIn => Vec::new(),
            Source::File(path, origin) => {
                origin.warnings.iter().for_each(|warning| warn!("{warning}"));
                let stored = Stored::new(&origin);
                if origin.source.kind != "file" {
                    // From then on it is watched; it may have changed since, too.
                    admin.ask_reload(Trigger::Store);
                }
                let (latest, notices, admin) = (latest.clone(), notices.clone(), admin.clone());
                let (watching, former) = (watching.clone(), RefCell::default());
                let (told, seen) = (RefCell::default(), RefCell::default());
                let reloader = Reloader {
                    path,
                    started,
                    latest,
                    data_cores,
                    notices,
                    admin,
                    watching,
                    in_force_on,
                    former,
                    told,
                    seen,
                    stored,
                    traces: traces.clone(),
                };
                keep_current(&Rc::new(reloader), &panics)
            }
        };
        tokio::select! {
            name = stop.any() => info!("{name}: stopping"),
            () = admin.drain_asked() => info!("drain requested on the admin listener"),
            _ = giver.given() => info!("another process accepts from now on: draining"),
            () = node.all_drained() => {}
        }
        admin.draining();
        // A successor may have come at the same time.
        let kept = if giver.stop() { None } else { giver.kept() };
        match kept {
            // The service manager listens to the other one, and so do clients of the admin listener.
            Some(_) => until_given.iter().for_each(JoinHandle::abort),
            None => notify::stopping(&admin.summary(0.0)),
        }
        let delay = Duration::from_millis(latest.borrow().snapshot.server.drain_delay_ms);
        let is_hurried = kept.is_none() && !delay.is_zero() && {
            info!("not ready from now on, and accepting for {delay:?} more; a second signal ends it at once");
            notices.tell(data_cores, &Notice::Unready);
            tokio::select! {
                _ = stop.any() => true,
                () = tokio::time::sleep(delay) => false,
                () = node.all_drained() => false,
            }
        };
        // Neither health nor configuration matters any more.
        reloading.iter().for_each(JoinHandle::abort);
        watching.stop();
        let drain = match (kept, &latest.borrow().snapshot.server) {
            (None, _) if is_hurried => Duration::ZERO,
            (None, server) => Duration::from_millis(server.timeout_drain_ms),
            (Some(_), server) => Duration::from_millis(server.timeout_takeover_ms),
        };
        info!("draining, at most {} s; a second signal ends it at once", drain.as_secs());
        let left = match (kept, stored) {
            (Some(kept), _) => Notice::HandOver { kept: kept.addresses.clone(), grace_ms: IDLE_GRACE_MS },
            // What comes from now on waits for the next process.
            (None, Some(kept)) => Notice::HandOver { kept, grace_ms: 0 },
            (None, None) => Notice::Drain,
        };
        passing.hand_over(data_cores, &latest);
        notices.tell(data_cores, &left);
        let stopped = tokio::select! {
            () = node.all_drained() => Stopped::Drained,
            () = tokio::time::sleep(drain) => Stopped::Cut,
            _ = stop.any() => Stopped::Cut,
        };
        if stopped == Stopped::Cut {
            notices.tell(data_cores, &Notice::Halt);
            let _ = tokio::time::timeout(HALT_LIMIT, node.all_drained()).await;
        }
        // What cores gave back at their end is still to be counted by others.
        node.read_for(LAST_COUNTS).await;
        let _ = tokio::time::timeout(HALT_LIMIT, admin.write_usage()).await;
        traces.finish(SPANS_LIMIT).await;
        // A successor keeps its own in the same place.
        if keeping.is_some() && kept.is_none() {
            tokio::select! {
                // The I/O core has told why it failed, if it did.
                _ = admin.take_snapshot() => {}
                () = node.keep_reading() => {}
                () = tokio::time::sleep(SNAPSHOT_LIMIT) => warn!("cache: the last snapshot takes too long, and is given up"),
                name = stop.any() => info!("{name}: the last snapshot is given up"),
            }
        }
        notices.tell(data_cores + 1, &Notice::Stop);
        let _ = tokio::time::timeout(HALT_LIMIT, notices.all_sent()).await;
        stopped
    });
    // A lookup by the system's resolver may block its thread for long; do not wait for it.
    runtime.shutdown_background();
    stopped
}

/// Sends the service manager a line on what the node does, forever.
async fn keep_told(admin: Rc<Admin>) {
    let mut before = admin.requests();
    loop {
        tokio::time::sleep(STATUS_EVERY).await;
        let now = admin.requests();
        notify::status(&admin.summary(now.saturating_sub(before) as f64 / STATUS_EVERY.as_secs_f64()));
        before = now;
    }
}

/// Has the I/O core write a snapshot whenever one is wanted, and on schedule, forever.
async fn ask_for_snapshots(admin: &Admin, notices: &Notices, io_core: usize, interval_ms: u64) {
    let interval = Duration::from_millis(interval_ms);
    loop {
        tokio::select! {
            () = admin.snapshot_wanted() => {}
            () = tokio::time::sleep(interval), if interval_ms > 0 => {}
        }
        notices.tell_one(io_core, &Notice::Snapshot { number: admin.next_snapshot() });
    }
}

/// Starts the tasks that keep the configuration current.
fn keep_current(reloader: &Rc<Reloader>, panics: &Panics) -> Vec<JoinHandle<()>> {
    let [reloads, watches, refreshes, stores, hears] = [(); 5].map(|()| reloader.clone());
    vec![
        permanent("reloading the configuration", panics, move || {
            let reloads = reloads.clone();
            async move { reloads.keep_reloading().await }
        }),
        permanent("watching the configuration's files", panics, move || {
            let watches = watches.clone();
            async move { watches.watch_files().await }
        }),
        permanent("refreshing the configuration", panics, move || {
            let refreshes = refreshes.clone();
            async move { refreshes.refresh().await }
        }),
        permanent("watching the configuration's store", panics, move || {
            let stores = stores.clone();
            async move { stores.stored.watch(&stores.admin, || stores.is_watching()).await }
        }),
        permanent("hearing of the configuration's store", panics, move || {
            let hears = hears.clone();
            async move { hears.stored.hear(&hears.admin).await }
        }),
    ]
}

/// Starts a task that runs until the node ends; one that panics is reported and restarted.
fn permanent<F: Future<Output = ()> + 'static>(
    called: &str,
    panics: &Panics,
    start: impl Fn() -> F + 'static,
) -> JoinHandle<()> {
    let tell: Rc<dyn Fn(Finding)> = Rc::new(|finding| {
        if let Finding::Log(text) = finding {
            error!("{text}");
        }
    });
    spawn_local(keep(called.to_owned(), Pauses::default(), panics.clone(), tell, start))
}

/// What the admin listener is told of a generation.
pub fn in_force(generation: &NodeGeneration) -> InForce {
    InForce {
        generation: generation.number,
        snapshot: generation.snapshot.clone(),
        labels: Arc::new(generation.labels()),
    }
}

/// The state of the data cores, from their messages.
struct Node {
    admin: Rc<Admin>,
    shared: Option<Rc<SharedLimits>>,
    masters: Option<Rc<Masters>>,
    latest: Latest,
    in_force_on: Rc<InForceOn>,
    inbox: Inbox<Message>,
    reader: EventFdReader,
    /// Data cores that have not stopped yet.
    left: usize,
    /// When each message was last printed.
    said: HashMap<String, u64>,
    traces: Rc<Exporter>,
    passing: Passing,
}

impl Node {
    /// Receives messages until every data core has drained.
    async fn all_drained(&mut self) {
        while self.left > 0 {
            self.read_all();
            if self.left > 0 {
                self.inbox.wait(&mut self.reader).await;
            }
        }
    }

    /// Receives messages for so long.
    async fn read_for(&mut self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.keep_reading()).await;
    }

    /// Receives messages, forever.
    async fn keep_reading(&mut self) {
        loop {
            self.read_all();
            self.inbox.wait(&mut self.reader).await;
        }
    }

    fn read_all(&mut self) {
        while let Some(message) = self.inbox.take() {
            self.read(message);
        }
    }

    fn read(&mut self, message: Message) {
        match message {
            Message::SnapshotEnded { number, result } => self.admin.snapshot_ended(number, result),
            Message::PurgesSaved { number, result } => self.admin.purges_saved(number, result),
            Message::Drained { .. } => self.left = self.left.saturating_sub(1),
            Message::Spans(spans) => self.traces.add(spans),
            Message::QuotaFetch { limit, fetch, from } => {
                if let Some(shared) = &self.shared {
                    shared.ask(Question { limit, fetch, from });
                }
            }
            Message::QuotaKept { counted } => self.admin.counted(counted),
            Message::QuotaStates { from, number, states } => self.admin.limits_told(from.0, number, &states),
            Message::QuotaHanded { .. } | Message::QuotaAsk { .. } => self.passing.read(message),
            Message::QuotaSettle { .. } | Message::QuotaGrantBefore { .. } => self.passing.read(message),
            Message::InForce { from, number } => self.in_force_on.set(usize::from(from.0), number),
            Message::Upstream(UpstreamMessage::Turned { backend, from, change }) => {
                let Some(name) = self.backend(backend) else { return };
                let name = &*name;
                let (core, reason) = (from.0, self.admin.turned(name, change.reason));
                match change.to {
                    State::Serving => {
                        info!(
                            backend = name,
                            reason, core, "backend {name} is in service again ({reason}, core {core})"
                        );
                    }
                    State::Tripped | State::Probing => {
                        let for_ms = change.for_ms;
                        warn!(
                            backend = name,
                            reason,
                            core,
                            for_ms,
                            "backend {name} is out of service for {for_ms} ms ({reason}, core {core})"
                        );
                    }
                }
            }
            Message::Upstream(UpstreamMessage::Cooled { model, target, for_ms }) => {
                let generation = self.latest.borrow().clone();
                let Some(model) = generation.model(model).map(|model| &generation.snapshot.models[model]) else {
                    return;
                };
                let Some(to) = model.targets.get(target) else { return };
                let (name, model) = (&generation.backends[to.backend].name, &model.name);
                self.say_at_times(format!(
                    "backend {name} gets no requests for model {model} for {for_ms} ms, as it requested"
                ));
            }
            Message::SecondLevelLost { from: _, why } => {
                self.masters.iter().for_each(|masters| masters.doubt());
                self.say_at_times(format!("redis: {why}"));
            }
            Message::SecondLevelMoved { from: _ } => self.masters.iter().for_each(|masters| masters.doubt()),
            Message::SecondLevelLostPurges { from: _, lost } => self.admin.purges_lost(&lost),
            Message::Upstream(UpstreamMessage::Insecure { backend, from: _, fault }) => {
                let Some(name) = self.backend(backend) else { return };
                self.say_at_times(format!("backend {name}: no secure connection: {fault}"));
            }
            _ => {}
        }
    }

    /// The name of a backend of the latest generation.
    fn backend(&self, id: BackendId) -> Option<Arc<str>> {
        let generation = self.latest.borrow();
        generation.backend(id).map(|index| generation.backends[index].name.clone())
    }

    /// Prints a message unless it was printed recently.
    fn say_at_times(&mut self, text: String) {
        let now = now_ms();
        self.said.retain(|_, at| now.saturating_sub(*at) < REPEAT_MS);
        if let Entry::Vacant(place) = self.said.entry(text) {
            warn!("{}", place.key());
            place.insert(now);
        }
    }
}
