//! Invariants, separate from the machines: a ledger of what each owner answered and how each exchange ended.

use crate::messages::{Answer, Exchange};
use shards::{Asked, CoreId, Fingerprint, Millis, Settled};
use std::collections::HashMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Served,
    Failed,
    /// The client left.
    Left,
}

#[derive(Default)]
pub struct Ledger {
    ends: HashMap<Exchange, Option<End>>,
    owners: HashMap<CoreId, Owner>,
    pub counts: Counts,
}

/// What one owner core has answered.
#[derive(Default)]
struct Owner {
    live: HashMap<Fingerprint, Flight>,
    /// Every number issued, and whether its leader has settled it.
    drawn: HashMap<u64, Settling>,
    stored: HashMap<Fingerprint, Stored>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Settling {
    Due,
    Done,
    /// The leader died without settling.
    Lost,
}

struct Flight {
    number: u64,
    leader: CoreId,
    since: Millis,
}

#[derive(Clone, Copy)]
struct Stored {
    answer: Answer,
    at: Millis,
    ttl_ms: u64,
}

/// Which exchange asked an owner, for which core, and when.
#[derive(Clone, Copy)]
pub struct Question {
    pub owner: CoreId,
    pub asker: CoreId,
    pub fingerprint: Fingerprint,
    pub now: Millis,
}

impl Ledger {
    pub fn began(&mut self, exchange: Exchange) {
        assert!(self.ends.insert(exchange, None).is_none(), "exchange {exchange} began twice");
    }

    pub fn ended(&mut self, exchange: Exchange, fingerprint: Fingerprint, answer: Option<Answer>, end: End) {
        let before = self.ends.insert(exchange, Some(end));
        assert_eq!(before, Some(None), "exchange {exchange} ends once, having begun");
        if let Some(answer) = answer {
            assert_eq!(answer.fingerprint, fingerprint, "exchange {exchange} got another fingerprint's answer");
        }
        match end {
            End::Served => self.counts.served += 1,
            End::Failed => self.counts.failed += 1,
            End::Left => self.counts.left += 1,
        }
    }

    /// An owner was asked; the flight `gave_up` is over if it was live.
    pub fn asked(&mut self, question: Question, gave_up: Option<u64>, asked: &Asked<Answer>, flights_max: usize) {
        let Question { owner, asker, fingerprint, now } = question;
        let owner = self.owners.entry(owner).or_default();
        if let Some(flight) = owner.live.get(&fingerprint)
            && Some(flight.number) == gave_up
        {
            owner.live.remove(&fingerprint);
            self.counts.taken_over += 1;
        }
        let stored = owner.stored.get(&fingerprint);
        match *asked {
            Asked::Hit { value, age_ms } => {
                self.counts.hits += 1;
                let stored = stored.expect("a hit was stored, and was not purged since");
                assert_eq!(value, stored.answer, "a hit is the last answer stored for its fingerprint");
                assert_eq!(age_ms, now.since(stored.at), "age of a hit");
                assert!(age_ms < stored.ttl_ms, "a hit is fresh");
                assert!(!owner.live.contains_key(&fingerprint), "a hit although a flight is live");
            }
            Asked::Lead { number, .. } => {
                self.counts.leads += 1;
                let before = owner.drawn.insert(number, Settling::Due);
                assert!(before.is_none(), "number {number} was used before");
                let flight = Flight { number, leader: asker, since: now };
                let before = owner.live.insert(fingerprint, flight);
                assert!(before.is_none(), "two flights of one fingerprint");
            }
            Asked::Follow { leader, number } => {
                self.counts.follows += 1;
                let flight = owner.live.get(&fingerprint).expect("only a live flight is followed");
                assert_eq!((flight.leader, flight.number), (leader, number));
            }
            Asked::Alone { .. } => {
                self.counts.alone += 1;
                assert!(!owner.live.contains_key(&fingerprint), "alone although there is a flight");
                assert_eq!(owner.live.len(), flights_max, "alone although there is room");
            }
        }
    }

    /// An exchange leads or goes alone. `expired` is what the owner still held, `lent` what the exchange got of it.
    pub fn led(&mut self, question: Question, expired: Option<Answer>, lent: Option<Answer>, stale_ms: u64) {
        let Some(expired) = expired else {
            assert_eq!(lent, None, "lent without being held");
            return;
        };
        let stored = self.owners.entry(question.owner).or_default().stored.get(&question.fingerprint);
        let stored = stored.expect("held entries were stored and not purged since");
        assert_eq!(expired, stored.answer, "held is the last answer stored for its fingerprint");
        let over_ms = question.now.since(stored.at.after(stored.ttl_ms));
        assert_eq!(lent, (over_ms < stale_ms).then_some(expired), "expired {over_ms} ms ago, lent up to {stale_ms}");
        match lent {
            Some(_) => self.counts.lent += 1,
            None => self.counts.too_old += 1,
        }
    }

    pub fn settled(&mut self, question: Question, number: u64, brought: Option<(Answer, u64)>, settled: Settled) {
        let owner = self.owners.entry(question.owner).or_default();
        let flies = owner.live.get(&question.fingerprint).is_some_and(|flight| flight.number == number);
        let settling = owner.drawn.insert(number, Settling::Done);
        assert!(settling == Some(Settling::Due), "number {number} was issued, and is settled once");
        assert_eq!(flies, settled != Settled::Late, "number {number} settles if and only if it is live");
        if !flies {
            self.counts.late += 1;
            return;
        }
        owner.live.remove(&question.fingerprint);
        if let Settled::Stored { evicted } = settled {
            self.counts.evicted += u64::from(evicted);
            let (answer, ttl_ms) = brought.expect("only a complete answer is stored");
            assert_eq!(answer.fingerprint, question.fingerprint);
            owner.stored.insert(question.fingerprint, Stored { answer, at: question.now, ttl_ms });
        }
        assert_eq!(matches!(settled, Settled::Dropped), brought.is_none());
    }

    /// The leader of `number` will never settle.
    pub fn lost(&mut self, owner: CoreId, number: u64) {
        let settling = self.owners.entry(owner).or_default().drawn.insert(number, Settling::Lost);
        assert!(settling == Some(Settling::Due), "number {number} was issued, and not settled");
    }

    pub fn purged(&mut self, owner: CoreId, fingerprint: Option<Fingerprint>) {
        let owner = self.owners.entry(owner).or_default();
        owner.live.retain(|other, _| fingerprint.is_some_and(|fingerprint| fingerprint != *other));
        owner.stored.retain(|other, _| fingerprint.is_some_and(|fingerprint| fingerprint != *other));
        self.counts.purges += 1;
    }

    pub fn swept(&mut self, owner: CoreId, now: Millis, limit_ms: u64, swept: u32) {
        let live = &mut self.owners.entry(owner).or_default().live;
        let before = live.len();
        live.retain(|_, flight| now.since(flight.since) <= limit_ms);
        assert_eq!(before - live.len(), swept as usize, "exactly the old flights are swept");
        self.counts.swept += u64::from(swept);
    }

    /// Checked after every event that touched `owner`.
    pub fn check(&self, owner: CoreId, flights: usize) {
        let live = self.owners.get(&owner).map_or(0, |owner| owner.live.len());
        assert_eq!(live, flights, "the flights of core {}", owner.0);
    }

    /// Checked once faults have stopped and nothing is in flight.
    pub fn check_all_ended(&self) {
        for (exchange, end) in &self.ends {
            assert!(end.is_some(), "exchange {exchange} has no end");
        }
        for owner in self.owners.values() {
            assert!(!owner.drawn.values().any(|settling| *settling == Settling::Due), "a flight was never settled");
        }
    }
}

/// How often each thing happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub events: u64,
    pub served: u64,
    pub failed: u64,
    pub left: u64,
    pub hits: u64,
    pub leads: u64,
    pub follows: u64,
    pub alone: u64,
    pub taken_over: u64,
    pub late: u64,
    pub evicted: u64,
    pub stale: u64,
    pub lent: u64,
    pub too_old: u64,
    pub purges: u64,
    pub swept: u64,
    pub stalls: u64,
    pub vanished: u64,
}

impl Counts {
    fn rows(&mut self) -> [(&'static str, &mut u64); 18] {
        [
            ("events", &mut self.events),
            ("served", &mut self.served),
            ("failed", &mut self.failed),
            ("left", &mut self.left),
            ("hits", &mut self.hits),
            ("leads", &mut self.leads),
            ("follows", &mut self.follows),
            ("alone", &mut self.alone),
            ("taken_over", &mut self.taken_over),
            ("late", &mut self.late),
            ("evicted", &mut self.evicted),
            ("stale", &mut self.stale),
            ("lent", &mut self.lent),
            ("too_old", &mut self.too_old),
            ("purges", &mut self.purges),
            ("swept", &mut self.swept),
            ("stalls", &mut self.stalls),
            ("vanished", &mut self.vanished),
        ]
    }

    pub fn add(&mut self, other: &Counts) {
        let mut other = other.clone();
        for ((_, sum), (_, part)) in self.rows().into_iter().zip(other.rows()) {
            *sum += *part;
        }
    }

    pub fn check_all_happened(&mut self) {
        for (name, count) in self.rows() {
            assert!(*count > 0, "never covered by the simulation: {name}");
        }
    }
}
