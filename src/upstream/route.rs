//! Which backend is asked: the model's targets that are in service, the nearest and most preferred first, spread by the
//! model's balance. A plan counts as in flight while it lives, and tells the breaker once how it went.

use std::cell::Cell;
use std::rc::Rc;

use shards::balancer::{first_tier, least, two_choices};
use shards::breaker::{Change, Gate, Outcome, Pass, State, WHOLE_SHARE};
use shards::{Breaker, Fault, Millis};

use super::message::{HealthNews, UpstreamMessage};
use super::outcome::{is_failing, is_late, outcome};
use super::queue::Claim;
use super::upstreams::Upstreams;
use crate::config::snapshot::{Balance, Target};
use crate::dialect::facts::Form;
use crate::net::random_u64;

/// Where a request goes. Counted as in flight at its backend while it lives.
pub struct Plan {
    upstreams: Rc<Upstreams>,
    pub model: usize,
    /// For whom it is.
    pub claim: Claim,
    /// Index of the target in the model.
    pub target: usize,
    /// Index of the backend in the snapshot.
    pub backend: usize,
    /// Of the attempt, if its trace is recorded.
    pub span: Option<[u8; 8]>,
    /// When it was made, or when it brought an answer.
    since: Cell<Millis>,
    /// What the breaker waits to hear of, once.
    pass: Cell<Option<Pass>>,
    /// The term of service that what came of it speaks of, once the pass has ended.
    term: Cell<u32>,
}

/// The targets of a model that a request has been sent to. More than this many are not told apart: they count as tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried(u128);

impl Tried {
    pub fn add(&mut self, target: usize) {
        self.0 |= 1u128.checked_shl(target as u32).unwrap_or(0);
    }

    pub fn has(&self, target: usize) -> bool {
        1u128.checked_shl(target as u32).is_none_or(|bit| self.0 & bit != 0)
    }
}

/// Picks a target of `model` that was not `tried`; `affinity` says where on the ring the request belongs. Errors: none is in service, even in a panic.
pub fn plan(
    upstreams: &Rc<Upstreams>,
    model: usize,
    claim: Claim,
    tried: &Tried,
    affinity: impl FnOnce(&Balance) -> u64,
) -> Result<Plan, Fault> {
    let targets = &upstreams.snapshot.models[model].targets;
    let now = upstreams.now();
    let mut spread = upstreams.models[model].spread.borrow_mut();
    let spread = &mut *spread;
    spread.shares.clear();
    let (mut known, mut serving) = (0, 0);
    for (target, to) in targets.iter().enumerate() {
        let mut share = 0;
        if upstreams.backends[to.backend].has_addresses() {
            known += 1;
            let breaker = upstreams.backends[to.backend].breaker.borrow();
            if breaker.gate(now) != Gate::Shut && now >= spread.cool_until[target] {
                serving += 1;
                if !tried.has(target) {
                    // In parts of a whole share, or one of weight 1 could not start slowly.
                    share = to.weight.saturating_mul(breaker.share(now));
                }
            }
        }
        spread.shares.push(share);
    }
    // So many are out that it is likelier the judgement that is wrong, or that there is nothing to lose: all are asked.
    let panic = serving == 0 || serving * 100 < known * upstreams.snapshot.models[model].panic_percent as usize;
    if panic {
        for (target, to) in targets.iter().enumerate() {
            let open = upstreams.backends[to.backend].has_addresses() && !tried.has(target);
            spread.shares[target] = if open { to.weight.saturating_mul(WHOLE_SHARE) } else { 0 };
        }
    }
    if upstreams.adapts {
        prefer_room(upstreams, targets, &mut spread.shares);
    }
    let shares = &spread.shares;
    let tier = first_tier(&spread.tiers, |target| shares[target]).ok_or(Fault::NoBackend)?;
    let weight = |target: usize| if spread.tiers[target] == tier { shares[target] } else { 0 };
    let load = |target: usize| upstreams.backends[targets[target].backend].in_flight_anywhere();
    let picked = match &upstreams.snapshot.models[model].balance {
        Balance::RoundRobin => spread.round_robin.pick(weight),
        Balance::LeastConnections => {
            upstreams.look_elsewhere(now);
            least(targets.len(), load, weight, &mut spread.cursor)
        }
        Balance::P2c => {
            let cost = |target: usize| {
                let backend = targets[target].backend;
                upstreams.backends[backend].latency.borrow().cost(upstreams.backends[backend].in_flight(), now)
            };
            two_choices(targets.len(), cost, weight, random_u64())
        }
        balance @ (Balance::Sticky(_) | Balance::Prefix) => {
            upstreams.look_elsewhere(now);
            spread.ring.pick(affinity(balance), load, weight)
        }
    };
    let target = picked.ok_or(Fault::NoBackend)?;
    let backend = targets[target].backend;
    let pass = upstreams.backends[backend].breaker.borrow_mut().begin(now);
    upstreams.backends[backend].counters().in_flight.add(1);
    let (pass, term) = (Cell::new(Some(pass)), Cell::new(0));
    Ok(Plan {
        upstreams: upstreams.clone(),
        model,
        claim,
        target,
        backend,
        span: None,
        since: Cell::new(now),
        pass,
        term,
    })
}

/// Leaves backends out that have as many requests as they get, if another one has room.
fn prefer_room(upstreams: &Upstreams, targets: &[Target], shares: &mut [u32]) {
    let is_full = |target: usize| upstreams.backends[targets[target].backend].is_full();
    if (0..shares.len()).any(|target| shares[target] > 0 && !is_full(target)) {
        (0..shares.len()).filter(|target| is_full(*target)).for_each(|target| shares[target] = 0);
    }
}

/// Whether a target of `model` is in service that was not `tried`.
pub fn has_others(upstreams: &Upstreams, model: usize, tried: &Tried) -> bool {
    let (spread, now) = (upstreams.models[model].spread.borrow(), upstreams.now());
    upstreams.snapshot.models[model].targets.iter().enumerate().any(|(target, to)| {
        !tried.has(target)
            && upstreams.backends[to.backend].has_addresses()
            && now >= spread.cool_until[target]
            && upstreams.backends[to.backend].breaker.borrow().gate(now) != Gate::Shut
    })
}

/// Whether a target of `model` is in service.
pub fn is_in_service(upstreams: &Upstreams, model: usize) -> bool {
    has_others(upstreams, model, &Tried::default())
}

/// A target asked to be left alone for so long, here or on another core. Whether that is news.
pub fn cooled(upstreams: &Upstreams, model: usize, target: usize, for_ms: u64) -> bool {
    let now = upstreams.now();
    let mut spread = upstreams.models[model].spread.borrow_mut();
    let Some(until) = spread.cool_until.get_mut(target) else { return false };
    let is_news = *until <= now && for_ms > 0;
    *until = (*until).max(now.after(for_ms));
    is_news
}

impl Plan {
    /// Tells the breaker how it went, once.
    pub fn end(&self, outcome: Outcome) {
        if let Some(pass) = self.pass.take() {
            let term = pass.term();
            tell(&self.upstreams, self.backend, |breaker, now| {
                let change = breaker.end(pass, outcome, now);
                self.term.set(term.unwrap_or(breaker.term()));
                change
            });
            if outcome == Outcome::Good {
                let now = self.upstreams.now();
                self.upstreams.backends[self.backend].answered.set(now);
                self.since.set(now);
            }
        }
    }

    /// As `end`, by what went wrong. A time-out says nothing where the backend answered others meanwhile: it is this request
    /// that takes long.
    pub fn end_with(&self, fault: Fault) {
        self.end(self.outcome(fault));
    }

    fn outcome(&self, fault: Fault) -> Outcome {
        let answers = self.upstreams.backends[self.backend].answered.get() > self.since.get();
        if answers && is_late(fault) { Outcome::Neutral } else { outcome(fault) }
    }

    /// As `end`, where it is not known yet whose fault it was. The term of service that the judgement will speak of; none for a
    /// probe, which is judged at once: the next one waits for it.
    pub fn end_undecided(&self) -> Option<u32> {
        let pass = self.pass.take()?;
        let is_probe = pass.term().is_none();
        self.pass.set(Some(pass));
        self.end(if is_probe { Outcome::Bad } else { Outcome::Neutral });
        (!is_probe).then(|| self.term.get())
    }

    /// The first content came so long after the request.
    pub fn note_first_content(&self, form: Form, us: u64) {
        let now = self.upstreams.now();
        self.upstreams.backends[self.backend].latency.borrow_mut().note(us, now);
        if self.upstreams.snapshot.models[self.model].hedge_percent > 0 {
            self.upstreams.models[self.model].spread.borrow_mut().first_content[form as usize].note(us);
        }
    }

    /// The attempt failed after so long.
    pub fn note_fault(&self, fault: Fault, us: u64) {
        if is_failing(fault) {
            self.upstreams.backends[self.backend].latency.borrow_mut().note_failure(us, self.upstreams.now());
        }
    }

    /// An answer that had begun well broke off: the pass has ended by then.
    pub fn broke_off(&self, fault: Fault) {
        if self.upstreams.times_first_content(self.model) {
            self.note_fault(fault, 0);
        }
        let outcome = self.outcome(fault);
        tell(&self.upstreams, self.backend, |breaker, now| breaker.broke_off(self.term.get(), outcome, now));
    }

    /// The backend asks to be left alone for so long with this model. Every core hears of it. Where many models have one name, the others
    /// of them are not meant.
    pub fn cool(&self, for_ms: u64) {
        let (upstreams, model, target) = (&self.upstreams, self.model, self.target);
        if upstreams.snapshot.models[model].is_pattern() {
            return;
        }
        if cooled(upstreams, model, target, for_ms) {
            let model = upstreams.models[model].id();
            upstreams.core.tell_others(|| UpstreamMessage::Cooled { model, target, for_ms });
            upstreams.core.tell_background(UpstreamMessage::Cooled { model, target, for_ms });
        }
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        self.end(Outcome::Neutral);
        self.upstreams.backends[self.backend].counters().in_flight.sub(1);
    }
}

/// Tells a breaker something, and all who have to know what it made of it.
pub fn tell(upstreams: &Upstreams, backend: usize, something: impl FnOnce(&mut Breaker, Millis) -> Option<Change>) {
    let change = something(&mut upstreams.backends[backend].breaker.borrow_mut(), upstreams.now());
    turned(upstreams, backend, change);
}

/// Tells the other cores of what this one found, and the background core, which logs it.
fn turned(upstreams: &Upstreams, backend: usize, change: Option<Change>) {
    let Some(change) = change else { return };
    upstreams.backends[backend].note_change(&change);
    let id = upstreams.backends[backend].id();
    let news = match change.to {
        State::Tripped => {
            upstreams.core.counters.trips.add(1);
            Some(HealthNews::Tripped { for_ms: change.for_ms, epoch: change.epoch })
        }
        State::Serving => {
            upstreams.core.counters.restorations.add(1);
            Some(HealthNews::Restored { epoch: change.epoch })
        }
        State::Probing => None,
    };
    if let Some(news) = news {
        upstreams.core.tell_others(|| UpstreamMessage::Health { backend: id, news });
    }
    upstreams.core.tell_background(UpstreamMessage::Turned { backend: id, from: upstreams.core.id, change });
}
