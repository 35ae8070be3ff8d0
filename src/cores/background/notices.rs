//! What the background core tells the other cores, until each of them has room for it: who is stalled hears it later, and
//! of what has changed meanwhile only the last. Owned by the background core. Must never block, nor hold more than the
//! newest notice of each subject a core.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::exchange::messages::{Message, News};
use crate::net::Dial;
use crate::net::channel::Outbox;

/// How soon a core that had no room is tried again.
const AGAIN: Duration = Duration::from_millis(20);

/// Something that a core has to hear, sooner or later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// What the active check found.
    Health {
        backend: usize,
        news: News,
    },
    /// Where a backend's name leads.
    Addresses {
        backend: usize,
        addresses: Arc<[Dial]>,
    },
    /// The access log was moved away.
    Reopen,
    Drain,
    Halt,
    Stop,
}

/// What a notice is about: a later one takes the place of one that has not left. They leave in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Addresses(usize),
    Health(usize),
    Reopen,
    Drain,
    Halt,
    Stop,
}

impl Notice {
    fn subject(&self) -> Subject {
        match self {
            Notice::Addresses { backend, .. } => Subject::Addresses(*backend),
            Notice::Health { backend, .. } => Subject::Health(*backend),
            Notice::Reopen => Subject::Reopen,
            Notice::Drain => Subject::Drain,
            Notice::Halt => Subject::Halt,
            Notice::Stop => Subject::Stop,
        }
    }

    fn message(&self) -> Message {
        match self {
            Notice::Addresses { backend, addresses } => {
                Message::Addresses { backend: *backend, addresses: addresses.clone() }
            }
            Notice::Health { backend, news } => Message::Health { backend: *backend, news: *news },
            Notice::Reopen => Message::Reopen,
            Notice::Drain => Message::Drain,
            Notice::Halt => Message::Halt,
            Notice::Stop => Message::Stop,
        }
    }
}

pub struct Notices {
    outbox: Outbox<Message>,
    /// By core: what has not left yet.
    waiting: RefCell<Vec<BTreeMap<Subject, Notice>>>,
    left_over: Notify,
}

impl Notices {
    /// To so many cores, the first ones in the mail.
    pub fn new(outbox: Outbox<Message>, cores: usize) -> Notices {
        let waiting = RefCell::new(vec![BTreeMap::new(); cores]);
        Notices { outbox, waiting, left_over: Notify::new() }
    }

    /// Tells the first `cores`. What one has no room for is sent by [`Notices::keep_sending`].
    pub fn tell(&self, cores: usize, notice: &Notice) {
        self.tell_those(0..cores, notice);
    }

    /// Tells the core at this place in the mail alone.
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

    /// Sends again what finds no room, for ever.
    pub async fn keep_sending(&self) {
        loop {
            self.left_over.notified().await;
            self.all_sent().await;
        }
    }

    /// Waits until every core has what it was told.
    pub async fn all_sent(&self) {
        while !self.send() {
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Sends what there is room for; whether nothing is left.
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
