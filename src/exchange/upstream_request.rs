//! A request as the upstream side needs it. The client's message is handed over whole, not copied, when it is large and
//! nothing else of the connection stands in the same buffer.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use shards::balancer::hash;
use shards::{Fault, may_have_acted};

use super::batch::Batch;
use super::body::BodyBytes;
use super::client::ClientConnection;
use super::generation::Generation;
use super::memory::Reserved;
use super::named::Named;
use super::notes::Notes;
use super::parse::{BodyPlace, Request, body_bytes};
use super::pipe::UploadRest;
use super::record::RequestRecord;
use super::request_id::RequestId;
use super::trace::TraceContext;
use super::window::Combinable;
use crate::config::snapshot::{Balance, OnClientDisconnect};
use crate::dialect::facts::{Endpoint, Form, RequestFacts};
use crate::dialect::translate::Untranslatable;
use crate::net::{now_ms, now_us};
use crate::upstream::queue::Claim;
use crate::wire::Span;
use crate::wire::http1::{Method, RequestHead};

/// A message up to this is copied to memory of just its size: the buffer it came in, which is in a near cache, serves the
/// next request.
const COPY_BYTES: usize = 4 << 10;

/// How much of a prompt decides where it goes, with `balance = "prefix"`: system prompts and the first turn, which is
/// what conversations share.
const PROMPT_BYTES: usize = 1024;

pub struct UpstreamRequest {
    pub endpoint: Endpoint,
    /// Index of the model in the snapshot.
    pub model: usize,
    pub form: Form,
    /// For whom it waits, and how long that makes sense.
    pub claim: Claim,
    /// Until when an answer has to have begun, if the client says so.
    pub deadline_ms: Option<u64>,
    /// What becomes of it when every client has gone.
    pub when_left: OnClientDisconnect,
    /// Whether a connection was had for it.
    pub was_sent: Cell<bool>,
    /// Why it could not be said in the API of a backend, if that was so.
    pub untranslatable: Cell<Option<Untranslatable>>,
    pub facts: Option<RequestFacts>,
    /// Where the model is named.
    pub named: Option<Named>,
    /// What the `*` in the model's name stands for.
    pub star: Option<Rc<str>>,
    pub head: RequestHead,
    pub request_id: RequestId,
    pub trace: Option<TraceContext>,
    pub notes: Option<Rc<Notes>>,
    /// Time that went by with waiting: for a turn, a connection, a backend.
    pub waited_us: Cell<u64>,
    /// If it is for several embeddings, some of which may be known.
    pub batch: Option<Box<Batch>>,
    /// If it may go upstream together with others.
    pub combinable: Option<Box<Combinable>>,
    /// What follows the body that is here, as the client sends it.
    pub upload: Option<UploadRest>,
    message: Vec<u8>,
    body: BodyPlace,
    /// Given back with this.
    _memory: Reserved,
}

impl UpstreamRequest {
    /// Takes the request in hand off the client.
    pub fn take(
        generation: &Generation,
        client: &mut ClientConnection<'_>,
        request: &mut Request,
        model: usize,
        record: &mut RequestRecord,
    ) -> UpstreamRequest {
        let claim = request.urgency.claim(generation, client, body_bytes(client, &request.body), record);
        let length = match &request.body {
            BodyPlace::Behind { length } => client.head.length + length,
            BodyPlace::Apart { .. } => client.head.length,
        };
        let message = if length > COPY_BYTES && client.at == 0 && client.input.len() == length {
            std::mem::replace(&mut client.input, generation.memory.buffers.take())
        } else {
            let message = client.pending().get(..length).unwrap_or(&[]).to_vec();
            client.consume(length);
            message
        };
        UpstreamRequest {
            endpoint: request.endpoint,
            model,
            form: request.form,
            claim,
            deadline_ms: record.deadline_ms,
            when_left: match request.endpoint {
                // What is passed through may be anything.
                Endpoint::Models | Endpoint::Other => OnClientDisconnect::Cancel,
                _ => generation.snapshot.models[model].on_client_disconnect,
            },
            facts: request.facts.take(),
            named: request.named,
            star: request.star.clone(),
            head: std::mem::replace(&mut client.head, generation.memory.request_heads.take()),
            request_id: record.request_id,
            trace: record.trace,
            notes: record.notes(generation),
            was_sent: Cell::new(false),
            untranslatable: Cell::new(None),
            waited_us: Cell::new(0),
            batch: request.batch.take(),
            combinable: request.combinable.take(),
            upload: request.upload.take(),
            message,
            _memory: client.memory.take(),
            body: compact(generation, std::mem::replace(&mut request.body, BodyPlace::Behind { length: 0 })),
        }
    }

    /// The same request with another body of the same length, in which everything that is known of stands where it stood.
    pub fn with_body(&self, body: Vec<u8>) -> UpstreamRequest {
        debug_assert_eq!(body.len(), self.body().len());
        UpstreamRequest {
            head: self.head.clone(),
            was_sent: Cell::new(false),
            untranslatable: Cell::new(None),
            waited_us: Cell::new(0),
            batch: None,
            combinable: None,
            upload: None,
            notes: self.notes.clone(),
            star: self.star.clone(),
            message: self.message.get(..self.head.length).unwrap_or(&[]).to_vec(),
            body: BodyPlace::Apart { bytes: BodyBytes::Heap(body) },
            _memory: self._memory.beside(),
            ..*self
        }
    }

    /// For another body of this request, nothing yet.
    pub fn memory_beside(&self) -> Reserved {
        self._memory.beside()
    }

    /// Gives it another body, which names the model too.
    pub fn replace_body(&mut self, body: Vec<u8>, facts: RequestFacts) {
        self.named = facts.model.map(Named::Member);
        self.facts = Some(facts);
        self.body = BodyPlace::Apart { bytes: BodyBytes::Heap(body) };
    }

    /// Where on the ring of a model's backends it belongs.
    pub fn affinity(&self, balance: &Balance) -> u64 {
        if let Balance::Sticky(field) = balance
            && let Some(session) = self.head.fields.find(self.head_bytes(), field)
        {
            return hash(session);
        }
        let body = self.body();
        let start = self.facts.and_then(|facts| facts.prompt).map_or(0, |prompt| prompt.start as usize);
        let prompt = &body[start.min(body.len())..];
        hash(&prompt[..prompt.len().min(PROMPT_BYTES)])
    }

    /// What was waited for since `us` has come, now.
    pub fn waited_since(&self, us: u64) -> u64 {
        let now = now_us();
        self.waited_us.set(self.waited_us.get() + now.saturating_sub(us));
        now
    }

    /// As [`waited_since`](Self::waited_since), for a permit of the model.
    pub fn queued_since(&self, us: u64) {
        self.waited(us, |notes| &notes.queue_us);
    }

    /// The same, for a connection.
    pub fn connected_since(&self, us: u64) {
        self.waited(us, |notes| &notes.connect_us);
    }

    fn waited(&self, since_us: u64, of: impl FnOnce(&Notes) -> &Cell<u64>) {
        let us = now_us().saturating_sub(since_us);
        self.waited_us.set(self.waited_us.get() + us);
        if let Some(notes) = &self.notes {
            let sum = of(notes);
            sum.set(sum.get() + us);
        }
    }

    /// The bytes of the head; spans of `head` count from its start.
    pub fn head_bytes(&self) -> &[u8] {
        &self.message
    }

    pub fn body(&self) -> &[u8] {
        match &self.body {
            BodyPlace::Behind { length } => {
                self.message.get(self.head.length..self.head.length + length).unwrap_or(&[])
            }
            BodyPlace::Apart { bytes } => bytes,
        }
    }

    /// A part of the body, to outlive this: of a large one without a copy.
    pub fn share(&self, part: Span) -> Bytes {
        match &self.body {
            BodyPlace::Apart { bytes: BodyBytes::Mapped(bytes) } => bytes.slice(part.start as usize..part.end as usize),
            _ => Bytes::copy_from_slice(part.of(self.body())),
        }
    }

    /// Whether the request may be sent once more after `fault`: one that may have effects only where it has certainly not been
    /// acted on (RFC 9110 9.2.2).
    pub fn may_repeat(&self, fault: Fault) -> bool {
        !self.has_flowed() && (self.is_repeatable() || !may_have_acted(fault))
    }

    /// Whether a part of its body went to a backend that is nowhere any more.
    pub fn has_flowed(&self) -> bool {
        self.upload.as_ref().is_some_and(|rest| rest.pipe.is_begun())
    }

    /// Whether acting on it twice does no harm: by its method, because it only generates something, or by the client's word.
    pub fn is_repeatable(&self) -> bool {
        if self.upload.is_some() {
            return false; // its rest flows once
        }
        let bytes = self.head_bytes();
        let generates = match self.endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => true,
            Endpoint::Messages | Endpoint::Responses | Endpoint::Models => true,
            Endpoint::Other => false,
        };
        let safe =
            matches!(self.head.method, Method::Get | Method::Head | Method::Options | Method::Delete | Method::Put);
        generates || safe || self.head.fields.get(bytes, "idempotency-key").is_some()
    }

    /// How long an answer may still take to come, or to begin, at a model the request has been with since `since_ms`.
    pub fn left_ms(&self, generation: &Generation, backend: usize, since_ms: u64) -> u64 {
        let backend = &generation.snapshot.backends[backend];
        let most_ms = match self.form {
            Form::NonStreaming => backend.timeout_request_ms,
            Form::Streaming => backend.timeout_request_ms.min(backend.timeout_stream_ms.unwrap_or(u64::MAX)),
        };
        since_ms.saturating_add(most_ms).saturating_sub(now_ms())
    }

    /// Gives the buffers back.
    pub fn release(mut self, generation: &Generation) {
        // Emptied: it comes back as the head of a line with nothing in hand.
        self.head.clear();
        generation.memory.request_heads.give(self.head);
        generation.memory.buffers.give(self.message);
        if let BodyPlace::Apart { bytes } = self.body {
            bytes.release(&generation.memory.buffers);
        }
    }
}

fn compact(generation: &Generation, body: BodyPlace) -> BodyPlace {
    match body {
        BodyPlace::Apart { bytes } if bytes.len() <= COPY_BYTES => {
            let copy = bytes.to_vec();
            bytes.release(&generation.memory.buffers);
            BodyPlace::Apart { bytes: BodyBytes::Heap(copy) }
        }
        other => other,
    }
}
