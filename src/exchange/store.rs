//! The end of a flight: its answer goes to the cache if it is complete and may be kept, and the flight is settled,
//! exactly once, whatever became of it.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use shards::{Fingerprint, Fit};

use super::answer::{End, Reuse};

use super::amounts::Amounts;
use super::entry::{Acceptable, Entry, Level, fit};
use super::flight::Flight;
use super::generation::Generation;
use super::owner::keep;
use super::relay::Captured;
use super::second::{Looked, SecondLevel};
use super::spend::Spending;
use super::tags::Tags;
use super::upstream_request::UpstreamRequest;
use super::used::{Seen, Used};
use crate::dialect::facts::{Endpoint, NotStored, TokenUsage};
use crate::error::{Blame, Failure};
use crate::net::now_ms;

/// The guard to end a flight. Dropped without, by a panic, it ends the flight as failed.
pub struct CompletionGuard {
    core: Rc<Generation>,
    flight: Rc<Flight>,
    /// Where to keep the answer of a call outside of any flight.
    keep_as: Option<Fingerprint>,
    tags: Tags,
    /// How many purges there had been before the call began.
    born: u64,
    /// What its tenant has reserved for it. Of a call without an answer, nothing is used.
    spending: Option<Spending>,
    /// What it has used, once that is known.
    used: Option<Used>,
    second: Option<SecondPart>,
}

/// What a call has to do with the second level of the cache.
struct SecondPart {
    level: Rc<SecondLevel>,
    request: Fingerprint,
    /// What its leader takes, if the level is to be asked.
    looked_for: Option<Acceptable>,
    /// The purges that were known of when it began.
    purges: [u64; 5],
    /// The level has no answer that could serve later in place of a newer one.
    is_empty: bool,
}

impl CompletionGuard {
    pub fn new(
        generation: &Rc<Generation>,
        flight: &Rc<Flight>,
        keep_as: Option<Fingerprint>,
        tags: Tags,
        spending: Option<Spending>,
    ) -> CompletionGuard {
        generation.counters.flights.add(1);
        flight.open_bill();
        let born = generation.cache.purges.latest();
        CompletionGuard {
            core: generation.clone(),
            flight: flight.clone(),
            keep_as,
            tags,
            born,
            spending,
            used: None,
            second: None,
        }
    }

    /// Settles what the call was reserved on what it has used at `model`, if it was answered: with this usage, or with what was
    /// `seen` of an answer that broke off or says nothing of it.
    pub fn spend(&mut self, upstream: &UpstreamRequest, model: usize, tokens: Option<TokenUsage>, seen: Seen) {
        self.used = match self.spending.take() {
            Some(spending) => Some(spending.settle(tokens, seen, model)),
            // Of what is passed through unseen nothing is guessed that no limit asks for.
            None if tokens.is_none() && upstream.endpoint == Endpoint::Other => None,
            None => {
                let price = self.core.snapshot.models[model].price;
                let amounts = match tokens {
                    Some(_) => Amounts::default(),
                    None => {
                        let (facts, body) = (upstream.facts.as_ref(), upstream.body());
                        Amounts::of(&self.core, upstream.model, upstream.endpoint, facts, body)
                    }
                };
                Some(amounts.used(tokens, seen, price))
            }
        };
    }

    /// The answer to `request` is to be written to the second level, and looked for there if the leader takes what it has.
    pub fn with_second(mut self, request: Option<Fingerprint>, looked_for: Option<Acceptable>) -> CompletionGuard {
        if let (Some(level), Some(request)) = (self.core.cache.second.get(), request) {
            let purges = level.known_purges(&request, self.tags);
            self.second = Some(SecondPart { level: level.clone(), request, looked_for, purges, is_empty: false });
        }
        self
    }

    /// Whether the second level is to be asked first.
    pub fn looks(&self) -> bool {
        self.second.as_ref().is_some_and(|second| second.looked_for.is_some())
    }

    /// Asks the second level. True: it had the answer, and everybody has it.
    pub async fn look(&mut self) -> bool {
        let Some(SecondPart { level, request, looked_for: Some(acceptable), purges, is_empty }) = &mut self.second
        else {
            return false;
        };
        let max = self.core.snapshot.cache.max_entry_bytes;
        let looked = level.look_up(request, self.tags, max).await;
        *purges = level.known_purges(request, self.tags);
        *is_empty = matches!(looked, Looked::Nothing);
        let Looked::Found(entry) = looked else { return false };
        // The leader has handed on its request: it has to take what it gets.
        let entry = Some(Arc::new(entry)).filter(|entry| {
            fit(entry.clone(), *acceptable, self.core.now()).1 == Fit::Usable
                && self.core.cache.purges.is_current(entry, request)
                && !self.core.cache.epochs.is_outdated(request, entry.stored_ms)
        });
        let Some(entry) = entry else { return false };
        if self.flight.is_local() {
            keep(&self.core, *request, entry.clone());
        }
        if let Some(spending) = self.spending.take() {
            spending.settle_cached(entry.tokens);
        }
        self.flight.found_elsewhere(&self.core, entry, Level::Second);
        true
    }

    /// As `look`, for a request that no backend is to be asked for. False: there is no answer; who follows the flight by now asks
    /// again.
    pub async fn look_only(mut self) -> bool {
        let is_found = self.looks() && Box::pin(self.look()).await;
        if !is_found {
            self.flight.finish(&self.core, End::Failed(Failure::FlightLost));
        }
        is_found
    }

    /// The answer was found in parts: everybody has it. False: it may not serve.
    pub fn found_by_input(&mut self, entry: Entry, request: &Fingerprint) -> bool {
        let entry = Arc::new(entry);
        if !self.core.cache.purges.is_current(&entry, request) {
            return false;
        }
        if self.flight.is_local() {
            keep(&self.core, *request, entry.clone());
        }
        if let Some(spending) = self.spending.take() {
            spending.settle_cached(entry.tokens);
        }
        self.flight.found_elsewhere(&self.core, entry, Level::Inputs);
        true
    }

    /// Ends the flight.
    pub fn settle(self, upstream: &UpstreamRequest, captured: Result<Captured, Failure>) {
        let end = match captured {
            Ok(captured) => self.complete(upstream, captured),
            Err(failure) if failure.blame() == Blame::Backend => match self.flight.stale() {
                Some(entry) => End::Stale(entry, failure),
                None => End::Failed(failure),
            },
            Err(failure) => End::Failed(failure),
        };
        self.flight.finish(&self.core, end);
    }

    fn complete(&self, upstream: &UpstreamRequest, captured: Captured) -> End {
        let Captured { mut stored, form, usage_event, tokens } = captured;
        let usage_event = usage_event.map(Bytes::from);
        let max = self.core.snapshot.cache.max_entry_bytes;
        let entry = |body: Bytes| Entry {
            endpoint: upstream.endpoint,
            form,
            content_type: self.flight.content_type(),
            body,
            usage_event: usage_event.clone(),
            tokens,
            stored_ms: now_ms() as i64,
            ttl_ms: self.core.snapshot.models[upstream.model].cache_ttl_ms,
            tags: self.tags,
            born: self.born,
        };
        let reuse = match stored {
            Ok(()) => match self.flight.freeze().filter(|body| body.len() as u64 <= max) {
                Some(body) => Reuse::Kept(Arc::new(entry(body))),
                None => {
                    stored = Err(NotStored::TooLarge);
                    Reuse::AsItCame
                }
            },
            Err(reason) => unkept(reason),
        };
        if let (Some(second), Reuse::Kept(entry)) = (&self.second, &reuse)
            && self.core.cache.purges.is_current(entry, &second.request)
        {
            if !second.is_empty {
                // It may be long in coming there, or lost.
                self.core.cache.epochs.doubt_second(&second.request, entry.stored_ms);
            }
            second.level.write(&second.request, entry, &second.purges);
        }
        if let (Some(fingerprint), Reuse::Kept(entry)) = (self.keep_as, &reuse) {
            keep(&self.core, fingerprint, entry.clone());
        }
        End::Complete { reuse, not_stored: stored.err(), usage_event, tokens }
    }
}

/// Whom an answer serves that is complete and not kept: where it says all there is, whoever waits for it in the other form, too.
fn unkept(reason: NotStored) -> Reuse {
    match reason {
        NotStored::LengthCut | NotStored::ContentFilter | NotStored::UnknownFinish | NotStored::OtherModel => {
            Reuse::Converted
        }
        NotStored::Empty => Reuse::Converted,
        NotStored::MissingFinish | NotStored::Error | NotStored::NoTerminal | NotStored::NoContent => Reuse::AsItCame,
        NotStored::TooManyChoices | NotStored::Unreadable | NotStored::AfterTerminal => Reuse::AsItCame,
        NotStored::Endpoint | NotStored::TooLarge | NotStored::Status | NotStored::Encoded => Reuse::AsItCame,
        // They have no flight that others join.
        NotStored::NoStore | NotStored::Query | NotStored::Off => Reuse::AsItCame,
        NotStored::ModelOff | NotStored::NotDeterministic | NotStored::Stateful => Reuse::AsItCame,
    }
}

impl Drop for CompletionGuard {
    fn drop(&mut self) {
        self.core.counters.flights.sub(1);
        // Ignored where the flight has ended.
        self.flight.finish(&self.core, End::Failed(Failure::Internal));
        // Nothing is used of what is left.
        drop(self.spending.take());
        self.flight.has_ended(self.used);
    }
}
