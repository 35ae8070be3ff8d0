//! From a head to a request: reads the body, scans it once, and finds what the gateway acts on. The bytes stay as they
//! came; what is known of them are spans.

use std::io;
use std::rc::Rc;

use super::batch::Batch;
use super::body::{BodyBuilder, BodyBytes};
use super::client::{ClientConnection, Filled, READ_ROOM_BYTES};
use super::endpoint::{ModelPlace, Route};
use super::feeding::Feeding;
use super::generation::Generation;
use super::memory::Reserved;
use super::named::{self, Named};
use super::pace::Pace;
use super::pipe::UploadRest;
use super::scratch::Scratch;
use super::slices::Yields;
use super::urgency::Urgency;
use super::window::Combinable;
use crate::dialect::facts::{Endpoint, Form, RequestFacts, UsageEvent};
use crate::dialect::{Dialect, Reading};
use crate::error::Failure;
use crate::limits::{MAPPED_BYTES, SLICE_BYTES};
use crate::net::now_ms;
use crate::net::watch::Wait;
use crate::wire::Span;
use crate::wire::body::{Body, Decoder};
use crate::wire::http1::{Expectation, Framing, encode};
use crate::wire::json::{self, JsonFault, Kind, Tape};

/// Where a request's body is.
#[derive(Debug)]
pub enum BodyPlace {
    /// In the line's buffer, right behind the head.
    Behind { length: usize },
    /// In memory of its own: one that is large, or was decoded.
    Apart { bytes: BodyBytes },
}

/// What a request's `Cache-Control` asks for. RFC 9111 5.2.1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Directives {
    pub no_store: bool,
    pub no_cache: bool,
    pub only_if_cached: bool,
    pub max_age_ms: Option<u64>,
    /// How long past its time to live an answer may be, where the client says so: `max-stale`, or `stale-if-error`
    /// (RFC 5861 4).
    pub max_stale_ms: Option<u64>,
}

impl Directives {
    /// Whether an answer that expired so long ago may serve where every backend fails. Without a word of the client the
    /// configuration has permitted it; who bounds the age wants nothing stale unless he says that, too (RFC 9111 5.2.1.1).
    /// Who refuses what is kept (`no-cache`, `no-store`) is not asked: his request goes by the cache, and gets the error.
    pub fn takes_stale(&self, over_ms: u64) -> bool {
        match self.max_stale_ms {
            Some(most_ms) => over_ms <= most_ms,
            None => self.max_age_ms.is_none(),
        }
    }
}

/// What can be seen of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Nothing,
    /// Its members or fields.
    Fields,
    /// Nothing that would tell which model it is for.
    Opaque,
}

/// A request that is understood.
pub struct Request {
    pub endpoint: Endpoint,
    pub body: BodyPlace,
    pub content: Content,
    pub named: Option<Named>,
    /// What the `*` in the model's name stands for, once it is admitted.
    pub star: Option<Rc<str>>,
    /// Of a JSON body.
    pub facts: Option<RequestFacts>,
    pub form: Form,
    pub usage_event: UsageEvent,
    pub directives: Directives,
    pub urgency: Urgency,
    /// If it is for several embeddings.
    pub batch: Option<Box<Batch>>,
    /// If it may go upstream together with others.
    pub combinable: Option<Box<Combinable>>,
    /// What the call gets of the rest of a body that is not here whole.
    pub upload: Option<UploadRest>,
    /// What feeds it.
    pub feeding: Option<Box<Feeding>>,
    /// The prompt template that it was rendered from: its place in the generation's.
    pub template: Option<u32>,
}

/// Reads the body to its end. Errors: too large, malformed framing, too slow, or the client left.
pub async fn receive(generation: &Generation, client: &mut ClientConnection<'_>) -> Result<BodyPlace, Failure> {
    let max = generation.snapshot.server.body_max_bytes;
    match client.head.framing {
        Framing::Empty | Framing::UntilClose => Ok(BodyPlace::Behind { length: 0 }),
        Framing::Length(length) if length > max => Err(Failure::BodyTooLarge),
        Framing::Length(length) => {
            let length = length as usize;
            client.memory.grow_to(length)?;
            if length > MAPPED_BYTES {
                return Box::pin(receive_apart(generation, client, length)).await;
            }
            let whole = client.head.length + length;
            if client.pending().len() < whole {
                answer_expectation(generation, client).await?;
            }
            let mut pace = pace(generation);
            while client.pending().len() < whole {
                // And for what a read asks for, or the last part would move all that has come.
                client.make_room(whole - client.pending().len() + READ_ROOM_BYTES);
                fill(generation, client, &mut pace).await?;
            }
            Ok(BodyPlace::Behind { length })
        }
        Framing::Chunked => {
            answer_expectation(generation, client).await?;
            let mut body = BodyBuilder::new(&generation.memory.buffers, max as usize);
            receive_chunks(generation, client, max, &mut body).await?;
            client.take_out_body(0); // done, piece by piece
            Ok(BodyPlace::Apart { bytes: body.finish() })
        }
    }
}

/// Receives a large body into memory of its own.
async fn receive_apart(
    generation: &Generation,
    client: &mut ClientConnection<'_>,
    length: usize,
) -> Result<BodyPlace, Failure> {
    let mut body = BodyBuilder::new(&generation.memory.buffers, generation.snapshot.server.body_max_bytes as usize);
    body.expect(length)?;
    answer_expectation(generation, client).await?;
    let start = client.at + client.head.length;
    let end = client.input.len().min(start + length);
    body.push(&client.input[start..end])?;
    client.input.drain(start..end);
    let (mut pace, mut yields) = (pace(generation), Yields::default());
    while body.len() < length {
        let (begun_ms, before) = (now_ms(), body.len());
        let deadline_ms = begun_ms.saturating_add(pace.pause_left_ms());
        let mut pushed = Ok(());
        let take = |bytes: &[u8]| {
            let taken = bytes.len().min(length - before);
            pushed = body.push(&bytes[..taken]);
            taken
        };
        let filled = client.fill_apart(generation, deadline_ms, take).await;
        pushed?;
        received(filled)?;
        pace.note(now_ms().saturating_sub(begun_ms), body.len() - before);
        yields.done(body.len() - before).await;
    }
    client.take_out_body(0); // it was never behind the head
    Ok(BodyPlace::Apart { bytes: body.finish() })
}

async fn receive_chunks(
    generation: &Generation,
    client: &mut ClientConnection<'_>,
    max: u64,
    body: &mut BodyBuilder<'_>,
) -> Result<(), Failure> {
    let mut decoder = Decoder::new(Framing::Chunked);
    let (mut pace, mut yields) = (pace(generation), Yields::default());
    loop {
        let start = client.at + client.head.length;
        let mut done = start;
        loop {
            let rest = &client.input[done..];
            if rest.is_empty() {
                break;
            }
            let step = decoder.decode(rest).map_err(|fault| Failure::BadFraming { why: fault.to_string() })?;
            let piece = &rest[step.data.clone()];
            if (body.len() + piece.len()) as u64 > max {
                return Err(Failure::BodyTooLarge);
            }
            client.memory.grow_to(body.len() + piece.len())?;
            body.push(piece)?;
            done += step.consumed;
            if step.state == Body::Done {
                // The next request, if it is here already, moves up to right behind the head.
                client.input.drain(start..done);
                return Ok(());
            }
        }
        client.input.drain(start..done);
        yields.done(done - start).await;
        fill(generation, client, &mut pace).await?;
    }
}

pub fn pace(generation: &Generation) -> Pace {
    Pace::new(generation.snapshot.server.timeout_body_ms, generation.snapshot.server.rate_min_bytes)
}

/// Reads on, at the pace that a body may have.
pub async fn fill(generation: &Generation, client: &mut ClientConnection<'_>, pace: &mut Pace) -> Result<(), Failure> {
    let (begun_ms, before) = (now_ms(), client.pending().len());
    received(client.fill(generation, begun_ms.saturating_add(pace.pause_left_ms()), Wait::ForRest).await)?;
    pace.note(now_ms().saturating_sub(begun_ms), client.pending().len() - before);
    Ok(())
}

fn received(filled: io::Result<Filled>) -> Result<(), Failure> {
    match filled {
        Ok(Filled::Some) => Ok(()),
        Ok(Filled::Quiet) => Err(Failure::BodyTimeout),
        Ok(Filled::End) | Err(_) => Err(Failure::ClientGone),
    }
}

/// RFC 9110 10.1.1: the client waits with its body until it is told to go on.
pub async fn answer_expectation(generation: &Generation, client: &mut ClientConnection<'_>) -> Result<(), Failure> {
    if client.head.expect_continue == Expectation::Continue && client.pending().len() == client.head.length {
        client.output.extend_from_slice(encode::CONTINUE);
        client.flush(generation.snapshot.server.timeout_write_ms).await.map_err(|_| Failure::ClientGone)?;
    }
    Ok(())
}

/// Whether the body of the request in hand is labelled as JSON.
pub fn is_said_to_be_json(client: &ClientConnection<'_>) -> bool {
    const JSON: &[u8] = b"application/json";
    let content_type = client.head.fields.get(client.pending(), "content-type").unwrap_or(b"");
    content_type.get(..JSON.len()).is_some_and(|name| name.eq_ignore_ascii_case(JSON))
}

/// As what a body is read.
enum ReadAs<'a> {
    Nothing,
    Json,
    /// With this boundary.
    Form(&'a [u8]),
    Opaque,
}

fn read_as<'a>(client: &'a ClientConnection<'_>, endpoint: Endpoint, bytes: &[u8]) -> Result<ReadAs<'a>, Failure> {
    // The known endpoints are JSON whatever the client calls it; other paths may carry anything.
    if endpoint != Endpoint::Other {
        return Ok(ReadAs::Json);
    }
    if bytes.is_empty() {
        return Ok(ReadAs::Nothing);
    }
    // What looks like an object is read as one, or a body under another label could name a model past the allow-list.
    if is_said_to_be_json(client) || bytes.trim_ascii_start().starts_with(b"{") {
        return Ok(ReadAs::Json);
    }
    let content_type = client.head.fields.get(client.pending(), "content-type").unwrap_or(b"");
    Ok(named::boundary(content_type)?.map_or(ReadAs::Opaque, ReadAs::Form))
}

/// Scans the body, once: reads it, or finds that it has the shape of another.
pub fn scan(
    client: &ClientConnection<'_>,
    route: &Route,
    body: BodyPlace,
    scratch: &mut Scratch,
) -> Result<(Request, Reading), Failure> {
    let endpoint = route.endpoint;
    let bytes = body_bytes(client, &body);
    let Scratch { tape, shapes, .. } = scratch;
    let mut reading = Reading::Tape;
    let seen = match read_as(client, endpoint, bytes)? {
        ReadAs::Nothing => Seen::NOTHING,
        ReadAs::Opaque => Seen::OPAQUE,
        ReadAs::Form(boundary) => Seen { in_form: named::in_form(bytes, boundary)?, ..Seen::FIELDS },
        ReadAs::Json => match shapes.known_request(endpoint, bytes) {
            Some(known) => {
                reading = known.1;
                Seen { facts: Some(known.0), ..Seen::FIELDS }
            }
            None => {
                json::parse(bytes, tape).map_err(bad_json)?;
                let seen = Seen::of_tape(endpoint, bytes, tape)?;
                if let Some(read) = &seen.facts {
                    shapes.learn_request(endpoint, bytes, tape, read);
                }
                seen
            }
        },
    };
    Ok((request(client, route, body, seen)?, reading))
}

/// As `scan`, for a large body, in slices. Afterwards the tape is its.
pub async fn scan_in_slices(
    client: &ClientConnection<'_>,
    route: &Route,
    body: BodyPlace,
    tape: &mut Tape,
    yields: &mut Yields,
) -> Result<Request, Failure> {
    let bytes = body_bytes(client, &body);
    let seen = match read_as(client, route.endpoint, bytes)? {
        ReadAs::Nothing => Seen::NOTHING,
        ReadAs::Opaque => Seen::OPAQUE,
        // A search for one string, at ten times the speed of anything else here.
        ReadAs::Form(boundary) => Seen { in_form: named::in_form(bytes, boundary)?, ..Seen::FIELDS },
        ReadAs::Json => {
            let mut slices = json::Slices::new();
            while !slices.step(bytes, tape, SLICE_BYTES).map_err(bad_json)? {
                yields.done(SLICE_BYTES).await;
            }
            Seen::of_tape(route.endpoint, bytes, tape)?
        }
    };
    request(client, route, body, seen)
}

fn bad_json(fault: JsonFault) -> Failure {
    Failure::BadJson { why: format!("The request body is not valid JSON: {fault}.") }
}

/// What was seen of a body.
pub struct Seen {
    content: Content,
    facts: Option<RequestFacts>,
    in_form: Option<Named>,
}

impl Seen {
    const NOTHING: Seen = Seen { content: Content::Nothing, facts: None, in_form: None };
    pub const OPAQUE: Seen = Seen { content: Content::Opaque, ..Seen::NOTHING };
    const FIELDS: Seen = Seen { content: Content::Fields, ..Seen::NOTHING };

    /// A form, of which `front` is here, with the field that names the model from one offset to another.
    pub fn in_form(front: &[u8], field: Option<(u64, u64)>) -> Result<Seen, Failure> {
        let Some((start, end)) = field else { return Ok(Seen::FIELDS) };
        let span = Span::new(start as usize, end as usize);
        Ok(Seen { in_form: Some(named::as_field(front, span)?), ..Seen::FIELDS })
    }

    fn of_tape(endpoint: Endpoint, bytes: &[u8], tape: &Tape) -> Result<Seen, Failure> {
        if endpoint == Endpoint::Other && tape.root().kind() != Kind::Object {
            return Ok(Seen::OPAQUE);
        }
        let facts = Dialect::of_endpoint(endpoint).request_facts(endpoint, bytes, tape).map_err(named::bad_field)?;
        Ok(Seen { facts: Some(facts), ..Seen::FIELDS })
    }
}

/// What the gateway acts on of a request whose body was seen.
pub fn request(client: &ClientConnection<'_>, route: &Route, body: BodyPlace, seen: Seen) -> Result<Request, Failure> {
    let Seen { content, facts, in_form } = seen;
    let in_body = facts.and_then(|facts: RequestFacts| facts.model).map(Named::Member).or(in_form);
    let named = match route.model {
        ModelPlace::QueryOrBody => named::once(named::in_query(client)?, in_body)?,
        _ => in_body,
    };
    Ok(Request {
        endpoint: route.endpoint,
        form: facts.map_or(Form::NonStreaming, |facts| facts.form),
        usage_event: facts.map_or(UsageEvent::NotAsked, |facts| facts.usage_event),
        facts,
        directives: directives(client),
        urgency: Urgency::of(client)?,
        body,
        content,
        named,
        star: None,
        batch: None,
        combinable: None,
        upload: None,
        feeding: None,
        template: None,
    })
}

/// The bytes of the body of the request in hand.
pub fn body_bytes<'a>(client: &'a ClientConnection<'_>, body: &'a BodyPlace) -> &'a [u8] {
    match body {
        BodyPlace::Behind { length } => {
            client.pending().get(client.head.length..client.head.length + length).unwrap_or(&[])
        }
        BodyPlace::Apart { bytes } => bytes,
    }
}

/// Puts `bytes`, which take `memory`, in the place of the body of the request in hand.
pub fn replace_body(
    generation: &Generation,
    client: &mut ClientConnection<'_>,
    body: BodyPlace,
    bytes: BodyBytes,
    memory: Reserved,
) -> BodyPlace {
    match body {
        BodyPlace::Behind { length } => client.take_out_body(length),
        BodyPlace::Apart { bytes } => bytes.release(&generation.memory.buffers),
    }
    client.memory = memory;
    BodyPlace::Apart { bytes }
}

/// Passes over the request in hand, as far as it still stands in the client.
pub fn discard(client: &mut ClientConnection<'_>, body: &mut BodyPlace) {
    let length = match std::mem::replace(body, BodyPlace::Behind { length: 0 }) {
        BodyPlace::Behind { length } => length,
        BodyPlace::Apart { .. } => 0,
    };
    client.consume(client.head.length + length);
}

fn directives(client: &ClientConnection<'_>) -> Directives {
    let mut found = Directives::default();
    for value in client.head.fields.get_all(client.pending(), "cache-control") {
        for directive in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if directive.eq_ignore_ascii_case(b"no-store") {
                found.no_store = true;
            } else if directive.eq_ignore_ascii_case(b"no-cache") {
                found.no_cache = true;
            } else if directive.eq_ignore_ascii_case(b"only-if-cached") {
                found.only_if_cached = true;
            } else if let Some(ms) = span_ms(directive, b"max-age=") {
                found.max_age_ms = Some(ms);
            } else if directive.eq_ignore_ascii_case(b"max-stale") {
                found.max_stale_ms = Some(u64::MAX);
            } else if let Some(ms) = span_ms(directive, b"max-stale=").or(span_ms(directive, b"stale-if-error=")) {
                // Either permits it.
                found.max_stale_ms = found.max_stale_ms.max(Some(ms));
            }
        }
    }
    found
}

/// The time that a directive of this name says. RFC 9111 4.2.1: an age that cannot be read is best taken as stale.
fn span_ms(directive: &[u8], name: &[u8]) -> Option<u64> {
    let (front, value) = directive.split_at_checked(name.len())?;
    if !front.eq_ignore_ascii_case(name) {
        return None;
    }
    let seconds = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
    Some(seconds.unwrap_or(0).saturating_mul(1000))
}
