//! Requests for embeddings, or for completions, as one: the body that asks for the inputs of all, and each one's own answer out of the common one.

use std::ops::Range;
use std::rc::Rc;

use super::answer::AnswerHead;
use super::batch::Batch;
use super::flight::Flight;
use super::generation::Generation;
use super::relay::Captured;
use super::store::CompletionGuard;
use super::upstream_request::UpstreamRequest;
use super::window::{Members, Part};
use crate::dialect::Dialect;
use crate::dialect::facts::{Endpoint, Form, NotStored, RequestFacts, TokenUsage};
use crate::wire::{Span, json};

/// A body with the inputs of all members in the place of `inputs`.
pub fn join(
    generation: &Generation,
    endpoint: Endpoint,
    body: &[u8],
    inputs: Span,
    members: &Members,
) -> Option<(Vec<u8>, RequestFacts)> {
    let (all, _) = members.inputs();
    let mut joined = body.get(..inputs.start as usize)?.to_vec();
    for (place, (input, _)) in all.into_iter().enumerate() {
        joined.push(if place == 0 { b'[' } else { b',' });
        joined.extend_from_slice(input);
    }
    joined.push(b']');
    joined.extend_from_slice(body.get(inputs.end as usize..)?);
    let tape = &mut generation.memory.scratch.borrow_mut().tape;
    json::parse(&joined, tape).ok()?;
    let facts = Dialect::OpenAi.request_facts(endpoint, &joined, tape).ok()?;
    Some((joined, facts))
}

/// A member's own answer, whether it may be stored, and its tokens.
pub type Own = (Vec<u8>, Result<(), NotStored>, TokenUsage);

/// Each member's own answer out of the common one, and its tokens: exactly those of the whole together. `stored`: whether the common
/// one may be stored.
pub fn split(
    generation: &Generation,
    endpoint: Endpoint,
    members: &Members,
    answer: &[u8],
    stored: Result<(), NotStored>,
) -> Option<Vec<Own>> {
    let (inputs, ranges) = members.inputs();
    let tape = &mut generation.memory.scratch.borrow_mut().tape;
    if endpoint == Endpoint::Completions {
        let weights: Vec<u64> = inputs.iter().map(|(_, weight)| *weight).collect();
        let parts = Dialect::OpenAi.completion_parts(answer, &ranges, &weights, tape)?;
        // One that is cut off says nothing of the others.
        let own = |(body, tokens): (Vec<u8>, TokenUsage)| {
            let stored = Dialect::OpenAi.answer_facts(endpoint, &body, tape).stored;
            (body, stored, tokens)
        };
        return Some(parts.into_iter().map(own).collect());
    }
    stored.ok()?;
    let found = Dialect::OpenAi.embeddings(answer, inputs.len(), tape)?;
    let weights: Vec<u64> = inputs.iter().map(|(_, weight)| *weight).collect();
    let shares = Dialect::OpenAi.token_shares(found.prompt_tokens, &weights);
    let part = |range: Range<usize>| {
        let tokens = shares[range.clone()].iter().sum();
        let tokens = TokenUsage::counted(Some(tokens), None, Some(tokens));
        let embeddings = found.embeddings[range].iter().map(|embedding| embedding.of(answer));
        (Dialect::OpenAi.embedding_answer(found.model.of(answer), embeddings, tokens), Ok(()), tokens)
    };
    Some(ranges.into_iter().map(part).collect())
}

/// Ends a flight with its part of an answer that it has in common with others.
pub fn take_part(
    generation: &Rc<Generation>,
    upstream: &UpstreamRequest,
    flight: &Flight,
    mut guard: CompletionGuard,
    batch: Option<&Batch>,
    part: Part,
) {
    let Part { head, body, mut stored, tokens, model, seen } = part;
    guard.spend(upstream, model, tokens, seen);
    // As of any call: that of a fallback is not kept.
    if model != upstream.model && stored.is_ok() {
        stored = Err(NotStored::OtherModel);
    }
    if let (Some(batch), Ok(())) = (batch, stored) {
        let ttl_ms = generation.snapshot.models[upstream.model].cache_ttl_ms;
        batch.complete(generation, &batch.nothing(), &body, ttl_ms);
    }
    let length = Some(body.len() as u64);
    flight.open(generation, AnswerHead { length, ..head }, body);
    guard.settle(upstream, Ok(Captured { form: Form::NonStreaming, stored, usage_event: None, tokens }));
}
