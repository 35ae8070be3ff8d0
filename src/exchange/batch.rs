//! Requests for several embeddings: those that are known are taken from the cache, and a backend is asked for the rest alone. An
//! embedding is kept under a key of its own, at whichever core owns it. Runs in the call of a flight, which outlives its client.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use shards::{CoreId, Fingerprint, Lookup};

use super::core::Core;
use super::entry::Entry;
use super::message::Message;
use super::owner::keep;
use super::scratch::Scratch;
use super::tags::Tags;
use super::variant::of_question;
use crate::dialect::facts::{Endpoint, Form, RequestFacts, TokenUsage};
use crate::dialect::{Dialect, Inputs};
use crate::limits::{BATCH_BYTES, BATCH_INPUTS};
use crate::net::{now_ms, within};
use crate::wire::json::{self, Tape};

/// How long other cores may take to say what they have: none of them blocks, so one that takes longer is stalled.
const ASK_MS: u64 = 1_000;

/// The inputs of a request, and where the embedding of each is kept.
pub struct Batch {
    inputs: Inputs,
    keys: Vec<Fingerprint>,
    /// Of the whole.
    request: Fingerprint,
    tags: Tags,
    /// How many purges there had been when it was looked at.
    born: u64,
}

impl Batch {
    /// None if there are not several inputs. `scratch` has what was hashed for the request's own fingerprint, of which `head` bytes
    /// come before the body's canonical form.
    pub fn of(
        core: &Core,
        request: &Fingerprint,
        body: &[u8],
        facts: &RequestFacts,
        tags: Tags,
        scratch: &mut Scratch,
    ) -> Option<Box<Batch>> {
        let Scratch { tape, canonical, text, canonical_head, .. } = scratch;
        if body.len() > BATCH_BYTES {
            return None;
        }
        let inputs = Dialect::OpenAi.embedding_inputs(body, tape, BATCH_INPUTS)?;
        // All that decides the answer to any input: whose it is, the model, and the rest of the request.
        let skipped: Vec<&str> = facts.not_in_key.iter().copied().chain(["input"]).collect();
        canonical.truncate(*canonical_head);
        canonical.extend_from_slice(b"by input\0");
        json::canonical(body, tape, &skipped, canonical);
        let mut begun = Sha256::new();
        begun.update(&canonical[..]);
        let mut keys = Vec::with_capacity(inputs.inputs.len());
        for input in &inputs.inputs {
            let bytes = input.span.of(body);
            json::parse(bytes, tape).ok()?;
            text.clear();
            json::canonical(bytes, tape, &[], text);
            let mut hash = begun.clone();
            hash.update(&text[..]);
            keys.push(of_question(&Fingerprint(hash.finalize().into())));
        }
        Some(Box::new(Batch { inputs, keys, request: *request, tags, born: core.cache.purges.latest() }))
    }

    /// The fingerprint of the whole request.
    pub fn request(&self) -> &Fingerprint {
        &self.request
    }

    /// As if nothing were known.
    pub fn nothing(&self) -> Vec<Option<Arc<Entry>>> {
        vec![None; self.keys.len()]
    }

    /// What is known of it, by input.
    pub async fn look_up(&self, core: &Rc<Core>) -> Vec<Option<Arc<Entry>>> {
        let mut found: Vec<Option<Arc<Entry>>> = vec![None; self.keys.len()];
        let mut elsewhere: Vec<Vec<(u32, Fingerprint)>> = vec![Vec::new(); usize::from(core.count)];
        for (place, key) in self.keys.iter().enumerate() {
            match core.owner(key) {
                owner if owner == core.id => found[place] = get(core, key, self.tags),
                owner => elsewhere[usize::from(owner.0)].push((place as u32, *key)),
            }
        }
        let elsewhere: Vec<(usize, Vec<(u32, Fingerprint)>)> =
            elsewhere.into_iter().enumerate().filter(|(_, wanted)| !wanted.is_empty()).collect();
        let asking = core.cache.asked.begin(elsewhere.len());
        let (number, tags, from) = (asking.number(), self.tags, core.id);
        for (owner, wanted) in elsewhere {
            core.post(CoreId(owner as u16), Message::AskParts { number, wanted, tags, from });
        }
        let _ = within(asking.all(), ASK_MS).await;
        for (place, entry) in asking.found() {
            if let Some(slot) = found.get_mut(place as usize) {
                *slot = Some(entry);
            }
        }
        // Purged on their way here.
        for (slot, key) in found.iter_mut().zip(&self.keys) {
            *slot = slot.take().filter(|entry| core.cache.purges.is_current(entry, key));
        }
        found
    }

    /// A request for what is not known. All that is known of the body's parts stays true.
    pub fn rest(&self, body: &[u8], known: &[Option<Arc<Entry>>]) -> Vec<u8> {
        Dialect::OpenAi.embedding_request(body, &self.inputs, |place| known[place].is_some())
    }

    /// Keeps each embedding of an answer to the inputs that are not known, and makes the answer to all of them. None if the answer
    /// is not understood.
    pub fn complete(
        &self,
        core: &Core,
        known: &[Option<Arc<Entry>>],
        answer: &[u8],
        ttl_ms: u64,
    ) -> Option<(Bytes, TokenUsage)> {
        let (whole, kept) = {
            let tape = &mut core.memory.scratch.borrow_mut().tape;
            let missing: Vec<usize> = (0..known.len()).filter(|place| known[*place].is_none()).collect();
            let new = Dialect::OpenAi.embeddings(answer, missing.len(), tape)?;
            let weights: Vec<u64> = missing.iter().map(|place| self.inputs.inputs[*place].weight).collect();
            let tokens = Dialect::OpenAi.token_shares(new.prompt_tokens, &weights);
            let mut parts = known.to_vec();
            for ((place, embedding), tokens) in missing.iter().zip(&new.embeddings).zip(tokens) {
                let body = Dialect::OpenAi.embedding_part(new.model.of(answer), embedding.of(answer));
                parts[*place] = Some(Arc::new(self.part(body, tokens, ttl_ms)));
            }
            let kept: Vec<(Fingerprint, Arc<Entry>)> =
                missing.iter().filter_map(|place| Some((self.keys[*place], parts[*place].clone()?))).collect();
            (whole(&parts, tape)?, kept)
        };
        for (key, entry) in kept {
            keep(core, key, entry);
        }
        Some(whole)
    }

    fn part(&self, body: Vec<u8>, tokens: u64, ttl_ms: u64) -> Entry {
        Entry {
            endpoint: Endpoint::Embeddings,
            form: Form::NonStreaming,
            content_type: "application/json".as_bytes().into(),
            body: body.into(),
            usage_event: None,
            tokens: Some(TokenUsage::counted(Some(tokens), None, Some(tokens))),
            stored_ms: now_ms() as i64,
            ttl_ms,
            tags: self.tags,
            born: self.born,
        }
    }

    /// The answer, if all of it is known: as old as its oldest part.
    pub fn known_answer(&self, core: &Core, known: &[Option<Arc<Entry>>]) -> Option<Entry> {
        let now = core.now();
        let oldest = known.iter().flatten().map(|entry| entry.stored_ms).min()?;
        let left_ms = known.iter().flatten().map(|entry| entry.left_ms(now)).min()?;
        let born = known.iter().flatten().map(|entry| entry.born).min()?;
        let (body, tokens) = whole(known, &mut core.memory.scratch.borrow_mut().tape)?;
        let age_ms = u64::try_from(now.0 as i64 - oldest).unwrap_or(0);
        let part = self.part(Vec::new(), 0, age_ms.saturating_add(left_ms));
        Some(Entry { body, tokens: Some(tokens), stored_ms: oldest, born, ..part })
    }
}

/// An answer of all these parts.
fn whole(parts: &[Option<Arc<Entry>>], tape: &mut Tape) -> Option<(Bytes, TokenUsage)> {
    let mut spans = Vec::with_capacity(parts.len());
    let mut tokens = 0;
    for part in parts {
        let part = part.as_ref()?;
        spans.push(Dialect::OpenAi.embedding_of_part(&part.body, tape)?);
        tokens += part.tokens?.prompt;
    }
    let tokens = TokenUsage::counted(Some(tokens), None, Some(tokens));
    let bodies = parts.iter().flatten().map(|part| &part.body[..]);
    let model = spans.first()?.0.of(&parts.first()?.as_ref()?.body);
    let embeddings = bodies.zip(&spans).map(|(body, (_, embedding))| embedding.of(body));
    Some((Dialect::OpenAi.embedding_answer(model, embeddings, tokens).into(), tokens))
}

fn get(core: &Core, key: &Fingerprint, tags: Tags) -> Option<Arc<Entry>> {
    let now = core.now();
    let mut shard = core.cache.shard.borrow_mut();
    let Lookup::Fresh { value, .. } = shard.get(key, now) else { return None };
    // The groups of another model's or tenant's name are in its key.
    (value.born >= core.cache.purges.least(tags, key)).then(|| value.clone())
}

/// Another core asks for embeddings that this one owns.
pub fn answer(core: &Core, number: u64, wanted: Vec<(u32, Fingerprint)>, tags: Tags, from: CoreId) {
    let found = wanted.into_iter().filter_map(|(place, key)| Some((place, get(core, &key, tags)?))).collect();
    core.post(from, Message::Parts { number, found });
}
