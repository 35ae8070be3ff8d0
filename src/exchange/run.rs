//! The sequence of the steps on the client's side; `fly` has the backend's. They are two because a flight outlives the
//! client that began it. One edge runs backward here: the owner's answer (a follower asks again or goes alone).

use std::rc::Rc;
use std::sync::Arc;

use shards::{Coalescing, Fingerprint, Fit, Group, Worth};

use super::accept::{self, Accepted};
use super::authenticate::{self, Visitor};
use super::core::Core;
use super::endpoint::{self, Answerer, Route};
use super::flight::{End, Seat};
use super::letters::Acceptable;
use super::line::{Filled, Line};
use super::lookup::{self, Event, Step};
use super::order::Order;
use super::parse::{self, BodyPlace, Question};
use super::record::{self, CacheMark, Note, Showing};
use super::relay::{self, Next, Reader, Role};
use super::store::Duty;
use super::{admit, decode, fingerprint};
use crate::config::snapshot::HealthPaths;
use crate::dialect::facts::NotStored;
use crate::error::Failure;
use crate::net::watch::Wait;
use crate::net::{Socket, now_ms};
use crate::wire::http1::Persistence;

/// After a refusal, how long what the client still sends is read and dropped, so that it gets to see the answer.
const LINGER_MS: u64 = 1000;

/// Serves one client connection to its end.
pub async fn connection(core: Rc<Core>, mut socket: Socket) {
    let _open = core.counters.connections.hold();
    loop {
        // Idle: no buffer, no exchange, a small future.
        socket.watch().idle_until(now_ms() + core.snapshot.server.timeout_idle_ms);
        if socket.readable().await.is_err() {
            return;
        }
        match Box::pin(busy(&core, &mut socket)).await {
            Rest::Quiet => {}
            Rest::Closed => return,
        }
    }
}

enum Rest {
    Quiet,
    Closed,
}

/// Serves requests until the connection falls quiet or ends.
async fn busy(core: &Rc<Core>, socket: &mut Socket) -> Rest {
    let timeout_ms = core.snapshot.server.timeout_write_ms;
    let _user = core.buffers.join();
    let mut line = Line::new(core, socket);
    let rest = loop {
        match accept::head(core, &mut line).await {
            Accepted::Head => {}
            Accepted::Quiet => break line.settle(timeout_ms).await.map_or(Rest::Closed, |()| Rest::Quiet),
            Accepted::Closed => {
                let _ = line.settle(timeout_ms).await;
                break Rest::Closed;
            }
            Accepted::Refused(failure) => {
                let mut note = record::begin_refused();
                relay::refuse(core, &mut note, &failure, &mut line.output);
                note.failure = Some(failure);
                record::end(core, &note);
                linger(core, &mut line).await;
                break Rest::Closed;
            }
        }
        let _running = core.counters.exchanges.hold();
        let mut note = record::begin(core, &line);
        line.begin_answer();
        let end = exchange(core, &mut line, &mut note).await;
        record::end(core, &note);
        line.memory.release();
        match end {
            Ended::Clean(Next::KeepAlive) => {}
            Ended::Clean(Next::Close) => {
                linger(core, &mut line).await;
                break Rest::Closed;
            }
            // A reset would take with it what the client has not read yet, the error at the end included.
            Ended::Unclean if note.showing == Showing::ByFraming && note.failure != Some(Failure::ClientGone) => {
                linger(core, &mut line).await;
                break Rest::Closed;
            }
            Ended::Unclean => {
                line.socket.make_close_unclean();
                break Rest::Closed;
            }
        }
        // Requests that came together are answered together.
        let more = !line.pending().is_empty() && line.output.len() < super::core::BUFFER_BYTES / 2;
        if !more && line.flush(timeout_ms).await.is_err() {
            break Rest::Closed;
        }
    };
    line.release(core);
    rest
}

/// How an exchange left the connection.
enum Ended {
    Clean(Next),
    /// The client got a part of an answer, and must not take it for a whole one.
    Unclean,
}

/// One request, from its head to the last byte of its answer.
async fn exchange(core: &Rc<Core>, line: &mut Line<'_>, note: &mut Note) -> Ended {
    let failure = match answer(core, line, note).await {
        Ok(next) => return Ended::Clean(next),
        Err(Broken::Refused(failure)) => *failure,
        Err(Broken::Cut(failure)) => {
            note.failure = Some(*failure);
            return Ended::Unclean;
        }
    };
    pass_over(line, note);
    let next = relay::refuse(core, note, &failure, &mut line.output);
    note.failure = Some(failure);
    Ended::Clean(next)
}

/// Why there is no answer. Boxed: it is rare, and an answer's way out is as wide as this is.
enum Broken {
    /// Nothing was sent: the client is told.
    Refused(Box<Failure>),
    /// A part was sent.
    Cut(Box<Failure>),
}

impl Broken {
    fn cut(failure: Failure) -> Broken {
        Broken::Cut(Box::new(failure))
    }
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Broken {
        Broken::Refused(Box::new(failure))
    }
}

async fn answer(core: &Rc<Core>, line: &mut Line<'_>, note: &mut Note) -> Result<Next, Broken> {
    let route = endpoint::route(&core.snapshot.server.passthrough_paths, &line.head, line.pending())?;
    note.endpoint = route.endpoint;
    if matches!(route.answerer, Answerer::Health | Answerer::Readiness) {
        let server = &core.snapshot.server;
        if server.health_paths == HealthPaths::Unknown {
            return Err(Failure::UnknownPath { near: None }.into());
        }
        if route.answerer == Answerer::Readiness && core.draining.get() {
            return Err(Failure::Draining.into());
        }
        // No credential is asked for, so no body is waited for.
        pass_over(line, note);
        return Ok(relay::text(core, line, note, "ok\n"));
    }
    // Nor is that of an unauthenticated client.
    let visitor = authenticate::visitor(core, line)?;
    note.tenant = visitor.tenant;
    if route.answerer == Answerer::Models {
        let body = parse::receive(core, line).await?;
        let next = relay::models(core, line, note, &visitor)?;
        discard(line, body);
        return Ok(next);
    }
    let coding = decode::coding(line, route.endpoint)?;
    let body = parse::receive(core, line).await?;
    let body = decode::decode(core, line, body, coding)?;
    let (question, permit, fingerprint) = understand(core, line, &route, &visitor, body)?;
    note.model = Some(permit.model);
    note.form = question.form;
    let fingerprint = fingerprint.map_err(|reason| note.not_stored = Some(reason)).ok();
    answer_question(core, line, note, question, permit, fingerprint).await
}

/// From the fingerprint on: the cache, somebody's flight, or a flight of one's own. What comes next is decided by
/// [`Coalescing`]; here it is done.
async fn answer_question(
    core: &Rc<Core>,
    line: &mut Line<'_>,
    note: &mut Note,
    mut question: Question,
    permit: admit::Permit,
    fingerprint: Option<Fingerprint>,
) -> Result<Next, Broken> {
    let (form, usage_event) = (question.form, question.usage_event);
    let acceptable = Acceptable { form, max_age_ms: question.directives.max_age_ms };
    let mark = match fingerprint {
        None => CacheMark::Bypass,
        Some(_) if question.directives.no_cache => CacheMark::Refused,
        Some(_) => CacheMark::Miss,
    };
    note.cache = mark;
    // What is said of a call of one's own.
    let mut miss = mark;
    let shared = fingerprint.filter(|_| mark == CacheMark::Miss);
    let mut coalescing = Coalescing::new();
    let mut step: Step = if shared.is_some() { coalescing.begin() } else { coalescing.begin_alone() };
    let mut seat = None;
    loop {
        let (keep_as, role) = match step {
            Step::Serve(entry) => {
                discard(line, question.body);
                return relay::stored(core, line, note, &entry, usage_event).await.map_err(Broken::cut);
            }
            Step::ServeStale(entry) => {
                let (age_ms, ttl_ms) = (now_ms().saturating_sub(entry.stored_ms), entry.ttl_ms);
                note.cache = if age_ms < ttl_ms { CacheMark::Miss } else { CacheMark::Stale { age_ms, ttl_ms } };
                discard(line, question.body);
                return relay::stored(core, line, note, &entry, usage_event).await.map_err(Broken::cut);
            }
            Step::Fail(failure) => return Err(Broken::Refused(failure)),
            Step::Ask { group, silent } | Step::AskHere { group, silent } => {
                let Some(question) = shared else { return Err(Failure::Internal.into()) };
                let flight = match group {
                    Group::Everyone => question,
                    Group::Younger => fingerprint::of_younger(&question),
                    Group::SameForm => fingerprint::of_form(&question, form),
                };
                let event;
                (event, seat) = match step {
                    Step::Ask { .. } => lookup::ask(core, flight, acceptable, silent),
                    _ => lookup::ask_without_owner(core, flight, silent),
                };
                if let Event::Found(_, Fit::TooOld) = event {
                    miss = CacheMark::TooOld;
                }
                step = coalescing.next(event);
                continue;
            }
            Step::Lead => {
                // What the owner does not know of, it does not keep without being told.
                let is_local = seat.as_ref().is_some_and(|seat: &Seat| seat.flight().is_local());
                (fingerprint.filter(|_| is_local), Role::Own)
            }
            // Fetched outside of any flight, and good for others all the same.
            Step::Alone => {
                let stale = seat.take().and_then(|seat| seat.flight().stale());
                seat = Some(lookup::alone(core, stale));
                (fingerprint, Role::Own)
            }
            Step::Follow(group, patience) => (None, Role::Follower(group, patience)),
        };
        let Some(seat) = &mut seat else { return Err(Failure::Internal.into()) };
        note.cache = if role == Role::Own { miss } else { CacheMark::Joined };
        if role == Role::Own {
            if question.directives.only_if_cached {
                // A flight that this exchange was to lead has to end; others who follow it by now ask again.
                seat.flight().finish(core, End::Failed(Failure::FlightLost));
                return Err(Failure::NotCached.into());
            }
            let order = Order::take(core, line, &mut question, permit.model, note.request_id);
            let duty = Duty::new(core, seat.flight(), keep_as);
            seat.fly(order, duty);
        }
        let event = match relay::live(core, line, note, seat, acceptable, usage_event, role).await {
            Reader::Done(next) => {
                discard(line, question.body);
                return Ok(next);
            }
            Reader::Cut(failure) => return Err(Broken::Cut(failure)),
            Reader::Event(event) => event,
            Reader::Stale(stale) => {
                let (entry, failure) = *stale;
                let over_ms = now_ms().saturating_sub(entry.stored_ms).saturating_sub(entry.ttl_ms);
                let entry = entry.in_form(form).filter(|_| question.directives.takes_stale(over_ms));
                match entry {
                    Some(entry) => Event::Stale(Arc::new(entry)),
                    None => Event::Failed(Box::new(failure), Worth::Nothing),
                }
            }
        };
        match event {
            Event::Found(_, Fit::TooOld) => miss = CacheMark::TooOld,
            Event::Found(..) => note.cache = mark, // `stored` makes it a hit
            _ => {}
        }
        step = coalescing.next(event);
    }
}

/// The steps that need no waiting, over one scan of the body.
fn understand(
    core: &Rc<Core>,
    line: &Line<'_>,
    route: &Route,
    visitor: &Visitor,
    body: BodyPlace,
) -> Result<(Question, admit::Permit, Result<Fingerprint, NotStored>), Failure> {
    let scratch = &mut *core.scratch.borrow_mut();
    let (question, reading) = parse::scan(line, route, body, scratch)?;
    let permit = admit::permit(core, visitor, line, route, &question, scratch)?;
    let fingerprint = fingerprint::of(core, visitor, &permit, line, &question, &reading, scratch);
    scratch.shrink();
    Ok((question, permit, fingerprint))
}

/// Passes over the request in hand. What is left of it would be taken for the next one: only if it is here whole can the
/// connection go on.
fn pass_over(line: &mut Line<'_>, note: &mut Note) {
    match line.unread_of_request(note) {
        Some(length) => line.consume(length),
        // RFC 9112 9.6: the client is told.
        None => note.manner.persistence = Persistence::Close,
    }
}

/// Passes over the request in hand, as far as it still stands in the line.
fn discard(line: &mut Line<'_>, body: BodyPlace) {
    let length = match body {
        BodyPlace::Behind { length } => length,
        BodyPlace::Apart { .. } => 0,
    };
    line.consume(line.head.length + length);
}

/// Sends what is left, ends our direction, and reads on for a little: closing at once would reset the connection, and
/// the client might lose the answer that tells it why (RFC 9112 9.6).
async fn linger(core: &Core, line: &mut Line<'_>) {
    let timeout_ms = core.snapshot.server.timeout_write_ms;
    // Of a body that was too large or too slow there may be much here.
    core.buffers.give(std::mem::take(&mut line.input));
    line.at = 0;
    if line.flush(timeout_ms).await.is_err() || line.settle(timeout_ms).await.is_err() {
        return;
    }
    line.socket.finish_writing();
    let deadline_ms = now_ms() + LINGER_MS;
    let mut read = 0;
    while read as u64 <= core.snapshot.server.body_max_bytes {
        line.input.clear();
        line.at = 0;
        match line.fill(core, deadline_ms, Wait::ForRest).await {
            Ok(Filled::Some) => read += line.input.len(),
            Ok(Filled::End | Filled::Quiet) | Err(_) => return,
        }
    }
}
