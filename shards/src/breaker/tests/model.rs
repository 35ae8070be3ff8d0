//! A naive breaker that keeps the whole history and evaluates it anew each time, and random histories to compare.

use super::*;

/// The state, derived directly from what happened.
struct Model {
    rules: BreakerRules,
    /// `None`: in service as far as requests show.
    out: Option<Out>,
    held: bool,
    /// The time of each return.
    returns: Vec<u64>,
    /// Outcomes counted in this term of service.
    counted: Vec<(u64, Outcome)>,
    /// Lengths of the ejections since the last full recovery.
    ejections: Vec<u64>,
    /// Every trip and return that took effect, as sent to other cores; a trip outranks a return.
    transitions: Vec<(u64, Transition)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Transition {
    Return,
    Trip,
}

struct Out {
    until: u64,
    probing: bool,
    good: u32,
}

impl Model {
    fn new(rules: BreakerRules) -> Model {
        let (returns, counted, ejections, transitions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Model { rules, out: None, held: false, returns, counted, ejections, transitions }
    }

    fn epoch(&self) -> u64 {
        self.transitions.iter().map(|(epoch, _)| *epoch).max().unwrap_or(0)
    }

    /// The epoch of a change found here: above all known ones.
    fn transitioned(&mut self, transition: Transition) -> u64 {
        self.transitions.push((self.epoch() + 1, transition));
        self.epoch()
    }

    /// Whether a change found elsewhere outranks what is known, or is a trip of the same epoch.
    fn heeds(&mut self, epoch: u64, transition: Transition) -> bool {
        let known = self.transitions.iter().copied().max().unwrap_or((0, Transition::Return));
        let heeded = (epoch, transition) > known || (epoch, transition) == known && transition == Transition::Trip;
        if heeded {
            self.transitions.push((epoch, transition));
        }
        heeded
    }

    fn state(&self) -> State {
        match &self.out {
            _ if self.held => State::Tripped,
            None => State::Serving,
            Some(out) if out.probing => State::Probing,
            Some(_) => State::Tripped,
        }
    }

    fn gate(&self, now: u64, probes_out: usize) -> Gate {
        match &self.out {
            _ if self.held => Gate::Shut,
            None => Gate::Open,
            Some(out) if !out.probing && now < out.until => Gate::Shut,
            Some(_) if probes_out > 0 => Gate::Shut,
            Some(_) => Gate::Probe,
        }
    }

    fn begin_probe(&mut self) {
        let out = self.out.as_mut().expect("probes imply an ejection");
        out.probing = true;
    }

    fn end(&mut self, began: Began, outcome: Outcome, now: u64) -> Option<Change> {
        if self.held {
            return None;
        }
        match (began, &mut self.out) {
            (Began::Probe, Some(out)) if out.probing => match outcome {
                Outcome::Neutral => None,
                Outcome::Bad => self.trip(Reason::ProbeFailed, now),
                Outcome::Good => {
                    out.good += 1;
                    (out.good == self.rules.probes).then(|| {
                        self.come_back(now);
                        let (epoch, reason) = (self.transitioned(Transition::Return), Reason::ProbesPassed);
                        Change { from: State::Probing, to: State::Serving, reason, for_ms: 0, epoch }
                    })
                }
            },
            (Began::InTerm(term), None) if term == self.returns.len() => {
                self.counted.push((now, outcome));
                if outcome == Outcome::Bad { self.judge(now) } else { None }
            }
            _ => None,
        }
    }

    fn judge(&mut self, now: u64) -> Option<Change> {
        let known = self.counted.iter().filter(|(_, outcome)| *outcome != Outcome::Neutral);
        let row = known.rev().take_while(|(_, outcome)| *outcome == Outcome::Bad).count();
        if row as u32 >= self.rules.errors_in_row {
            return self.trip(Reason::ErrorsInRow, now);
        }
        // Windows follow each other; each starts with the first outcome after the end of the one before.
        let (mut since, mut window) = (self.returns.last().copied().unwrap_or(0), Vec::new());
        for &(at, outcome) in &self.counted {
            if at - since >= self.rules.window_ms {
                since = at;
                window.clear();
            }
            window.push(outcome);
        }
        let count = |wanted| window.iter().filter(|outcome| **outcome == wanted).count() as u32;
        let (bad, good) = (count(Outcome::Bad), count(Outcome::Good));
        let percent = self.rules.error_percent;
        let enough = percent > 0 && bad + good >= self.rules.volume_min;
        if enough && bad * 100 >= percent * (bad + good) { self.trip(Reason::ErrorRatio, now) } else { None }
    }

    fn trip(&mut self, reason: Reason, now: u64) -> Option<Change> {
        let from = self.state();
        self.forget_if_whole(now);
        let doubled = self.ejections.iter().max().map_or(self.rules.eject_ms, |longest| 2 * longest);
        let for_ms = doubled.clamp(self.rules.eject_ms, self.rules.eject_max_ms);
        self.go_out(now + for_ms, for_ms);
        Some(Change { from, to: State::Tripped, reason, for_ms, epoch: self.transitioned(Transition::Trip) })
    }

    fn forget_if_whole(&mut self, now: u64) {
        let whole_ms = self.rules.slow_start_ms.max(self.rules.eject_ms);
        if self.out.is_none() && self.returns.last().is_none_or(|at| now - at >= whole_ms) {
            self.ejections.clear();
        }
    }

    fn go_out(&mut self, until: u64, for_ms: u64) {
        self.ejections.push(for_ms);
        self.out = Some(Out { until, probing: false, good: 0 });
    }

    fn come_back(&mut self, now: u64) {
        self.out = None;
        self.returns.push(now);
        self.counted.clear();
    }

    fn checked(&mut self, check: Check, now: u64) -> Option<Change> {
        let (from, epoch) = (self.state(), self.epoch());
        let transitioned = self.held != (check == Check::Failed);
        self.held = check == Check::Failed;
        if !transitioned || self.out.is_some() {
            return None;
        }
        if check == Check::Passed {
            self.come_back(now);
            return Some(Change { from, to: State::Serving, reason: Reason::CheckPassed, for_ms: 0, epoch });
        }
        Some(Change { from, to: State::Tripped, reason: Reason::CheckFailed, for_ms: 0, epoch })
    }

    fn share(&self, now: u64) -> u32 {
        let slow_ms = self.rules.slow_start_ms;
        match self.returns.last() {
            Some(at) if now - at < slow_ms => (26 * slow_ms + 230 * (now - at)).div_euclid(slow_ms) as u32,
            _ => WHOLE_SHARE,
        }
    }
}

/// How a request was admitted, according to the model.
#[derive(Clone, Copy)]
enum Began {
    Probe,
    InTerm(usize),
    /// In panic mode, while the backend was out.
    Out,
}

#[test]
fn a_random_life_is_the_one_that_the_model_leads() {
    let mut transitions = [0; 6];
    each_seed(300, |seed| {
        let mut random = Random::new(seed);
        let rules = BreakerRules {
            errors_in_row: 1 + random.below(6) as u32,
            error_percent: random.below(100) as u32,
            window_ms: 200 + random.below(3_000),
            volume_min: 1 + random.below(10) as u32,
            eject_ms: 100 + random.below(1_000),
            eject_max_ms: 4_000,
            probes: 1 + random.below(3) as u32,
            slow_start_ms: random.below(3_000),
        };
        let (mut breaker, mut model) = (Breaker::new(rules), Model::new(rules));
        let (mut out, mut now) = (Vec::<(Pass, Began)>::new(), 0);
        // The health in this history: one of this many outcomes is bad.
        let health = 2 + random.below(6);
        for _ in 0..1_000 {
            let pace_ms = 1 + random.below(300);
            now += random.below(pace_ms);
            let probes_out = out.iter().filter(|(pass, _)| *pass == Pass::Probe).count();
            let gate = breaker.gate(Millis(now));
            assert_eq!(gate, model.gate(now, probes_out));
            assert_eq!((breaker.state(), breaker.share(Millis(now))), (model.state(), model.share(now)));
            let changes = match random.below(20) {
                0..9 => {
                    let pass = breaker.begin(Millis(now));
                    let began = match gate {
                        Gate::Probe => Began::Probe,
                        _ if model.out.is_none() && !model.held => Began::InTerm(model.returns.len()),
                        _ => Began::Out,
                    };
                    if gate == Gate::Probe {
                        model.begin_probe();
                    }
                    assert_eq!(pass == Pass::Probe, gate == Gate::Probe, "only probes out of service");
                    out.push((pass, began));
                    (None, None)
                }
                9..17 if !out.is_empty() => {
                    let (pass, began) = out.swap_remove(random.below(out.len() as u64) as usize);
                    let outcome = match random.below(health) {
                        0 => Outcome::Bad,
                        1 if random.chance(30) => Outcome::Neutral,
                        _ => Outcome::Good,
                    };
                    (breaker.end(pass, outcome, Millis(now)), model.end(began, outcome, now))
                }
                17 if random.chance(40) => {
                    let check = if random.chance(60) { Check::Passed } else { Check::Failed };
                    (breaker.checked(check, Millis(now)), model.checked(check, now))
                }
                19 if random.chance(50) => {
                    let epoch = (model.epoch() + random.below(5)).saturating_sub(2);
                    match random.below(2) {
                        0 => {
                            let for_ms = 1 + random.below(4_000);
                            breaker.elsewhere_tripped(for_ms, epoch, Millis(now));
                            if model.heeds(epoch, Transition::Trip) {
                                let until = model.out.as_ref().map_or(0, |out| out.until).max(now + for_ms);
                                model.forget_if_whole(now);
                                model.go_out(until, for_ms);
                            }
                        }
                        _ => {
                            breaker.elsewhere_restored(epoch, Millis(now));
                            if model.heeds(epoch, Transition::Return) && model.out.is_some() {
                                model.come_back(now);
                            }
                        }
                    }
                    (None, None)
                }
                _ => (None, None),
            };
            assert_eq!(changes.0, changes.1);
            breaker.check();
            if let Some(change) = changes.0 {
                assert_ne!(change.from, change.to, "a change without a new state");
                transitions[change.reason as usize] += 1;
            }
        }
    });
    // A single replayed seed need not cover all reasons.
    assert!(
        transitions.iter().all(|&count| count > 0) || transitions.iter().sum::<u32>() < 1_000,
        "each reason: {transitions:?}"
    );
}
