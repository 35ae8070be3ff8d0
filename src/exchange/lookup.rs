//! From a fingerprint to an answer in the cache, a seat in somebody's flight, or the duty to fly. One letter each way if
//! another core owns the fingerprint; none if a copy is near or the flight is on this core already.

use std::rc::Rc;
use std::sync::Arc;

use shards::{Fingerprint, Lookup};

use super::core::Core;
use super::flight::{Flight, Seat};
use super::letters::{Entry, Letter, Verdict, ask_own, near_key};
use crate::dialect::facts::Form;

/// What an exchange does next.
pub enum Found {
    Hit(Arc<Entry>),
    /// Fetch the answer: the flight is in the map, and settles itself.
    Lead(Seat),
    /// Read what comes: a flight of this core, or the owner's verdict first.
    Follow(Seat),
    /// Fetch the answer outside of any flight.
    Alone(Seat),
}

/// Asks for the answer to `fingerprint` in `form`. `silent` names a flight that was followed in vain.
pub fn ask(core: &Rc<Core>, fingerprint: Fingerprint, form: Form, silent: Option<u64>) -> Found {
    let owner = core.owner(&fingerprint);
    let own = owner == core.id;
    if own && silent.is_none() {
        // Most answers are here: no flight is looked for before.
        match ask_own(core, &fingerprint, form, core.id, None) {
            Verdict::Found(entry) => return Found::Hit(entry),
            Verdict::Lead(number, stale) => {
                return Found::Lead(Flight::leading(core, fingerprint, number, stale).seat(core));
            }
            Verdict::Alone(stale) => return Found::Alone(alone_with(core, stale)),
            Verdict::Follow(leader, number) => return follow(core, fingerprint, leader, number),
        }
    }
    if let Some(number) = silent {
        let flight = core.flights.borrow().get(&fingerprint).cloned();
        match flight {
            // Somebody here has gone on already.
            Some(flight) if flight.number() != Some(number) => return Found::Follow(flight.seat(core)),
            // Others are being served by what is silent now: it stays theirs.
            Some(flight) if flight.has_opened() => return Found::Alone(alone(core)),
            // The silent flight, or its copy here, is nobody's to join any more.
            _ => Flight::displace(core, &fingerprint),
        }
    } else {
        if let Lookup::Fresh { value, .. } = core.near.borrow_mut().get(&near_key(&fingerprint, form), core.now()) {
            return Found::Hit(value.clone());
        }
        let here = core.flights.borrow().get(&fingerprint).cloned();
        match here {
            Some(flight) if flight.can_be_joined() => return Found::Follow(flight.seat(core)),
            Some(_) => return Found::Alone(alone(core)),
            None => {}
        }
    }
    if own {
        return match ask_own(core, &fingerprint, form, core.id, silent) {
            Verdict::Found(entry) => Found::Hit(entry),
            Verdict::Lead(number, stale) => Found::Lead(Flight::leading(core, fingerprint, number, stale).seat(core)),
            Verdict::Alone(stale) => Found::Alone(alone_with(core, stale)),
            Verdict::Follow(leader, number) => follow(core, fingerprint, leader, number),
        };
    }
    let seat = Flight::asking(core, fingerprint).seat(core);
    let from = core.id;
    let letter = match silent {
        None => Letter::Ask { fingerprint, form, from },
        Some(number) => Letter::TakeOver { fingerprint, number, form, from },
    };
    core.post(owner, letter);
    Found::Follow(seat)
}

/// A seat outside of any flight, for who has refused what is kept, or whose answer is being fetched by somebody else.
pub fn alone(core: &Rc<Core>) -> Seat {
    alone_with(core, None)
}

/// A seat outside of any flight; `stale` may serve if every backend fails.
pub fn alone_with(core: &Rc<Core>, stale: Option<Arc<Entry>>) -> Seat {
    Flight::private(core, stale).seat(core)
}

/// The owner is this core and knows of a flight.
fn follow(core: &Rc<Core>, fingerprint: Fingerprint, leader: shards::CoreId, number: u64) -> Found {
    let here = core.flights.borrow().get(&fingerprint).cloned();
    match here {
        Some(flight) if flight.can_be_joined() => return Found::Follow(flight.seat(core)),
        Some(_) => return Found::Alone(alone(core)),
        None => {}
    }
    if leader == core.id {
        // It ended between its last byte and its settlement, or outgrew the cache.
        return Found::Alone(alone(core));
    }
    let seat = Flight::asking(core, fingerprint).seat(core);
    core.post(leader, Letter::Join { fingerprint, number, follower: core.id });
    Found::Follow(seat)
}
