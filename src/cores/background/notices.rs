//! Messages from the background core to the other cores, kept until each core has room: a stalled core gets them later,
//! and only the newest about each subject. Owned by the background core. Never blocks, and never holds more than the
//! newest notice per subject and core.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use shards::quota::Store;
use tokio::sync::Notify;

use crate::config::snapshot::Limit;
use crate::exchange::message::Message;
use crate::net::Dial;
use crate::net::channel::Outbox;
use crate::upstream::message::{HealthNews, UpstreamMessage};
use crate::upstream::node::{BackendId, NodeGeneration};
use crate::wire::cluster::Topology;

/// When a core that had no room is tried again.
const AGAIN: Duration = Duration::from_millis(20);

/// Something that a core must eventually be told.
#[derive(Clone)]
pub enum Notice {
    /// The result of the health check.
    Health {
        backend: BackendId,
        news: HealthNews,
    },
    /// The addresses that a backend's name resolves to.
    Addresses {
        backend: BackendId,
        addresses: Arc<[Dial]>,
    },
    /// The configuration to put in force.
    Generation(Arc<NodeGeneration>),
    /// The servers of Redis are these now.
    SecondLevel(Arc<Topology>),
    /// Something was purged.
    Purged,
    /// Whether the store of shared limits is there.
    LimitStore(Store),
    /// What the cores know of these limits is asked for.
    LimitStates {
        number: u64,
        limits: Arc<[Limit]>,
    },
    /// A snapshot of the cache is wanted.
    Snapshot {
        number: u64,
    },
    /// What was purged is to be written down.
    SavePurges {
        number: u64,
        table: Arc<[u8]>,
    },
    /// The access log was moved away.
    Reopen,
    /// Another process keeps the ledgers of limits from now on.
    GiveLimits,
    /// A drain is about to begin.
    Unready,
    Drain,
    /// As `Drain`, when another process accepts on these addresses.
    HandOver {
        kept: Arc<[bool]>,
        grace_ms: u64,
    },
    Halt,
    Stop,
}

/// The subject of a notice: a newer notice replaces an unsent one on the same subject. They are sent in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// Before what is known of its backends.
    Generation,
    Addresses(BackendId),
    Health(BackendId),
    SecondLevel,
    Purged,
    LimitStore,
    LimitStates,
    /// Before a snapshot.
    SavePurges,
    Snapshot,
    Reopen,
    GiveLimits,
    Unready,
    Drain,
    Halt,
    Stop,
}

impl Notice {
    fn subject(&self) -> Subject {
        match self {
            Notice::Addresses { backend, .. } => Subject::Addresses(*backend),
            Notice::Health { backend, .. } => Subject::Health(*backend),
            Notice::Generation(_) => Subject::Generation,
            Notice::SecondLevel(_) => Subject::SecondLevel,
            Notice::Purged => Subject::Purged,
            Notice::LimitStore(_) => Subject::LimitStore,
            Notice::LimitStates { .. } => Subject::LimitStates,
            Notice::Snapshot { .. } => Subject::Snapshot,
            Notice::SavePurges { .. } => Subject::SavePurges,
            Notice::Reopen => Subject::Reopen,
            Notice::GiveLimits => Subject::GiveLimits,
            Notice::Unready => Subject::Unready,
            Notice::Drain | Notice::HandOver { .. } => Subject::Drain,
            Notice::Halt => Subject::Halt,
            Notice::Stop => Subject::Stop,
        }
    }

    fn message(&self) -> Message {
        match self {
            Notice::Addresses { backend, addresses } => {
                Message::Upstream(UpstreamMessage::Addresses { backend: *backend, addresses: addresses.clone() })
            }
            Notice::Health { backend, news } => {
                Message::Upstream(UpstreamMessage::Health { backend: *backend, news: *news })
            }
            Notice::Generation(node) => Message::Generation(node.clone()),
            Notice::SecondLevel(topology) => Message::SecondLevel(topology.clone()),
            Notice::Purged => Message::Purged,
            Notice::LimitStore(store) => Message::QuotaStore(*store),
            Notice::LimitStates { number, limits } => Message::QuotaState { number: *number, limits: limits.clone() },
            Notice::Snapshot { number } => Message::Snapshot { number: *number },
            Notice::SavePurges { number, table } => Message::SavePurges { number: *number, table: table.clone() },
            Notice::Reopen => Message::Reopen,
            Notice::GiveLimits => Message::QuotaGive,
            Notice::Unready => Message::Unready,
            Notice::Drain => Message::Drain,
            Notice::HandOver { kept, grace_ms } => Message::HandOver { kept: kept.clone(), grace_ms: *grace_ms },
            Notice::Halt => Message::Halt,
            Notice::Stop => Message::Stop,
        }
    }
}

pub struct Notices {
    outbox: Outbox<Message>,
    /// Unsent notices, by core.
    waiting: RefCell<Vec<BTreeMap<Subject, Notice>>>,
    left_over: Notify,
}

impl Notices {
    /// For the first `cores` cores in the channels' order.
    pub fn new(outbox: Outbox<Message>, cores: usize) -> Notices {
        let waiting = RefCell::new(vec![BTreeMap::new(); cores]);
        Notices { outbox, waiting, left_over: Notify::new() }
    }

    /// Sends to the first `cores` cores. Notices without room are sent later by [`Notices::keep_sending`].
    pub fn tell(&self, cores: usize, notice: &Notice) {
        self.tell_those(0..cores, notice);
    }

    /// Sends a message that is lost if the core is stalled.
    pub fn post(&self, core: usize, message: Message) {
        let _ = self.outbox.post(core, message);
    }

    /// Sends to one core, by its index.
    pub fn tell_one(&self, core: usize, notice: &Notice) {
        self.tell_those(core..core + 1, notice);
    }

    fn tell_those(&self, cores: Range<usize>, notice: &Notice) {
        for waiting in self.waiting.borrow_mut().iter_mut().take(cores.end).skip(cores.start) {
            waiting.insert(notice.subject(), notice.clone());
        }
        if !self.send() {
            self.left_over.notify_one();
        }
    }

    /// Retries unsent notices, forever.
    pub async fn keep_sending(&self) {
        loop {
            self.left_over.notified().await;
            self.all_sent().await;
        }
    }

    /// Waits until every notice was sent.
    pub async fn all_sent(&self) {
        while !self.send() {
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Sends what there is room for; returns whether nothing is left.
    fn send(&self) -> bool {
        let mut is_all = true;
        for (core, waiting) in self.waiting.borrow_mut().iter_mut().enumerate() {
            while let Some(notice) = waiting.first_entry() {
                if self.outbox.offer(core, notice.get().message()).is_err() {
                    is_all = false;
                    break;
                }
                notice.remove();
            }
        }
        is_all
    }
}

#[cfg(test)]
mod tests;
