//! What a core does with each message.

use shards::Fingerprint;

use super::answer::Source;
use super::core::NearCopy;
use super::flight::Flight;
use super::generation::Current;
use super::message::{Message, Part};
use super::owner::{answer, join, keep, settle};
use super::variant::{of_form, of_question};
use super::weed::weed;
use super::{batch, home, snapshot};
use crate::upstream;

/// Does what one message says. `Drain`, `Halt` and the messages of other kinds of core are for the core's own loop.
pub fn deliver(current: &Current, message: Message) {
    let core = current.core();
    let find = |fingerprint: &Fingerprint| core.flights.joinable.borrow().get(fingerprint).cloned();
    let displaced = |fingerprint: &Fingerprint| {
        let flights = core.flights.displaced.borrow();
        let found: Vec<_> = flights.iter().filter(|flight| flight.is_for(fingerprint)).cloned().collect();
        found.into_iter()
    };
    match message {
        Message::Ask { fingerprint, acceptable, from } => answer(core, fingerprint, acceptable, from, None),
        Message::TakeOver { fingerprint, number, acceptable, from } => {
            answer(core, fingerprint, acceptable, from, Some(number));
        }
        Message::Settle { fingerprint, number, kept } => settle(core, fingerprint, number, kept),
        Message::Keep { fingerprint, entry } => keep(core, fingerprint, entry),
        Message::Join { fingerprint, number, follower } => join(core, fingerprint, number, follower),
        Message::Found { fingerprint, entry, epoch } => {
            if !core.cache.purges.is_current(&entry, &of_question(&fingerprint)) {
                // Purged on its way here. Who waits may have come since.
                return find(&fingerprint).into_iter().for_each(|flight| flight.gone(core));
            }
            let left_ms = entry.left_ms(core.now());
            let (size_bytes, copy) = (entry.size_bytes(), NearCopy { entry: entry.clone(), epoch });
            core.cache.near.borrow_mut().insert(
                of_form(&fingerprint, entry.form),
                copy,
                size_bytes,
                core.now(),
                left_ms,
            );
            if let Some(flight) = find(&fingerprint) {
                flight.found(core, entry);
            }
        }
        Message::Lead { fingerprint, number, mut stale } => {
            stale = stale.filter(|entry| core.cache.purges.is_current(entry, &of_question(&fingerprint)));
            match find(&fingerprint) {
                Some(flight) if flight.offer(core, number, stale) => {}
                _ => settle(core, fingerprint, number, None),
            }
        }
        Message::Alone { fingerprint, stale } => {
            let stale = stale.filter(|entry| core.cache.purges.is_current(entry, &of_question(&fingerprint)));
            if let Some(flight) = find(&fingerprint) {
                flight.alone(core, stale);
            }
        }
        Message::Feed { fingerprint, number, leader, part, born, answer_head, at, bytes, end } => {
            let source = Source { leader, number };
            if part == Part::First {
                // One copy joined with it. If its readers have left meanwhile, the leader's core is told.
                let waiting = find(&fingerprint).into_iter().chain(displaced(&fingerprint)).find(|f| f.is_asking());
                let least = |flight: &Flight| core.cache.purges.least(flight.tags(), &of_question(&fingerprint));
                match waiting {
                    Some(flight) if born >= least(&flight) => {
                        flight.join_fed(core, source, born, answer_head, &bytes, end);
                    }
                    // Its answer was purged on its way here, and those who wait may have come since.
                    Some(flight) => {
                        flight.gone(core);
                        if end.is_none() {
                            core.post(leader, Message::Leave { fingerprint, number, follower: core.id });
                        }
                    }
                    None if end.is_some() => {}
                    None => core.post(leader, Message::Leave { fingerprint, number, follower: core.id }),
                }
            } else {
                for flight in displaced(&fingerprint).chain(find(&fingerprint)) {
                    flight.fed(core, source, answer_head.clone(), at, &bytes, end.clone());
                }
            }
        }
        // A copy that is fed already has joined before.
        Message::Gone { fingerprint, number } => {
            for flight in displaced(&fingerprint).chain(find(&fingerprint)) {
                flight.gone(core);
                flight.ended_elsewhere(core, number);
            }
        }
        Message::Leave { fingerprint, number, follower } => {
            let flight = core.flights.feeding.borrow().get(&(fingerprint, number)).cloned();
            if let Some(flight) = flight
                && !flight.remove_follower(core, follower)
            {
                core.flights.feeding.borrow_mut().remove(&(fingerprint, number));
            }
        }
        Message::Upstream(message) => upstream::deliver::deliver(&current.get().upstreams, message),
        Message::Generation(node) => {
            let number = node.number;
            // What cannot be secured was found before it was sent.
            if current.replace(node).is_ok() {
                core.post_background(Message::InForce { from: core.id, number });
            }
        }
        Message::SecondLevel(topology) => {
            core.cache.second.get().into_iter().for_each(|second| second.set_topology(&topology, &core.panics));
        }
        Message::Purged => weed(core),
        Message::AskParts { number, wanted, tags, from } => batch::answer(core, number, wanted, tags, from),
        Message::Parts { number, found } => core.cache.asked.answered(number, found),
        Message::SnapshotAsk { number, at } => snapshot::give(core, number, at),
        Message::TakeBack { kept } => snapshot::take_back(core, kept),
        Message::QuotaAsk { limit, ask, from } => home::asked(core, limit, ask, from),
        Message::QuotaGrant { limit, grant } => core.quota.granted(limit, grant),
        Message::QuotaSettle { limit, period, returned } => home::settled(core, limit, period, returned),
        Message::QuotaFetched { limit, fetch, answer } => home::fetched(core, limit, &fetch, answer),
        Message::QuotaStore(store) => home::set_store(core, store),
        Message::QuotaState { number, limits } => {
            let states = home::states(core, &limits);
            core.post_background(Message::QuotaStates { from: core.id, number, states });
        }
        Message::QuotaKept { .. } | Message::QuotaFetch { .. } | Message::QuotaStates { .. } => {}
        Message::QuotaGive => {
            let ledgers = home::hand_over(core);
            core.post_background(Message::QuotaHanded { ledgers });
        }
        Message::QuotaHanded { .. } | Message::QuotaGrantBefore { .. } => {}
        Message::LogBuffer { lines, lost } => core.log.borrow_mut().written(lines, lost),
        Message::Log { .. }
        | Message::Spans(_)
        | Message::Connection(_)
        | Message::ConnectionTaken
        | Message::Unready
        | Message::Drain
        | Message::HandOver { .. }
        | Message::Halt
        | Message::Reopen => {}
        Message::Stop | Message::Drained { .. } => {}
        Message::SecondLevelLost { .. } | Message::SecondLevelMoved { .. } => {}
        Message::SecondLevelLostPurges { .. } => {}
        Message::InForce { .. } => {}
        Message::Snapshot { .. } | Message::SnapshotSlice { .. } | Message::SnapshotEnded { .. } => {}
        Message::TakenBack { .. } | Message::SavePurges { .. } | Message::PurgesSaved { .. } => {}
    }
}
