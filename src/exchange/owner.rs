//! What the owner of a fingerprint does: answers those who ask, keeps answers, ends flights. The owner is this core or another
//! one, which is sent a message then.

use std::sync::Arc;

use shards::{Asked, CoreId, Fingerprint, Inserted, Lookup, Outcome, Settled};

use super::core::Core;
use super::entry::{Acceptable, Entry};
use super::message::Message;
use super::variant::{of_form, of_question};
use crate::dialect::facts::Form;

/// Asks this core's shard on behalf of core `asker`. `fingerprint` names the flight to join: the request's, or that of those
/// whom its answer does not serve. Where there is such an answer it is given, so that the asker joins that one.
pub fn ask_own(
    core: &Core,
    fingerprint: &Fingerprint,
    acceptable: Acceptable,
    asker: CoreId,
    silent: Option<u64>,
) -> Asked<Arc<Entry>> {
    let now = core.now();
    let request = of_question(fingerprint);
    let mut shard = core.cache.shard.borrow_mut();
    if let Some(number) = silent {
        shard.give_up(fingerprint, number);
    }
    let least = core.cache.purges.least(acceptable.tags, &request);
    if least > 0 {
        shard.enter(core.cache.purges.latest(), fingerprint, least);
    }
    let is_current = |entry: &Arc<Entry>| entry.born >= least;
    let entry = loop {
        match shard.ask_for(&request, fingerprint, asker, now) {
            Asked::Hit { value, .. } if is_current(&value) => break value,
            Asked::Hit { .. } => _ = shard.remove(&request),
            Asked::Lead { number, stale } => return Asked::Lead { number, stale: stale.filter(is_current) },
            Asked::Alone { stale } => return Asked::Alone { stale: stale.filter(is_current) },
            other => return other,
        }
    };
    let age_ms = entry.age_ms(now);
    let (is_everyones, hit) = (*fingerprint == request, |value| Asked::Hit { value, age_ms });
    if !acceptable.is_young_enough(&entry, now) {
        return if is_everyones { hit(entry) } else { shard.ask_younger(&request, fingerprint, asker, now) };
    }
    if entry.form == acceptable.form {
        return hit(entry);
    }
    let formed = of_form(&request, acceptable.form);
    if let Lookup::Fresh { value, .. } = shard.peek(&formed, now)
        && value.stored_ms == entry.stored_ms
    {
        return hit(value.clone());
    }
    // Converted once and kept beside the first form until both expire.
    match entry.in_form(acceptable.form).map(Arc::new) {
        Some(converted) => {
            let left_ms = entry.left_ms(now);
            shard.put(formed, converted.clone(), converted.size_bytes(), now, left_ms);
            hit(converted)
        }
        None if *fingerprint != formed => hit(entry),
        None => shard.ask_other(fingerprint, asker, now),
    }
}

/// Ends flight `number` at its owner, this core or another.
pub fn settle(core: &Core, fingerprint: Fingerprint, number: u64, kept: Option<Arc<Entry>>) {
    let owner = core.owner(&fingerprint);
    let request = of_question(&fingerprint);
    let kept = kept.filter(|entry| core.cache.purges.is_current(entry, &request));
    if owner != core.id {
        if kept.is_some() {
            drop_near_copies(core, &request);
        }
        return core.post(owner, Message::Settle { fingerprint, number, kept });
    }
    let outcome = match kept.filter(|entry| is_newest(core, &request, entry)) {
        Some(entry) => {
            Outcome::Store { size_bytes: entry.size_bytes(), ttl_ms: entry.left_ms(core.now()), value: entry }
        }
        None => Outcome::Drop,
    };
    let settled = core.cache.shard.borrow_mut().settle_for(request, fingerprint, number, outcome, core.now());
    match settled {
        Settled::Stored { .. } => drop_older(core, &request),
        Settled::TooLarge => drop_outdated(core, &request),
        _ => {}
    }
}

/// Keeps an answer at its owner, this core or another.
pub fn keep(core: &Core, request: Fingerprint, entry: Arc<Entry>) {
    if !core.cache.purges.is_current(&entry, &request) {
        return;
    }
    let owner = core.owner(&request);
    if owner != core.id {
        drop_near_copies(core, &request);
        return core.post(owner, Message::Keep { fingerprint: request, entry });
    }
    if !is_newest(core, &request, &entry) {
        return;
    }
    let (size_bytes, ttl_ms) = (entry.size_bytes(), entry.left_ms(core.now()));
    let inserted = core.cache.shard.borrow_mut().put(request, entry, size_bytes, core.now(), ttl_ms);
    match inserted {
        Inserted::Stored { .. } => drop_older(core, &request),
        Inserted::TooLarge => drop_outdated(core, &request),
    }
}

/// An answer has no room: what it was to replace is out of date all the same.
fn drop_outdated(core: &Core, request: &Fingerprint) {
    core.cache.shard.borrow_mut().remove(request);
    drop_older(core, request);
}

/// An answer was stored in place of another: copies of that one elsewhere, and what it was converted to, are out of date.
fn drop_older(core: &Core, request: &Fingerprint) {
    core.cache.epochs.advance(core.id, request);
    let mut shard = core.cache.shard.borrow_mut();
    for form in [Form::NonStreaming, Form::Streaming] {
        shard.remove(&of_form(request, form));
    }
}

/// Whether nothing younger is kept: answers of several calls may reach their owner in another order than they came in.
fn is_newest(core: &Core, request: &Fingerprint, entry: &Entry) -> bool {
    match core.cache.shard.borrow().peek(request, core.now()) {
        Lookup::Fresh { value, .. } | Lookup::Stale { value, .. } => value.stored_ms <= entry.stored_ms,
        Lookup::Absent => true,
    }
}

/// This core has something newer than its copies, which its owner gets to know only now.
fn drop_near_copies(core: &Core, request: &Fingerprint) {
    let mut near = core.cache.near.borrow_mut();
    for form in [Form::NonStreaming, Form::Streaming] {
        near.remove(&of_form(request, form));
    }
}

pub fn answer(core: &Core, fingerprint: Fingerprint, acceptable: Acceptable, from: CoreId, silent: Option<u64>) {
    // Before it is read what is kept: a copy is not to seem newer than it is.
    let epoch = core.cache.epochs.get(core.id, &fingerprint);
    match ask_own(core, &fingerprint, acceptable, from, silent) {
        Asked::Hit { value: entry, .. } => core.post(from, Message::Found { fingerprint, entry, epoch }),
        Asked::Lead { number, stale } => core.post(from, Message::Lead { fingerprint, number, stale }),
        Asked::Alone { stale } => core.post(from, Message::Alone { fingerprint, stale }),
        Asked::Follow { leader, number } if leader == core.id => join(core, fingerprint, number, from),
        Asked::Follow { leader, number } => core.post(leader, Message::Join { fingerprint, number, follower: from }),
    }
}

/// Lets core `follower` follow a flight of this core; `follower` may be this core itself, whose exchanges asked the
/// owner before the flight began here.
pub fn join(core: &Core, fingerprint: Fingerprint, number: u64, follower: CoreId) {
    let flight = core.flights.joinable.borrow().get(&fingerprint).cloned();
    match flight {
        Some(flight) if flight.is_open_as(number) => {
            flight.add_follower(core, follower);
            core.flights.feeding.borrow_mut().insert((fingerprint, number), flight);
        }
        _ => core.post(follower, Message::Gone { fingerprint, number }),
    }
}
