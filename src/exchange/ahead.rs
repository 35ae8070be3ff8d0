//! Requests that came behind the one in hand on an HTTP/1.1 connection: those that are here whole are begun before it is
//! answered, so that their upstream calls go side by side; the answers leave in order (RFC 9112 9.3.2). Owned by the connection's
//! task. Must never begin a request that the outcome of an earlier one could change, nor lose a byte behind the last one.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem::replace;
use std::rc::Rc;
use std::task::Poll;

use super::buffers::BUFFER_BYTES;
use super::client::ClientConnection;
use super::core::Core;
use crate::dialect::facts::Endpoint;
use crate::limits::PIPELINED_REQUEST_BYTES;
use crate::net::pipelined::{After, Answer};
use crate::net::watch::Interrupt;
use crate::wire::body::{Body, Decoder};
use crate::wire::http1::{Expectation, Framing, Method, Persistence, Progress, RequestHead, Version};

/// What a client sent behind the request in hand.
pub struct Ahead {
    /// Those bytes begin at `at`.
    input: Vec<u8>,
    at: usize,
    /// To requests that were begun, in order.
    answers: VecDeque<Answer>,
    /// What comes next is not to be begun before it is in hand.
    is_over: bool,
    /// Of the request that was begun last.
    followed: Rc<Cell<bool>>,
    head: RequestHead,
}

/// The client has gone.
pub struct Gone;

impl Ahead {
    /// Takes out of `client` what stands behind the request in hand, if anything does and it may be worth it.
    pub fn split(core: &Core, client: &mut ClientConnection<'_>, most: u32) -> Option<Box<Ahead>> {
        let head = &client.head;
        let length = match head.framing {
            Framing::Empty => 0,
            Framing::Length(length) => usize::try_from(length).ok()?,
            Framing::Chunked | Framing::UntilClose => return None,
        };
        let whole = head.length.checked_add(length).filter(|&whole| whole < client.pending().len())?;
        if most < 2 || client.socket.is_stream() || !may_be_beside(head, client.pending()) {
            return None;
        }
        let mut other = core.memory.buffers.take();
        let middle = client.at + whole;
        // The shorter part moves.
        let (input, at) = if whole <= client.input.len() - middle {
            other.extend_from_slice(&client.input[client.at..middle]);
            client.at = 0;
            (replace(&mut client.input, other), middle)
        } else {
            other.extend_from_slice(&client.input[middle..]);
            client.input.truncate(middle);
            (other, 0)
        };
        let head = core.memory.request_heads.take();
        let followed = Rc::new(Cell::new(false));
        client.followed = Some(followed.clone());
        Some(Box::new(Ahead { input, at, answers: VecDeque::new(), is_over: false, followed, head }))
    }

    /// Puts what was not begun back into `client`, which has nothing in hand.
    pub fn rejoin(mut self, core: &Core, client: &mut ClientConnection<'_>) {
        debug_assert!(client.pending().is_empty() && self.answers.is_empty());
        core.memory.buffers.give(replace(&mut client.input, std::mem::take(&mut self.input)));
        client.at = self.at;
        client.consume(0);
        // Whoever takes it next relies on there being nothing in it.
        self.head.clear();
        core.memory.request_heads.give(self.head);
    }

    /// The bytes of the next request, if `most` in all may be under way and it can be begun now.
    pub fn next(&mut self, core: &Core, most: u32) -> Option<Vec<u8>> {
        // RFC 9112 9.6: the last answer that was begun says that it is the last, and what is behind it gets none.
        if self.is_over || core.is_draining() || self.answers.len() + 1 >= most as usize {
            return None;
        }
        let bytes = self.input.get(self.at..).unwrap_or(&[]);
        let Some(whole) = whole(core, bytes, &mut self.head) else {
            self.is_over = true;
            return None;
        };
        let mut request = core.memory.buffers.take();
        request.extend_from_slice(&bytes[..whole]);
        self.at += whole;
        Some(request)
    }

    /// The answer to what `next` returned last. What says whether yet another one is begun behind that.
    pub fn push(&mut self, answer: Answer) -> Rc<Cell<bool>> {
        self.answers.push_back(answer);
        let followed = Rc::new(Cell::new(false));
        replace(&mut self.followed, followed.clone()).set(true);
        followed
    }

    /// The answer whose turn it is.
    pub fn pop(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }
}

/// The length of the request at the start of `bytes`, if all of it is here and it may be begun beside others.
fn whole(core: &Core, bytes: &[u8], head: &mut RequestHead) -> Option<usize> {
    let parsed = core.memory.known_requests.borrow_mut().parse_request(bytes, head);
    if bytes.is_empty() || !matches!(parsed, Ok(Progress::Complete)) || !may_be_beside(head, bytes) {
        return None;
    }
    let length = match head.framing {
        Framing::Empty => 0,
        Framing::Length(length) => usize::try_from(length).ok()?,
        Framing::Chunked => chunked_length(&bytes[head.length..])?,
        Framing::UntilClose => return None,
    };
    let whole = head.length.checked_add(length)?;
    (whole <= bytes.len().min(PIPELINED_REQUEST_BYTES)).then_some(whole)
}

/// The length of a chunked body with its framing, if all of it is here.
fn chunked_length(bytes: &[u8]) -> Option<usize> {
    let (mut decoder, mut done) = (Decoder::new(Framing::Chunked), 0);
    while done < bytes.len().min(PIPELINED_REQUEST_BYTES) {
        let step = decoder.decode(&bytes[done..]).ok()?;
        done += step.consumed;
        if step.state == Body::Done {
            return Some(done);
        }
    }
    None
}

/// Whether a request neither says anything about the connection nor changes what others find: those that models answer, and
/// those that only read.
fn may_be_beside(head: &RequestHead, bytes: &[u8]) -> bool {
    let is_plain = head.version == Version::Http11
        && head.persistence == Persistence::KeepAlive
        && head.expect_continue == Expectation::None
        && head.fields.find(bytes, "upgrade").is_none();
    is_plain
        && match head.method {
            Method::Get | Method::Head => true,
            Method::Post => is_answered_by_a_model(head.path.of(bytes)),
            Method::Put | Method::Patch | Method::Delete | Method::Options | Method::Other => false,
        }
}

fn is_answered_by_a_model(path: &[u8]) -> bool {
    const OTHERS: [&[u8]; 3] = [b"/v1/moderations", b"/v1/rerank", b"/v1/score"];
    match Endpoint::from_path(path) {
        Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => true,
        Endpoint::Messages | Endpoint::Responses => true,
        Endpoint::Models => false,
        Endpoint::Other => OTHERS.contains(&path),
    }
}

/// Sends an answer whose turn has come, as it comes. What comes last may be left in the client's output.
pub async fn forward(
    core: &Core,
    client: &mut ClientConnection<'_>,
    mut answer: Answer,
    timeout_ms: u64,
) -> Result<After, Gone> {
    client.begin_answer();
    if client.half_closed {
        answer.half_closed();
    }
    client.socket.watch().guard();
    let after = loop {
        client.need(core);
        if let Some(after) = answer.take(&mut client.output) {
            break Ok(after);
        }
        // Taken once more behind a wait for a slow client.
        if !client.output.is_empty() {
            if client.flush(timeout_ms).await.is_err() {
                break Err(Gone);
            }
            continue;
        }
        client.socket.watch().clear();
        client.lend(core);
        let interrupt = poll_fn(|context| match client.socket.watch().poll_interrupt(context.waker()) {
            Some(interrupt) => Poll::Ready(Some(interrupt)),
            None => answer.poll_some(context).map(|()| None),
        })
        .await;
        client.need(core);
        match interrupt {
            None | Some(Interrupt::Deadline) => {}
            Some(Interrupt::Gone | Interrupt::Abandoned) => break Err(Gone),
            Some(Interrupt::HalfClosed) => {
                client.half_closed = true;
                answer.half_closed();
            }
        }
    };
    client.socket.watch().unguard();
    if client.output.len() >= BUFFER_BYTES / 2 && client.flush(timeout_ms).await.is_err() {
        return Err(Gone);
    }
    after
}
