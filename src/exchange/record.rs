//! What is noted of an exchange while it goes on, and the one line of the log and the counters at its end.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use shards::Fingerprint;

use super::client::ClientConnection;
use super::converted::Holder;
use super::entry::Level;
use super::flight::Flight;
use super::generation::Generation;
use super::notes::Notes;
use super::request_id::RequestId;
use super::spend::{Left, Permit};
use super::trace::{self, Told, TraceContext};
use super::used::{self, Bill, UsageSource, Used};
use crate::config::snapshot::{Access, Price, spell_money};
use crate::dialect::Dialect;
use crate::dialect::facts::{Endpoint, Form, NotStored, TokenUsage};
use crate::error::Failure;
use crate::net::{now_us, unix_ms};
use crate::observe::log::{Attempt, Entry};
use crate::observe::series::{Amounts, Key, OTHER, TemplateKey, UsageKey};
use crate::wire::format::Format;
use crate::wire::http1::{Method, Persistence, Version};

/// The status of an exchange that became a WebSocket.
pub const SWITCHED: u16 = 101;

/// What the cache did for an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMark {
    /// Not asked: the answer may not be shared.
    Bypass,
    Hit {
        age_ms: u64,
        ttl_ms: u64,
    },
    Miss,
    /// A miss that was answered by somebody else's upstream call.
    Joined,
    /// Not looked for at the client's wish.
    Refused,
    /// What there was is older than the client accepts.
    TooOld,
    /// Expired, and served because every backend failed.
    Stale {
        age_ms: u64,
        ttl_ms: u64,
    },
}

impl CacheMark {
    /// Whether the answer needed no upstream call of this exchange.
    pub fn saves(self) -> bool {
        match self {
            CacheMark::Hit { .. } | CacheMark::Joined | CacheMark::Stale { .. } => true,
            CacheMark::Miss | CacheMark::Refused | CacheMark::TooOld | CacheMark::Bypass => false,
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            CacheMark::Bypass => "bypass",
            CacheMark::Hit { .. } => "hit",
            CacheMark::Miss => "miss",
            CacheMark::Joined => "joined",
            CacheMark::Refused => "refused",
            CacheMark::TooOld => "too_old",
            CacheMark::Stale { .. } => "stale",
        }
    }
}

/// What is spoken with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    Http10,
    Http11,
    /// The request is a stream of a connection.
    Http2,
}

/// How the client wants its answer delivered.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    pub version: HttpVersion,
    pub persistence: Persistence,
    pub method: Method,
}

/// How a client sees that an answer is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncation {
    /// Its length or its last chunk is missing (RFC 9112 8).
    ByFraming,
    /// By nothing but a reset: the end of the connection, or of the stream, is the end of the answer.
    ByReset,
}

/// An exchange's facts for the record, and for the heads written on the way.
pub struct RequestRecord {
    pub request_id: RequestId,
    pub delivery: Delivery,
    /// Set once a request behind this one on its connection is begun.
    pub followed: Option<Rc<Cell<bool>>>,
    pub started_us: u64,
    /// Until when an answer has to have begun, if the client says so.
    pub deadline_ms: Option<u64>,
    /// The client's address.
    pub client: Option<IpAddr>,
    pub first_byte_us: Option<u64>,
    /// Of the time to there, what this exchange's own upstream call spent waiting.
    pub waited_us: Option<u64>,
    pub endpoint: Endpoint,
    /// In which the client is told of failures.
    pub dialect: Dialect,
    pub form: Form,
    /// That the client wants whole answers in.
    pub format: Format,
    /// Where its answer is held to be converted, if that is to be.
    pub holder: Option<Rc<Holder>>,
    pub tenant: Option<usize>,
    /// The beginning of the hash of the tenant's key.
    pub credential: Option<[u8; 8]>,
    /// The web page that asks, if it may: its origin's place in the configuration.
    pub page: Option<u16>,
    /// What is left of its limits, if anything is limited.
    pub left: Option<Left>,
    pub model: Option<usize>,
    /// What the `*` in its name stands for.
    pub star: Option<Rc<str>>,
    /// The prompt template that it was rendered from.
    pub template: Option<u32>,
    pub backend: Option<Arc<str>>,
    pub cache: CacheMark,
    /// Why the answer is not kept, as far as it is known by now.
    pub not_stored: Option<NotStored>,
    /// Where a hit comes from.
    pub level: Level,
    /// The key of the answer, where clients may see it.
    pub key: Option<Fingerprint>,
    pub status: u16,
    /// How the client sees that the answer it was given is not whole.
    pub truncation: Truncation,
    pub sent_bytes: u64,
    /// On a WebSocket.
    pub received_bytes: u64,
    /// Of the answer that its client got.
    pub tokens: Option<TokenUsage>,
    /// What its own upstream calls have used.
    pub used: Option<Used>,
    /// Of the model whose answer it is, once one has come; else that of the model that was asked for.
    pub price: Option<Price>,
    pub failure: Option<Failure>,
    /// None: requests are not traced.
    pub trace: Option<TraceContext>,
    /// What its upstream call tells of its attempts, where somebody wants to know.
    pub notes: Option<Rc<Notes>>,
    /// None where there is nothing to repeat that is not known otherwise.
    pub text: Option<Box<RequestText>>,
    /// The fallback that answered in place of the model.
    pub served: Option<Arc<str>>,
    /// For its span, if it is recorded and there is anything.
    pub told: Option<Box<Told>>,
    /// Its own upstream call, where it left before that was over.
    pub goes_on: Option<Box<GoesOn>>,
    /// When it ended, if not now.
    pub ended_us: Option<u64>,
}

/// An upstream call that may outlive the exchange that began it.
pub struct GoesOn {
    pub flight: Rc<Flight>,
    /// What the exchange has of its tenant's limits.
    pub permit: Option<Permit>,
}

/// What the log and a span repeat of a request's head.
#[derive(Debug, Default)]
pub struct RequestText {
    /// Without a query, which may hold a credential. Empty: the endpoint's own.
    pub path: Box<[u8]>,
    pub trace_state: Box<str>,
}

/// Begins the record of the request whose head is in `line`.
pub fn begin(generation: &Generation, client: &ClientConnection<'_>) -> RequestRecord {
    generation.counters.requests.add(1);
    let head = &client.head;
    let version = match head.version {
        _ if client.socket.is_stream() => HttpVersion::Http2,
        Version::Http10 => HttpVersion::Http10,
        Version::Http11 => HttpVersion::Http11,
    };
    let delivery = Delivery { version, persistence: head.persistence, method: head.method };
    let path = head.path.of(client.pending());
    let mut record = new_record(RequestId::of(head.fields.get(client.pending(), "x-request-id")), delivery);
    record.client = client.peer.address;
    record.followed = client.followed.clone();
    record.endpoint = Endpoint::from_path(path);
    record.format = head.answer_format;
    if matches!(record.endpoint, Endpoint::Messages | Endpoint::Responses | Endpoint::Other) {
        record.dialect = Dialect::of_path(path);
    } else if record.endpoint == Endpoint::Models
        && matches!(head.method, Method::Get | Method::Head)
        && head.fields.get(client.pending(), "anthropic-version").is_some()
    {
        // Both APIs have this path; what is asked of one backend, such as DELETE, stays as it came.
        record.dialect = Dialect::Anthropic;
    }
    if let Some(traces) = &generation.snapshot.traces {
        record.trace = Some(TraceContext::begin(&traces.sampling, head, client.pending()));
    }
    if record.is_recorded() || generation.log.borrow().is_on() {
        record.text = text(&record, client);
    }
    record
}

impl RequestRecord {
    /// Whether the answer is to be in another format than JSON. What is passed through unseen keeps its own.
    pub fn is_converted(&self) -> bool {
        self.format != Format::Json && self.endpoint != Endpoint::Other && self.delivery.method != Method::Head
    }

    /// The path without its query, where the log or a span is to repeat it.
    pub fn path(&self) -> Option<&[u8]> {
        let text = self.text.as_ref().map(|text| &*text.path).filter(|path| !path.is_empty());
        text.or_else(|| self.endpoint.path().map(str::as_bytes))
    }

    /// Whether it is the last of its connection that is answered, if the node drains.
    pub fn is_last(&self) -> bool {
        !self.followed.as_ref().is_some_and(|followed| followed.get())
    }

    /// Whether there will be a span.
    pub fn is_recorded(&self) -> bool {
        self.trace.as_ref().is_some_and(TraceContext::is_sampled)
    }

    /// Takes what its own upstream call has used, or notes that it goes on.
    pub fn charge(&mut self, flight: &Rc<Flight>) {
        match flight.bill() {
            Bill::Closed(used) => self.add_used(used),
            Bill::None => {}
            Bill::Open => self.goes_on = Some(Box::new(GoesOn { flight: flight.clone(), permit: None })),
        }
    }

    /// One of its own upstream calls has used this.
    pub fn add_used(&mut self, used: Option<Used>) {
        if let Some(used) = used {
            self.used = Some(self.used.map_or(used, |own| own.and(used)));
        }
    }

    /// The tokens of its answer, or what its upstream call has used of one that broke off.
    pub fn usage(&self) -> Option<TokenUsage> {
        self.used.map(|used| used.tokens).or(self.tokens)
    }

    /// For its span: `answer` is the one that its client gets, in either form.
    pub fn note_answer(&mut self, answer: &[u8]) {
        self.told.get_or_insert_default().identity = trace::identify(answer);
    }

    /// Where its upstream call notes its attempts, if anybody wants to know.
    pub fn notes(&mut self, generation: &Generation) -> Option<Rc<Notes>> {
        if !self.is_recorded() && !generation.log.borrow().is_on() {
            return None;
        }
        let state = || self.text.as_ref().map(|text| text.trace_state.clone()).unwrap_or_default();
        Some(self.notes.get_or_insert_with(|| Rc::new(Notes::new(state()))).clone())
    }
}

fn text(record: &RequestRecord, client: &ClientConnection<'_>) -> Option<Box<RequestText>> {
    let (head, bytes) = (&client.head, client.pending());
    let path = head.path.of(bytes);
    let path = path.split(|byte| *byte == b'?').next().unwrap_or(path);
    let path = if record.endpoint.path().is_some_and(|own| own.as_bytes() == path) { &[][..] } else { path };
    let trace_state = match record.trace {
        // W3C Trace Context 4.3: it is nothing without the parent.
        Some(TraceContext { parent: Some(_), .. }) => trace::state(head, bytes),
        _ => Box::default(),
    };
    let is_empty = path.is_empty() && trace_state.is_empty();
    (!is_empty).then(|| Box::new(RequestText { path: path.into(), trace_state }))
}

/// Begins the record of a request whose head could not be understood.
pub fn begin_refused() -> RequestRecord {
    let delivery = Delivery { version: HttpVersion::Http11, persistence: Persistence::Close, method: Method::Other };
    new_record(RequestId::of(None), delivery)
}

fn new_record(request_id: RequestId, delivery: Delivery) -> RequestRecord {
    RequestRecord {
        request_id,
        delivery,
        followed: None,
        started_us: now_us(),
        deadline_ms: None,
        client: None,
        first_byte_us: None,
        waited_us: None,
        endpoint: Endpoint::Other,
        dialect: Dialect::OpenAi,
        form: Form::NonStreaming,
        format: Format::Json,
        holder: None,
        tenant: None,
        credential: None,
        page: None,
        left: None,
        model: None,
        star: None,
        template: None,
        backend: None,
        cache: CacheMark::Bypass,
        not_stored: None,
        level: Level::First,
        key: None,
        status: 0,
        truncation: Truncation::ByFraming,
        sent_bytes: 0,
        received_bytes: 0,
        tokens: None,
        used: None,
        price: None,
        failure: None,
        trace: None,
        notes: None,
        text: None,
        served: None,
        told: None,
        goes_on: None,
        ended_us: None,
    }
}

/// Ends the record: one line of the access log, and the counters.
pub fn end(generation: &Generation, record: &RequestRecord) {
    let now_us = record.ended_us.unwrap_or_else(now_us);
    count(generation, record, now_us);
    let mut log = generation.log.borrow_mut();
    if !log.is_on() {
        return;
    }
    let snapshot = &generation.snapshot;
    let used = record.used.unwrap_or_default();
    let [cost, saved] =
        [used.money, saved_money(generation, record)].map(|money| (money > 0).then(|| spell_money(money)));
    let notes = record.notes.as_deref();
    let asked = record.model.map(|model| snapshot.models[model].asked_name(record.star.as_deref()));
    let mut write = |attempts: &[Attempt]| {
        log.write(&Entry {
            unix_ms: unix_ms(),
            request_id: record.request_id.bytes(),
            core: generation.id.0,
            client: record.client,
            tenant: record.tenant.map(|tenant| snapshot.tenants[tenant].name.as_str()),
            credential: record.credential.and_then(|hash| hash.first_chunk().copied()),
            method: record.delivery.method.name(),
            path: record.path(),
            endpoint: record.endpoint.label(),
            model: asked.as_deref(),
            template: record.template.and_then(|index| {
                let template = generation.prompts.templates().get(index as usize)?;
                Some((&*template.name, &*template.version))
            }),
            served_model: record.served.as_deref(),
            backend: record.backend.as_deref(),
            attempts,
            status: record.status,
            cache: record.cache.label(),
            // Of a failure the error is the reason; what comes from the cache is in it.
            not_stored: record.not_stored.filter(|_| record.failure.is_none()).map(NotStored::label),
            stream: record.form == Form::Streaming,
            total_us: now_us.saturating_sub(record.started_us),
            first_byte_us: record.first_byte_us.map(|at| at.saturating_sub(record.started_us)),
            queue_us: notes.map_or(0, |notes| notes.queue_us.get()),
            connect_us: notes.map_or(0, |notes| notes.connect_us.get()),
            sent_bytes: record.sent_bytes,
            received_bytes: record.received_bytes,
            tokens: record.usage().map(|tokens| (tokens.prompt, tokens.completion)),
            parts: record.usage().map_or([0; 3], |tokens| [tokens.cached, tokens.cache_written, tokens.reasoning]),
            usage_is_estimated: used.source() == UsageSource::Estimated,
            cost: cost.as_deref(),
            saved: saved.as_deref(),
            error: record.failure.as_ref().map(Failure::label),
            trace_id: record.trace.map(|trace| trace.trace_id),
        })
    };
    match notes {
        Some(notes) => notes.with_attempts(write),
        None => write(&[]),
    }
    if log.is_full() {
        drop(log);
        generation.flush_log();
    }
}

/// A request has ended.
fn count(generation: &Generation, record: &RequestRecord, now_us: u64) {
    let counters = &generation.counters;
    let (mut saves, mut from_cache) = (false, false);
    match record.cache {
        CacheMark::Hit { .. } => {
            counters.hits.add(1);
            (saves, from_cache) = (true, true);
        }
        CacheMark::Miss | CacheMark::Refused | CacheMark::TooOld => counters.misses.add(1),
        CacheMark::Joined => {
            counters.joined.add(1);
            saves = true;
        }
        CacheMark::Stale { .. } => {
            counters.stale.add(1);
            (saves, from_cache) = (true, true);
        }
        CacheMark::Bypass => counters.bypasses.add(1),
    }
    if record.failure.is_some() {
        counters.failures.add(1);
    }
    let used = record.used.unwrap_or_default();
    let saved = record.tokens.filter(|_| saves).unwrap_or_default();
    let amounts = Amounts {
        requests: 1,
        saved_requests: saves.into(),
        prompt_tokens: used.tokens.prompt,
        cached_tokens: used.tokens.cached,
        completion_tokens: used.tokens.completion,
        reasoning_tokens: used.tokens.reasoning,
        saved_prompt_tokens: saved.prompt,
        saved_completion_tokens: saved.completion,
        cost: used.money / 1000,
        saved_cost: saved_money(generation, record) / 1000,
        estimated_tokens: used.estimated_tokens,
        estimated_cost: used.estimated_money / 1000,
    };
    let model = record.model.map_or(OTHER, |model| generation.upstreams.models[model].series());
    let tenant = record.tenant.map_or(OTHER, |tenant| generation.tenant_series(tenant));
    let key = Key { endpoint: record.endpoint as u8, model, tenant, status: record.status };
    generation.series.borrow_mut().add(&counters.series, key, amounts);
    if let Some(template) = record.template {
        let key = TemplateKey(generation.template_series(template as usize));
        generation.template_series.borrow_mut().add(&counters.templates, key, amounts);
    }
    // Whoever is refused has used nothing.
    if record.model.is_some() && (record.tenant.is_some() || generation.snapshot.access == Access::Open) {
        let credential = record.credential.map_or(0, u64::from_be_bytes);
        generation.usage.borrow_mut().add(&counters.usage, UsageKey { tenant, credential, model }, amounts);
    }
    let of_model = record.model.map_or(&counters.without_model, |model| generation.upstreams.models[model].counters());
    // How long a WebSocket stays open says nothing of how fast anything is.
    if record.status == SWITCHED {
        return;
    }
    let Some(operation) = of_model.operation(record.endpoint as usize) else { return };
    operation.duration.record(now_us.saturating_sub(record.started_us));
    let Some(first_us) = record.first_byte_us.map(|at| at.saturating_sub(record.started_us)) else { return };
    if record.failure.is_some() || record.status != 200 {
        return;
    }
    match record.waited_us {
        Some(waited_us) => counters.own_time_miss.0.record(first_us.saturating_sub(waited_us)),
        None if matches!(record.cache, CacheMark::Hit { .. }) => counters.own_time_hit.0.record(first_us),
        None => {}
    }
    if record.form == Form::Streaming && !from_cache {
        operation.first_token.record(first_us);
    }
}

/// What the answer of `record` would have cost that needed no upstream call, in 10^-12 of the unit of money.
fn saved_money(generation: &Generation, record: &RequestRecord) -> u64 {
    let Some(tokens) = record.tokens.filter(|_| record.cache.saves()) else { return 0 };
    let asked = || record.model.map(|model| generation.snapshot.models[model].price);
    record.price.or_else(asked).map_or(0, |price| used::money(tokens, price))
}
