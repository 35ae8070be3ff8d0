//! The gateway of a story: its real cores, each with a listener, its mail and its tick, in the places of a simulated node.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use ringway::config::load::load;
use ringway::config::snapshot::{Address, Backend, Concurrent, Counted, Snapshot};
use ringway::exchange::board::Board;
use ringway::exchange::core::Core;
use ringway::exchange::deliver::deliver;
use ringway::exchange::generation::{Current, Generation};
use ringway::exchange::message::Message;
use ringway::exchange::tick;
use ringway::net::channel::{Notifier, Outbox, connect};
use ringway::net::sim::{Place, TaskId, World, between};
use ringway::net::{Dial, EventFdReader, Listener, now_us, shutdown_both, sleep_ms, spawn, watch};
use ringway::observe::counters::{Counter, Counters};
use ringway::observe::snapshots::RestoreResult;
use ringway::serve::{Acceptor, connection, moves};
use ringway::upstream::message::UpstreamMessage;
use ringway::upstream::node::{self, BackendId, NodeGeneration};
use ringway::wire::cluster::Topology;
use shards::CoreId;

use crate::backend::Speaks;
use crate::client::Secrecy;
use crate::keep::{Disk, open_second};
use crate::reload::{Acknowledged, Round, Sent};
use crate::secret;
use crate::watch::Watch;

use crate::ledger::{Ledger, Told, recorded_tokens};

/// What a story chooses of a configuration.
#[derive(Clone, Debug)]
pub struct Setup {
    /// There is a listener with TLS, too.
    pub secure: bool,
    pub cores: usize,
    pub backends: usize,
    /// Keys of the tenants; none is open access.
    pub tenants: usize,
    pub cache_bytes: u64,
    pub ttl_ms: u64,
    pub max_entry_bytes: u64,
    pub follow_ms: u64,
    pub total_ms: u64,
    pub gap_ms: u64,
    pub balance: &'static str,
    pub retries: u32,
    /// A second model stands behind the first.
    pub fallback: bool,
    /// Of 100 requests, how many may be sent twice.
    pub hedge: u32,
    /// Turns at the model and at each backend, and places to wait for one; none is plenty.
    pub turns: Option<(u32, u32)>,
    /// Failures in a row that take a backend out of service.
    pub eject_errors: u32,
    /// How long expired answers may serve in need.
    pub stale_ms: u64,
    /// How many requests a backend gets is found.
    pub adapts: bool,
    pub log: bool,
    /// What each tenant may spend.
    pub limits: TenantLimits,
    /// So many of the backends, from the last one on, speak HTTP/2.
    pub http2: usize,
    /// Connections to each of those, and streams on each.
    pub streams: (u32, u32),
    /// Cores give connections to others at any moment.
    pub gives: bool,
    /// Answers are kept in Redis, too.
    pub second: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantLimits {
    None,
    /// More than any story needs.
    Wide,
    /// Less than most stories need.
    Narrow,
}

impl TenantLimits {
    fn lines(self) -> &'static str {
        match self {
            TenantLimits::None => "",
            TenantLimits::Wide => {
                "requests_per_day = 100_000\ntokens_per_day = 1_000_000_000\nconcurrent_requests = 10_000\n\
                 budget = { amount = \"9999999\", period = \"1mo\" }\n"
            }
            TenantLimits::Narrow => {
                "requests_per_day = 12\ntokens_per_day = 9_000\nconcurrent_requests = 4\n\
                 budget = { amount = \"20000\", period = \"1w\" }\n"
            }
        }
    }
}

impl Setup {
    pub fn speaks(&self, backend: usize) -> Speaks {
        if backend + self.http2 >= self.backends { Speaks::Http2 } else { Speaks::Http1 }
    }
}

pub fn gateway(secrecy: Secrecy) -> Dial {
    let port = if secrecy == Secrecy::Tls { 8443 } else { 8080 };
    Dial::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
}

/// Where a backend is at first.
pub fn backend(index: usize) -> Dial {
    homes(index)[0].clone()
}

/// Wherever a backend may be.
pub fn homes(index: usize) -> [Dial; 2] {
    [1, 2].map(|net| Dial::Tcp(SocketAddr::from(([10, 0, net, index as u8], 8000))))
}

pub fn key(tenant: usize) -> String {
    format!("key-{tenant}")
}

/// What a generation is made of.
pub fn parts(setup: &Setup, round: &Round) -> node::Parts {
    let snapshot = Arc::new(snapshot(setup, round));
    let address = |backend: &Backend| match &backend.address {
        Address::Tcp { host, port } => Dial::Tcp(SocketAddr::new(host.parse().expect("an IP address"), *port)),
        Address::Unix(path) => Dial::Unix(path.clone()),
    };
    let addresses: Vec<Arc<[Dial]>> = snapshot.backends.iter().map(|backend| [address(backend)].into()).collect();
    node::Parts { tls: vec![None; snapshot.backends.len()], snapshot, addresses, listeners: Vec::new() }
}

fn snapshot(setup: &Setup, round: &Round) -> Snapshot {
    use sha2::{Digest, Sha256};
    let log = if setup.log { "stdout" } else { "off" };
    let mut text = format!(
        "[server]\nlisten = [\"127.0.0.1:8080\"]\ntimeout_head = \"2s\"\ntimeout_body = \"2s\"\ntimeout_write = \"3s\"\n\
         timeout_idle = \"20s\"\ntimeout_drain = \"30s\"\n\
         [log]\naccess = \"{log}\"\n[cache]\nttl = \"{}ms\"\nmax_entry = \"{}\"\ntimeout_follow = \"{}ms\"\n\
         stale_if_error = \"{}ms\"\n",
        setup.ttl_ms, setup.max_entry_bytes, setup.follow_ms, setup.stale_ms,
    );
    for &index in &round.backends {
        let Dial::Tcp(address) = backend(index) else { continue };
        text.push_str(&format!(
            "[[backend]]\nname = \"b{index}\"\nurl = \"http://{address}\"\ntimeout_connect = \"1s\"\n\
             timeout_request = \"{}ms\"\ntimeout_stream_idle = \"{}ms\"\ntimeout_idle = \"{}s\"\napi_key = \"generation-{}\"\napi_key_field = \"x-api-key\"\nconnections_min = 0\nhttp2_connections_min = 0\n\
             timeout_head = \"{}ms\"\ntimeout_first_token = \"{}ms\"\nhealth_interval = \"0s\"\neject_errors = {}\neject_time = \"1s\"\nconnections_max = {}\n",
            setup.total_ms,
            setup.gap_ms,
            round.timeout_idle_s,
            round.number,
            setup.gap_ms,
            setup.gap_ms,
            setup.eject_errors,
            setup.turns.map_or(1000, |(turns, _)| turns) + round.connections_more,
        ));
        if setup.adapts {
            text.push_str("adaptive_concurrency = true\n");
        }
        if setup.speaks(index) == Speaks::Http2 {
            let (connections, streams) = setup.streams;
            text.push_str(&format!(
                "protocol = \"http2\"\nhttp2_connections_max = {connections}\nhttp2_streams_max = {streams}\n"
            ));
        }
    }
    let targets: Vec<String> =
        round.backends.iter().map(|index| format!("{{ backend = \"b{index}\", model = \"real-m\" }}")).collect();
    let (in_flight, queue) = setup.turns.unwrap_or((1000, 1000));
    let in_flight = in_flight + round.model_more;
    let model = format!(
        "balance = \"{}\"\nbackends = [{}]\nretries = {}\nhedge_percent = {}\nmax_concurrent_requests = {in_flight}\nmax_pending_requests = {queue}\n\
         timeout_queue = \"2s\"\nprice_input = 1_000_000\nprice_output = \"500000.5\"\n",
        setup.balance,
        targets.join(", "),
        setup.retries,
        setup.hedge,
    );
    // Of those stories in which something else is drawn, too, so that no seed tells another one than before.
    let drains = setup.gives && setup.stale_ms == 0;
    let model = if drains { model + "on_client_disconnect = \"drain\"\n" } else { model };
    let fallback = if setup.fallback { "fallback = [\"spare\"]\n" } else { "" };
    text.push_str(&format!("[[model]]\nname = \"m\"\n{model}{fallback}"));
    if setup.fallback {
        text.push_str(&format!("[[model]]\nname = \"spare\"\n{model}"));
    }
    for &tenant in &round.tenants {
        let hash: String = Sha256::digest(key(tenant)).iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!(
            "[[tenant]]\nname = \"t{tenant}\"\nkeys = [\"sha256:{hash}\"]\npriority = {}\nweight = {}\n{}",
            tenant % 2 * 5,
            tenant + 1,
            setup.limits.lines()
        ));
    }
    let nothing = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let loaded = load(&text, Path::new("story.toml"), &|_| None, &nothing);
    let mut snapshot = loaded.unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    // Smaller than a user may choose, so that few answers fill it.
    snapshot.cache.memory_bytes = setup.cache_bytes;
    snapshot
}

/// A tick, the end of a body that is waited for, and what a close takes.
const REMOVED_MS: u64 = 3500;

pub struct House {
    pub cores: Vec<Rc<Current>>,
    pub listeners: Vec<Rc<Listener>>,
    /// The lines that reached the I/O core.
    log: Rc<RefCell<Vec<u8>>>,
    watch: RefCell<Watch>,
    /// Tasks that live as long as their core: mail and tick.
    pub servants: Vec<TaskId>,
    /// What the background core sends by.
    pub background: Rc<Outbox<Message>>,
    pub board: Arc<Board>,
    /// What outlives its process.
    pub disk: Disk,
    /// The newest that was sent.
    pub latest: RefCell<Arc<NodeGeneration>>,
    /// Those that cores have left behind: each ends with the last exchange that holds it.
    former: Rc<RefCell<Vec<Weak<Generation>>>>,
    /// By core and backend: since when no generation that the core has in force or in use names it, in milliseconds.
    gone_since: RefCell<BTreeMap<(usize, usize), u64>>,
}

impl House {
    /// Builds it from what `disk` has of an earlier process.
    pub fn build(world: &World, setup: &Setup, ledger: &Ledger, disk: &Disk) -> House {
        let board = Arc::new(Board::new(setup.cores as u16));
        disk.recall(board.purges());
        let round = Round::first(setup);
        let generation = Arc::new(NodeGeneration::first(setup.cores as u16, parts(setup, &round)));
        if ledger.look(|book| book.generations.is_empty()) {
            ledger.sent(Sent { tenants: round.tenants, at_us: 0, in_force_us: Some(0) });
        }
        // Behind the data cores stand the I/O core and the background core.
        let notifiers: Vec<_> = (0..setup.cores + 2).map(|_| Notifier::waker()).collect();
        let mut posts = connect::<Message>(&notifiers);
        let (background, mut answers) = posts.pop().expect("the background core has mail");
        let mut house = House {
            cores: Vec::new(),
            listeners: Vec::new(),
            log: Rc::default(),
            watch: RefCell::default(),
            servants: Vec::new(),
            background: Rc::new(background),
            board: board.clone(),
            disk: disk.clone(),
            latest: RefCell::new(generation.clone()),
            former: Rc::default(),
            gone_since: RefCell::default(),
        };
        let acknowledged = Acknowledged::new(setup.cores, ledger.clone());
        house.servants.push(world.spawn(Place::Outside, async move {
            let mut reader = EventFdReader;
            loop {
                answers.wait(&mut reader).await;
                while let Some(message) = answers.take() {
                    if let Message::InForce { from, number } = message {
                        acknowledged.hear(usize::from(from.0), number);
                    }
                }
            }
        }));
        let shared = secret::shared();
        for (index, (outbox, mut inbox)) in posts.into_iter().enumerate() {
            let place = Place::Core(index);
            if index >= setup.cores {
                let (log, disk) = (house.log.clone(), disk.clone());
                house.servants.push(world.spawn(Place::Outside, async move {
                    let mut reader = EventFdReader;
                    loop {
                        inbox.wait(&mut reader).await;
                        while let Some(message) = inbox.take() {
                            let (to, reply) = match message {
                                Message::Log { from, mut lines, dropped: 0 } => {
                                    assert!(lines.ends_with(b"\n"), "whole lines");
                                    log.borrow_mut().append(&mut lines);
                                    (from, Some(Message::LogBuffer { lines, lost: 0 }))
                                }
                                Message::SnapshotSlice { from, slice } => (from, disk.write(from, &slice)),
                                Message::TakenBack { from, taken } => {
                                    disk.took_back(taken.count(RestoreResult::Restored));
                                    (from, None)
                                }
                                _ => continue,
                            };
                            reply.into_iter().for_each(|reply| _ = outbox.post(usize::from(to.0), reply));
                        }
                    }
                }));
                continue;
            }
            let (id, count) = (CoreId(index as u16), setup.cores as u16);
            let (generation, board) = (generation.clone(), board.clone());
            let current = world.at(place, || {
                let core = Core::new(id, count, &generation.snapshot, &board, outbox);
                Rc::new(Current::new(core, generation).expect("no connection is to be secured"))
            });
            if setup.second {
                world.at(place, || open_second(current.core(), disk));
            }
            house.cores.push(current.clone());
            for &secrecy in if setup.secure { &[Secrecy::Plain, Secrecy::Tls][..] } else { &[Secrecy::Plain] } {
                let own = current.clone();
                let listener = world.at(place, || Rc::new(Listener::bind(&gateway(secrecy))));
                house.listeners.push(listener.clone());
                let acceptor = match secrecy {
                    Secrecy::Plain => Rc::new(Acceptor::plain()),
                    Secrecy::Tls => Rc::new(secret::acceptor(&shared)),
                };
                world.spawn(place, async move {
                    while let Ok(socket) = listener.accept().await {
                        spawn(&own.core().panics, connection(own.clone(), socket, acceptor.clone()));
                    }
                });
            }
            let (own, ledger, former) = (current.clone(), ledger.clone(), house.former.clone());
            house.servants.push(world.spawn(place, async move {
                let mut reader = EventFdReader;
                loop {
                    inbox.wait(&mut reader).await;
                    while let Some(message) = inbox.take() {
                        if let Message::Upstream(UpstreamMessage::Addresses { backend, addresses }) = &message {
                            let (BackendId(backend), addresses, at_us) = (*backend, addresses.clone(), now_us());
                            let backend = backend as usize;
                            ledger.tell(Told { core: index, backend, addresses, at_us });
                        }
                        if let Message::Generation(_) = &message {
                            former.borrow_mut().push(Rc::downgrade(&own.get()));
                        }
                        match message {
                            Message::Connection(moved) => moves::take(&own, moved),
                            Message::ConnectionTaken => moves::taken(own.core()),
                            message => deliver(&own, message),
                        }
                    }
                }
            }));
            if setup.gives && count > 1 {
                let own = current.clone();
                house.servants.push(world.spawn(place, async move {
                    loop {
                        sleep_ms(between(1, 200)).await;
                        let to = (u64::from(id.0) + between(1, u64::from(count) - 1)) % u64::from(count);
                        own.core().balance.give(CoreId(to as u16), between(0, 2) as u16);
                    }
                }));
            }
            house.servants.push(world.spawn(place, async move {
                loop {
                    sleep_ms(1000).await;
                    tick::tick(&current);
                }
            }));
        }
        house.take_back(world, setup);
        house
    }

    /// The name of a backend leads to `addresses` from now on.
    pub fn moves(&self, backend: usize, addresses: Vec<Dial>) {
        let addresses: Arc<[Dial]> = addresses.into();
        for core in 0..self.cores.len() {
            let message = Message::Upstream(UpstreamMessage::Addresses {
                backend: BackendId(backend as u32),
                addresses: addresses.clone(),
            });
            assert!(self.background.post(core, message).is_ok(), "a core has mail");
        }
    }

    /// Accepts nothing more and lets what runs come to its end.
    pub fn drain(&mut self, world: &World) {
        self.listeners.drain(..).for_each(|listener| shutdown_both(listener.id()));
        for (index, core) in self.cores.iter().enumerate() {
            core.core().handle.draining.set(true);
            let own = core.core().clone();
            world.spawn(Place::Core(index), async move {
                while !own.is_idle() {
                    watch::close_idle(watch::Idle::All);
                    sleep_ms(10).await;
                }
            });
        }
    }

    /// What is in force on each core.
    pub fn generations(&self) -> Vec<Rc<Generation>> {
        self.cores.iter().map(|core| core.get()).collect()
    }

    /// What holds from step to step; asked after each.
    pub fn watch(&self, world: &World) {
        // A former generation may ask what the current one would not.
        if self.former.borrow().iter().all(|former| former.strong_count() == 0) {
            self.watch.borrow_mut().look(world.steps(), &self.generations());
        }
    }

    /// What holds at every moment.
    pub fn check(&self) {
        for core in self.generations() {
            assert_eq!(core.panics.count(), 0, "a task of core {:?} panicked", core.id);
            if let Ok(shard) = core.cache.shard.try_borrow() {
                shard.check();
            }
            core.upstreams.models.iter().for_each(|model| model.queue.waiting.borrow().check());
            for backend in &core.upstreams.backends {
                if let Ok(pool) = backend.pool.try_borrow() {
                    pool.check();
                }
                backend.queue.borrow().check();
                if let Some(found) = &backend.concurrency {
                    found.borrow().check();
                }
                backend.breaker.borrow().check();
                backend.streams.check();
            }
        }
        self.check_caps();
    }

    /// Nothing is kept open to a backend that no generation names, in force or in use: connections of removed backends are closed as
    /// they fall idle. To be asked now and then; not where cores stand still.
    pub fn check_removed(&self, world: &World, setup: &Setup) {
        let now_ms = now_us() / 1000;
        let mut gone_since = self.gone_since.borrow_mut();
        for (core, current) in self.generations().iter().enumerate() {
            let former = self.former.borrow();
            let is_in_use = former.iter().filter_map(Weak::upgrade).any(|former| usize::from(former.id.0) == core);
            for backend in 0..setup.backends {
                let is_named = current.snapshot.backends.iter().any(|known| known.name == format!("b{backend}"));
                if is_named || is_in_use {
                    gone_since.remove(&(core, backend));
                    continue;
                }
                let since_ms = *gone_since.entry((core, backend)).or_insert(now_ms);
                let open: usize = homes(backend).iter().map(|home| world.open_to(Place::Core(core), home)).sum();
                let is_late = now_ms.saturating_sub(since_ms) > REMOVED_MS;
                assert!(
                    !is_late || open == 0,
                    "core {core} keeps {open} connections to backend {backend}, which is gone"
                );
            }
        }
    }

    /// Caps are the node's, whichever cores use them; no permit is lost or made on its way between cores.
    fn check_caps(&self) {
        let all = self.generations();
        let (first, cores) = (&all[0], || all.iter());
        if cores().any(|core| core.number() != first.number()) {
            return; // some have not heard yet
        }
        for (model, settings) in first.snapshot.models.iter().enumerate() {
            let (most, permits) = (settings.max_concurrent_requests, &first.upstreams.models[model].queue.permits);
            let held: u32 = cores().map(|core| core.upstreams.models[model].queue.permits.held()).sum();
            assert_eq!(held + permits.free(), most, "permits of a model");
            let taken: u32 = cores().map(|core| core.upstreams.models[model].queue.waiting.borrow().taken()).sum();
            assert!(taken <= most, "{taken} requests with a model, at most {most}");
        }
        for (backend, settings) in first.snapshot.backends.iter().enumerate() {
            let of = |core: usize| &all[core].upstreams.backends[backend];
            if !of(0).permits.are_lent() {
                continue;
            }
            let sum = |count: &dyn Fn(usize) -> u32| (0..all.len()).map(count).sum::<u32>();
            let most = settings.connections.max;
            let held = sum(&|core| of(core).permits.held());
            assert_eq!(held + of(0).permits.free(), most, "permits of a backend");
            let open = sum(&|core| of(core).pool.borrow().open() as u32);
            assert!(open <= most, "{open} connections to a backend, at most {most}");
            let most = settings.http2_connections.max.max(all.len() as u32);
            let held = sum(&|core| of(core).http2_permits.held());
            assert_eq!(held + of(0).http2_permits.free(), most, "permits for connections of HTTP/2");
            let open = sum(&|core| of(core).streams.streams.borrow().counted() as u32);
            assert!(open <= held, "{open} connections of HTTP/2 with {held} permits");
        }
    }

    /// What was reserved is settled or free: each ledger counts what was used, no core holds anything, and nobody runs. Of how
    /// many limits something was used.
    pub fn check_limits(&self) -> u64 {
        let mut spent = 0;
        let all = self.generations();
        for (index, tenant) in all[0].snapshot.tenants.iter().enumerate() {
            let recorded = recorded_tokens(all.iter().map(|core| &*core.counters), all[0].tenant_series(index));
            for limit in &tenant.limits.rates {
                let (mut counted, mut held, mut used) = (0, 0, 0);
                for core in &all {
                    let of_core = core.quota.counted(limit.id);
                    (counted, held, used) = (counted + of_core.0, held + of_core.1, used + of_core.2);
                }
                assert_eq!((counted, held), (used, 0), "counted and held of what {} has used: {limit:?}", tenant.name);
                if limit.counted == Counted::Tokens {
                    assert_eq!(recorded, used, "tokens that {} is told it has used, and that count", tenant.name);
                }
                let is_exact = limit.counted == Counted::Requests;
                spent += u64::from(used > 0);
                assert!(!is_exact || used <= limit.amount, "{used} of {limit:?}");
            }
            let running = tenant.limits.concurrent.as_ref().map_or(0, Concurrent::running);
            assert_eq!(running, 0, "running requests of {}", tenant.name);
        }
        spent
    }

    /// What holds once nobody asks any more: all that was taken has been given back, once.
    pub fn check_idle(&self) {
        self.check_limits();
        let held = self.former.borrow().iter().filter(|former| former.strong_count() > 0).count();
        assert_eq!(held, 0, "generations that nobody should hold any more");
        for core in self.generations() {
            let counters = &core.counters;
            let open = [&counters.connections, &counters.exchanges, &counters.flights, &counters.permits];
            assert_eq!(open.map(|counter| counter.get()), [0; 4], "core {:?} holds: {counters:?}", core.id);
            let left: Vec<String> = core.flights.joinable.borrow().values().map(|flight| flight.describe()).collect();
            assert!(left.is_empty(), "flights in the map of core {:?}: {left:#?}", core.id);
            assert_eq!(core.flights.feeding.borrow().len(), 0, "flights that feed others: {}", self.describe());
            assert_eq!(core.flights.displaced.borrow().len(), 0, "displaced copies: {}", self.describe());
            assert_eq!(core.cache.shard.borrow().flights().len(), 0, "flights owned by core {:?}", core.id);
            for model in &core.upstreams.models {
                assert_eq!(model.queue.waiting.borrow().taken(), 0, "turns at a model of core {:?}", core.id);
            }
            for state in &core.upstreams.backends {
                assert_eq!(state.pool.borrow().leased(), 0, "leases of core {:?}", core.id);
                assert_eq!(state.in_flight(), 0, "plans of core {:?}", core.id);
                assert_eq!(state.streams.open(), 0, "streams of core {:?}", core.id);
                assert_eq!(state.queue.borrow().taken(), 0, "turns of core {:?}", core.id);
            }
        }
    }

    /// A counter over all cores.
    pub fn sum(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        self.cores.iter().map(|core| counter(&core.core().counters).get()).sum()
    }

    /// The request ids in the log, each as often as it stands there; all of it once every core has handed its lines in.
    pub fn logged(&self, world: &World) -> Vec<String> {
        for (index, core) in self.cores.iter().enumerate() {
            world.at(Place::Core(index), || core.core().flush_log());
        }
        world.run_ms(100);
        let log = self.log.borrow();
        let lines = std::str::from_utf8(&log).expect("the log is text").lines();
        let id = |line| -> String {
            let value: serde_json::Value = serde_json::from_str(line).expect("a line of the log is JSON");
            value["id"].as_str().expect("each line has its request's id").to_owned()
        };
        lines.map(id).collect()
    }

    /// Counters and flights of each core, for a reader in search of what is left.
    pub fn describe(&self) -> String {
        let core = |core: &Rc<Current>| {
            let core = core.core();
            let flights: Vec<String> =
                core.flights.joinable.borrow().values().map(|flight| flight.describe()).collect();
            let feeding: Vec<String> = core.flights.feeding.borrow().values().map(|flight| flight.describe()).collect();
            let owned = core.cache.shard.borrow().flights().len();
            format!(
                "{:?}: {:?}\nowns {owned} flights, takes part in {flights:?}, feeds {feeding:?}\n",
                core.id, core.counters
            )
        };
        self.cores.iter().map(core).collect()
    }

    /// Ends it: everything of it goes.
    pub fn close(self, world: &World) {
        for (index, current) in self.cores.iter().enumerate() {
            world.at(Place::Core(index), || {
                if let Some(second) = current.core().cache.second.get() {
                    second.set_topology(&Topology::default(), &current.core().panics);
                }
            });
        }
        for task in self.servants {
            world.kill(task);
        }
        for (index, core) in self.cores.into_iter().enumerate() {
            world.at(Place::Core(index), || {
                drop(core);
            });
        }
    }
}
