//! A data core: accepts on its own listeners and runs every exchange of its connections. Never blocks, never touches a
//! file, shares nothing.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use shards::CoreId;

use crate::config::snapshot::Snapshot;
use crate::exchange::core::Core;
use crate::exchange::letters::{Letter, deliver};
use crate::exchange::run::connection;
use crate::net::mail::{Inbox, Outbox};
use crate::net::{Dial, Ear, Listener, shutdown_both, sleep_ms, spawn, watch};

/// Housekeeping.
const TICK_MS: u64 = 1000;
/// How often a draining core looks whether it is done.
const DRAIN_TICK_MS: u64 = 10;
/// After the drain's deadline, how long tasks have to notice that their sockets are shut.
const HALT_MS: u64 = 500;
/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE_MS: u64 = 100;

/// What a data core is made of; everything but the mail's ends is made on the core itself.
pub struct Parts {
    pub id: CoreId,
    pub count: u16,
    pub snapshot: Arc<Snapshot>,
    pub addresses: Arc<Vec<Vec<Dial>>>,
    pub outbox: Outbox<Letter>,
    pub inbox: Inbox<Letter>,
    pub listening: Vec<(OwnedFd, bool)>,
}

/// Runs a data core until it has drained. `ready` is told once it accepts, or why it cannot.
pub async fn run(parts: Parts, ready: impl FnOnce(Result<(), String>)) {
    let Parts { id, count, snapshot, addresses, outbox, mut inbox, listening } = parts;
    let core = Rc::new(Core::new(id, count, snapshot, addresses, outbox));
    let mut listeners = Vec::new();
    for (fd, nodelay) in listening {
        match Listener::new(fd, nodelay) {
            Ok(listener) => listeners.push(Rc::new(listener)),
            Err(error) => return ready(Err(format!("data core {}: {error}", id.0))),
        }
    }
    for listener in &listeners {
        spawn(&core.panics, accept(core.clone(), listener.clone()));
    }
    spawn(&core.panics, tick(core.clone()));
    ready(Ok(()));
    let mut ear = Ear::default();
    'mail: loop {
        inbox.wait(&mut ear).await;
        while let Some(letter) = inbox.take() {
            match letter {
                Letter::Drain if !core.draining.replace(true) => {
                    listeners.drain(..).for_each(|listener| shutdown_both(listener.id()));
                    watch::close_idle();
                    spawn(&core.panics, report_drained(core.clone()));
                }
                Letter::Drain => {}
                Letter::Halt => {
                    watch::close_all();
                    sleep_ms(HALT_MS).await;
                    break 'mail;
                }
                Letter::Stop => break 'mail,
                letter => deliver(&core, letter),
            }
        }
    }
    core.flush_log();
    let _ = core.outbox.post(usize::from(count) + 1, Letter::Drained { from: id });
}

/// Accepts until the listener is shut down. Connections that wait in its queue at that time are still accepted.
async fn accept(core: Rc<Core>, listener: Rc<Listener>) {
    loop {
        match listener.accept().await {
            Ok(socket) => spawn(&core.panics, connection(core.clone(), socket)),
            Err(_) if core.draining.get() => return,
            Err(_) => {
                core.counters.accept_errors.add(1);
                sleep_ms(ACCEPT_PAUSE_MS).await;
            }
        }
    }
}

async fn tick(core: Rc<Core>) {
    loop {
        sleep_ms(TICK_MS).await;
        core.tick();
    }
}

/// Tells the core's own loop when the last connection and the last flight have ended.
async fn report_drained(core: Rc<Core>) {
    while !core.is_idle() {
        watch::close_idle();
        sleep_ms(DRAIN_TICK_MS).await;
    }
    core.post(core.id, Letter::Stop);
}
