//! One core: its breakers, latencies, balancing and budget. A small version of what the gateway does around each
//! attempt.

use shards::balancer::{Ring, RoundRobin, first_tier, hash, least, two_choices};
use shards::breaker::{Gate, Outcome, Pass, State, WHOLE_SHARE};
use shards::{Attempts, Breaker, BreakerRules, Budget, Check, Latency, Millis, Others, Rules};

use super::channel::Word;
use super::laws::{Laws, Way};
use crate::random::Random;

pub const RULES: Rules = Rules { retries: 2, backoff_ms: 10, backoff_max_ms: 100, hint_max_ms: 1_000 };
/// Retries a core may make before it earned any, and what each request earns, as a percentage of one.
pub const RESERVE: u32 = 10;
pub const PERCENT: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    RoundRobin,
    Least,
    TwoChoices,
    Ring,
}

/// The configuration of a model and its backends.
pub struct Town {
    pub policy: Policy,
    pub weights: Vec<u32>,
    pub tiers: Vec<u16>,
    pub panic_percent: usize,
}

/// A request between two attempts.
pub struct Request {
    pub number: u64,
    pub core: usize,
    /// One bit per backend.
    pub tried: u64,
    /// Number of attempts made.
    pub asked: u32,
    pub attempts: Attempts,
}

/// A request at a backend.
pub struct Sent {
    pub request: Request,
    pub backend: usize,
    pass: Pass,
    since: Millis,
}

pub struct Core {
    breakers: Vec<Breaker>,
    latencies: Vec<Latency>,
    pub in_flight: Vec<u32>,
    probes_out: Vec<u32>,
    robin: RoundRobin,
    ring: Ring,
    cursor: usize,
    pub budget: Budget,
    /// Per backend, for the invariants: whether the check holds it down, and since when it has been in service.
    sick: Vec<bool>,
    serving_since: Vec<Option<Millis>>,
}

/// What all cores except `without` have in flight at each backend.
pub fn sum(cores: &[Core], without: usize, backends: usize) -> Vec<u32> {
    let others = || cores.iter().enumerate().filter(|&(core, _)| core != without);
    (0..backends).map(|backend| others().map(|(_, core)| core.in_flight[backend]).sum()).collect()
}

impl Town {
    pub fn new(random: &mut Random, backends: usize) -> Town {
        let policies = [Policy::RoundRobin, Policy::Least, Policy::TwoChoices, Policy::Ring];
        Town {
            policy: policies[random.below(4) as usize],
            weights: (0..backends).map(|_| 1 + random.below(4) as u32).collect(),
            tiers: (0..backends).map(|_| random.below(4) as u16 / 3).collect(),
            panic_percent: if random.chance(50) { 0 } else { 50 },
        }
    }

    /// The backends that are asked while all are healthy.
    pub fn first(&self) -> impl Iterator<Item = usize> {
        let lowest = self.tiers.iter().copied().min();
        (0..self.tiers.len()).filter(move |&backend| Some(self.tiers[backend]) == lowest)
    }
}

impl Core {
    pub fn new(town: &Town, rules: BreakerRules) -> Core {
        let count = town.weights.len();
        let names: Vec<u64> = (0..count).map(|backend| hash(&[backend as u8])).collect();
        Core {
            breakers: (0..count).map(|_| Breaker::new(rules)).collect(),
            latencies: (0..count).map(|_| Latency::new(1_000)).collect(),
            in_flight: vec![0; count],
            probes_out: vec![0; count],
            robin: RoundRobin::new(count),
            ring: Ring::new(&names, &town.weights),
            cursor: 0,
            budget: Budget::new(PERCENT, RESERVE),
            sick: vec![false; count],
            serving_since: vec![Some(Millis(0)); count],
        }
    }

    /// Sends a request to a backend it has not tried. `None`: none is available.
    pub fn send(
        &mut self,
        mut request: Request,
        town: &Town,
        elsewhere: &[u32],
        place: u64,
        now: Millis,
        laws: &mut Laws,
    ) -> Option<Sent> {
        let count = town.weights.len();
        let gates: Vec<Gate> = self.breakers.iter().map(|breaker| breaker.gate(now)).collect();
        assert!(
            (0..count).all(|backend| !self.sick[backend] || gates[backend] == Gate::Shut),
            "the check holds it down"
        );
        let serving = gates.iter().filter(|gate| **gate != Gate::Shut).count();
        let panic = serving == 0 || serving * 100 < count * town.panic_percent;
        let share = |backend: usize| match gates[backend] {
            _ if request.tried >> backend & 1 == 1 => 0,
            _ if panic => town.weights[backend] * WHOLE_SHARE,
            Gate::Shut => 0,
            Gate::Open | Gate::Probe => town.weights[backend] * self.breakers[backend].share(now),
        };
        let tier = first_tier(&town.tiers, share)?;
        let weight = |backend: usize| if town.tiers[backend] == tier { share(backend) } else { 0 };
        let load = |backend: usize| self.in_flight[backend] + elsewhere[backend];
        let cost = |backend: usize| self.latencies[backend].cost(self.in_flight[backend], now);
        let backend = match town.policy {
            Policy::RoundRobin => self.robin.pick(weight),
            Policy::Least => least(count, load, weight, &mut self.cursor),
            Policy::TwoChoices => two_choices(count, cost, weight, place),
            Policy::Ring => self.ring.pick(place, load, weight),
        };
        let backend = backend.expect("an available tier has an available backend");
        assert!(weight(backend) > 0, "weight 0 was picked");
        if town.policy == Policy::Ring {
            let loads: u64 = (0..count).filter(|&at| weight(at) > 0).map(|at| u64::from(load(at))).sum();
            let weights: u64 = (0..count).map(|at| u64::from(weight(at))).sum();
            let most = ((loads + 1) * 125 * u64::from(weight(backend))).div_ceil(100 * weights);
            assert!(u64::from(load(backend)) < most, "over 125 % of its share");
        }
        let pass = self.breakers[backend].begin(now);
        assert_eq!(pass == Pass::Probe, gates[backend] == Gate::Probe);
        let way = match gates[backend] {
            Gate::Open => Way::Ordinary,
            Gate::Probe => Way::Probe,
            Gate::Shut => Way::Panic,
        };
        assert!(way != Way::Panic || panic, "out of service, only probes");
        self.in_flight[backend] += 1;
        self.probes_out[backend] += u32::from(pass == Pass::Probe);
        request.tried |= 1 << backend;
        request.asked += 1;
        // Free attempts are limited by the number of backends, anew after each wait.
        assert!(request.asked <= count as u32 * (1 + RULES.retries), "{} attempts", request.asked);
        laws.sent(request.core, backend, way, now.0);
        Some(Sent { request, backend, pass, since: now })
    }

    /// A request returns: the words are messages for the other cores.
    pub fn come_home(
        &mut self,
        sent: Sent,
        outcome: Outcome,
        hint_ms: Option<u64>,
        now: Millis,
        laws: &mut Laws,
    ) -> (Request, Option<Word>) {
        let Sent { request, backend, pass, since } = sent;
        self.in_flight[backend] -= 1;
        self.probes_out[backend] -= u32::from(pass == Pass::Probe);
        let took_us = now.since(since) * 1_000;
        match outcome {
            Outcome::Good => self.latencies[backend].note(took_us, now),
            Outcome::Bad => self.latencies[backend].note_failure(took_us, now),
            Outcome::Neutral if hint_ms.is_some() => self.latencies[backend].note_failure(took_us, now),
            Outcome::Neutral => {}
        }
        let breaker = &mut self.breakers[backend];
        let ended = breaker.end(pass, outcome, now);
        if let Some(change) = ended {
            assert_eq!(change.to, breaker.state(), "a change has the current state");
            if change.from == State::Serving {
                let so_long = self.serving_since[backend].is_some_and(|serving| serving <= since);
                assert!(so_long, "ejected by a request from before its return");
            }
        }
        let words = ended.map(|change| {
            assert_ne!(change.from, change.to, "a change without a new state");
            laws.turned(change.reason);
            match change.to {
                State::Serving => Word::Restored { backend, epoch: change.epoch },
                _ => Word::Tripped { backend, for_ms: change.for_ms, epoch: change.epoch },
            }
        });
        (request, words)
    }

    pub fn read(&mut self, word: Word, now: Millis) {
        match word {
            Word::Tripped { backend, for_ms, epoch } => {
                self.breakers[backend].elsewhere_tripped(for_ms, epoch, now);
            }
            Word::Restored { backend, epoch } => self.breakers[backend].elsewhere_restored(epoch, now),
            Word::Checked { backend, well } => {
                self.sick[backend] = !well;
                let check = if well { Check::Passed } else { Check::Failed };
                _ = self.breakers[backend].checked(check, now);
            }
        }
    }

    pub fn others(&self, tried: u64, now: Millis) -> Others {
        let open = |backend: usize| tried >> backend & 1 == 0 && self.breakers[backend].gate(now) != Gate::Shut;
        if (0..self.breakers.len()).any(open) { Others::Untried } else { Others::None }
    }

    /// Which backends are in service, as this core sees it.
    pub fn serving(&self) -> Vec<bool> {
        self.breakers.iter().map(|breaker| breaker.state() == State::Serving).collect()
    }

    /// Checked after every event.
    pub fn check(&mut self, now: Millis) {
        for (breaker, since) in self.breakers.iter().zip(&mut self.serving_since) {
            match breaker.state() {
                State::Serving => _ = since.get_or_insert(now),
                State::Tripped | State::Probing => *since = None,
            }
        }
        self.breakers.iter().for_each(Breaker::check);
        self.latencies.iter().for_each(|latency| latency.check(now));
        self.robin.check();
        self.budget.check();
        assert!(self.probes_out.iter().all(|&probes| probes <= 1), "one probe at a time");
    }

    pub fn check_at_rest(&self, town: &Town, now: Millis) {
        assert!(self.in_flight.iter().chain(&self.probes_out).all(|&count| count == 0), "passes left");
        for backend in town.first() {
            let breaker = &self.breakers[backend];
            assert_eq!((breaker.gate(now), breaker.state()), (Gate::Open, State::Serving), "healthy on every core");
            assert_eq!(breaker.share(now), WHOLE_SHARE);
        }
        // One of a higher tier may not be asked while the lower tier serves, and wait for its first probe.
        assert!(self.breakers.iter().all(|breaker| breaker.gate(now) != Gate::Shut));
    }
}
