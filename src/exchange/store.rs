//! The end of a flight: its answer goes to the cache if it is complete and may be kept, and the flight is settled,
//! exactly once, whatever became of it.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use shards::Fingerprint;

use super::flight::{End, Flight, Reuse};
use super::generation::Generation;
use super::messages::{Entry, keep};
use super::purges::Tags;
use super::quota::Spending;
use super::relay::Captured;
use super::upstream_request::UpstreamRequest;
use crate::dialect::facts::{NotStored, TokenUsage};
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
}

impl CompletionGuard {
    pub fn new(
        core: &Rc<Generation>,
        flight: &Rc<Flight>,
        keep_as: Option<Fingerprint>,
        tags: Tags,
        spending: Option<Spending>,
    ) -> CompletionGuard {
        core.counters.flights.add(1);
        core.counters.calls.add(1);
        let born = core.purges.latest();
        CompletionGuard { core: core.clone(), flight: flight.clone(), keep_as, tags, born, spending }
    }

    /// Settles what the call was reserved on what it has used at `model`, if it was answered: with this usage, or without a
    /// word of it and about `seen` tokens.
    pub fn spend(&mut self, model: usize, tokens: Option<TokenUsage>, seen: u64) {
        if let Some(spending) = self.spending.take() {
            spending.settle(tokens, seen, model);
        }
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
            stored_ms: now_ms(),
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
        NotStored::ModelOff | NotStored::NotDeterministic => Reuse::AsItCame,
    }
}

impl Drop for CompletionGuard {
    fn drop(&mut self) {
        self.core.counters.flights.sub(1);
        // Ignored where the flight has ended.
        self.flight.finish(&self.core, End::Failed(Failure::Internal));
    }
}
