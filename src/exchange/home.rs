//! The limits whose home this core is: it keeps their ledgers, or this node's part of them where several nodes share them, and
//! answers what cores ask. Asks the store of all nodes ahead of need, by messages to the background core.

use shards::CoreId;
use shards::quota::{
    Ask, Counted, Fetch, Fetched, Grant, InParts, Ledger, LimitId, LimitState, Now, PARTS, Period, Returned, Share,
    Store, Told,
};

use super::core::Core;
use super::message::Message;
use super::quota::{Handed, now};
use crate::config::snapshot::Limit;

/// Counts of limits in one message.
const KEPT_A_MESSAGE: usize = 1_000;

/// All requests of a limit could be on any core, so any will do.
pub fn of(core: &Core, id: LimitId) -> CoreId {
    place(id, core.count)
}

/// The home of a limit on a node with so many data cores.
pub fn place(id: LimitId, cores: u16) -> CoreId {
    CoreId((id.0 % u64::from(cores.max(1))) as u16)
}

/// What a core of the process before is called here: behind all of our own, on a node with so many data cores.
pub fn before(core: u16, cores: u16) -> CoreId {
    CoreId(cores.saturating_add(2).saturating_add(core))
}

/// Another process keeps the ledgers from now on: what is in them. What is asked and given back here is for that one to answer.
/// Where nodes share limits by a store, this process is a node of its own, and keeps them.
/// They go as they are: this core serves on, however many there are.
pub fn hand_over(core: &Core) -> Box<InParts<Ledger>> {
    if core.quota.store.get().is_some() || core.quota.handed.replace(true) {
        return Box::default();
    }
    Box::new(std::mem::take(&mut *core.quota.ledgers.borrow_mut()))
}

/// Keeps what another process has kept before.
pub fn take_over(core: &Core, handed: &[Handed]) {
    let mut ledgers = core.quota.ledgers.borrow_mut();
    for Handed { id, period, counts } in handed.iter().filter(|handed| of(core, handed.id) == core.id) {
        let ledger = ledgers.get_or_insert_with(*id, || Ledger::new(*period));
        counts.iter().for_each(|(slot, amount)| ledger.add(*slot, *amount));
    }
}

/// This node shares its limits with others, as far as is known by now.
pub fn set_store(core: &Core, store: Store) {
    core.quota.store.set(Some(store));
}

/// Goes on with what counted before a restart, and tells from now on what is to be kept over the next.
pub fn restore(core: &Core, kept: &[Counted]) {
    let home = &core.quota;
    home.is_kept.set(true);
    let mut ledgers = home.ledgers.borrow_mut();
    for Counted { id, period, slot, amount } in kept.iter().filter(|kept| of(core, kept.id) == core.id) {
        ledgers.get_or_insert_with(*id, || Ledger::new(*period)).restore(*slot, *amount);
    }
}

/// Another core asks for some of a limit.
pub fn asked(core: &Core, id: LimitId, ask: Ask, from: CoreId) {
    let home = &core.quota;
    match home.store.get() {
        None if home.handed.get() => core.post_background(Message::QuotaAsk { limit: id, ask, from }),
        None => answer(core, from, id, home.grant(id, ask, core.count)),
        Some(store) => _ = tell(core, id, ask_share(core, id, ask, from, store)),
    }
}

fn answer(core: &Core, to: CoreId, id: LimitId, grant: Grant) {
    match to.0.checked_sub(before(0, core.count).0) {
        None => core.post(to, Message::QuotaGrant { limit: id, grant }),
        Some(to) => core.post_background(Message::QuotaGrantBefore { core: to, limit: id, grant }),
    }
}

/// This core asks itself; whether there is an answer at once.
pub(super) fn ask_own(core: &Core, id: LimitId, ask: Ask) -> bool {
    let home = &core.quota;
    match home.store.get() {
        None if home.handed.get() => {
            core.post_background(Message::QuotaAsk { limit: id, ask, from: core.id });
            false
        }
        None => {
            let grant = home.grant(id, ask, core.count);
            core.quota.leases.borrow_mut().granted(id, grant, now());
            true
        }
        Some(store) => tell(core, id, ask_share(core, id, ask, core.id, store)),
    }
}

fn ask_share(core: &Core, id: LimitId, ask: Ask, from: CoreId, store: Store) -> Told {
    let mut shares = core.quota.shares.borrow_mut();
    let share = shares.get_or_insert_with(id, || Share::new(ask.period, ask.limit));
    share.ask(from.0, ask, core.count, store, now())
}

/// The store has answered, or will not.
pub fn fetched(core: &Core, id: LimitId, fetch: &Fetch, answer: Option<Fetched>) {
    let home = &core.quota;
    let Some(store) = home.store.get() else { return };
    let told = match home.shares.borrow_mut().get_mut(id) {
        Some(share) => share.fetched(fetch, answer, core.count, store, now()),
        // What was granted is unknown here, and the store hears so with the next question.
        None => return,
    };
    tell(core, id, told);
}

/// Sends what is to be said; whether something was said to this core.
fn tell(core: &Core, id: LimitId, told: Told) -> bool {
    let mut here = false;
    for (to, grant) in told.grants {
        if to == core.id.0 {
            core.quota.granted(id, grant);
            here = true;
        } else {
            answer(core, CoreId(to), id, grant);
        }
    }
    if let Some(fetch) = told.fetch {
        core.post_background(Message::QuotaFetch { limit: id, fetch, from: core.id });
    }
    here
}

/// What this core knows of these limits, in their order.
pub fn states(core: &Core, limits: &[Limit]) -> Vec<LimitState> {
    let (home, now) = (&core.quota, now());
    let (leases, ledgers, shares) = (home.leases.borrow(), home.ledgers.borrow(), home.shares.borrow());
    let state = |limit: &Limit| {
        let id = LimitId(limit.id);
        let kept = match home.store.get() {
            None => ledgers.get(id).map(|ledger| ledger.state(now)),
            Some(_) => shares.get(id).map(|share| share.state(now)),
        };
        let kept = kept.unwrap_or_default();
        LimitState { held: kept.held.saturating_add(leases.left(id)), ..kept }
    };
    limits.iter().map(state).collect()
}

/// Another core gives something of a limit back.
pub fn settled(core: &Core, id: LimitId, period: Period, returned: Returned) {
    settle(core, id, period, returned);
    if core.is_draining() {
        // There may be no other time for it.
        (0..PARTS).for_each(|part| sweep_limits(core, part, now()));
    }
}

fn settle(core: &Core, limit: LimitId, period: Period, returned: Returned) {
    match core.quota.handed.get() {
        false => core.quota.settled(limit, period, &returned),
        true => core.post_background(Message::QuotaSettle { limit, period, returned }),
    }
}

pub(super) fn send_returned(core: &Core, id: LimitId, period: Period, returned: Returned) {
    match of(core, id) {
        own if own == core.id => settle(core, id, period, returned),
        home => core.post(home, Message::QuotaSettle { limit: id, period, returned }),
    }
}

/// About once a second for each part. How many limits this has looked at.
pub(super) fn sweep(core: &Core, part: usize) -> usize {
    let now = now();
    core.quota.ledgers.borrow_mut().part(part).retain(|_, ledger| !ledger.is_empty(now));
    core.quota.shares.borrow_mut().part(part).retain(|_, share| !share.is_empty(now));
    sweep_limits(core, part, now);
    core.quota.ledgers.borrow_mut().part(part).len() + core.quota.shares.borrow_mut().part(part).len()
}

fn sweep_limits(core: &Core, part: usize, now: Now) {
    let home = &core.quota;
    if home.is_kept.get() {
        tell_kept(core, part, now);
    }
    for (id, share) in home.shares.borrow_mut().part(part).iter_mut() {
        if let Some(fetch) = share.sweep(now) {
            core.post_background(Message::QuotaFetch { limit: *id, fetch, from: core.id });
        }
    }
}

/// Tells the background core what counts, where that has changed.
fn tell_kept(core: &Core, part: usize, now: Now) {
    let mut news = Vec::new();
    for (id, ledger) in core.quota.ledgers.borrow_mut().part(part).iter_mut() {
        if let Some((slot, amount)) = ledger.news(now) {
            news.push(Counted { id: *id, period: ledger.period(), slot, amount });
        }
    }
    for part in news.chunks(KEPT_A_MESSAGE) {
        core.post_background(Message::QuotaKept { counted: part.to_vec() });
    }
}
