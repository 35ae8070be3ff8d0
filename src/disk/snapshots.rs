//! When snapshots are read and written: one at the start of the process, one for each time that the background core asks, one
//! after the other. Owned by the I/O core, whose messages on the subject come here.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::GlommioError;
use glommio::channels::local_channel::{self, LocalReceiver, LocalSender};
use tracing::{info, warn};

use super::purged;
use crate::exchange::message::Message;
use crate::exchange::purges::Purges;
use crate::net::channel::Outbox;
use crate::net::{now_ms, unix_ms};
use crate::observe::snapshots::{self as observed, RestoreResult, RestoreState};
use crate::wire::blocks::Id;

/// How long a data core may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Everything that is needed from outside.
pub struct Parts {
    pub directory: PathBuf,
    /// Data cores.
    pub cores: u16,
    pub purges: Arc<Purges>,
    /// Of the table of purges, and the number of the last one when this process began.
    pub table: Id,
    pub latest: u64,
    /// Largest answer that is stored.
    pub most_bytes: u64,
    pub observed: Arc<observed::Snapshots>,
}

/// See the module.
pub struct Snapshots {
    pub(super) parts: Parts,
    pub(super) outbox: Rc<Outbox<Message>>,
    sender: LocalSender<Message>,
    inbox: LocalReceiver<Message>,
    /// The last snapshot that was asked for, and not begun.
    asked: Cell<Option<u64>>,
    /// Why purges are not written down.
    unsaved: Cell<bool>,
}

impl Snapshots {
    pub fn new(parts: Parts, outbox: Rc<Outbox<Message>>) -> Rc<Snapshots> {
        let (sender, inbox) = local_channel::new_unbounded();
        Rc::new(Snapshots { parts, outbox, sender, inbox, asked: Cell::new(None), unsaved: Cell::new(false) })
    }

    /// Takes a message on the subject.
    pub fn deliver(&self, message: Message) {
        match message {
            Message::SavePurges { number, table } => {
                let result = purged::save_or_forget(&self.parts.directory, &table);
                self.unsaved.set(result.is_err());
                self.tell_background(Message::PurgesSaved { number, result });
            }
            // One that was not begun is replaced by this one.
            message => _ = self.sender.try_send(message),
        }
    }

    /// Reads the snapshot of the process before, and writes new ones, for ever.
    pub async fn run(self: Rc<Self>) {
        let began_ms = now_ms();
        let restored = self.restore().await;
        let observed = &self.parts.observed;
        let state = if let Ok(None) = restored { RestoreState::None } else { RestoreState::Done };
        match restored {
            Ok(None) => {}
            Ok(Some(written_unix_ms)) => {
                let count = |result| observed.result(result).get();
                let age_s = unix_ms().saturating_sub(written_unix_ms) / 1000;
                let took_ms = now_ms().saturating_sub(began_ms);
                let left_out: Vec<String> = RestoreResult::ALL[1..]
                    .iter()
                    .filter(|result| count(**result) > 0)
                    .map(|result| format!("{} {}", count(*result), result.label()))
                    .collect();
                let left_out = match left_out.is_empty() {
                    true => String::new(),
                    false => format!("; left out: {}", left_out.join(", ")),
                };
                let back = count(RestoreResult::Restored);
                info!("cache: {back} answers are back from the snapshot of {age_s} s ago, in {took_ms} ms{left_out}");
            }
            Err(why) => {
                observed.result(RestoreResult::RefusedFile).add(1);
                warn!("cache: the snapshot is not read, or not all of it: {why}");
                observed.tell(|told| told.restore_fault = Some(why));
            }
        }
        observed.tell(|told| told.restore = state);
        loop {
            let number = match self.asked.take() {
                Some(number) => number,
                None => match self.inbox.recv().await {
                    Some(Message::Snapshot { number }) => number,
                    // Late answers.
                    Some(_) => continue,
                    None => return,
                },
            };
            self.write_one(number).await;
        }
    }

    async fn write_one(&self, number: u64) {
        let (began_ms, observed) = (now_ms(), &self.parts.observed);
        let unix_ms = unix_ms();
        let result = match self.write(number, unix_ms).await {
            Ok(written) => {
                let took_ms = now_ms().saturating_sub(began_ms);
                observed.written.add(1);
                observed.entries.set(written.answers);
                observed.bytes.set(written.bytes);
                observed.unix_ms.set(unix_ms);
                observed.took_ms.set(took_ms);
                observed.tell(|told| told.fault = None);
                let (answers, kib) = (written.answers, written.bytes.div_ceil(1 << 10));
                info!("cache: a snapshot of {answers} answers was written, {kib} KiB in {took_ms} ms");
                Ok(())
            }
            Err(why) => {
                observed.failed.add(1);
                warn!("cache: no snapshot was written: {why}");
                observed.tell(|told| told.fault = Some(why.clone()));
                Err(why)
            }
        };
        self.tell_background(Message::SnapshotEnded { number, result });
    }

    /// Whether purges are written down as far as they are known of.
    pub(super) fn has_saved_purges(&self) -> bool {
        !self.unsaved.get()
    }

    /// The next message from a data core. Errors: none came in time.
    pub(super) async fn next(&self) -> Result<Message, String> {
        loop {
            let next = glommio::timer::timeout(LIMIT, async { Ok::<_, GlommioError<()>>(self.inbox.recv().await) });
            match next.await {
                Ok(Some(Message::Snapshot { number })) => self.asked.set(Some(number)),
                Ok(Some(message)) => return Ok(message),
                Ok(None) => return Err("the I/O core ends".to_owned()),
                Err(_) => return Err(format!("a data core does not answer for {} s", LIMIT.as_secs())),
            }
        }
    }

    pub(super) fn tell(&self, core: u16, message: Message) -> Result<(), String> {
        let posted = self.outbox.post(usize::from(core), message);
        posted.map_err(|_| format!("data core {core} takes no messages"))
    }

    fn tell_background(&self, message: Message) {
        // It has room: there is one at a time.
        let _ = self.outbox.post(usize::from(self.parts.cores) + 1, message);
    }
}
