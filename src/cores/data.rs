//! A data core: accepts on its own listeners and runs every exchange of its connections. Never blocks, never touches a
//! file, shares nothing.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use shards::CoreId;
use shards::quota::{Counted, Store};

use super::listen::Listening;
pub use super::listen::ListeningSocket;
use super::supervise::{BEAT_MS, Beat, Gate};
pub use super::takeover::Owner;
use crate::config::snapshot::LimitNodes;
use crate::exchange::board::Board;
use crate::exchange::core::Core;
use crate::exchange::deliver::deliver;
use crate::exchange::flight::drained;
use crate::exchange::generation::Current;
use crate::exchange::home;
use crate::exchange::message::Message;
use crate::exchange::second::{self, SecondLevel};
use crate::exchange::spend;
use crate::exchange::tick;
use crate::limits::MESSAGES_A_ROUND;
use crate::net::channel::{Inbox, Outbox};
use crate::net::tls::{TicketChain, TicketSeed};
use crate::net::watch::Idle;
use crate::net::{
    Cancel, EventFdReader, Listener, Socket, now_ms, shutdown_both, sleep_ms, sleep_us, spawn, spawn_lasting, watch,
};
use crate::serve::{Acceptors, Shared, connection, moves, peers::Peers};
use crate::upstream::connect::warm;
use crate::upstream::node::NodeGeneration;

/// Housekeeping.
const TICK_MS: u64 = 1000;
/// How long aborted exchanges have to send an error to their clients.
const LAST_WORDS_MS: u64 = 300;
/// How often a draining core checks whether it is done.
const DRAIN_TICK_MS: u64 = 10;
/// Connections accepted before other tasks run.
const ACCEPTS_A_TURN: u32 = 64;
/// How often a core looks whether it may accept.
const GATE_TICK_MS: u64 = 5;
/// Pause after an accept that failed for lack of descriptors or memory.
const ACCEPT_PAUSE_MS: u64 = 100;

/// Everything a data core needs from outside; the rest is created on the core itself.
pub struct Parts {
    pub id: CoreId,
    pub count: u16,
    pub generation: Arc<NodeGeneration>,
    /// Of the session tickets of all listeners.
    pub tickets: TicketSeed,
    pub board: Arc<Board>,
    pub second: Option<second::Settings>,
    /// What counted against limits before a restart, if that is kept.
    pub counted: Option<Arc<[Counted]>>,
    pub outbox: Outbox<Message>,
    pub inbox: Inbox<Message>,
    pub listening: Listening,
    pub gate: Gate,
    /// Of all cores.
    pub peers: Arc<Peers>,
    pub beat: Beat,
}

/// One listening socket and what serves it.
#[derive(Clone)]
struct Accepting {
    listener: Rc<Listener>,
    acceptors: Rc<Acceptors>,
    /// The place of its address.
    address: usize,
    owner: Owner,
    /// Ends its task without touching the socket.
    stop: Rc<RefCell<Cancel>>,
}

/// Runs a data core until it has drained. `ready` is called once it accepts connections, or with the reason why it
/// cannot.
pub async fn run(parts: Parts, ready: impl FnOnce(Result<(), String>)) {
    let Parts {
        id,
        count,
        generation,
        tickets,
        board,
        second,
        counted,
        outbox,
        mut inbox,
        listening,
        gate,
        peers,
        beat,
    } = parts;
    let core = Core::new(id, count, &generation.snapshot, &board, outbox);
    let current = match Current::new(core, generation) {
        Ok(current) => Rc::new(current),
        Err(error) => return ready(Err(format!("data core {}: {error}", id.0))),
    };
    let core = current.core().clone();
    if second.is_some() && current.get().snapshot.limits.nodes == LimitNodes::Shared {
        // Until it is heard that it is there.
        let nodes = current.get().snapshot.limits.nodes_min;
        home::set_store(&core, Store::Down { nodes });
    }
    if let Some(counted) = counted {
        home::restore(&core, &counted);
    }
    if let Some(settings) = second {
        let (losing, moving, missing) = (core.clone(), core.clone(), core.clone());
        let hooks = second::Hooks {
            lost: Box::new(move |why| losing.post_background(Message::SecondLevelLost { from: losing.id, why })),
            moved: Box::new(move || moving.post_background(Message::SecondLevelMoved { from: moving.id })),
            lost_purges: Box::new(move |lost| {
                missing.post_background(Message::SecondLevelLostPurges { from: missing.id, lost });
            }),
        };
        let topology = settings.topology.clone();
        let level = SecondLevel::new(settings, core.counters.clone(), core.cache.purges.clone(), hooks);
        core.cache.second.get_or_init(|| Rc::new(level)).set_topology(&topology, &core.panics);
    }
    let shared = Shared { tickets: TicketChain::new(tickets), peers };
    core.counters.thread.set(u64::from(rustix::thread::gettid().as_raw_pid().unsigned_abs()));
    let mut listeners = Vec::new();
    for ListeningSocket { fd, is_tcp, address, listener, owner, .. } in listening {
        let acceptors = match Acceptors::new(&current.get(), listener, &shared) {
            Ok(acceptors) => Rc::new(acceptors),
            Err(error) => return ready(Err(format!("data core {}: {error}", id.0))),
        };
        match Listener::new(fd, is_tcp) {
            Ok(listener) => {
                let (listener, stop) = (Rc::new(listener), Rc::new(RefCell::new(Cancel::new())));
                listeners.push(Accepting { listener, acceptors, address, owner, stop });
            }
            Err(error) => return ready(Err(format!("data core {}: {error}", id.0))),
        }
    }
    for accepting in &listeners {
        let (current, accepting, gate) = (current.clone(), accepting.clone(), gate.clone());
        spawn_lasting(&core.panics, move || accept(current.clone(), accepting.clone(), gate.clone()));
    }
    spawn(&core.panics, take_over(core.clone(), gate));
    let ticking = current.clone();
    spawn_lasting(&core.panics, move || tick(ticking.clone()));
    spawn_lasting(&core.panics, move || show_progress(beat.clone()));
    if count > 1 {
        let balancing = current.clone();
        spawn_lasting(&core.panics, move || moves::balance(balancing.clone()));
    }
    ready(Ok(()));
    let mut reader = EventFdReader::default();
    'mail: loop {
        inbox.wait(&mut reader).await;
        let mut taken = 0;
        while let Some(message) = inbox.take() {
            core.counters.messages.add(1);
            taken += 1;
            if taken % MESSAGES_A_ROUND == 0 {
                // A flood of messages must not starve the core's connections.
                sleep_us(1).await;
            }
            match message {
                Message::Unready => core.handle.leaving.set(true),
                Message::Drain if !core.handle.draining.replace(true) => {
                    listeners.drain(..).for_each(|accepting| accepting.end(&current));
                    spawn(&core.panics, report_drained(core.clone(), 0));
                }
                Message::HandOver { kept, grace_ms } if !core.handle.draining.replace(true) => {
                    for accepting in listeners.drain(..) {
                        if kept.get(accepting.address) == Some(&true) {
                            accepting.stop.borrow_mut().cancel();
                        } else {
                            accepting.end(&current);
                        }
                    }
                    spawn(&core.panics, report_drained(core.clone(), grace_ms));
                }
                Message::Drain | Message::HandOver { .. } => {}
                Message::Halt => {
                    core.halting.set(true);
                    drained::cut_all(&core);
                    watch::wake_all();
                    spawn(&core.panics, async {
                        sleep_ms(LAST_WORDS_MS).await;
                        watch::close_all();
                    });
                }
                Message::Stop => break 'mail,
                Message::Connection(moved) => moves::take(&current, moved),
                Message::ConnectionTaken => moves::taken(&core),
                message => core.panics.guard(|| deliver(&current, message)),
            }
        }
        core.outbox.flush();
    }
    core.flush_log();
    core.flush_spans();
}

impl Accepting {
    /// No other process of ours accepts on this socket.
    fn end(&self, current: &Rc<Current>) {
        match self.owner {
            Owner::Gateway => self.close(current),
            // What waits is for the next process.
            Owner::Manager => self.stop.borrow_mut().cancel(),
        }
    }

    /// Nobody else accepts on this socket.
    fn close(&self, current: &Rc<Current>) {
        // Shutting a listener down resets the connections in its queue, so they are accepted before.
        while let Some(socket) = self.listener.accept_now() {
            spawn(&current.core().panics, connection(current.clone(), socket, self.acceptors.get(current)));
        }
        shutdown_both(self.listener.id());
    }

    /// The next connection; `None` once another process accepts them. Errors: as `Listener::accept`.
    async fn next(&self) -> Option<io::Result<Socket>> {
        let (mut next, mut stopped) = (pin!(self.listener.accept()), pin!(Cancel::cancelled(&self.stop)));
        poll_fn(|context| match stopped.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => next.as_mut().poll(context).map(Some),
        })
        .await
    }
}

/// Accepts until the listener is shut down, or another process has it.
async fn accept(current: Rc<Current>, accepting: Accepting, gate: Gate) {
    let core = current.core();
    let Accepting { acceptors, .. } = &accepting;
    let mut accepted = 0;
    while !gate.is_open() {
        sleep_ms(GATE_TICK_MS).await;
    }
    loop {
        if core.is_draining() {
            return;
        }
        let Some(next) = accepting.next().await else { return };
        match next {
            Ok(socket) => {
                spawn(&core.panics, connection(current.clone(), socket, acceptors.get(&current)));
                accepted += 1;
                if accepted % ACCEPTS_A_TURN == 0 {
                    // A flood of new connections must not starve the existing ones.
                    sleep_ms(1).await;
                }
            }
            Err(_) if core.is_draining() => return,
            Err(_) => {
                core.counters.accept_errors.add(1);
                sleep_ms(ACCEPT_PAUSE_MS).await;
            }
        }
    }
}

/// Counts what counted in the process before, before this one accepts.
async fn take_over(core: Rc<Core>, gate: Gate) {
    while !gate.is_open() {
        if let Some(handed) = gate.handed() {
            home::take_over(&core, handed);
            return gate.taken();
        }
        sleep_ms(GATE_TICK_MS).await;
    }
}

/// Shows that tasks of this core run and wake in time.
async fn show_progress(beat: Beat) {
    loop {
        beat.raise();
        sleep_ms(BEAT_MS).await;
    }
}

async fn tick(current: Rc<Current>) {
    let core = current.core();
    loop {
        sleep_ms(TICK_MS).await;
        core.panics.guard(|| tick::tick(&current));
        spawn(&core.panics, warm(current.get().upstreams.clone()));
    }
}

/// Closes idle connections, and notifies the background core when the last connection and the last flight have ended.
/// The core continues to answer messages: other cores may still be working, and it owns a part of the cache.
/// Clients of HTTP/1.1 are not told that an idle connection will close: for `grace_ms` theirs stay open, and the next answer
/// tells them.
async fn report_drained(core: Rc<Core>, grace_ms: u64) {
    let grace_end_ms = now_ms().saturating_add(grace_ms);
    loop {
        // Connections accepted a moment ago are counted only once their tasks have run.
        sleep_ms(DRAIN_TICK_MS).await;
        watch::close_idle(if now_ms() < grace_end_ms { Idle::Told } else { Idle::All });
        if core.is_idle() {
            break;
        }
    }
    spend::give_all_back(&core);
    core.outbox.flush();
    // Must precede the message that may stop the I/O core: log lines sent after it would be lost.
    core.flush_log();
    core.flush_spans();
    let background = usize::from(core.count) + 1;
    let _ = core.outbox.post(background, Message::Drained { from: core.id });
}
