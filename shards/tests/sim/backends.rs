//! Cores that ask backends which fail and recover: each has its breakers, budgets and attempts, and learns from delayed
//! messages what other cores and active checks found. A period of faults, one in which everything must recover, and one
//! in which no request may fail. Invariants are checked after every event.

mod channel;
mod core;
mod laws;

use std::collections::BTreeMap;

use shards::breaker::Outcome;
use shards::{Attempts, BreakerRules, Fault, Millis, Step};

use self::channel::{Channel, Sender, Word};
use self::core::{Core, Request, Sent, Town};
pub use self::laws::Counts;
use self::laws::{End, Laws};
use crate::random::Random;

/// Faults end here.
const STORM_MS: u64 = 4_000;
/// Everything has recovered by now: the longest request, message delay and ejection, then probes and slow start. A core
/// whose trip crossed a return elsewhere recovers by its own probes, as its requests arrive.
const WELL_MS: u64 = STORM_MS + 16_000;
/// Requests stop here.
const END_MS: u64 = WELL_MS + 3_000;
const HANG_MS: u64 = 300;
const CHECK_MS: u64 = 70;
/// More than any seed needs; a seed that exceeds it does not terminate.
const EVENTS_MAX: u64 = 200_000;

/// How a backend that is down behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Refuses,
    BreaksOff,
    Hangs,
    /// Sends Retry-After. Its checks pass.
    Busy,
    /// Answers 400 or 401. Its checks pass.
    Rejects,
    Strange,
}

struct Backend {
    /// `None`: healthy.
    down: Option<Manner>,
    /// How often it went down: requests in flight at that time are lost.
    downs: u32,
    takes_ms: u64,
    /// The last result of the active check.
    checked_well: bool,
}

enum Event {
    Arrive,
    /// A request returns from its backend, or from a wait.
    Ends(u64),
    Again(u64),
    Deliver {
        from: Sender,
        to: usize,
    },
    Turn {
        backend: usize,
    },
    Check,
    /// The core does nothing for a time; its events are delayed.
    Stall {
        core: usize,
        until: u64,
    },
}

struct World {
    random: Random,
    now: u64,
    town: Town,
    cores: Vec<Core>,
    stalled: Vec<u64>,
    backends: Vec<Backend>,
    /// Requests at backends, with their outcomes; and those waiting for another attempt.
    running: BTreeMap<u64, (Sent, Fate)>,
    waiting: BTreeMap<u64, Request>,
    channel: Channel,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    laws: Laws,
}

/// The outcome of a request in flight: by the state of the backend on arrival, unless it goes down meanwhile.
#[derive(Clone, Copy)]
struct Fate {
    manner: Option<Manner>,
    downs: u32,
    /// The client leaves before the end.
    leaves: bool,
}

/// Runs one seed until nothing is left to do. Panics if an invariant is violated.
pub fn run(seed: u64) -> Counts {
    let mut world = World::new(seed);
    while let Some(((at, _), event)) = world.queue.pop_first() {
        world.now = at;
        world.happen(event);
        world.laws.counts.events += 1;
        assert!(world.laws.counts.events < EVENTS_MAX, "does not terminate");
    }
    assert!(
        world.running.is_empty() && world.waiting.is_empty() && world.channel.is_empty(),
        "requests or messages left"
    );
    for core in &world.cores {
        core.check_at_rest(&world.town, Millis(world.now));
    }
    world.laws.check_at_rest(&world.town);
    world.laws.counts
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let (cores, backends) = (1 + random.below(4) as usize, 1 + random.below(5) as usize);
        let rules = BreakerRules {
            errors_in_row: 1 + random.below(5) as u32,
            error_percent: random.below(80) as u32,
            window_ms: 1_000,
            volume_min: 5,
            eject_ms: 50 + random.below(300),
            eject_max_ms: 1_600,
            probes: 1 + random.below(3) as u32,
            slow_start_ms: random.below(1_000),
        };
        let town = Town::new(&mut random, backends);
        let laws = Laws::new(cores, backends);
        let mut world = World {
            now: 0,
            cores: (0..cores).map(|_| Core::new(&town, rules)).collect(),
            stalled: vec![0; cores],
            backends: (0..backends)
                .map(|_| Backend { down: None, downs: 0, takes_ms: 1 + random.below(60), checked_well: true })
                .collect(),
            town,
            random,
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            channel: Channel::default(),
            queue: BTreeMap::new(),
            sequence: 0,
            laws,
        };
        world.plan_everything();
        world
    }

    fn plan_everything(&mut self) {
        let pace_ms = 8 + self.random.below(16);
        let mut at = 0;
        while at < END_MS {
            self.plan(at, Event::Arrive);
            at += self.random.below(pace_ms);
        }
        for _ in 0..self.random.below(12) {
            let (backend, at) = (self.random.below(self.backends.len() as u64) as usize, self.random.below(STORM_MS));
            self.plan(at, Event::Turn { backend });
        }
        for _ in 0..self.random.below(5) {
            let (core, at) = (self.random.below(self.cores.len() as u64) as usize, self.random.below(STORM_MS));
            let until = at + self.random.below(400);
            self.plan(at, Event::Stall { core, until });
        }
        if self.random.chance(50) {
            for at in (0..END_MS).step_by(CHECK_MS as usize) {
                self.plan(at, Event::Check);
            }
        }
    }

    fn plan(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    fn happen(&mut self, event: Event) {
        let core = match &event {
            Event::Stall { core, until } => {
                self.stalled[*core] = *until;
                return;
            }
            Event::Turn { backend } => return self.turn(*backend),
            Event::Check => return self.check_backends(),
            // The core that accepts a request is drawn on arrival: a stalled core accepts nothing.
            Event::Arrive => self.random.below(self.cores.len() as u64) as usize,
            Event::Ends(number) => self.running[number].0.request.core,
            Event::Again(number) => self.waiting[number].core,
            Event::Deliver { to, .. } => *to,
        };
        if self.now < self.stalled[core] {
            return self.plan(self.stalled[core], event);
        }
        match event {
            Event::Arrive => {
                self.cores[core].budget.deposit();
                let number = self.laws.began();
                self.send(Request { number, core, tried: 0, asked: 0, attempts: Attempts::new(core::RULES) });
            }
            Event::Again(number) => {
                if let Some(request) = self.waiting.remove(&number) {
                    self.send(Request { tried: 0, ..request });
                }
            }
            Event::Ends(number) => self.come_home(number),
            Event::Deliver { from, to } => {
                let word = self.channel.pop(from, to).expect("one message per delivery");
                self.cores[to].read(word, Millis(self.now));
            }
            Event::Turn { .. } | Event::Check | Event::Stall { .. } => {}
        }
        self.cores[core].check(Millis(self.now));
        self.laws.check(&self.cores);
        if self.channel.is_empty() {
            self.laws.check_told(&self.cores);
        }
    }

    fn turn(&mut self, backend: usize) {
        const MANNERS: [Manner; 6] =
            [Manner::Refuses, Manner::BreaksOff, Manner::Hangs, Manner::Busy, Manner::Rejects, Manner::Strange];
        let manner = MANNERS[self.random.below(MANNERS.len() as u64) as usize];
        let backend = &mut self.backends[backend];
        backend.down = if backend.down.is_none() { Some(manner) } else { None };
        backend.downs += u32::from(backend.down.is_some());
    }

    /// The active checks: every core is told of changes only. In the period of recovery, all are healthy.
    fn check_backends(&mut self) {
        for at in 0..self.backends.len() {
            let calm = self.now >= STORM_MS;
            let backend = &mut self.backends[at];
            if calm {
                backend.down = None;
            }
            let well = matches!(backend.down, None | Some(Manner::Busy | Manner::Rejects | Manner::Strange));
            if well != backend.checked_well {
                backend.checked_well = well;
                let word = Word::Checked { backend: at, well };
                (0..self.cores.len()).for_each(|core| self.post(Sender::Background, core, word));
            }
        }
    }

    fn post(&mut self, from: Sender, to: usize, word: Word) {
        let at = self.channel.push(from, to, word, self.now, &mut self.random);
        self.plan(at, Event::Deliver { from, to });
    }

    /// Sends a request to a backend it has not tried.
    fn send(&mut self, request: Request) {
        let number = request.number;
        let core = request.core;
        let elsewhere = core::sum(&self.cores, core, self.backends.len());
        let place = self.random.next();
        let sent = self.cores[core].send(request, &self.town, &elsewhere, place, Millis(self.now), &mut self.laws);
        let Some(sent) = sent else { return self.laws.ended(number, End::Failed, self.now) };
        let calm = self.now >= STORM_MS;
        let backend = &mut self.backends[sent.backend];
        if calm {
            backend.down = None;
        }
        let leaves = self.random.chance(4);
        let fate = Fate { manner: backend.down, downs: backend.downs, leaves };
        let takes_ms = match fate.manner {
            _ if leaves => self.random.below(HANG_MS),
            Some(Manner::Hangs) => HANG_MS,
            Some(Manner::Refuses | Manner::Busy | Manner::Rejects | Manner::Strange) => 1,
            Some(Manner::BreaksOff) => self.random.below(100),
            None => backend.takes_ms + self.random.below(10),
        };
        self.running.insert(number, (sent, fate));
        self.plan(self.now + takes_ms, Event::Ends(number));
    }

    fn come_home(&mut self, number: u64) {
        let Some((sent, fate)) = self.running.remove(&number) else { return };
        let backend = sent.backend;
        let lost = self.backends[backend].downs != fate.downs;
        let manner = if lost { Some(Manner::BreaksOff) } else { fate.manner };
        let (outcome, fault) = match manner {
            _ if fate.leaves => (Outcome::Neutral, Fault::Cancelled),
            None => (Outcome::Good, Fault::Cancelled),
            Some(Manner::Refuses) => (Outcome::Bad, Fault::Connect),
            Some(Manner::BreaksOff) => (Outcome::Bad, Fault::Closed),
            Some(Manner::Hangs) => (Outcome::Bad, Fault::HeadTimeout),
            Some(Manner::Busy) => (Outcome::Neutral, Fault::Status(429)),
            Some(Manner::Rejects) => (Outcome::Good, Fault::Status(400)),
            Some(Manner::Strange) => (Outcome::Neutral, Fault::Status(401)),
        };
        let now = Millis(self.now);
        let from = sent.request.core;
        let hint_ms = (fault == Fault::Status(429)).then(|| 1 + self.random.below(300));
        let (mut request, word) = self.cores[from].come_home(sent, outcome, hint_ms, now, &mut self.laws);
        if let Some(word) = word {
            for core in (0..self.cores.len()).filter(|&core| core != from) {
                self.post(Sender::Core(from), core, word);
            }
        }
        if fate.leaves {
            return self.laws.ended(number, End::Left, self.now);
        }
        if manner.is_none() {
            return self.laws.ended(number, End::Served, self.now);
        }
        let others = self.cores[from].others(request.tried, now);
        let rng = self.random.next();
        let step = request.attempts.next(fault, hint_ms, others, None, &mut self.cores[from].budget, rng);
        request.attempts.check();
        self.laws.stepped(fault, step, others);
        match step {
            Step::Again { after_ms: 0 } => self.send(request),
            Step::Again { after_ms } => {
                self.waiting.insert(number, request);
                self.plan(self.now + after_ms, Event::Again(number));
            }
            Step::OtherModel | Step::GiveUp => self.laws.ended(number, End::Failed, self.now),
        }
    }
}
