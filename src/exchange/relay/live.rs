//! Reads a flight for one client and writes it out as it comes: many small events that are here together leave in one
//! write, and none waits for another. Notices a client that leaves, a backend that thinks, and a flight that is silent.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;

use shards::{Group, Patience, Worth};

use super::head::{self, Delimited, unknown_length};
use super::next::Next;
use crate::dialect::facts::{Endpoint, Form, NotStored, UsageEvent};
use crate::error::{Again, Failure};
use crate::exchange::answer::AnswerHead;
use crate::exchange::client::ClientConnection;
use crate::exchange::entry::{Acceptable, Entry, fit};
use crate::exchange::flight::state::DirectWriter;
use crate::exchange::flight::subscriber::{Subscriber, SubscriberEvent};
use crate::exchange::generation::Generation;
use crate::exchange::lookup::{Event, found};
use crate::exchange::record::{HttpVersion, RequestRecord};
use crate::net::watch::Interrupt;
use crate::net::{now_ms, now_us};
use crate::wire::http1::{Method, encode};
use crate::wire::sse;

/// A stream that is silent for so long gets a comment, so that no proxy on the way takes it for dead.
const KEEP_ALIVE_MS: u64 = 15_000;
/// How many times longer than `cache.timeout_follow` the last of several silent flights is waited for: it has time-outs of
/// its own, and a crowd of followers that all called by themselves would bury a backend that is merely slow.
const PATIENCE: u64 = 10;
/// A client whose stream flows is not watched: one that left answers the next event with a reset. Silent for so long,
/// the stream may say nothing for a while, and the client is watched again.
const SILENT_MS: u64 = 200;
/// How often a client that has ended its direction is asked whether it still reads: its close cannot be seen.
const PROBE_MS: u64 = 1000;
/// When the time of a request is over, the call that it made says how, within so long: a tick of the watch.
const LAST_WORD_MS: u64 = 100;
/// Most bytes taken from the log at once, so that one reader's catching up is not one huge write.
const STEP_BYTES: usize = 256 << 10;

/// Whose answer a flight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// This exchange's own: it takes what comes in whatever form.
    Own,
    /// Somebody else's of this group.
    Follower(Group, Patience),
}

/// How reading ended. Nothing was sent to the client but in `Done` and `Cut`. What is rare is boxed: every answer goes
/// through here, and moving it costs by its size.
pub enum Reader {
    /// The answer went out whole.
    Done(Next),
    /// The flight has no answer for this client, or not yet.
    Event(Event),
    /// Every backend failed, and this expired answer may serve instead. Not necessarily in the form asked for.
    Stale(Box<(Arc<Entry>, Failure)>),
    /// The answer broke off after a part of it was sent: the connection has to end uncleanly.
    Cut(Box<Failure>),
}

impl Reader {
    fn cut(failure: Failure) -> Reader {
        Reader::Cut(Box::new(failure))
    }

    fn failed(failure: Failure, role: Role) -> Reader {
        let worth = match failure.worth_another_try() {
            Again::Yes => Worth::AnotherTry,
            Again::No => Worth::Nothing,
        };
        let failure = Box::new(failure);
        Reader::Event(match *failure {
            Failure::Lagged => Event::Lagged(failure),
            // No call has failed: whoever led asked the cache alone, or a message was lost.
            Failure::FlightLost if role != Role::Own => Event::Gone,
            _ => Event::Failed(failure, worth),
        })
    }
}

struct Writer {
    /// Of the answer, once its head has come.
    form: Option<Form>,
    /// It is a stream of events, whether they are understood or not.
    is_events: bool,
    delimited: Delimited,
    next: Next,
    /// Bytes have left for the client.
    sent: bool,
    /// The head stands in the output and nothing behind it.
    held: bool,
    /// The head of a stream was sent with a comment, as the backend was silent for long, and no answer has begun yet.
    begun_ahead: bool,
    /// The client is watched for hanging up.
    guarded: bool,
    /// The flight carries the other form: wait for its end and convert.
    deferred: bool,
    /// When the client was last asked whether it still reads, if it has ended its direction.
    probed_ms: Option<u64>,
}

/// Reads `subscriber` to its end for the client of `line`.
pub async fn live(
    generation: &Generation,
    client: &mut ClientConnection<'_>,
    record: &mut RequestRecord,
    subscriber: &mut Subscriber,
    acceptable: Acceptable,
    usage_event: UsageEvent,
    role: Role,
) -> Reader {
    // Answers to earlier requests that came together with this one do not wait for its backend.
    if !client.output.is_empty() && flush(generation, client, subscriber).await.is_err() {
        return Reader::cut(Failure::ClientGone);
    }
    // Until something is sent there is no other way to learn that the client has left.
    client.socket.watch().guard();
    let reader = read(generation, client, record, subscriber, acceptable, usage_event, role).await;
    client.socket.watch().unguard();
    subscriber.detach_call();
    reader
}

async fn read(
    generation: &Generation,
    client: &mut ClientConnection<'_>,
    record: &mut RequestRecord,
    subscriber: &mut Subscriber,
    acceptable: Acceptable,
    usage_event: UsageEvent,
    role: Role,
) -> Reader {
    let form = acceptable.form;
    let answer_ms = longest_answer_ms(generation, record);
    let mut follow_ms = match role {
        Role::Own | Role::Follower(_, Patience::Usual) => generation.snapshot.cache.timeout_follow_ms,
        Role::Follower(_, Patience::Long) => generation.snapshot.cache.timeout_follow_ms.saturating_mul(PATIENCE),
    };
    if form == Form::NonStreaming {
        // A whole answer says nothing before its end: silence is no stall.
        follow_ms = follow_ms.max(answer_ms);
    }
    // An answer that begins later is none.
    let due_ms = match (record.deadline_ms, role) {
        (None, _) => u64::MAX,
        (Some(at_ms), Role::Follower(..)) => at_ms,
        (Some(at_ms), Role::Own) => at_ms.saturating_add(LAST_WORD_MS),
    };
    let mut writer = Writer {
        form: None,
        is_events: false,
        delimited: Delimited::Close,
        next: Next::Close,
        sent: false,
        held: false,
        begun_ahead: false,
        guarded: true,
        deferred: false,
        probed_ms: client.half_closed.then(now_ms),
    };
    let mut heard_ms = now_ms();
    let mut kept_alive_ms = 0;
    loop {
        let turn = match subscriber.ready() {
            Some(turn) => turn,
            None => {
                // A head alone is held back until there is something behind it: until then a failure is an honest one.
                if !writer.held && !client.output.is_empty() {
                    if flush(generation, client, subscriber).await.is_err() {
                        return Reader::cut(Failure::ClientGone);
                    }
                    writer.sent = true;
                    writer.unguard(client);
                }
                let keep_alive_ms = heard_ms.max(kept_alive_ms) + KEEP_ALIVE_MS;
                let alive_ms = heard_ms.max(subscriber.flight().heard_ms());
                let wake_ms = match (writer.sent, role) {
                    (true, _) if !writer.guarded => heard_ms + SILENT_MS,
                    (false, Role::Follower(..)) => keep_alive_ms.min(alive_ms.saturating_add(follow_ms)),
                    _ => keep_alive_ms,
                };
                let wake_ms = if writer.has_begun() { wake_ms } else { wake_ms.min(due_ms) };
                let probe_ms = writer.probed_ms.map_or(u64::MAX, |probed_ms| probed_ms + PROBE_MS);
                client.socket.watch().wake_at(wake_ms.min(probe_ms));
                client.lend(generation);
                let direct_writer = if writer.sent && !writer.begun_ahead {
                    writer.direct_writer(generation, client, record)
                } else {
                    None
                };
                let turn = match direct_writer {
                    None => subscriber.next_event(client.socket.watch()).await,
                    Some(direct_writer) => {
                        let (turn, served) = subscriber.next_event_served(direct_writer, client.socket.watch()).await;
                        if served.bytes > 0 {
                            heard_ms = served.last_ms;
                            record.sent_bytes += served.bytes;
                            writer.unguard(client);
                        }
                        turn
                    }
                };
                client.need(generation);
                turn
            }
        };
        match turn {
            // Answers cannot begin anew once a part was sent.
            SubscriberEvent::Lead | SubscriberEvent::Found | SubscriberEvent::Alone | SubscriberEvent::Again
                if writer.sent =>
            {
                if writer.begun_ahead {
                    writer.fail(client, record, subscriber, &Failure::FlightLost);
                    let _ = flush(generation, client, subscriber).await;
                }
                return Reader::cut(Failure::FlightLost);
            }
            SubscriberEvent::Lead => return Reader::Event(Event::Lead),
            SubscriberEvent::Found => {
                return Reader::Event(
                    subscriber.found().map_or(Event::Gone, |entry| found(fit(entry, acceptable, generation.now()))),
                );
            }
            SubscriberEvent::Alone => return Reader::Event(Event::Alone),
            SubscriberEvent::Again => return Reader::Event(Event::Gone),
            SubscriberEvent::AnswerHead => {
                heard_ms = now_ms();
                let mut is_kept = true;
                subscriber.answer_head(|answer_head| {
                    record.backend = Some(answer_head.backend.clone());
                    record.price = Some(answer_head.price);
                    record.served = answer_head.served.clone();
                    record.waited_us = matches!(role, Role::Own).then_some(answer_head.waited_us);
                    if record.is_recorded() && role != Role::Own {
                        record.told.get_or_insert_default().leader = answer_head.leader.as_deref().copied();
                    }
                    let either = matches!(role, Role::Follower(Group::Everyone | Group::Younger, _));
                    writer.deferred = either && answer_head.status == 200 && answer_head.form != form;
                    writer.form = Some(answer_head.form);
                    if std::mem::take(&mut writer.begun_ahead) {
                        record.first_byte_us = Some(now_us());
                        is_kept =
                            !writer.deferred && answer_head.status == 200 && head::is_events(&answer_head.content_type);
                    } else if !writer.deferred {
                        writer.open(generation, client, record, subscriber, answer_head);
                    }
                });
                if !is_kept {
                    writer.fail(client, record, subscriber, &Failure::BackendRefused);
                    let _ = flush(generation, client, subscriber).await;
                    return Reader::cut(Failure::BackendRefused);
                }
            }
            SubscriberEvent::Bytes => {
                heard_ms = now_ms();
                writer.bytes(client, record, subscriber);
                if client.output.len() >= STEP_BYTES {
                    if flush(generation, client, subscriber).await.is_err() {
                        return Reader::cut(Failure::ClientGone);
                    }
                    writer.sent = true;
                }
            }
            SubscriberEvent::Complete => {
                record.tokens = subscriber.tokens();
                record.not_stored = record.not_stored.or(subscriber.not_stored());
                if record.is_recorded() {
                    subscriber.flight().look_at_whole(|answer| record.note_answer(answer));
                }
                if writer.deferred {
                    return Reader::Event(Event::Converted(subscriber.converted(record.endpoint, form)));
                }
                let usage = if usage_event == UsageEvent::Asked { subscriber.usage_event() } else { None };
                writer.complete(client, record, usage.as_deref());
                return match flush(generation, client, subscriber).await {
                    Ok(()) => Reader::Done(writer.next),
                    Err(_) => Reader::cut(Failure::ClientGone),
                };
            }
            SubscriberEvent::Stale if !writer.sent => {
                client.output.clear();
                let failure = subscriber.failure();
                return match subscriber.stale() {
                    Some(entry) => Reader::Stale(Box::new((entry, failure))),
                    None => Reader::failed(failure, role),
                };
            }
            // Behind a part of an answer no other one can follow.
            SubscriberEvent::Stale | SubscriberEvent::Failed | SubscriberEvent::Lagged => {
                let failure = if turn == SubscriberEvent::Lagged { Failure::Lagged } else { subscriber.failure() };
                if !writer.sent {
                    client.output.clear();
                    return Reader::failed(failure, role);
                }
                writer.fail(client, record, subscriber, &failure);
                let _ = flush(generation, client, subscriber).await;
                return Reader::cut(failure);
            }
            SubscriberEvent::Interrupt(Interrupt::Gone | Interrupt::Abandoned) => {
                return Reader::cut(Failure::ClientGone);
            }
            SubscriberEvent::Interrupt(Interrupt::HalfClosed) => {
                client.half_closed = true;
                if !writer.probe(generation, client, record, subscriber).await {
                    return Reader::cut(Failure::ClientGone);
                }
            }
            SubscriberEvent::Interrupt(Interrupt::Deadline) if generation.halting.get() => {
                if !writer.sent {
                    client.output.clear();
                    return Reader::failed(Failure::Draining, role);
                }
                writer.fail(client, record, subscriber, &Failure::Draining);
                let _ = flush(generation, client, subscriber).await;
                return Reader::cut(Failure::Draining);
            }
            SubscriberEvent::Interrupt(Interrupt::Deadline) if !writer.has_begun() && now_ms() >= due_ms => {
                if writer.begun_ahead {
                    writer.fail(client, record, subscriber, &Failure::DeadlineExceeded);
                    let _ = flush(generation, client, subscriber).await;
                    return Reader::cut(Failure::DeadlineExceeded);
                }
                client.output.clear();
                return Reader::Event(Event::Failed(Box::new(Failure::DeadlineExceeded), Worth::Nothing));
            }
            SubscriberEvent::Interrupt(Interrupt::Deadline)
                if writer.probed_ms.is_some_and(|at| now_ms() >= at + PROBE_MS) =>
            {
                if !writer.probe(generation, client, record, subscriber).await {
                    return Reader::cut(Failure::ClientGone);
                }
            }
            SubscriberEvent::Interrupt(Interrupt::Deadline) => {
                let silent_ms = now_ms().saturating_sub(heard_ms);
                // Without a sign of life, whatever that brought: comments and new attempts are such.
                let dead_ms = silent_ms.min(now_ms().saturating_sub(subscriber.flight().heard_ms()));
                if role != Role::Own && writer.sent && dead_ms >= answer_ms {
                    // The core that feeds this one would have told of an end by now.
                    writer.fail(client, record, subscriber, &Failure::FlightLost);
                    let _ = flush(generation, client, subscriber).await;
                    return Reader::cut(Failure::FlightLost);
                }
                if role != Role::Own && !writer.sent && dead_ms >= follow_ms {
                    client.output.clear();
                    let number = subscriber.flight().number();
                    if number.is_none() {
                        subscriber.flight().give_up(generation);
                    }
                    return Reader::Event(Event::Silent(number));
                }
                if writer.sent && !writer.guarded && silent_ms >= SILENT_MS {
                    writer.guarded = true;
                    client.socket.watch().guard();
                }
                if now_ms() >= heard_ms.max(kept_alive_ms) + KEEP_ALIVE_MS {
                    kept_alive_ms = now_ms();
                    if writer.form.is_none() && !writer.sent && may_begin_ahead(form, record) {
                        writer.begin_ahead(generation, client, record);
                    }
                    if writer.keep_alive(client) {
                        if flush(generation, client, subscriber).await.is_err() {
                            return Reader::cut(Failure::ClientGone);
                        }
                        writer.sent = true;
                    }
                }
            }
        }
    }
}

/// Writes the output out. If that has to wait, the backend is read meanwhile.
async fn flush(
    generation: &Generation,
    client: &mut ClientConnection<'_>,
    subscriber: &mut Subscriber,
) -> io::Result<()> {
    let mut flushed = pin!(client.flush(generation.snapshot.server.timeout_write_ms));
    poll_fn(|context| {
        let state = flushed.as_mut().poll(context);
        if state.is_pending() {
            subscriber.detach_call();
        }
        state
    })
    .await
}

/// Whether it is known before the answer that it is a stream of events.
fn may_begin_ahead(form: Form, record: &RequestRecord) -> bool {
    form == Form::Streaming && record.endpoint != Endpoint::Other && record.delivery.method != Method::Head
}

/// How long the model's slowest backend may be silent, and a little more for the message that tells of it.
fn longest_answer_ms(generation: &Generation, record: &RequestRecord) -> u64 {
    const LETTER_MS: u64 = 1000;
    let targets = record.model.map_or(&[][..], |model| &generation.snapshot.models[model].targets);
    let backends = targets.iter().map(|target| &generation.snapshot.backends[target.backend]);
    let longest = backends.map(|backend| backend.timeout_request_ms.max(backend.timeout_stream_idle_ms)).max();
    longest.unwrap_or(0).saturating_add(LETTER_MS)
}

impl Writer {
    /// Whether the client gets this answer: one that is converted is not its before it is complete.
    const fn has_begun(&self) -> bool {
        self.form.is_some() && !self.deferred
    }

    fn unguard(&mut self, client: &ClientConnection<'_>) {
        if self.guarded {
            self.guarded = false;
            client.socket.watch().unguard();
        }
    }

    /// By what the flight may write to the client itself while this waits.
    fn direct_writer(
        &self,
        generation: &Generation,
        client: &ClientConnection<'_>,
        record: &RequestRecord,
    ) -> Option<DirectWriter> {
        if self.deferred || record.delivery.method == Method::Head || !client.output.is_empty() {
            return None;
        }
        let socket = client.socket.direct_writer(generation.snapshot.server.timeout_write_ms)?;
        Some(DirectWriter { socket, chunked: self.delimited == Delimited::Chunks })
    }

    fn open(
        &mut self,
        generation: &Generation,
        client: &mut ClientConnection<'_>,
        record: &mut RequestRecord,
        subscriber: &Subscriber,
        answer_head: &AnswerHead,
    ) {
        let bodiless = record.delivery.method == Method::Head || matches!(answer_head.status, 204 | 304);
        self.delimited = match (answer_head.form, answer_head.length) {
            // RFC 9110 8.6: no length where there is no content, but to say what a GET would get.
            (_, None) if bodiless => Delimited::Nothing,
            (Form::NonStreaming, Some(length)) => Delimited::Length(length),
            // Already over: then the length is known after all.
            (Form::NonStreaming, None) if subscriber.is_complete() => Delimited::Length(subscriber.unread_bytes()),
            _ => unknown_length(record),
        };
        record.form = answer_head.form;
        self.is_events = head::is_events(&answer_head.content_type);
        if answer_head.status != 200 {
            record.not_stored = record.not_stored.or(Some(NotStored::Status));
        } else if subscriber.is_complete() {
            record.not_stored = record.not_stored.or(subscriber.not_stored());
        }
        let content_type = &answer_head.content_type;
        let out = &mut client.output;
        let fields = &answer_head.fields;
        self.next = head::write(generation, record, answer_head.status, content_type, self.delimited, fields, out);
        self.held = true;
    }

    /// Begins a stream whose backend has not: a client, and the proxies in front of it, hear of nothing else for minutes. What
    /// fails from then on is told in an event.
    fn begin_ahead(&mut self, generation: &Generation, client: &mut ClientConnection<'_>, record: &mut RequestRecord) {
        self.delimited = unknown_length(record);
        record.form = Form::Streaming;
        let content_type = b"text/event-stream";
        self.next = head::write(generation, record, 200, content_type, self.delimited, b"", &mut client.output);
        record.first_byte_us = None; // a comment is no first token
        self.is_events = true;
        self.begun_ahead = true;
    }

    fn bytes(&mut self, client: &mut ClientConnection<'_>, record: &mut RequestRecord, subscriber: &mut Subscriber) {
        if self.deferred {
            return subscriber.read(|bytes| (bytes.len(), ()));
        }
        if record.delivery.method == Method::Head {
            return subscriber.read(|bytes| (bytes.len(), ()));
        }
        self.held = false;
        let out = &mut client.output;
        let chunked = self.delimited == Delimited::Chunks;
        record.sent_bytes += subscriber.read(|bytes| {
            let step = &bytes[..bytes.len().min(STEP_BYTES)];
            if chunked {
                encode::chunk(out, step);
            } else {
                out.extend_from_slice(step);
            }
            (step.len(), step.len() as u64)
        });
    }

    fn complete(&mut self, client: &mut ClientConnection<'_>, record: &mut RequestRecord, usage: Option<&[u8]>) {
        let streamed = self.form == Some(Form::Streaming);
        let out = &mut client.output;
        if streamed {
            let usage = usage.unwrap_or(&[]);
            let terminal = record.dialect.terminal();
            let length = usage.len() + terminal.map_or(0, |data| b"data: \n\n".len() + data.len());
            // A chunk of no bytes would be the last one.
            let is_chunk = self.delimited == Delimited::Chunks && length > 0;
            if is_chunk {
                encode::chunk_prefix(out, length);
            }
            out.extend_from_slice(usage);
            if let Some(data) = terminal {
                sse::event(out, data);
            }
            if is_chunk {
                out.extend_from_slice(encode::LINE_END);
            }
            record.sent_bytes += length as u64;
        }
        if self.delimited == Delimited::Chunks && record.delivery.method != Method::Head {
            out.extend_from_slice(encode::LAST_CHUNK);
        }
    }

    /// The error in the client's own protocol, as the last thing of a stream that is not complete.
    fn fail(
        &mut self,
        client: &mut ClientConnection<'_>,
        record: &RequestRecord,
        subscriber: &Subscriber,
        failure: &Failure,
    ) {
        if !self.is_events || matches!(self.delimited, Delimited::Length(_)) {
            return;
        }
        let mut event = Vec::new();
        let public = failure.public();
        let error = head::told(&public, record);
        subscriber.received(|stream| record.dialect.write_error_event(&mut event, &error, stream));
        self.frame(client, &event);
    }

    fn frame(&self, client: &mut ClientConnection<'_>, bytes: &[u8]) {
        if self.delimited == Delimited::Chunks {
            encode::chunk(&mut client.output, bytes);
        } else {
            client.output.extend_from_slice(bytes);
        }
    }

    /// The client has ended its direction. It may have closed, or only said that it asks nothing more (RFC 9112 9.6). One who
    /// has closed answers the next byte with a reset: so something is said that one who still reads ignores, an interim
    /// response (RFC 9110 15.2) or a comment, and again after a while. Whether the client is still there, as far as is known.
    async fn probe(
        &mut self,
        generation: &Generation,
        client: &mut ClientConnection<'_>,
        record: &RequestRecord,
        subscriber: &mut Subscriber,
    ) -> bool {
        self.probed_ms = Some(now_ms());
        if record.delivery.version == HttpVersion::Http10 && !self.sent {
            return true; // it knows no interim responses
        }
        let held = std::mem::take(&mut client.output);
        if !self.sent {
            client.output.extend_from_slice(encode::CONTINUE);
        } else {
            self.keep_alive(client);
        }
        let is_there = flush(generation, client, subscriber).await.is_ok();
        client.output = held;
        is_there
    }

    /// A comment, if this is a stream.
    fn keep_alive(&mut self, client: &mut ClientConnection<'_>) -> bool {
        let streamed = self.begun_ahead || self.form == Some(Form::Streaming) && !self.deferred;
        if streamed {
            self.held = false;
            self.frame(client, b":\n\n");
        }
        streamed
    }
}
