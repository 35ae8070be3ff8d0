//! From a fingerprint to what its owner says: an answer in the cache, a subscription to somebody's flight, or the task of
//! fetching the answer. One message each way if another core owns the fingerprint; none if a copy is near or the flight is
//! on this core already.

use std::rc::Rc;
use std::sync::Arc;

use shards::{Asked, CoalesceEvent, CoalesceStep, CoreId, Fingerprint, Fit, Lookup};

use super::entry::{Acceptable, Entry, fit};
use super::flight::Flight;
use super::flight::subscriber::Subscriber;
use super::generation::Generation;
use super::message::Message;
use super::owner::ask_own;
use super::variant::{of_form, of_question};
use crate::error::Failure;

/// What became of a step towards a shared answer.
pub type Event = CoalesceEvent<Arc<Entry>, Box<Failure>>;
pub type Step = CoalesceStep<Arc<Entry>, Box<Failure>>;

/// What the cache had.
pub fn found((entry, fit): (Arc<Entry>, Fit)) -> Event {
    Event::Found(entry, fit)
}

/// Asks for an answer; `fingerprint` names the flight, see [`ask_own`], and `silent` one that was followed in vain. The subscriber is in
/// the flight that the event is about; there is none with an answer.
pub fn ask(
    core: &Rc<Generation>,
    fingerprint: Fingerprint,
    acceptable: Acceptable,
    silent: Option<u64>,
) -> (Event, Option<Subscriber>) {
    let owner = core.owner(&fingerprint);
    let own = owner == core.id;
    if own && silent.is_none() {
        // Most answers are here: no flight is looked for before.
        return ask_here(core, fingerprint, acceptable, None);
    }
    if let Some(number) = silent {
        let flight = core.flights.joinable.borrow().get(&fingerprint).cloned();
        match flight {
            // Somebody here has gone on already.
            Some(flight) if flight.number() != Some(number) => return follow(core, &flight),
            // Others are being served by what is silent now: it stays theirs.
            Some(flight) if flight.has_opened() => return (Event::Alone, None),
            // The silent flight, or its copy here, is nobody's to join any more.
            _ => Flight::displace(core, &fingerprint),
        }
    } else {
        if let Some(entry) = near(core, owner, &fingerprint, acceptable) {
            return (Event::Found(entry, Fit::Usable), None);
        }
        if let Some(joined) = join_here(core, &fingerprint, acceptable) {
            return joined;
        }
    }
    if own {
        return ask_here(core, fingerprint, acceptable, silent);
    }
    let subscriber = Flight::asking(core, fingerprint, acceptable.tags).subscriber(core.core());
    let from = core.id;
    let message = match silent {
        None => Message::Ask { fingerprint, acceptable, from },
        Some(number) => Message::TakeOver { fingerprint, number, acceptable, from },
    };
    core.post(owner, message);
    (Event::Follow, Some(subscriber))
}

/// A subscriber outside of any flight; `stale` may serve if every backend fails.
pub fn alone(core: &Rc<Generation>, stale: Option<Arc<Entry>>) -> Subscriber {
    Flight::private(core, stale).subscriber(core.core())
}

/// A copy of what another core owns, unless that one may have stored something newer since.
fn near(
    generation: &Generation,
    owner: CoreId,
    fingerprint: &Fingerprint,
    acceptable: Acceptable,
) -> Option<Arc<Entry>> {
    let now = generation.now();
    let formed = of_form(fingerprint, acceptable.form);
    let mut near = generation.cache.near.borrow_mut();
    let Lookup::Fresh { value: copy, .. } = near.get(&formed, now) else { return None };
    if copy.epoch != generation.cache.epochs.get(owner, fingerprint) {
        near.remove(&formed);
        return None;
    }
    if !generation.cache.purges.is_current(&copy.entry, fingerprint) {
        near.remove(&formed);
        return None;
    }
    acceptable.is_young_enough(&copy.entry, now).then(|| copy.entry.clone())
}

/// This core is the owner.
fn ask_here(
    core: &Rc<Generation>,
    fingerprint: Fingerprint,
    acceptable: Acceptable,
    silent: Option<u64>,
) -> (Event, Option<Subscriber>) {
    match ask_own(core, &fingerprint, acceptable, core.id, silent) {
        Asked::Hit { value: entry, .. } => (found(fit(entry, acceptable, core.now())), None),
        Asked::Lead { number, stale } => (
            Event::Lead,
            Some(Flight::leading(core, fingerprint, acceptable.tags, number, stale).subscriber(core.core())),
        ),
        Asked::Alone { stale } => (Event::Alone, Some(alone(core, stale))),
        Asked::Follow { leader, number } => {
            if let Some(joined) = join_here(core, &fingerprint, acceptable) {
                return joined;
            }
            if leader == core.id {
                // It ended between its last byte and its settlement, or outgrew the cache.
                return (Event::Alone, None);
            }
            let subscriber = Flight::asking(core, fingerprint, acceptable.tags).subscriber(core.core());
            core.post(leader, Message::Join { fingerprint, number, follower: core.id });
            (Event::Follow, Some(subscriber))
        }
    }
}

/// Joins or begins a flight of this core that the owner does not know of.
pub fn ask_without_owner(
    core: &Rc<Generation>,
    fingerprint: Fingerprint,
    acceptable: Acceptable,
    silent: Option<u64>,
) -> (Event, Option<Subscriber>) {
    let is_silent = |flight: &Rc<Flight>| silent.is_some() && flight.number() == silent;
    if core.flights.joinable.borrow().get(&fingerprint).is_some_and(is_silent) {
        Flight::displace(core, &fingerprint);
    }
    join_here(core, &fingerprint, acceptable).unwrap_or_else(|| {
        (Event::Lead, Some(Flight::local(core, fingerprint, acceptable.tags).subscriber(core.core())))
    })
}

/// A flight that exchanges of this core take part in. One that has outgrown what is kept of it is nobody's to join any more,
/// nor is one that began before a purge of what it fetches.
fn join_here(
    core: &Rc<Generation>,
    fingerprint: &Fingerprint,
    acceptable: Acceptable,
) -> Option<(Event, Option<Subscriber>)> {
    let flight = core.flights.joinable.borrow().get(fingerprint).cloned()?;
    let least = core.cache.purges.least(acceptable.tags, &of_question(fingerprint));
    if flight.can_be_joined() && flight.born() >= least {
        return Some(follow(core, &flight));
    }
    Flight::displace(core, fingerprint);
    None
}

fn follow(core: &Rc<Generation>, flight: &Rc<Flight>) -> (Event, Option<Subscriber>) {
    (Event::Follow, Some(flight.subscriber(core.core())))
}
