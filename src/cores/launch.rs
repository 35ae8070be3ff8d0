//! From a configuration to running threads, and back. Either everything starts or nothing does: each thread reports
//! before the node is considered ready.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use shards::CoreId;
use shards::quota::{Counted, LimitId};
use tracing::{error, info, warn};

pub use super::background::reload::Source;
use super::background::{self, Stopped};
use super::data::{self, Parts};
use super::listen::{Bindings, Bound};
use super::preflight::{Preflight, preflight};
use super::supervise::{Beat, Event, Gate, Pace, Who, start, supervise};
use super::takeover::{self, Giver, Inherited, LimitsLink, Owner, Program};
use super::{io, kept, listen, notify, resolve, second, secure, state, steering, traces};
use crate::config::snapshot::{FastOpen, LimitNodes, Listen, Snapshot};
use crate::control::admin::{self, CorePlan};
use crate::control::usage;
use crate::exchange::board::Board;
use crate::exchange::quota::Handed;
use crate::host::placement::{plan_here, steered_here};
use crate::net::channel::{self, Notifier};
use crate::net::runtime::run_data_core;
use crate::net::{now_ms, prefer_memory_of, refuse_huge_pages};
use crate::observe::told;
use crate::serve::peers::Peers;
use crate::upstream::node::{self, NodeGeneration};

/// How long the last messages may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long the cores may take to count what is inherited, and how often it is looked whether they have. Nobody accepts meanwhile.
const HANDED_LIMIT_MS: u64 = 1_000;
const HANDED_TICK: Duration = Duration::from_millis(1);

/// Where the listening sockets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    Anew,
    /// From the process that has them, if there is one.
    TakeOver,
}

/// Runs the node on this thread and others until it is stopped. `ready` is called with the client and admin addresses
/// once every core serves. Errors: nothing was started, a core died, or something had to be aborted at the end; the
/// reason was printed to standard error.
pub fn run(
    snapshot: Snapshot,
    source: Source,
    begin: Begin,
    ready: impl FnOnce(&[Listen], Option<&Listen>),
) -> Result<(), Ended> {
    let messages = told::start(snapshot.log.level, snapshot.log.format);
    let result = serve(snapshot, source, begin, ready);
    match &result {
        Ok(()) => info!("stopped"),
        Err(why) => error!("{why}"),
    }
    messages.flush(LAST_WORDS);
    result.map_err(|_| Ended)
}

/// The node ended in a failure of the process; the reason was printed.
#[derive(Debug)]
pub struct Ended;

fn serve(
    snapshot: Snapshot,
    source: Source,
    begin: Begin,
    ready: impl FnOnce(&[Listen], Option<&Listen>),
) -> Result<(), String> {
    refuse_huge_pages();
    let kept_sockets = Inherited::kept();
    // While the file is surely still there.
    let program = Program::of_this_process();
    let Preflight { errors, warnings } = preflight(&snapshot);
    for warning in warnings {
        warn!("{warning}");
    }
    if !errors.is_empty() {
        return Err(errors.join("; and "));
    }
    let plan = plan_here(&snapshot.cores)?;
    // What the cores share is allocated by this thread. Where they are all on one node, it belongs there, too.
    if let [first, others @ ..] = &plan.memory[..]
        && others.iter().all(|other| other == first)
    {
        stay_on(*first);
    }
    let steered = steered_here(snapshot.cores.steering, &plan);
    info!("ringway {}: {plan}", env!("CARGO_PKG_VERSION"));
    info!("{steered}");
    let (addresses, warnings) = resolve::addresses(&snapshot);
    for warning in warnings {
        warn!("{warning}");
    }
    let tls = secure::settings(&snapshot)?;
    let cores = plan.data.len();
    let listeners = secure::listeners(&snapshot)?;
    // A process without a file of its configuration has nothing that a successor could begin with.
    let control_path = takeover::control_path(&snapshot.server).filter(|_| matches!(source, Source::File(..)));
    let mut inherited = match (begin, &control_path) {
        (Begin::Anew, _) => kept_sockets,
        (Begin::TakeOver, Some(path)) => Inherited::ask(path, kept_sockets)?,
        (Begin::TakeOver, None) => {
            return Err(
                "server.control_socket: --take-over needs it, or RUNTIME_DIRECTORY in the environment".to_owned()
            );
        }
    };
    let tickets = inherited.take_tickets().map_or_else(secure::ticket_seed, Ok)?;
    let Bindings { sets: listening, bound, mut pending } =
        listen::bind(snapshot.server.addresses(), cores, &mut inherited)?;
    if snapshot.server.fast_open == FastOpen::On {
        listen::take_fast_open(&listening);
    }
    let groups = steering::groups(&listening, &bound, &plan.data, snapshot.cores.steering, &steered);
    pending.steer(groups.map_err(|error| format!("no descriptors to steer connections by: {error}"))?);
    let managed = listening.iter().flatten().filter(|socket| socket.owner == Owner::Manager);
    let managed: BTreeSet<usize> = managed.map(|socket| socket.address).collect();
    let gate = Gate::default();
    let mut pending = Some(pending);
    if !inherited.has_predecessor()
        && let Some(pending) = pending.take()
    {
        pending.listen()?;
    }
    let (admin_listener, admin_address, admin_owner) = match listen::bind_admin(&snapshot.admin, &mut inherited)? {
        Bound::None => (None, None, Owner::Gateway),
        Bound::Warning(warning) => {
            warn!("{warning}");
            (None, None, Owner::Gateway)
        }
        Bound::At(listener, address, owner) => (Some(listener), Some(address), owner),
    };
    let giver = Arc::new(Giver::default());
    let before: Arc<LimitsLink> = Arc::default();
    let (mut given, mut control_listen) = (None, None);
    if let Some(path) = control_path {
        let control = listen::bind_control(&path, &mut inherited)?;
        let admin = admin_listener.as_ref().zip(admin_address.as_ref());
        let sockets =
            takeover::Sockets { snapshot: &snapshot, listening: &listening, bound: &bound, admin, admin_owner };
        let parts = sockets.to_give(control, &path, tickets.clone());
        given = Some(parts.map_err(|error| format!("no descriptors for a successor: {error}"))?);
        control_listen = Some(Listen::Unix(path));
    }
    let mut notifiers = Vec::with_capacity(cores + 2);
    for _ in 0..cores {
        notifiers.push(Notifier::ring().map_err(|error| format!("no descriptor for a core's notifier: {error}"))?);
    }
    notifiers.extend([Notifier::waker(), Notifier::waker()]);
    let mut posts = channel::connect(&notifiers).into_iter();
    let second = second::settings(&snapshot)?;
    let traces = traces::settings(&snapshot)?;
    let board = Arc::new(Board::new(cores as u16));
    let (snapshots, keeping) = kept::prepare(&snapshot, &board)?.unzip();
    let snapshot = Arc::new(snapshot);
    let parts = node::Parts { snapshot: snapshot.clone(), addresses, tls, listeners };
    let generation = Arc::new(NodeGeneration::first(cores as u16, parts));
    let state = state::directory(&snapshot.server);
    // With Redis the counts are there.
    let is_shared = second.is_some() && snapshot.limits.nodes == LimitNodes::Shared;
    let (counted, why) = usage::kept_counts(state.as_deref());
    if let Some(why) = why {
        warn!("limits: {why}");
    }
    let mut to_restore: Option<Arc<[Counted]>> = (state.is_some() && !is_shared).then(|| counted.clone().into());
    // A process that still counts knows better, once it has said so.
    let written = match &mut to_restore {
        Some(counted) if inherited.has_predecessor() => Some(std::mem::replace(counted, Arc::new([]))),
        _ => None,
    };
    let (events, heard) = mpsc::channel();
    let peers: Arc<Peers> = Arc::default();
    let mut beats = Vec::with_capacity(cores + 2);
    for (place, (cpu, listening)) in plan.data.iter().copied().zip(listening).enumerate() {
        let Some((outbox, inbox)) = posts.next() else { return Err("a core has no channel".to_owned()) };
        let (generation, tickets, board) = (generation.clone(), tickets.clone(), board.clone());
        let (tell, beat, counted) = (events.clone(), Beat::default(), to_restore.clone());
        let second = second.as_ref().map(|second| second.settings.clone());
        let (gate, peers) = (gate.clone(), peers.clone());
        let (id, count) = (CoreId(place as u16), cores as u16);
        beats.push((Who::Data(place), beat.clone()));
        let node = plan.memory.get(place).copied().flatten();
        start(Who::Data(place), events.clone(), move || {
            pin(cpu);
            stay_on(node);
            let refused = tell.clone();
            let parts = Parts {
                id,
                count,
                generation,
                tickets,
                board,
                second,
                counted,
                outbox,
                inbox,
                listening,
                gate,
                peers,
                beat,
            };
            let main = data::run(parts, move |result| drop(tell.send(Event::Ready(result))));
            if let Err(error) = run_data_core(main) {
                let _ = refused.send(Event::Ready(Err(format!("data core {place}: {error}"))));
            }
        })?;
    }
    let (Some((io_out, io_in)), Some((outbox, inbox))) = (posts.next(), posts.next()) else {
        return Err("a core has no channel".to_owned());
    };
    let (log, cpu, tell, beat) = (snapshot.log.access.clone(), plan.io, events.clone(), Beat::default());
    beats.push((Who::Io, beat.clone()));
    start(Who::Io, events.clone(), move || {
        io::run(cpu, log, snapshots, io_out, io_in, beat, move |result| drop(tell.send(Event::Ready(result))));
    })?;
    let (cpu, tell, beat) = (plan.background, events.clone(), Beat::default());
    beats.push((Who::Background, beat.clone()));
    let serving = Arc::new(AtomicBool::new(false));
    let purges = board.purges().clone();
    let admin = admin::Parts {
        in_force: background::in_force(&generation),
        counters: board.all_counters().to_vec(),
        plan: CorePlan {
            summary: plan.to_string(),
            data: plan.data.clone(),
            io: plan.io,
            background: plan.background,
            steering: steered.by.label().to_owned(),
            steering_reason: steered.why,
        },
        listening: bound.iter().map(Listen::to_string).collect(),
        purge: Box::new(move |scope| (purges.purge(scope), purges.latest())),
        keeps: keeping.is_some(),
        snapshots: board.snapshots().clone(),
        usage: (state, counted),
        source: match &source {
            Source::File(_, origin) => origin.source.clone(),
            Source::BuiltIn => Default::default(),
        },
        serving: serving.clone(),
    };
    let purges = board.purges().clone();
    let parts = background::Parts {
        data_cores: cores,
        generation,
        second,
        traces,
        purges,
        keeping,
        outbox,
        inbox,
        beat,
        source,
        admin,
        admin_listener,
        gate: gate.clone(),
        giver: giver.clone(),
        before: before.clone(),
        program: program.filter(|_| given.is_some()),
        stored: (given.is_some() && takeover::is_offered()).then(|| vec![true; bound.len()].into()),
    };
    start(Who::Background, events, move || {
        pin(cpu);
        let ready = tell.clone();
        let stopped = background::run(parts, move |result| drop(ready.send(Event::Ready(result))));
        let _ = tell.send(Event::Stopped(stopped));
    })?;
    let giver_is_idle = given.is_none();
    let serve = || {
        let mut taken = inherited.commit()?;
        let ledgers = std::mem::take(&mut taken.ledgers);
        if inherited.has_predecessor() {
            inherited.link_limits(&before, taken);
            hand(&gate, ledgers, written.as_deref().unwrap_or(&[]), cores);
        }
        if let Some(pending) = pending {
            pending.listen()?;
        }
        // Not before signals are handled: a SIGTERM now stops the node and does not kill it.
        gate.open();
        inherited.forget_rest();
        drop(inherited);
        if let Some(parts) = given {
            giver.start(parts).map_err(|error| format!("a thread cannot be started: {error}"))?;
        }
        serving.store(true, Ordering::Relaxed);
        ready(&bound, admin_address.as_ref());
        Ok(())
    };
    let stopped = supervise(&heard, cores + 2, &beats, Pace::default(), serve, notify::alive);
    let kept = giver.kept();
    // Sockets that are kept for the next process have to be found where they are.
    let is_stored = !giver_is_idle && takeover::is_offered();
    let own = bound
        .iter()
        .enumerate()
        .filter(|(place, _)| !is_stored && !managed.contains(place) && kept.is_none_or(|kept| !kept.addresses[*place]));
    remove_sockets(own.map(|(_, listen)| listen));
    let own = admin_address.iter().filter(|_| admin_owner == Owner::Gateway && !is_stored);
    remove_sockets(own.filter(|_| kept.is_none_or(|kept| !kept.admin)));
    remove_sockets(control_listen.iter().filter(|_| kept.is_none_or(|kept| !kept.control)));
    match stopped? {
        Stopped::Drained => Ok(()),
        Stopped::Cut => {
            Err("the drain's deadline passed or a second signal came: running requests were cut off".to_owned())
        }
    }
}

/// Has the cores count what counted in the process before, by what that has said, else by what it had written.
fn hand(gate: &Gate, mut ledgers: Vec<Handed>, written: &[Counted], cores: usize) {
    let said: HashSet<LimitId> = ledgers.iter().map(|handed| handed.id).collect();
    for Counted { id, period, slot, amount } in written.iter().filter(|counted| !said.contains(&counted.id)) {
        ledgers.push(Handed { id: *id, period: *period, counts: vec![(*slot, *amount)] });
    }
    gate.hand(ledgers.into());
    let until_ms = now_ms() + HANDED_LIMIT_MS;
    while gate.takers() < cores && now_ms() < until_ms {
        std::thread::park_timeout(HANDED_TICK);
    }
}

/// Pins this thread. If the CPU has disappeared since the plan was made, the thread floats, which is slower but works.
fn pin(cpu: Option<usize>) {
    if let Some(id) = cpu
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        warn!("CPU {id} cannot be used; the thread floats");
    }
}

/// Takes this thread's memory from a node, before it has any of its own.
fn stay_on(node: Option<usize>) {
    if let Some(node) = node
        && let Err(error) = prefer_memory_of(node)
    {
        warn!("memory is not taken from node {node}: {error}");
    }
}

fn remove_sockets<'a>(bound: impl Iterator<Item = &'a Listen>) {
    for listen in bound {
        if let Listen::Unix(path) = listen {
            let _ = std::fs::remove_file(path);
        }
    }
}
