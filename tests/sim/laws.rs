//! Laws over a whole story, asked once it is over: what its ledger must not show.

use crate::house::{House, Setup, backend};
use crate::ledger::{Book, Call, End, Ledger, Outcome, Request, Way, Worth};
use crate::scenario::Scenario;

/// Nobody is told to have been slow who was not: a drain, a fault of a backend or a neighbour is not the client's.
pub fn check_lateness(ledger: &Ledger, scenario: &Scenario) {
    ledger.look(|book| {
        for (id, request) in &book.requests {
            let late = matches!(request.outcome, Outcome::Error { status: 408, .. });
            assert!(!late || scenario.odd_clients || scenario.paused_cores, "{id} was not slow: {request:?}");
        }
    });
}

/// Where nothing fails but backends, and answers are kept: one good call a prompt, whatever failed before it. One a form, if
/// what failed was of no use to those who asked for the other.
pub fn check_calls(ledger: &Ledger, setup: &Setup, scenario: &Scenario) {
    let keeps = setup.cache_bytes == 64 << 20 && setup.ttl_ms == 300_000 && setup.max_entry_bytes == 2 << 20;
    // A follower may have grown tired of an answer that is long in coming.
    let waits = setup.follow_ms == 10_000 && setup.total_ms == 3000;
    let quiet = !(scenario.leavers
        || scenario.unreachable
        || scenario.paused_cores
        || scenario.drains
        || scenario.purges
        || scenario.directives
        || scenario.crashes
        || scenario.restarts);
    // Nobody stalls a flight by reading slowly. What may be sent twice, or is not kept when another model stands in.
    let once = setup.hedge == 0 && !setup.fallback && setup.turns.is_none();
    if !(keeps && waits && quiet && once && !scenario.odd_clients) {
        return;
    }
    ledger.look(|book| {
        let good = book.calls.iter().filter(|call| call.worth == Worth::Whole);
        let form = |call: &Call| !scenario.one_form && call.act.ends_with("Whole");
        let mut asked: Vec<_> =
            good.map(|call| (book.requests[&call.request_id].tenant, call.prompt, form(call))).collect();
        asked.sort_unstable();
        let calls = asked.len();
        asked.dedup();
        assert_eq!(asked.len(), calls, "one good call a prompt: {:#?}", book.calls);
    });
}

/// Nobody gets from the cache what is older than an answer that was served before, whichever core fetched it.
pub fn check_freshness(ledger: &Ledger, setup: &Setup, scenario: &Scenario) {
    /// For the messages between the cores; those to a client take longer, mostly.
    const SLACK_MS: u64 = 50;
    let keeps = setup.max_entry_bytes == 2 << 20 && !setup.fallback;
    // What is taken over, or dies, is served and not kept; an expired answer is known to be old.
    let waits = setup.follow_ms == 10_000 && setup.total_ms == 3000 && setup.stale_ms == 0;
    if !(keeps && waits) || scenario.paused_cores || scenario.crashes {
        return;
    }
    ledger.look(|book| {
        let served = || book.requests.values().filter(|request| !request.told.contains("no-store"));
        let call_of = |request: &Request| match request.outcome {
            Outcome::Answer { call } => Some(call),
            _ => None,
        };
        let asked_us = |call: &Call| book.requests[&call.request_id].asked_us;
        for hit in book.requests.values().filter(|request| request.cache.as_deref() == Some("HIT")) {
            let Some(old) = call_of(hit) else { continue };
            // It was kept by then, at the latest.
            let kept_ms =
                served().filter(|request| call_of(request) == Some(old)).map(|request| request.closed_ms).min();
            let same = |request: &&Request| (request.tenant, request.prompt) == (hit.tenant, hit.prompt);
            // A process that is killed loses what came since its last snapshot; so does Redis what it was not told.
            let loses = |end: End| end == End::Killed || setup.second;
            let is_lost = |before: &Request| {
                let between = before.closed_ms..=hit.closed_ms;
                book.ends.iter().any(|(end, at_ms)| loses(*end) && between.contains(at_ms))
            };
            for before in
                served().filter(same).filter(|before| before.closed_ms.saturating_add(SLACK_MS) <= hit.asked_ms)
            {
                let Some(young) = call_of(before) else { continue };
                // What was asked for before a purge, and ended after it, is no younger than what was asked for after it.
                let is_behind_a_purge = book.purged.iter().any(|(tenant, purged_us)| {
                    tenant.is_none_or(|tenant| tenant == hit.tenant)
                        && (asked_us(&book.calls[young])..=book.calls[old].called_us).contains(purged_us)
                });
                let is_younger = !is_lost(before)
                    && !is_behind_a_purge
                    && kept_ms.is_some_and(|kept_ms| book.calls[young].rated_ms > kept_ms);
                assert!(!is_younger, "{hit:?} got an older answer than {before:?}: {:#?}", book.calls);
            }
        }
    });
}

/// Without faults there is one outcome: the answer. And where answers are kept, one call a prompt.
pub fn check_calm(ledger: &Ledger, setup: &Setup, scenario: &Scenario) {
    ledger.look(|book| {
        for (id, request) in &book.requests {
            let only_cached = request.told.contains("only-if-cached")
                && matches!(request.outcome, Outcome::Error { status: 504, .. });
            let answered = matches!(request.outcome, Outcome::Answer { .. } | Outcome::ProbeRequest);
            // A refusal may end its connection, and with it what was sent behind.
            let piped = !request.told.contains("pipelined: 1,");
            let behind =
                (scenario.directives || scenario.probe_requests) && piped && request.outcome == Outcome::Nothing;
            assert!(answered || only_cached || behind, "{id} in a world without faults: {request:?}");
        }
        let keeps = setup.cache_bytes == 64 << 20 && setup.ttl_ms == 300_000 && setup.max_entry_bytes == 2 << 20;
        // A follower may have grown tired of an answer that is long in coming.
        if keeps && setup.follow_ms == 10_000 && setup.hedge == 0 && !(scenario.directives || scenario.purges) {
            let mut asked: Vec<(usize, u64)> =
                book.calls.iter().map(|call| (book.requests[&call.request_id].tenant, call.prompt)).collect();
            asked.sort_unstable();
            let calls = asked.len();
            asked.dedup();
            assert_eq!(asked.len(), calls, "one upstream call a prompt: {:#?}", book.calls);
            assert!(book.calls.iter().all(|call| call.worth == Worth::Whole));
        }
    });
}

/// Whoever got an answer, or a part of one, stands in the log, and nobody twice.
pub fn check_log(ledger: &Ledger, logged: &[String]) {
    let mut sorted: Vec<&String> = logged.iter().collect();
    sorted.sort_unstable();
    assert!(sorted.windows(2).all(|pair| pair[0] != pair[1]), "a request is logged once: {sorted:?}");
    ledger.look(|book| {
        for (id, request) in &book.requests {
            let heard =
                !matches!(request.outcome, Outcome::Open | Outcome::Nothing | Outcome::Error { status: 408, .. });
            assert!(!heard || sorted.binary_search(&id).is_ok(), "{id} is not in the log: {request:?}");
        }
    });
}

/// Longest way of a request's first byte, and of a request to connect: the slowest network of a story, and some.
const BYTE_US: u64 = 500_000;
const CONNECT_US: u64 = 5_000_000;

/// Whoever was told that a backend has left an address begins no request there. One connection may have been under way: what
/// came of it served the request that waited, and no other.
pub fn check_moves(ledger: &Ledger, setup: &Setup) {
    ledger.look(|book| {
        for call in &book.calls {
            let Some(way) = &call.way else { continue };
            let (sent_us, slack_us) =
                if way.before > 0 { (way.begun_us, BYTE_US) } else { (way.accepted_us, CONNECT_US) };
            assert!(
                is_known(book, way, setup.cores, sent_us.saturating_sub(slack_us), sent_us),
                "begun where nobody is: {call:?}"
            );
        }
    });
}

/// Whether some core knew of the address at some time of the span.
fn is_known(book: &Book, way: &Way, cores: usize, from_us: u64, to_us: u64) -> bool {
    let told = |core: usize| book.told.iter().filter(move |told| (told.core, told.backend) == (core, way.backend));
    (0..cores).any(|core| {
        let first = (0, way.address == backend(way.backend));
        let later = told(core).map(|told| (told.at_us, told.addresses.contains(&way.address)));
        let known: Vec<(u64, bool)> = std::iter::once(first).chain(later).collect();
        let ends = known.iter().skip(1).map(|next| next.0).chain([u64::MAX]);
        known
            .iter()
            .zip(ends)
            .any(|((since_us, is_there), end_us)| *is_there && *since_us <= to_us && from_us <= end_us)
    })
}

/// Whether its backend refused this gateway, or does not have the model: nothing was done.
fn turns_away(call: &Call) -> bool {
    ["Status(401)", "Status(404)"].iter().any(|act| call.act.contains(act))
}

/// Attempts end: with the first content a client sees, and with the retries.
pub fn check_attempts(ledger: &Ledger, setup: &Setup, house: &House) {
    let models = if setup.fallback { 2 } else { 1 };
    let lanes = if setup.hedge > 0 { 2 } else { 1 };
    // A connection from the pool that was stale is exchanged for nothing.
    let stale = house.sum(|counters| &counters.stale_retries) as usize;
    let most = models * lanes * (1 + setup.retries as usize) + stale;
    ledger.look(|book| {
        for (id, request) in &book.requests {
            let own = || book.calls.iter().enumerate().filter(|(_, call)| call.request_id == *id);
            // What was refused or not reached at all leads on to each backend, at no charge, and so does what refuses this
            // gateway or lacks the model.
            let processed = own().filter(|(_, call)| !call.refused && !turns_away(call)).count();
            let calls = || own().map(|(_, call)| format!("\n{call:?}")).collect::<String>();
            assert!(processed <= most, "{id} was processed over {most} times: {request:?}{}", calls());
            let Some(seen) = request.seen.filter(|&seen| book.calls[seen].request_id == *id) else { continue };
            // A hedge may have begun before the content came.
            let later = own().filter(|(number, _)| *number > seen).count();
            assert!(later == 0 || setup.hedge > 0, "{id} was sent again after content was seen: {request:?}");
        }
    });
}

/// What is retried and hedged over all is paid for.
pub fn check_budgets(ledger: &Ledger, setup: &Setup, house: &House) {
    // A reserve a model and core, and a part of what was asked.
    const RESERVE: u64 = 100;
    const HEDGES: u64 = 2;
    let (models, cores) = (if setup.fallback { 2 } else { 1 }, setup.cores as u64);
    let asked = house.sum(|counters| &counters.calls) + house.sum(|counters| &counters.fallbacks);
    let (stale, hedges) = (house.sum(|counters| &counters.stale_retries), house.sum(|counters| &counters.hedges));
    let retries = models * cores * RESERVE.div_ceil(cores) + asked * 20 / 100;
    let most = asked + stale + hedges + retries;
    let processed =
        ledger.look(|book| book.calls.iter().filter(|call| !call.refused && !turns_away(call)).count()) as u64;
    assert!(processed <= most, "{processed} calls of {asked} requests, {stale} stale, {hedges} hedges");
    let attempts = asked + house.sum(|counters| &counters.retries);
    let most = models * cores * HEDGES + attempts * u64::from(setup.hedge) / 100;
    assert!(hedges <= most, "{hedges} hedges of {attempts} attempts");
}

/// The table of what is retryable: who was told that a request is bad does not ask again; who was told that this gateway is not
/// wanted, or the model not there, does not ask there again.
pub fn check_table(ledger: &Ledger, setup: &Setup) {
    if setup.hedge > 0 {
        return; // one may be under way
    }
    let told = |call: &Call, statuses: &[u16]| {
        let is = |status: &u16| call.act.starts_with(&format!("Status({status})"));
        call.worth == Worth::Error && call.over_ms.is_some() && statuses.iter().any(is)
    };
    ledger.look(|book| {
        for (number, call) in book.calls.iter().enumerate() {
            let later = || book.calls[number + 1..].iter().filter(|later| later.request_id == call.request_id);
            if told(call, &[400]) {
                assert_eq!(later().count(), 0, "sent again against the table: {call:?}");
            }
            let backend = |call: &Call| call.way.as_ref().map(|way| way.backend);
            if !setup.fallback && told(call, &[401, 404]) && backend(call).is_some() {
                let again = later().any(|later| backend(later) == backend(call));
                assert!(!again, "sent to the same backend again against the table: {call:?}");
            }
        }
    });
}

/// No call outlives its request: the loser of a hedge, and what a retry has replaced, are given up at once. Asked a while
/// after the last request.
pub fn check_over(ledger: &Ledger) {
    const GRACE_MS: u64 = 1500;
    ledger.look(|book| {
        // One that was refused may be forgotten without a word.
        for call in book.calls.iter().filter(|call| !call.refused) {
            let request = &book.requests[&call.request_id];
            let ended = matches!(
                request.outcome,
                Outcome::Answer { .. } | Outcome::Relayed { .. } | Outcome::Error { .. } | Outcome::ErrorEvent { .. }
            );
            // One whose own client had no more time may go on for others that share it.
            let is_shared = matches!(&request.outcome, Outcome::Error { code, .. } if code == "deadline_exceeded");
            let sharing = book.requests.values().filter(|other| is_shared && other.prompt == request.prompt);
            let wanted_ms = sharing.map(|other| other.closed_ms).fold(request.closed_ms, u64::max);
            let over_ms = call.over_ms.unwrap_or(u64::MAX);
            let late = ended && over_ms > wanted_ms.saturating_add(GRACE_MS);
            assert!(!late, "a call goes on that nobody wants: {call:?} of {request:?}");
        }
    });
}
