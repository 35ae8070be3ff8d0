//! Limits beyond this process: what other nodes that share a Redis say goes to the cores, and what another process does that takes
//! over from this one, or from which this one takes over.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use shards::quota::{Ask, Grant};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::spawn_local;

use super::notices::{Notice, Notices};
use super::{Latest, permanent};
use crate::config::snapshot::Snapshot;
use crate::control::admin::Admin;
use crate::control::redis::Server;
use crate::control::shared::{Hooks as SharedHooks, Question, SharedLimits};
use crate::cores::second::{self, Second};
use crate::cores::takeover::{Clients, Elsewhere, Giver, Limits, LimitsEvent, LimitsLink, leave_room};
use crate::exchange::home;
use crate::exchange::message::Message;
use crate::limits::IDLE_GRACE_MS;
use crate::net::{Panics, now_ms};

/// When to try again is told of a limit that nobody counts any more.
const NOBODY_AGAIN_MS: u64 = 1_000;
/// How often a process that ends says what still runs in it.
const RUNNING_EVERY: Duration = Duration::from_millis(200);

/// What the background core has to do with the other process.
#[derive(Clone)]
pub struct Passing {
    pub giver: Arc<Giver>,
    /// To the process before, while that ends.
    pub before: Arc<LimitsLink>,
    pub notices: Rc<Notices>,
}

impl Passing {
    /// Receives from the other process, whenever there is one.
    pub fn listen(&self, data_cores: u16, started: &Arc<Snapshot>) {
        for events in [self.before.take_events(), self.giver.link.take_events()].into_iter().flatten() {
            spawn_local(receive(events, self.notices.clone(), data_cores, started.clone()));
        }
    }

    /// Hands everything over to a successor that takes it.
    pub fn hand_over(&self, data_cores: usize, latest: &Latest) {
        if self.giver.takes_limits() {
            self.notices.tell(data_cores, &Notice::GiveLimits);
            self.giver.hand(Limits::Running(leave_room(&latest.borrow().snapshot, Clients::MayCome)));
            spawn_local(tell_running(self.giver.clone(), latest.clone()));
        }
    }

    /// A core has something for the other process.
    pub fn read(&self, message: Message) {
        match message {
            Message::QuotaHanded { ledgers } => self.giver.hand(Limits::Ledgers(ledgers)),
            // The ledger is the successor's.
            Message::QuotaAsk { limit, ask, from } if self.giver.link.is_open() => {
                self.giver.link.send(LimitsEvent::Ask { core: from.0, limit, ask });
            }
            Message::QuotaAsk { limit, ask: Ask { period, limit: most, need, .. }, from } => {
                // Which has ended before this process.
                let short = Some((need, NOBODY_AGAIN_MS));
                let grant = Grant { period, limit: most, slot: 0, amount: 0, free: 0, short };
                self.notices.post(usize::from(from.0), Message::QuotaGrant { limit, grant });
            }
            Message::QuotaSettle { limit, period, returned } => {
                self.giver.link.send(LimitsEvent::Settle { limit, period, returned });
            }
            Message::QuotaGrantBefore { core, limit, grant } => {
                self.before.send(LimitsEvent::Grant { core, limit, grant })
            }
            _ => {}
        }
    }
}

/// Tells the successor what still runs, until this process ends.
async fn tell_running(giver: Arc<Giver>, latest: Latest) {
    let begin_ms = now_ms();
    let mut told = None;
    loop {
        tokio::time::sleep(RUNNING_EVERY).await;
        let clients = if now_ms() < begin_ms + IDLE_GRACE_MS { Clients::MayCome } else { Clients::Known };
        let running = leave_room(&latest.borrow().snapshot, clients);
        if told.as_ref() != Some(&running) {
            giver.link.send(LimitsEvent::Running(running.clone()));
            told = Some(running);
        }
    }
}

/// Carries out what the other of two processes says of limits, until that has ended.
async fn receive(
    mut events: UnboundedReceiver<LimitsEvent>,
    notices: Rc<Notices>,
    data_cores: u16,
    snapshot: Arc<Snapshot>,
) {
    let mut elsewhere = Elsewhere::default();
    while let Some(event) = events.recv().await {
        match event {
            LimitsEvent::Ask { core, limit, ask } => {
                let (home, from) = (home::place(limit, data_cores), home::before(core, data_cores));
                notices.post(usize::from(home.0), Message::QuotaAsk { limit, ask, from });
            }
            LimitsEvent::Settle { limit, period, returned } => {
                let home = home::place(limit, data_cores);
                notices.post(usize::from(home.0), Message::QuotaSettle { limit, period, returned });
            }
            LimitsEvent::Grant { core, limit, grant } if core < data_cores => {
                notices.post(usize::from(core), Message::QuotaGrant { limit, grant });
            }
            LimitsEvent::Grant { .. } => {}
            LimitsEvent::Running(rows) => elsewhere.count(&snapshot, &rows),
            LimitsEvent::Gone => elsewhere.count(&snapshot, &[]),
        }
    }
}

/// Lets the admin listener ask the cores for the state of limits.
pub fn tell_states(admin: &Admin, notices: &Rc<Notices>, data_cores: usize) {
    let notices = notices.clone();
    admin.ask_limits_by(Box::new(move |number, limits| {
        notices.tell(data_cores, &Notice::LimitStates { number, limits })
    }));
}

/// Starts to share limits with other nodes.
pub fn share_limits(
    second: &Second,
    server: Server,
    nodes_min: u16,
    (notices, data_cores): (&Rc<Notices>, usize),
    panics: &Panics,
) -> Rc<SharedLimits> {
    let (answering, telling) = (notices.clone(), notices.clone());
    let hooks = SharedHooks {
        answer: Box::new(move |Question { limit, fetch, from }, answer| {
            answering.post(usize::from(from.0), Message::QuotaFetched { limit, fetch, answer });
        }),
        store: Box::new(move |store| telling.tell(data_cores, &Notice::LimitStore(store))),
    };
    let shared = second::limits(server, &second.settings, nodes_min, hooks);
    let running = shared.clone();
    permanent("sharing limits", panics, move || {
        let shared = running.clone();
        async move { shared.run().await }
    });
    shared
}
