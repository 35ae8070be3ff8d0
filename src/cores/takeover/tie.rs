//! Limits while two processes run, until the older one has ended. At the take-over the ledgers pass over; from then on the older
//! one's cores ask the successor's for what they need, and give back to it, as its own do. What runs in the older one counts in
//! the successor. Sends without waiting: what is lost is asked for again, or counts as spent.

// Taken once, by the background core when it starts: nobody waits.
#![expect(clippy::disallowed_types)]

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use serde::{Deserialize, Serialize};
use shards::quota::{Ask, Grant, InParts, Ledger, LimitId, Period, Returned, Slot};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Connection, Message};
use crate::config::snapshot::{Concurrent, Snapshot};
use crate::exchange::quota::{EARLIER_S, Handed};
use crate::net::clock_start_s;

/// Counts in one message: JSON of 20 KiB, or some packed 10 KiB, 50 at most.
const COUNTS_A_MESSAGE: usize = 500;
const COUNTS_PACKED: usize = 2_500;
/// The part of what does not run that a process that ends keeps, as long as clients may still come to it.
const KEPT_PART: u32 = 8;

/// How a period is spelled between processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    Minute,
    Day,
    Week,
    Month,
}

/// One ledger. Seconds are those of the machine's monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    id: u64,
    over: Over,
    counts: Vec<(i64, u64)>,
}

/// How ledgers pass over: a hundred thousand of them with a minute's seconds each are a hundred megabytes of JSON, and nobody
/// accepts meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerForm {
    Packed,
    /// For successors of earlier releases.
    Json,
}

impl LedgerForm {
    pub fn of(packed: bool) -> LedgerForm {
        if packed { LedgerForm::Packed } else { LedgerForm::Json }
    }
}

/// Some ledgers, packed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PackedLedgers {
    #[prost(message, repeated, tag = "1")]
    rows: Vec<PackedLedger>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PackedLedger {
    #[prost(fixed64, tag = "1")]
    id: u64,
    /// [`Over`] by its place.
    #[prost(uint32, tag = "2")]
    over: u32,
    /// What each slot is more than the one before.
    #[prost(sint64, repeated, tag = "3")]
    steps: Vec<i64>,
    #[prost(uint64, repeated, tag = "4")]
    amounts: Vec<u64>,
}

impl PackedLedger {
    fn of(LedgerRow { id, over, counts }: &LedgerRow) -> PackedLedger {
        let mut last = 0;
        let step = |(slot, _): &(i64, u64)| slot.wrapping_sub(std::mem::replace(&mut last, *slot));
        let steps = counts.iter().map(step).collect();
        PackedLedger { id: *id, over: *over as u32, steps, amounts: counts.iter().map(|(_, amount)| *amount).collect() }
    }

    /// None of a period that is not known here.
    fn row(self) -> Option<LedgerRow> {
        let over = [Over::Minute, Over::Day, Over::Week, Over::Month].into_iter().nth(self.over as usize)?;
        let mut slot = 0i64;
        let slots = self.steps.into_iter().map(|step| {
            slot = slot.wrapping_add(step);
            slot
        });
        Some(LedgerRow { id: self.id, over, counts: slots.zip(self.amounts).collect() })
    }
}

impl PackedLedgers {
    pub(super) fn into_handed(self) -> impl Iterator<Item = Handed> {
        self.rows.into_iter().filter_map(PackedLedger::row).map(Handed::from)
    }
}

/// What one process says to the other after the take-over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Said {
    /// A core of the older one wants some of a limit.
    Ask { core: u16, id: u64, over: Over, limit: u64, need: u64, want: u64 },
    /// The answer.
    Grant { core: u16, id: u64, over: Over, limit: u64, slot: i64, amount: u64, free: u64, short: Option<(u64, u64)> },
    /// A core of the older one gives back.
    Settle { id: u64, over: Over, unspent: Vec<(i64, u64)>, overspent: u64 },
    /// How many requests the older one runs, or may run at most, by limit. Those that are not here: none.
    Running { rows: Vec<(u64, u32)> },
}

/// The same for the cores of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Ask {
        core: u16,
        limit: LimitId,
        ask: Ask,
    },
    Grant {
        core: u16,
        limit: LimitId,
        grant: Grant,
    },
    Settle {
        limit: LimitId,
        period: Period,
        returned: Returned,
    },
    Running(Vec<(u64, u32)>),
    /// The other process has ended.
    Gone,
}

/// The other end is the successor, or the process before.
#[derive(Debug)]
pub struct Tie {
    connection: OnceLock<Arc<Connection>>,
    is_open: AtomicBool,
    tell: UnboundedSender<Heard>,
    heard: Mutex<Option<UnboundedReceiver<Heard>>>,
}

impl Default for Tie {
    fn default() -> Tie {
        let (tell, heard) = unbounded_channel();
        Tie { connection: OnceLock::new(), is_open: AtomicBool::new(false), tell, heard: Mutex::new(Some(heard)) }
    }
}

impl Tie {
    /// Sends from now on.
    pub(super) fn begin(&self, connection: &Arc<Connection>) {
        self.is_open.store(self.connection.set(connection.clone()).is_ok(), Ordering::Release);
    }

    /// Receives until the other process has ended; `early` came before. Blocking.
    pub(super) fn listen(&self, early: Vec<Said>) {
        early.into_iter().for_each(|said| self.hear(said));
        while let Some(connection) = self.connection.get() {
            match connection.receive() {
                Ok((Message::Limits { said }, _)) => self.hear(said),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => break,
            }
        }
        self.is_open.store(false, Ordering::Release);
        let _ = self.tell.send(Heard::Gone);
    }

    /// Has a thread receive. Errors: none can be started, and what the other process runs counts as long as this one lives.
    pub(super) fn listen_apart(self: &Arc<Tie>, early: Vec<Said>) -> io::Result<()> {
        let own = self.clone();
        thread::Builder::new().name("ringway-tie".to_owned()).spawn(move || own.listen(early)).map(drop)
    }

    fn hear(&self, said: Said) {
        let _ = self.tell.send(said.into());
    }

    /// What is received, for the one who asks first.
    pub fn heard(&self) -> Option<UnboundedReceiver<Heard>> {
        self.heard.lock().ok()?.take()
    }

    /// Whether somebody listens.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Tells the other process, unless it is too slow to hear it.
    pub fn tell(&self, heard: Heard) {
        if let (Some(connection), Some(said)) = (self.connection.get().filter(|_| self.is_open()), said(heard)) {
            let _ = connection.offer(&Message::Limits { said });
        }
    }
}

/// The message that says what runs.
pub(super) fn running(rows: Vec<(u64, u32)>) -> Message {
    Message::Limits { said: Said::Running { rows } }
}

/// The messages that have all these ledgers, one after the other.
pub(super) fn ledgers(handed: InParts<Ledger>, form: LedgerForm) -> impl Iterator<Item = Message> {
    let mut rows = handed.into_iter().map(|(id, ledger)| {
        let over = Over::from(ledger.period());
        LedgerRow {
            id: id.0,
            over,
            counts: ledger.counts().map(|(slot, amount)| (over.abroad(slot), amount)).collect(),
        }
    });
    let most = if form == LedgerForm::Packed { COUNTS_PACKED } else { COUNTS_A_MESSAGE };
    std::iter::from_fn(move || {
        let mut count = 0;
        let mut part = Vec::new();
        while count < most
            && let Some(row) = rows.next()
        {
            count += row.counts.len() + 2;
            part.push(row);
        }
        match (part.is_empty(), form) {
            (true, _) => None,
            (false, LedgerForm::Json) => Some(Message::Ledgers { rows: part }),
            (false, LedgerForm::Packed) => {
                Some(Message::Packed(PackedLedgers { rows: part.iter().map(PackedLedger::of).collect() }))
            }
        }
    })
}

impl From<LedgerRow> for Handed {
    fn from(row: LedgerRow) -> Handed {
        let counts = row.counts.into_iter().map(|(slot, amount)| (row.over.at_home(slot), amount));
        Handed { id: LimitId(row.id), period: row.over.into(), counts: counts.collect() }
    }
}

fn said(heard: Heard) -> Option<Said> {
    Some(match heard {
        Heard::Ask { core, limit, ask: Ask { period, limit: most, need, want } } => {
            Said::Ask { core, id: limit.0, over: period.into(), limit: most, need, want }
        }
        Heard::Grant { core, limit, grant } => {
            let Grant { period, limit: most, slot, amount, free, short } = grant;
            let over = Over::from(period);
            Said::Grant { core, id: limit.0, over, limit: most, slot: over.abroad(slot), amount, free, short }
        }
        Heard::Settle { limit, period, returned } => {
            let over = Over::from(period);
            let unspent = returned.unspent.iter().map(|(slot, amount)| (over.abroad(*slot), *amount)).collect();
            Said::Settle { id: limit.0, over, unspent, overspent: returned.overspent }
        }
        Heard::Running(rows) => Said::Running { rows },
        Heard::Gone => return None,
    })
}

impl From<Said> for Heard {
    fn from(said: Said) -> Heard {
        match said {
            Said::Ask { core, id, over, limit, need, want } => {
                Heard::Ask { core, limit: LimitId(id), ask: Ask { period: over.into(), limit, need, want } }
            }
            Said::Grant { core, id, over, limit, slot, amount, free, short } => {
                let grant = Grant { period: over.into(), limit, slot: over.at_home(slot), amount, free, short };
                Heard::Grant { core, limit: LimitId(id), grant }
            }
            Said::Settle { id, over, unspent, overspent } => {
                let unspent = unspent.into_iter().map(|(slot, amount)| (over.at_home(slot), amount)).collect();
                Heard::Settle { limit: LimitId(id), period: over.into(), returned: Returned { unspent, overspent } }
            }
            Said::Running { rows } => Heard::Running(rows),
        }
    }
}

impl Over {
    /// A slot of this process's clock as the other process has it. Periods of the calendar are the same everywhere.
    fn abroad(self, slot: Slot) -> i64 {
        let slot = i64::try_from(slot).unwrap_or(i64::MAX);
        if self == Over::Minute { slot.saturating_add(begin_s()) } else { slot }
    }

    fn at_home(self, slot: i64) -> Slot {
        let slot = if self == Over::Minute { slot.saturating_sub(begin_s()) } else { slot };
        u64::try_from(slot).unwrap_or(0)
    }
}

/// Where seconds of limits begin in this process.
fn begin_s() -> i64 {
    clock_start_s() - EARLIER_S as i64
}

impl From<Period> for Over {
    fn from(period: Period) -> Over {
        match period {
            Period::Minute => Over::Minute,
            Period::Day => Over::Day,
            Period::Week => Over::Week,
            Period::Month => Over::Month,
        }
    }
}

impl From<Over> for Period {
    fn from(over: Over) -> Period {
        match over {
            Over::Minute => Period::Minute,
            Over::Day => Period::Day,
            Over::Week => Period::Week,
            Over::Month => Period::Month,
        }
    }
}

/// Whether clients may still come to a process that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    MayCome,
    Known,
}

/// Leaves the successor all room for requests but that of those that run here, and some for those that may come: how many may run
/// here, by limit.
pub fn leave_room(snapshot: &Snapshot, clients: Clients) -> Vec<(u64, u32)> {
    let part = |most: u32| if clients == Clients::MayCome { most / KEPT_PART } else { 0 };
    let left = snapshot.concurrent_limits().map(|limit| (limit.id, limit.leave_room(part(limit.most))));
    left.filter(|(_, may_run)| *may_run > 0).collect()
}

/// What runs in the process before counts here. Owned by the background core, which goes on with what was known before.
#[derive(Default)]
pub struct Elsewhere {
    limits: Option<HashMap<u64, Concurrent>>,
    counted: Vec<u64>,
}

impl Elsewhere {
    pub fn count(&mut self, snapshot: &Snapshot, rows: &[(u64, u32)]) {
        // Later generations have the same counts.
        let limits = self
            .limits
            .get_or_insert_with(|| snapshot.concurrent_limits().map(|limit| (limit.id, limit.shared())).collect());
        for id in std::mem::take(&mut self.counted) {
            if let Some(limit) = limits.get(&id).filter(|_| !rows.iter().any(|row| row.0 == id)) {
                limit.count_elsewhere(0);
            }
        }
        for (id, running) in rows {
            if let Some(limit) = limits.get(id) {
                limit.count_elsewhere(*running);
                self.counted.push(*id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let limit = LimitId(u64::MAX);
        let returned = Returned { unspent: vec![(EARLIER_S + 3, 4)], overspent: 5 };
        for heard in [
            Heard::Ask { core: 3, limit, ask: Ask { period: Period::Minute, limit: u64::MAX, need: 1, want: 2 } },
            Heard::Grant {
                core: 0,
                limit,
                grant: Grant { period: Period::Minute, limit: 9, slot: 7, amount: 1, free: 0, short: Some((1, 2)) },
            },
            Heard::Settle { limit, period: Period::Month, returned },
            Heard::Running(vec![(1, 2), (u64::MAX, u32::MAX)]),
        ] {
            let said = serde_json::to_vec(&Message::Limits { said: said(heard.clone()).unwrap() }).unwrap();
            let Ok(Message::Limits { said }) = serde_json::from_slice(&said) else { panic!("another message") };
            assert_eq!(Heard::from(said), heard);
        }
    }

    #[test]
    fn ledgers_pass_in_messages_of_some_size() {
        let all = || {
            let mut all = InParts::<Ledger>::default();
            for id in 0..2_000 {
                let period = [Period::Minute, Period::Day, Period::Week, Period::Month][id as usize % 4];
                let ledger = all.get_or_insert_with(LimitId(u64::MAX - id), || Ledger::new(period));
                let slots = if period == Period::Minute { id % 64 } else { id % 8 };
                (0..slots).for_each(|slot| ledger.add((slot + 40) * (1 + id % 9_999), u64::MAX - slot));
            }
            all
        };
        let sorted = |mut handed: Vec<Handed>| {
            handed.sort_by_key(|handed| handed.id);
            handed
        };
        let handed = all().into_iter().map(|(id, ledger)| Handed {
            id,
            period: ledger.period(),
            counts: ledger.counts().collect(),
        });
        let handed = sorted(handed.collect());
        let (giver, taker) = ends();
        for form in [LedgerForm::Json, LedgerForm::Packed] {
            let mut heard = Vec::new();
            for message in ledgers(all(), form) {
                giver.send(&message, None).unwrap();
                match taker.receive().unwrap().0 {
                    Message::Ledgers { rows } => heard.extend(rows.into_iter().map(Handed::from)),
                    Message::Packed(packed) => heard.extend(packed.into_handed()),
                    _ => panic!("another message"),
                }
            }
            assert!(sorted(heard) == handed, "{form:?}");
        }
    }

    /// A hundred thousand limits that are in use each second.
    #[test]
    fn many_ledgers_pass_in_few_bytes() {
        let mut all = InParts::<Ledger>::default();
        for id in 0..100_000u64 {
            let ledger =
                all.get_or_insert_with(LimitId(id.wrapping_mul(0x9E37_79B9_7F4A_7C15)), || Ledger::new(Period::Minute));
            (0..62).for_each(|second| ledger.add(EARLIER_S + second, 1 + id % 200));
        }
        let (mut bytes, mut rows) = (0, 0);
        for message in ledgers(all, LedgerForm::Packed) {
            let Message::Packed(packed) = message else { panic!("another message") };
            bytes += packed.encoded_len();
            rows += packed.into_handed().inspect(|handed| assert_eq!(handed.counts.len(), 62)).count();
        }
        assert_eq!(rows, 100_000);
        assert!(bytes < 22_000_000, "{bytes}");
    }

    fn ends() -> (Connection, Connection) {
        let (one, other) = socket2::Socket::pair(socket2::Domain::UNIX, socket2::Type::SEQPACKET, None).unwrap();
        (Connection::new(one.into()).unwrap(), Connection::new(other.into()).unwrap())
    }
}
