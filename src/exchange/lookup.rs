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
    generation: &Rc<Generation>,
    fingerprint: Fingerprint,
    acceptable: Acceptable,
    silent: Option<u64>,
) -> (Event, Option<Subscriber>) {
    let owner = generation.owner(&fingerprint);
    let own = owner == generation.id;
    if own && silent.is_none() {
        // Most answers are here: no flight is looked for before.
        return ask_here(generation, fingerprint, acceptable, None);
    }
    if let Some(number) = silent {
        let flight = generation.flights.joinable.borrow().get(&fingerprint).cloned();
        match flight {
            // Somebody here has gone on already.
            Some(flight) if flight.number() != Some(number) => return follow(generation, &flight),
            // Others are being served by what is silent now: it stays theirs.
            Some(flight) if flight.has_opened() => return (Event::Alone, None),
            // The silent flight, or its copy here, is nobody's to join any more.
            _ => Flight::displace(generation, &fingerprint),
        }
    } else {
        if let Some(entry) = near(generation, owner, &fingerprint, acceptable) {
            return (Event::Found(entry, Fit::Usable), None);
        }
        if let Some(joined) = join_here(generation, &fingerprint, acceptable) {
            return joined;
        }
    }
    if own {
        return ask_here(generation, fingerprint, acceptable, silent);
    }
    let subscriber = Flight::asking(generation, fingerprint, acceptable.tags).subscriber(generation.core());
    let from = generation.id;
    let message = match silent {
        None => Message::Ask { fingerprint, acceptable, from },
        Some(number) => Message::TakeOver { fingerprint, number, acceptable, from },
    };
    generation.post(owner, message);
    (Event::Follow, Some(subscriber))
}

/// A subscriber outside of any flight; `stale` may serve if every backend fails.
pub fn alone(generation: &Rc<Generation>, stale: Option<Arc<Entry>>) -> Subscriber {
    Flight::private(generation, stale).subscriber(generation.core())
}

/// Whether this core has an answer that will serve, unless it goes in the next moment or cannot be given in the form asked for.
pub fn is_at_hand(generation: &Generation, fingerprint: &Fingerprint, acceptable: Acceptable) -> bool {
    let (now, cache) = (generation.now(), &generation.cache);
    let serves =
        |entry: &Arc<Entry>| acceptable.is_young_enough(entry, now) && cache.purges.is_current(entry, fingerprint);
    let owner = generation.owner(fingerprint);
    if owner == generation.id {
        return matches!(cache.shard.borrow().peek(fingerprint, now), Lookup::Fresh { value, .. } if serves(value));
    }
    let formed = of_form(fingerprint, acceptable.form);
    matches!(cache.near.borrow().peek(&formed, now), Lookup::Fresh { value, .. }
        if value.epoch == cache.epochs.get(owner, fingerprint) && serves(&value.entry))
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
    generation: &Rc<Generation>,
    fingerprint: Fingerprint,
    acceptable: Acceptable,
    silent: Option<u64>,
) -> (Event, Option<Subscriber>) {
    match ask_own(generation, &fingerprint, acceptable, generation.id, silent) {
        Asked::Hit { value: entry, .. } => (found(fit(entry, acceptable, generation.now())), None),
        Asked::Lead { number, stale } => (
            Event::Lead,
            Some(
                Flight::leading(generation, fingerprint, acceptable.tags, number, stale).subscriber(generation.core()),
            ),
        ),
        Asked::Alone { stale } => (Event::Alone, Some(alone(generation, stale))),
        Asked::Follow { leader, number } => {
            if let Some(joined) = join_here(generation, &fingerprint, acceptable) {
                return joined;
            }
            if leader == generation.id {
                // It ended between its last byte and its settlement, or outgrew the cache.
                return (Event::Alone, None);
            }
            let subscriber = Flight::asking(generation, fingerprint, acceptable.tags).subscriber(generation.core());
            generation.post(leader, Message::Join { fingerprint, number, follower: generation.id });
            (Event::Follow, Some(subscriber))
        }
    }
}

/// Joins or begins a flight of this core that the owner does not know of.
pub fn ask_without_owner(
    generation: &Rc<Generation>,
    fingerprint: Fingerprint,
    acceptable: Acceptable,
    silent: Option<u64>,
) -> (Event, Option<Subscriber>) {
    let is_silent = |flight: &Rc<Flight>| silent.is_some() && flight.number() == silent;
    if generation.flights.joinable.borrow().get(&fingerprint).is_some_and(is_silent) {
        Flight::displace(generation, &fingerprint);
    }
    join_here(generation, &fingerprint, acceptable).unwrap_or_else(|| {
        (Event::Lead, Some(Flight::local(generation, fingerprint, acceptable.tags).subscriber(generation.core())))
    })
}

/// A flight that exchanges of this core take part in. One that has outgrown what is kept of it is nobody's to join any more,
/// nor is one that began before a purge of what it fetches.
fn join_here(
    generation: &Rc<Generation>,
    fingerprint: &Fingerprint,
    acceptable: Acceptable,
) -> Option<(Event, Option<Subscriber>)> {
    let flight = generation.flights.joinable.borrow().get(fingerprint).cloned()?;
    let least = generation.cache.purges.least(acceptable.tags, &of_question(fingerprint));
    if flight.can_be_joined() && flight.born() >= least {
        return Some(follow(generation, &flight));
    }
    Flight::displace(generation, fingerprint);
    None
}

fn follow(generation: &Rc<Generation>, flight: &Rc<Flight>) -> (Event, Option<Subscriber>) {
    (Event::Follow, Some(flight.subscriber(generation.core())))
}
