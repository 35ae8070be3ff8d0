//! The sequence of the steps on the client's side; `call` has the backend's. They are two because a flight outlives the
//! client that began it. One edge runs backward here: the owner's answer (a follower asks again or goes alone).

use std::rc::Rc;
use std::sync::Arc;

use shards::{Coalescing, Fingerprint, Fit, Group, Worth};

use super::authenticate::{self, Principal};
use super::broken::Broken;
use super::call::{Call, run_call};
use super::client::ClientConnection;
use super::converted::Holder;
use super::endpoint::{self, Answerer, Route};
use super::entry::{Acceptable, Entry};
use super::feeding::Fed;
use super::flight::subscriber::Subscriber;
use super::generation::Generation;
use super::lookup::{self, Event, Step};
use super::parse::{self, BodyPlace, Request};
use super::record::{self, CacheMark, RequestRecord, SWITCHED, Truncation};
use super::relay::{self, Next, Reader, Role};
use super::scratch::Scratch;
use super::spend::{Left, Needed, Permit, Spender};
use super::store::CompletionGuard;
use super::understand::{understand, understand_in_slices};
use super::upload::{self, Begun, Upload};
use super::upstream_request::UpstreamRequest;
use super::variant::{of_form, of_younger};
use super::websocket::{self, fields};
use super::{admit, decode, exchange_span, left, spend};
use crate::config::snapshot::{CachedTokens, HealthPaths, KeyShown};
use crate::dialect::facts::{Form, NotStored};
use crate::error::Failure;
use crate::limits::SLICE_BYTES;
use crate::wire::http1::Persistence;

/// Serves the request whose head is here, to the last byte of its answer but for what is left in the client's output.
pub async fn serve(generation: &Rc<Generation>, client: &mut ClientConnection<'_>) -> Ended {
    let _running = generation.counters.exchanges.hold();
    // What is one of several on its connection does not make it several.
    let _busy = client.socket.is_whole().then(|| generation.balance.hold());
    if client.socket.is_whole() {
        generation.balance.note(&mut client.seen);
    }
    let mut record = begin(generation, client);
    let end = match record.is_converted() {
        false => exchange(generation, client, &mut record).await, // nearly always
        true => Box::pin(exchange_in_format(generation, client, &mut record)).await,
    };
    match record.goes_on.take() {
        None => {
            exchange_span::end(generation, &mut record); // nearly always
            record::end(generation, &record);
        }
        Some(goes_on) => left::end(generation, record, *goes_on),
    }
    client.memory.release();
    end
}

/// Begins the request whose head is here.
fn begin(generation: &Rc<Generation>, client: &mut ClientConnection<'_>) -> RequestRecord {
    let mut record = record::begin(generation, client);
    if let Some(proxies) = &generation.snapshot.server.trusted_proxies
        && proxies.has(client.peer.address)
    {
        record.client = client.proxied(proxies).or(client.peer.address);
    }
    record.page = relay::cors::page(&generation.snapshot.cors, &client.head.fields, client.pending());
    client.begin_answer();
    record
}

/// How an exchange left the connection.
pub enum Ended {
    Clean(Next),
    /// The client got a part of an answer, and sees by its framing that it is not whole.
    Cut,
    /// The client got a part of an answer, and must not take it for a whole one.
    Reset,
}

/// As `exchange`, for a client that does not want JSON.
async fn exchange_in_format(
    generation: &Rc<Generation>,
    client: &mut ClientConnection<'_>,
    record: &mut RequestRecord,
) -> Ended {
    // What is left afterwards is this answer.
    if client.flush(generation.snapshot.server.timeout_write_ms).await.is_err() {
        return Ended::Reset;
    }
    let holder = Rc::new(Holder::default());
    record.holder = Some(holder.clone());
    let end = holder.during(exchange(generation, client, record)).await;
    if let Err(failure) = holder.end(client, record.format, &mut record.sent_bytes) {
        let next = relay::refuse(generation, record, &failure, &mut client.output);
        record.failure = Some(failure);
        return Ended::Clean(next);
    }
    end
}

/// One request, from its head to the last byte of its answer.
async fn exchange(generation: &Rc<Generation>, client: &mut ClientConnection<'_>, record: &mut RequestRecord) -> Ended {
    let failure = match answer(generation, client, record).await {
        Ok(next) => return Ended::Clean(next),
        Err(Broken::Refused(failure)) => *failure,
        Err(Broken::Cut(failure)) => {
            // A reset would take with it what the client has not read yet, the error at the end included.
            let is_seen = record.truncation == Truncation::ByFraming && *failure != Failure::ClientGone;
            record.failure = Some(*failure);
            return if is_seen { Ended::Cut } else { Ended::Reset };
        }
    };
    pass_over(client, record);
    let next = relay::refuse(generation, record, &failure, &mut client.output);
    record.failure = Some(failure);
    Ended::Clean(next)
}

async fn answer(
    generation: &Rc<Generation>,
    client: &mut ClientConnection<'_>,
    record: &mut RequestRecord,
) -> Result<Next, Broken> {
    if record.page.is_some()
        && let Some(fields) = relay::cors::preflight(client)
    {
        pass_over(client, record);
        return Ok(relay::preflight(generation, client, record, &fields));
    }
    let route = endpoint::route(&generation.snapshot.server.passthrough_paths, &client.head, client.pending())?;
    record.endpoint = route.endpoint;
    if matches!(route.answerer, Answerer::Health | Answerer::Readiness) {
        let server = &generation.snapshot.server;
        if server.health_paths == HealthPaths::Unknown {
            return Err(Failure::UnknownPath { near: None }.into());
        }
        if route.answerer == Answerer::Readiness && generation.is_leaving() {
            return Err(Failure::Draining.into());
        }
        // No credential is asked for, so no body is waited for.
        pass_over(client, record);
        record.trace = None; // a span for each probe would be noise
        return Ok(relay::text(generation, client, record, "ok\n"));
    }
    // Nor is that of an unauthenticated client.
    let principal = authenticate::principal(generation, client, route.answerer)?;
    record.tenant = principal.tenant;
    record.credential = principal.tenant.and_then(|_| principal.credential.first_chunk().copied());
    if route.answerer == Answerer::WebSocket {
        return Box::pin(websocket(generation, client, record, &route, &principal)).await;
    }
    if route.answerer == Answerer::Models {
        let mut body = parse::receive(generation, client).await?;
        let next = relay::models(generation, client, record, &principal)?;
        parse::discard(client, &mut body);
        return Ok(next);
    }
    let coding = decode::coding(client, route.endpoint)?;
    let body = if coding.is_none() && upload::may_flow(generation, client, &route) {
        match Box::pin(upload::begin(generation, client, &route)).await? {
            Begun::Whole(body) => body,
            Begun::Part(upload) => {
                return Box::pin(answer_upload(generation, client, record, &route, &principal, *upload)).await;
            }
        }
    } else {
        parse::receive(generation, client).await?
    };
    let body = match coding {
        None => body, // nearly always
        Some(coding) => Box::pin(decode::decode(generation, client, body, coding)).await?,
    };
    let body = decode::to_json(generation, client, route.endpoint, body)?;
    let (mut request, admission, fingerprint) = match parse::body_bytes(client, &body).len() {
        0..=SLICE_BYTES => understand(generation, client, &route, &principal, body)?,
        _ => Box::pin(understand_in_slices(generation, client, &route, &principal, body)).await?,
    };
    if let Some(holder) = &record.holder
        && request.form == Form::NonStreaming
    {
        holder.begin(client);
    }
    (record.model, record.star) = (Some(admission.model), request.star.clone());
    record.form = request.form;
    record.template = request.template;
    record.deadline_ms = request.urgency.deadline_ms(record.started_us);
    let fingerprint = fingerprint.map_err(|reason| record.not_stored = Some(reason)).ok();
    let Some(spender) = Spender::of(generation, &principal, admission.model) else {
        return answer_request(generation, client, record, &mut request, admission, fingerprint, None).await;
    };
    record.left = Some(Left::Leased(spender));
    let acceptable = acceptable(generation, admission.model, record.tenant, &request);
    let needed = needed(generation, client, &request, acceptable, fingerprint);
    let mut permit = match spend::admit(generation, spender, needed)? {
        Ok(permit) => permit,
        Err(waiting) => Box::pin(waiting.wait(generation)).await?,
    };
    let end = answer_request(generation, client, record, &mut request, admission, fingerprint, Some(&mut permit)).await;
    permit.settle_cached(record.tokens);
    if let Some(goes_on) = &mut record.goes_on {
        goes_on.permit = Some(permit);
    }
    end
}

/// Which answers serve a request to this model.
fn acceptable(generation: &Generation, model: usize, tenant: Option<usize>, request: &Request) -> Acceptable {
    let tags = generation.tags.get(model, tenant);
    Acceptable { form: request.form, max_age_ms: request.directives.max_age_ms, tags }
}

/// What it needs of limits. Who asks what is known is not held up by used-up tokens, unless those of answers from the cache count.
fn needed<'a>(
    generation: &Generation,
    client: &'a ClientConnection<'_>,
    request: &'a Request,
    acceptable: Acceptable,
    fingerprint: Option<Fingerprint>,
) -> Needed<'a> {
    let is_at_hand = generation.snapshot.limits.cached_tokens == CachedTokens::Free
        && !request.directives.no_cache
        && fingerprint.is_some_and(|fingerprint| lookup::is_at_hand(generation, &fingerprint, acceptable));
    match is_at_hand {
        true => Needed::Request,
        false => {
            let body = parse::body_bytes(client, &request.body);
            Needed::Call { endpoint: request.endpoint, facts: request.facts.as_ref(), body }
        }
    }
}

/// The answer of a request that may have reserved something is here already.
fn settle_cached(record: &mut RequestRecord, permit: Option<&mut Permit>, entry: &Entry) {
    if let Some(permit) = permit {
        record.left = Some(Left::Settled(permit.settle_cached(entry.tokens)));
    }
}

/// A request whose body flows to the backend as it comes.
async fn answer_upload(
    generation: &Rc<Generation>,
    client: &mut ClientConnection<'_>,
    record: &mut RequestRecord,
    route: &Route,
    principal: &Principal,
    upload: Upload,
) -> Result<Next, Broken> {
    let Upload { body, seen, rest, feeding } = upload;
    let mut request = parse::request(client, route, body, seen)?;
    (request.upload, request.feeding) = (Some(rest), Some(Box::new(feeding)));
    let admission = admit::admit(generation, principal, client, route, &mut request, &mut Scratch::default())?;
    (record.model, record.star) = (Some(admission.model), request.star.clone());
    record.not_stored = Some(NotStored::Endpoint);
    let mut permit = None;
    if let Some(spender) = Spender::of(generation, principal, admission.model) {
        record.left = Some(Left::Leased(spender));
        let body = parse::body_bytes(client, &request.body);
        let needed = Needed::Call { endpoint: request.endpoint, facts: None, body };
        permit = Some(match spend::admit(generation, spender, needed)? {
            Ok(permit) => permit,
            Err(waiting) => Box::pin(waiting.wait(generation)).await?,
        });
    }
    answer_request(generation, client, record, &mut request, admission, None, permit.as_mut()).await
}

/// A WebSocket: admitted as a request, for as long as it is open.
async fn websocket(
    generation: &Rc<Generation>,
    client: &mut ClientConnection<'_>,
    record: &mut RequestRecord,
    route: &Route,
    principal: &Principal,
) -> Result<Next, Broken> {
    fields::check(client)?;
    let body = BodyPlace::Behind { length: 0 };
    let (mut request, admission, _) = understand(generation, client, route, principal, body)?;
    (record.model, record.star) = (Some(admission.model), request.star.clone());
    record.deadline_ms = request.urgency.deadline_ms(record.started_us);
    let mut _permit = None;
    if let Some(spender) = Spender::of(generation, principal, admission.model) {
        record.left = Some(Left::Leased(spender));
        let needed = Needed::Call { endpoint: request.endpoint, facts: None, body: &[] };
        _permit = Some(match spend::admit(generation, spender, needed)? {
            Ok(permit) => permit,
            Err(waiting) => Box::pin(waiting.wait(generation)).await?,
        });
    }
    let upstream = UpstreamRequest::take(generation, client, &mut request, admission.model, record);
    let served = websocket::serve(generation, client, record, &upstream).await;
    upstream.release(generation);
    match served {
        Ok(next) => Ok(next),
        Err(failure) if record.status == SWITCHED => Err(Broken::cut(failure)),
        Err(failure) => Err(failure.into()),
    }
}

/// From the fingerprint on: the cache, somebody's flight, or a flight of one's own. What comes next is decided by
/// [`Coalescing`]; here it is done.
async fn answer_request(
    generation: &Rc<Generation>,
    client: &mut ClientConnection<'_>,
    record: &mut RequestRecord,
    request: &mut Request,
    admission: admit::Admission,
    fingerprint: Option<Fingerprint>,
    mut permit: Option<&mut Permit>,
) -> Result<Next, Broken> {
    let (form, usage_event) = (request.form, request.usage_event);
    if generation.snapshot.cache.key == KeyShown::Shown {
        record.key = fingerprint;
    }
    let acceptable = acceptable(generation, admission.model, record.tenant, request);
    let mark = match fingerprint {
        None => CacheMark::Bypass,
        Some(_) if request.directives.no_cache => CacheMark::Refused,
        Some(_) => CacheMark::Miss,
    };
    record.cache = mark;
    // What is said of a call of one's own.
    let mut miss = mark;
    let shared = fingerprint.filter(|_| mark == CacheMark::Miss);
    let mut coalescing = Coalescing::new();
    let mut step: Step = if shared.is_some() { coalescing.begin() } else { coalescing.begin_alone() };
    let mut subscriber = None;
    loop {
        let (keep_as, role) = match step {
            Step::Serve(entry) => {
                parse::discard(client, &mut request.body);
                settle_cached(record, permit, &entry);
                return relay::stored(generation, client, record, &entry, usage_event).await.map_err(Broken::cut);
            }
            Step::ServeStale(entry) => {
                let (age_ms, ttl_ms) = (entry.age_ms(generation.now()), entry.ttl_ms);
                record.cache = if age_ms < ttl_ms { CacheMark::Miss } else { CacheMark::Stale { age_ms, ttl_ms } };
                parse::discard(client, &mut request.body);
                settle_cached(record, permit, &entry);
                return relay::stored(generation, client, record, &entry, usage_event).await.map_err(Broken::cut);
            }
            Step::Fail(failure) => return Err(Broken::Refused(failure)),
            Step::Ask { group, silent } | Step::AskHere { group, silent } => {
                let Some(request) = shared else { return Err(Failure::Internal.into()) };
                let flight = match group {
                    Group::Everyone => request,
                    Group::Younger => of_younger(&request),
                    Group::SameForm => of_form(&request, form),
                };
                let event;
                (event, subscriber) = match step {
                    Step::Ask { .. } => lookup::ask(generation, flight, acceptable, silent),
                    _ => lookup::ask_without_owner(generation, flight, acceptable, silent),
                };
                if let Event::Found(_, Fit::TooOld) = event {
                    miss = CacheMark::TooOld;
                }
                step = coalescing.next(event);
                continue;
            }
            Step::Lead => {
                // What the owner does not know of, it does not keep without being told.
                let is_local =
                    subscriber.as_ref().is_some_and(|subscriber: &Subscriber| subscriber.flight().is_local());
                (fingerprint.filter(|_| is_local), Role::Own)
            }
            // Fetched outside of any flight, and good for others all the same.
            Step::Alone => {
                let stale = subscriber.take().and_then(|subscriber| subscriber.flight().stale());
                subscriber = Some(lookup::alone(generation, stale));
                (fingerprint, Role::Own)
            }
            Step::Follow(group, patience) => (None, Role::Follower(group, patience)),
        };
        let Some(subscriber) = &mut subscriber else { return Err(Failure::Internal.into()) };
        if record.deadline_ms.is_some() {
            subscriber.wants_until(record.deadline_ms);
        }
        record.cache = if role == Role::Own { miss } else { CacheMark::Joined };
        if role == Role::Own {
            // What others may want is looked for in the second level, by the first who asks.
            let first = shared.filter(|request| subscriber.flight().is_for(request));
            let looked_for = first.filter(|_| generation.cache.second.get().is_some());
            let flight = subscriber.flight().clone();
            let guard = |spending| {
                CompletionGuard::new(generation, &flight, keep_as, acceptable.tags, spending)
                    .with_second(fingerprint, looked_for.map(|_| acceptable))
            };
            if request.directives.only_if_cached {
                if !guard(None).look_only().await {
                    return Err(Failure::NotCached.into());
                }
            } else {
                if let Some(permit) = permit.as_mut().filter(|permit| permit.lacks_reservation()) {
                    let body = parse::body_bytes(client, &request.body);
                    let reserving = permit.reserve(generation, request.endpoint, request.facts.as_ref(), body);
                    Box::pin(reserving).await?;
                }
                let mut upstream = UpstreamRequest::take(generation, client, request, admission.model, record);
                upstream.batch = upstream.batch.take().filter(|_| first.is_some());
                let spending = permit.as_mut().and_then(|permit| permit.take_spending(generation));
                let call = Call { core: generation.clone(), upstream, flight: flight.clone(), guard: guard(spending) };
                subscriber.fly(generation.tasks.start(run_call, call));
            }
            if let Some(feeding) = request.feeding.take() {
                subscriber.detach_call();
                // Until the rest is read, nothing else can follow on this connection.
                let persistence = std::mem::replace(&mut record.delivery.persistence, Persistence::Close);
                let fed = Box::pin(feeding.feed(generation, client)).await;
                if fed.is_err() {
                    record.charge(subscriber.flight());
                }
                if fed? == Fed::Whole {
                    record.delivery.persistence = persistence;
                }
            }
        }
        let read = relay::live(generation, client, record, subscriber, acceptable, usage_event, role).await;
        if role == Role::Own {
            record.charge(subscriber.flight());
        }
        let event = match read {
            Reader::Done(next) => {
                parse::discard(client, &mut request.body);
                return Ok(next);
            }
            Reader::Cut(failure) => return Err(Broken::Cut(failure)),
            Reader::Event(event) => event,
            Reader::Stale(stale) => {
                let (entry, failure) = *stale;
                let over_ms = entry.age_ms(generation.now()).saturating_sub(entry.ttl_ms);
                let entry = entry.in_form(form).filter(|_| request.directives.takes_stale(over_ms));
                match entry {
                    Some(entry) => Event::Stale(Arc::new(entry)),
                    None => Event::Failed(Box::new(failure), Worth::Nothing),
                }
            }
        };
        match event {
            Event::Found(_, Fit::TooOld) => miss = CacheMark::TooOld,
            Event::Found(..) => {
                // `stored` makes it a hit.
                (record.cache, record.level) = (mark, subscriber.flight().level());
            }
            _ => {}
        }
        step = coalescing.next(event);
    }
}

/// Passes over the request in hand. What is left of it would be taken for the next one: only if it is here whole can the
/// connection go on.
fn pass_over(client: &mut ClientConnection<'_>, record: &mut RequestRecord) {
    match client.unread_of_request(record.delivery.persistence) {
        Some(length) => client.consume(length),
        // RFC 9112 9.6: the client is told.
        None => record.delivery.persistence = Persistence::Close,
    }
}
