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
pub enum WirePeriod {
    Minute,
    Day,
    Week,
    Month,
}

/// One ledger. Seconds are those of the machine's monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    id: u64,
    over: WirePeriod,
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
    /// [`WirePeriod`] by its place.
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
        let over = [WirePeriod::Minute, WirePeriod::Day, WirePeriod::Week, WirePeriod::Month]
            .into_iter()
            .nth(self.over as usize)?;
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

/// Messages between the two processes after the take-over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum LimitsMessage {
    /// A core of the older one wants some of a limit.
    Ask { core: u16, id: u64, over: WirePeriod, limit: u64, need: u64, want: u64 },
    /// The answer.
    Grant {
        core: u16,
        id: u64,
        over: WirePeriod,
        limit: u64,
        slot: i64,
        amount: u64,
        free: u64,
        short: Option<(u64, u64)>,
    },
    /// A core of the older one gives back.
    Settle { id: u64, over: WirePeriod, unspent: Vec<(i64, u64)>, overspent: u64 },
    /// How many requests the older one runs, or may run at most, by limit. Those that are not here: none.
    Running { rows: Vec<(u64, u32)> },
}

/// The same as the cores of this process send and receive it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitsEvent {
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

/// Carries limits to and from the successor, or the predecessor.
#[derive(Debug)]
pub struct LimitsLink {
    connection: OnceLock<Arc<Connection>>,
    is_open: AtomicBool,
    sender: UnboundedSender<LimitsEvent>,
    events: Mutex<Option<UnboundedReceiver<LimitsEvent>>>,
}

impl Default for LimitsLink {
    fn default() -> LimitsLink {
        let (sender, events) = unbounded_channel();
        LimitsLink {
            connection: OnceLock::new(),
            is_open: AtomicBool::new(false),
            sender,
            events: Mutex::new(Some(events)),
        }
    }
}

impl LimitsLink {
    /// Sends from now on.
    pub(super) fn begin(&self, connection: &Arc<Connection>) {
        self.is_open.store(self.connection.set(connection.clone()).is_ok(), Ordering::Release);
    }

    /// Receives until the other process has ended; `early` came before. Blocking.
    pub(super) fn listen(&self, early: Vec<LimitsMessage>) {
        early.into_iter().for_each(|message| self.deliver(message));
        while let Some(connection) = self.connection.get() {
            match connection.receive() {
                Ok((Message::Limits { message }, _)) => self.deliver(message),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => break,
            }
        }
        self.is_open.store(false, Ordering::Release);
        let _ = self.sender.send(LimitsEvent::Gone);
    }

    /// Has a thread receive. Errors: none can be started, and what the other process runs counts as long as this one lives.
    pub(super) fn listen_apart(self: &Arc<LimitsLink>, early: Vec<LimitsMessage>) -> io::Result<()> {
        let own = self.clone();
        thread::Builder::new().name("ringway-limits".to_owned()).spawn(move || own.listen(early)).map(drop)
    }

    fn deliver(&self, message: LimitsMessage) {
        let _ = self.sender.send(message.into());
    }

    /// What is received, for the first caller.
    pub fn take_events(&self) -> Option<UnboundedReceiver<LimitsEvent>> {
        self.events.lock().ok()?.take()
    }

    /// Whether the other process receives.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Sends to the other process; dropped if that is too slow to receive it.
    pub fn send(&self, event: LimitsEvent) {
        if let (Some(connection), Some(message)) = (self.connection.get().filter(|_| self.is_open()), encode(event)) {
            let _ = connection.offer(&Message::Limits { message });
        }
    }
}

/// The message that says what runs.
pub(super) fn running(rows: Vec<(u64, u32)>) -> Message {
    Message::Limits { message: LimitsMessage::Running { rows } }
}

/// The messages that have all these ledgers, one after the other.
pub(super) fn ledgers(handed: InParts<Ledger>, form: LedgerForm) -> impl Iterator<Item = Message> {
    let mut rows = handed.into_iter().map(|(id, ledger)| {
        let over = WirePeriod::from(ledger.period());
        LedgerRow {
            id: id.0,
            over,
            counts: ledger.counts().map(|(slot, amount)| (over.to_wire(slot), amount)).collect(),
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
        let counts = row.counts.into_iter().map(|(slot, amount)| (row.over.to_local(slot), amount));
        Handed { id: LimitId(row.id), period: row.over.into(), counts: counts.collect() }
    }
}

fn encode(event: LimitsEvent) -> Option<LimitsMessage> {
    Some(match event {
        LimitsEvent::Ask { core, limit, ask: Ask { period, limit: most, need, want } } => {
            LimitsMessage::Ask { core, id: limit.0, over: period.into(), limit: most, need, want }
        }
        LimitsEvent::Grant { core, limit, grant } => {
            let Grant { period, limit: most, slot, amount, free, short } = grant;
            let over = WirePeriod::from(period);
            LimitsMessage::Grant { core, id: limit.0, over, limit: most, slot: over.to_wire(slot), amount, free, short }
        }
        LimitsEvent::Settle { limit, period, returned } => {
            let over = WirePeriod::from(period);
            let unspent = returned.unspent.iter().map(|(slot, amount)| (over.to_wire(*slot), *amount)).collect();
            LimitsMessage::Settle { id: limit.0, over, unspent, overspent: returned.overspent }
        }
        LimitsEvent::Running(rows) => LimitsMessage::Running { rows },
        LimitsEvent::Gone => return None,
    })
}

impl From<LimitsMessage> for LimitsEvent {
    fn from(message: LimitsMessage) -> LimitsEvent {
        match message {
            LimitsMessage::Ask { core, id, over, limit, need, want } => {
                LimitsEvent::Ask { core, limit: LimitId(id), ask: Ask { period: over.into(), limit, need, want } }
            }
            LimitsMessage::Grant { core, id, over, limit, slot, amount, free, short } => {
                let grant = Grant { period: over.into(), limit, slot: over.to_local(slot), amount, free, short };
                LimitsEvent::Grant { core, limit: LimitId(id), grant }
            }
            LimitsMessage::Settle { id, over, unspent, overspent } => {
                let unspent = unspent.into_iter().map(|(slot, amount)| (over.to_local(slot), amount)).collect();
                LimitsEvent::Settle {
                    limit: LimitId(id),
                    period: over.into(),
                    returned: Returned { unspent, overspent },
                }
            }
            LimitsMessage::Running { rows } => LimitsEvent::Running(rows),
        }
    }
}

impl WirePeriod {
    /// A slot of this process's clock as the other process has it. Periods of the calendar are the same everywhere.
    fn to_wire(self, slot: Slot) -> i64 {
        let slot = i64::try_from(slot).unwrap_or(i64::MAX);
        if self == WirePeriod::Minute { slot.saturating_add(begin_s()) } else { slot }
    }

    fn to_local(self, slot: i64) -> Slot {
        let slot = if self == WirePeriod::Minute { slot.saturating_sub(begin_s()) } else { slot };
        u64::try_from(slot).unwrap_or(0)
    }
}

/// Where seconds of limits begin in this process.
fn begin_s() -> i64 {
    clock_start_s() - EARLIER_S as i64
}

impl From<Period> for WirePeriod {
    fn from(period: Period) -> WirePeriod {
        match period {
            Period::Minute => WirePeriod::Minute,
            Period::Day => WirePeriod::Day,
            Period::Week => WirePeriod::Week,
            Period::Month => WirePeriod::Month,
        }
    }
}

impl From<WirePeriod> for Period {
    fn from(over: WirePeriod) -> Period {
        match over {
            WirePeriod::Minute => Period::Minute,
            WirePeriod::Day => Period::Day,
            WirePeriod::Week => Period::Week,
            WirePeriod::Month => Period::Month,
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
    fn what_is_sent_is_received() {
        let limit = LimitId(u64::MAX);
        let returned = Returned { unspent: vec![(EARLIER_S + 3, 4)], overspent: 5 };
        for event in [
            LimitsEvent::Ask { core: 3, limit, ask: Ask { period: Period::Minute, limit: u64::MAX, need: 1, want: 2 } },
            LimitsEvent::Grant {
                core: 0,
                limit,
                grant: Grant { period: Period::Minute, limit: 9, slot: 7, amount: 1, free: 0, short: Some((1, 2)) },
            },
            LimitsEvent::Settle { limit, period: Period::Month, returned },
            LimitsEvent::Running(vec![(1, 2), (u64::MAX, u32::MAX)]),
        ] {
            let bytes = serde_json::to_vec(&Message::Limits { message: encode(event.clone()).unwrap() }).unwrap();
            let Ok(Message::Limits { message }) = serde_json::from_slice(&bytes) else { panic!("another message") };
            assert_eq!(LimitsEvent::from(message), event);
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
