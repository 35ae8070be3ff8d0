//! Cores that ask backends which fail and recover: each with its breakers, budgets and attempts, told of the others' by
//! letters that take their time. Requests have to be served as long as anybody can serve them.

use std::collections::VecDeque;

use shards::balancer::{RoundRobin, first_tier, least, two_choices};
use shards::breaker::{Gate, Outcome, Pass, Reason, State};
use shards::{Attempts, Breaker, BreakerRules, Budget, Fault, Millis, Others, Rules, Step};

use crate::random::Random;

/// What one core tells the others.
#[derive(Clone, Copy, Debug)]
enum Word {
    Tripped { backend: usize, for_ms: u64 },
    Restored { backend: usize },
}

struct Core {
    breakers: Vec<Breaker>,
    in_flight: Vec<u32>,
    probes_out: Vec<u32>,
    robin: RoundRobin,
    cursor: usize,
    budget: Budget,
    /// Ordered, each with the time at which it arrives.
    mail: VecDeque<(u64, Word)>,
}

/// A request that is with a backend until `ends`.
struct Running {
    core: usize,
    backend: usize,
    pass: Pass,
    ends: u64,
    tried: u64,
    attempts: Attempts,
}

struct World {
    random: Random,
    now: u64,
    cores: Vec<Core>,
    /// Whether each backend is up.
    up: Vec<bool>,
    tiers: Vec<u16>,
    running: Vec<Running>,
    waiting: Vec<(u64, usize, Attempts)>,
    requests: u64,
    retries: u64,
    served: u64,
    failed: u64,
}

const RULES: Rules = Rules { retries: 2, backoff_ms: 10, backoff_max_ms: 100, hint_max_ms: 1_000 };
const RESERVE: u32 = 10;
const PERCENT: u32 = 20;

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let (cores, backends) = (1 + random.below(4) as usize, 1 + random.below(5) as usize);
        let rules = BreakerRules {
            errors_in_row: 1 + random.below(5) as u32,
            error_percent: random.below(80) as u32,
            window_ms: 1_000,
            volume_min: 5,
            eject_ms: 50 + random.below(500),
            eject_max_ms: 4_000,
            probes: 1 + random.below(3) as u32,
            slow_start_ms: random.below(1_000),
        };
        let core = || Core {
            breakers: (0..backends).map(|_| Breaker::new(rules)).collect(),
            in_flight: vec![0; backends],
            probes_out: vec![0; backends],
            robin: RoundRobin::new(backends),
            cursor: 0,
            budget: Budget::new(PERCENT, RESERVE),
            mail: VecDeque::new(),
        };
        let cores = (0..cores).map(|_| core()).collect();
        let tiers = (0..backends).map(|_| random.below(2) as u16).collect();
        let up = vec![true; backends];
        World {
            random,
            now: 0,
            cores,
            up,
            tiers,
            running: Vec::new(),
            waiting: Vec::new(),
            requests: 0,
            retries: 0,
            served: 0,
            failed: 0,
        }
    }

    fn now(&self) -> Millis {
        Millis(self.now)
    }

    /// Sends a request on, to a backend it has not tried if there is one in service. False: there is none left.
    fn send(&mut self, core: usize, tried: u64, attempts: Attempts) -> bool {
        let now = self.now();
        let dice = self.random.next();
        let rest = self.random.below(200);
        let own = &mut self.cores[core];
        let open = |backend: usize| own.breakers[backend].gate(now) != Gate::Shut;
        let panic = !(0..self.up.len()).any(open);
        let weight = |backend: usize| {
            let fresh = tried >> backend & 1 == 0;
            u32::from(fresh && (panic || open(backend))) * own.breakers[backend].share(now)
        };
        let Some(tier) = first_tier(&self.tiers, weight) else { return false };
        let weight = |backend: usize| if self.tiers[backend] == tier { weight(backend) } else { 0 };
        let picked = match dice % 3 {
            0 => own.robin.pick(weight),
            1 => least(self.up.len(), |backend| own.in_flight[backend], weight, &mut own.cursor),
            _ => two_choices(self.up.len(), |backend| u64::from(own.in_flight[backend]), weight, dice),
        };
        let Some(backend) = picked else { return false };
        let gate = own.breakers[backend].gate(now);
        assert!(gate != Gate::Shut || panic, "a backend out of service is asked while others serve");
        let pass = own.breakers[backend].begin(now);
        assert_eq!(pass == Pass::Probe, gate == Gate::Probe);
        own.in_flight[backend] += 1;
        own.probes_out[backend] += u32::from(pass == Pass::Probe);
        assert!(own.probes_out[backend] <= 1, "one probe at a time");
        self.running.push(Running {
            core,
            backend,
            pass,
            ends: self.now + rest,
            tried: tried | 1 << backend,
            attempts,
        });
        true
    }

    /// A request comes back from its backend.
    fn arrive(&mut self, index: usize) {
        let Running { core, backend, pass, tried, mut attempts, .. } = self.running.swap_remove(index);
        let now = self.now();
        let good = self.up[backend];
        let outcome = match (good, self.random.chance(5)) {
            (_, true) => Outcome::Neutral,
            (true, _) => Outcome::Good,
            (false, _) => Outcome::Bad,
        };
        let own = &mut self.cores[core];
        own.in_flight[backend] -= 1;
        own.probes_out[backend] -= u32::from(pass == Pass::Probe);
        let change = own.breakers[backend].end(pass, outcome, now);
        own.breakers[backend].check();
        if let Some(change) = change {
            let word = match change.to {
                State::Serving => Word::Restored { backend },
                _ => Word::Tripped { backend, for_ms: change.for_ms },
            };
            assert!(change.reason != Reason::AskedToWait);
            self.tell(core, word);
        }
        if good {
            self.served += 1;
            return;
        }
        let others = (0..self.up.len())
            .any(|other| tried >> other & 1 == 0 && self.cores[core].breakers[other].gate(now) != Gate::Shut);
        let others = if others { Others::Untried } else { Others::None };
        let fault = if self.random.chance(50) { Fault::Connect } else { Fault::Closed };
        let dice = self.random.next();
        match attempts.next(fault, None, others, None, &mut self.cores[core].budget, dice) {
            Step::Again { after_ms } => {
                self.retries += u64::from(fault == Fault::Closed);
                if after_ms > 0 {
                    self.waiting.push((self.now + after_ms, core, attempts));
                } else if !self.send(core, tried, attempts) {
                    self.failed += 1;
                }
            }
            Step::OtherModel | Step::GiveUp => self.failed += 1,
        }
    }

    fn tell(&mut self, from: usize, word: Word) {
        for core in (0..self.cores.len()).filter(|&core| core != from) {
            let last = self.cores[core].mail.back().map_or(0, |(at, _)| *at);
            let at = last.max(self.now + self.random.below(20));
            self.cores[core].mail.push_back((at, word));
        }
    }

    /// One event.
    fn step(&mut self, storm: bool) {
        self.now += self.random.below(10);
        match self.random.below(10) {
            0..4 => {
                let core = self.random.below(self.cores.len() as u64) as usize;
                self.requests += 1;
                self.cores[core].budget.deposit();
                if !self.send(core, 0, Attempts::new(RULES)) {
                    self.failed += 1;
                }
            }
            4 if storm && self.random.chance(10) => {
                let backend = self.random.below(self.up.len() as u64) as usize;
                self.up[backend] = !self.up[backend];
            }
            _ => {}
        }
        self.settle();
    }

    /// Everything that is due happens.
    fn settle(&mut self) {
        while let Some(index) = self.running.iter().position(|one| one.ends <= self.now) {
            self.arrive(index);
        }
        while let Some(index) = self.waiting.iter().position(|(at, ..)| *at <= self.now) {
            let (_, core, attempts) = self.waiting.swap_remove(index);
            if !self.send(core, 0, attempts) {
                self.failed += 1;
            }
        }
        let now = self.now();
        for core in &mut self.cores {
            while let Some((_, word)) = core.mail.pop_front_if(|(at, _)| *at <= now.0) {
                match word {
                    Word::Tripped { backend, for_ms } => core.breakers[backend].elsewhere_tripped(for_ms, now),
                    Word::Restored { backend } => core.breakers[backend].elsewhere_restored(now),
                }
            }
        }
        let cores = self.cores.len() as u64;
        let most = cores * u64::from(RESERVE) * 100 + self.requests * u64::from(PERCENT);
        assert!(self.retries * 100 <= most, "{} retries of {} requests", self.retries, self.requests);
    }
}

/// A storm, and then the calm in which everybody has to come back.
pub fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..2_000 {
        world.step(true);
    }
    world.up.iter_mut().for_each(|up| *up = true);
    // The longest ejection, doubled for the word of it, and the probes.
    for _ in 0..6_000 {
        world.step(false);
    }
    while !world.running.is_empty() || !world.waiting.is_empty() {
        world.now += 1;
        world.settle();
    }
    let (requests, ended) = (world.requests, world.served + world.failed);
    assert_eq!(requests, ended, "every request has one end");
    for core in &world.cores {
        assert!(core.in_flight.iter().chain(&core.probes_out).all(|&count| count == 0), "all passes came home");
        // One of a higher tier may not be asked at all, and wait for its first probe.
        let asked = |backend: usize| world.tiers[backend] == world.tiers.iter().copied().min().unwrap_or(0);
        for backend in (0..world.up.len()).filter(|&backend| asked(backend)) {
            assert_eq!(core.breakers[backend].gate(world.now()), Gate::Open, "well again on every core");
        }
    }
    // Everything is well: nothing fails any more.
    let failed = world.failed;
    for _ in 0..500 {
        world.step(false);
    }
    assert_eq!(world.failed, failed, "nothing fails where everything is well");
}
