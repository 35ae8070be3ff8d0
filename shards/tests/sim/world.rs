//! Virtual time, the event queue, and the faults.

use crate::core::{Core, Effect, Fate, Purpose, Turn};
use crate::laws::{Counts, Ledger};
use crate::messages::{Channel, Exchange, Message};
use crate::random::Random;
use shards::{CoreId, Fingerprint, Millis};
use std::collections::BTreeMap;

/// Faults and new requests end here.
const CALM_MS: u64 = 3_000;
/// No fetch takes longer.
const FETCH_MS_MAX: u64 = 400;
/// A flight older than this has lost its leader.
const FLIGHT_MS_MAX: u64 = 1_500;
/// More than any seed needs; a seed that exceeds it does not terminate.
const EVENTS_MAX: u64 = 200_000;

enum Event {
    Arrive {
        core: CoreId,
        exchange: Exchange,
        fingerprint: Fingerprint,
    },
    Leave {
        core: CoreId,
        exchange: Exchange,
    },
    Deliver {
        from: CoreId,
        to: CoreId,
    },
    Fetched {
        core: CoreId,
        purpose: Purpose,
    },
    Waited {
        core: CoreId,
        exchange: Exchange,
        number: u64,
    },
    /// The core does nothing for a time; its events are delayed.
    Stall {
        core: CoreId,
        until: Millis,
    },
    Sweep {
        core: CoreId,
    },
    Purge {
        core: CoreId,
        fingerprint: Option<Fingerprint>,
    },
}

struct World {
    random: Random,
    now: Millis,
    cores: Vec<Core>,
    stalled: Vec<Millis>,
    channel: Channel,
    queue: BTreeMap<(Millis, u64), Event>,
    sequence: u64,
    serial: u64,
    ledger: Ledger,
}

/// Runs one seed until nothing is left to do. Panics if an invariant is violated.
pub fn run(seed: u64) -> Counts {
    let mut world = World::new(seed);
    while let Some(((at, _), event)) = world.queue.pop_first() {
        world.now = at;
        world.happen(event);
        world.ledger.counts.events += 1;
        assert!(world.ledger.counts.events < EVENTS_MAX, "does not terminate");
    }
    assert!(world.channel.is_empty(), "messages left");
    world.cores.iter().for_each(Core::check_at_rest);
    world.ledger.check_all_ended();
    world.ledger.counts
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let count = 1 + random.below(5) as u16;
        let cores: Vec<Core> = (0..count).map(|id| Core::new(CoreId(id), &mut random)).collect();
        let mut world = Self {
            stalled: vec![Millis(0); cores.len()],
            cores,
            random,
            now: Millis(0),
            channel: Channel::default(),
            queue: BTreeMap::new(),
            sequence: 0,
            serial: 0,
            ledger: Ledger::default(),
        };
        world.plan_requests();
        world.plan_faults();
        world
    }

    fn plan_requests(&mut self) {
        let mut fingerprints: Vec<[u8; 32]> = (0..1 + self.random.below(60)).map(|_| self.random.bytes()).collect();
        for at in 1..fingerprints.len() {
            // Fingerprints with equal hashes in the tables, and some that differ only in the last byte.
            if self.random.chance(20) {
                let alike = fingerprints[at - 1];
                let same = if self.random.chance(50) { 31 } else { 16 };
                fingerprints[at][..same].copy_from_slice(&alike[..same]);
            }
        }
        for exchange in 0..200 {
            let at = Millis(self.random.below(CALM_MS));
            let core = self.any_core();
            // Minimum of two draws: the first ones are more frequent.
            let popular = self.random.below(fingerprints.len() as u64) + 1;
            let fingerprint = Fingerprint(fingerprints[self.random.below(popular) as usize]);
            self.plan(at, Event::Arrive { core, exchange, fingerprint });
            if self.random.chance(10) {
                let patience_ms = self.random.below(FETCH_MS_MAX);
                self.plan(at.after(patience_ms), Event::Leave { core, exchange });
            }
            if self.random.chance(2) {
                let at = Millis(self.random.below(CALM_MS));
                let one = self.random.chance(80).then_some(fingerprint);
                self.plan(at, Event::Purge { core, fingerprint: one });
            }
        }
    }

    fn plan_faults(&mut self) {
        for _ in 0..self.random.below(8) {
            let (core, at) = (self.any_core(), self.random.below(CALM_MS));
            let until = Millis(at).after(self.random.below(600));
            self.plan(Millis(at), Event::Stall { core, until });
        }
        for core in 0..self.cores.len() as u16 {
            // The last one comes after everything else has ended.
            for at in (0..CALM_MS).step_by(200).chain([CALM_MS * 10]) {
                self.plan(Millis(at), Event::Sweep { core: CoreId(core) });
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let core = match event {
            Event::Stall { core, until } => {
                self.stalled[core.0 as usize] = until;
                self.ledger.counts.stalls += 1;
                return;
            }
            Event::Arrive { core, .. }
            | Event::Leave { core, .. }
            | Event::Deliver { to: core, .. }
            | Event::Fetched { core, .. }
            | Event::Waited { core, .. }
            | Event::Sweep { core }
            | Event::Purge { core, .. } => core,
        };
        let wakes = self.stalled[core.0 as usize];
        if self.now < wakes {
            return self.plan(wakes, event);
        }
        let mut effects = Vec::new();
        self.act(core, event, &mut effects);
        self.cores[core.0 as usize].check(&self.ledger);
        self.apply(core, effects);
    }

    fn act(&mut self, core: CoreId, event: Event, effects: &mut Vec<Effect>) {
        let fate = self.draw_fate();
        let cores = self.cores.len() as u16;
        let turn = &mut Turn { now: self.now, cores, ledger: &mut self.ledger, effects };
        let core = &mut self.cores[core.0 as usize];
        match event {
            Event::Arrive { exchange, fingerprint, .. } => core.accept(exchange, fingerprint, turn),
            Event::Leave { exchange, .. } => core.leave(exchange, turn),
            Event::Deliver { from, to } => {
                let message = self.channel.pop(from, to).expect("one message per delivery");
                core.read(from, message, turn);
            }
            Event::Fetched { purpose, .. } => core.fetched(purpose, fate, turn),
            Event::Waited { exchange, number, .. } => core.waited(exchange, number, turn),
            Event::Sweep { .. } => {
                let swept = core.shard.sweep(self.now, FLIGHT_MS_MAX);
                turn.ledger.swept(core.id, self.now, FLIGHT_MS_MAX, swept);
            }
            Event::Purge { fingerprint, .. } => {
                match fingerprint {
                    Some(fingerprint) => drop(core.shard.purge(&fingerprint)),
                    None => core.shard.purge_all(),
                }
                turn.ledger.purged(core.id, fingerprint);
            }
            Event::Stall { .. } => {}
        }
    }

    fn apply(&mut self, core: CoreId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, message } => self.send(core, to, message),
                Effect::Fetch { purpose } => {
                    let at = self.now.after(1 + self.random.below(FETCH_MS_MAX));
                    self.plan(at, Event::Fetched { core, purpose });
                }
                Effect::Wait { exchange, number } => {
                    let at = self.now.after(100 + self.random.below(FETCH_MS_MAX));
                    self.plan(at, Event::Waited { core, exchange, number });
                }
            }
        }
    }

    fn send(&mut self, from: CoreId, to: CoreId, message: Message) {
        // A core's message to itself is a call: it arrives at once.
        let delay_ms = if from == to { 0 } else { Channel::delay_ms(&mut self.random) };
        self.channel.push(from, to, message);
        self.plan(self.now.after(delay_ms), Event::Deliver { from, to });
    }

    fn draw_fate(&mut self) -> Fate {
        let faulty = self.now.0 < CALM_MS;
        self.serial += 1;
        match self.random.below(100) {
            0..10 => Fate::Failed,
            10..15 if faulty => Fate::Vanished,
            15..20 if faulty => Fate::VanishedSilently,
            _ => Fate::Complete {
                serial: self.serial,
                size_bytes: self.random.below(100) * self.random.below(40),
                ttl_ms: self.random.below(1_500),
            },
        }
    }

    fn any_core(&mut self) -> CoreId {
        CoreId(self.random.below(self.cores.len() as u64) as u16)
    }

    fn plan(&mut self, at: Millis, event: Event) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }
}
