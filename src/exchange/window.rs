//! Requests for embeddings, or for completions, that came within one window, and wait for their parts of one answer (micro-batching). Knows nothing of
//! backends: `call` opens a window with its first request, and asks for all of them when it is over.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use sha2::{Digest, Sha256};
use shards::Fingerprint;

use super::answer::AnswerHead;
use super::scratch::Scratch;
use super::used::Seen;
use crate::dialect::facts::{Endpoint, NotStored, TokenUsage};
use crate::dialect::{Dialect, Input, Inputs};
use crate::error::Failure;
use crate::limits::BATCH_BYTES;
use crate::net::within;
use crate::wire::json;

/// What a request for embeddings or completions has in common with others, and what is its own.
pub struct Combinable {
    /// Over everything but the inputs: whose it is, the model, the other members of the body.
    key: Fingerprint,
    pub inputs: Inputs,
}

impl Combinable {
    /// None if its inputs are not understood, or too many to go with others. `scratch` has the beginning of what is hashed for a
    /// fingerprint, up to the body.
    pub fn of(endpoint: Endpoint, body: &[u8], most: usize, scratch: &mut Scratch) -> Option<Box<Combinable>> {
        let Scratch { tape, canonical, canonical_head, .. } = scratch;
        if body.len() > BATCH_BYTES / 2 {
            return None;
        }
        let (inputs, own) = match endpoint {
            Endpoint::Completions => (Dialect::OpenAi.all_prompts(body, tape, most - 1)?, "prompt"),
            _ => (Dialect::OpenAi.all_embedding_inputs(body, tape, most - 1)?, "input"),
        };
        canonical.truncate(*canonical_head);
        // Servers take texts or arrays of ids, and not both at a time.
        let kind = |input: &Input| input.span.of(body).first().copied();
        let first = kind(inputs.inputs.first()?)?;
        if !inputs.inputs.iter().all(|input| kind(input) == Some(first)) {
            return None;
        }
        canonical.extend_from_slice(b"combined\0");
        canonical.push(first);
        json::canonical(body, tape, &[own], canonical);
        Some(Box::new(Combinable { key: Fingerprint(Sha256::digest(&canonical[..]).into()), inputs }))
    }
}

/// The windows of a core that are open.
#[derive(Default)]
pub struct Windows(RefCell<HashMap<Fingerprint, Rc<Window>>>);

/// Requests that go to a backend together.
pub struct Window {
    key: Fingerprint,
    state: RefCell<State>,
    /// Those that still wait.
    waiting: Cell<usize>,
    /// Of the task that asks for them.
    waker: RefCell<Option<Waker>>,
}

#[derive(Default)]
struct State {
    members: Vec<Member>,
    inputs: usize,
    bytes: usize,
    /// Nobody else comes in.
    is_closed: bool,
}

/// One input as it stands in a body, and its share of the tokens as a weight.
pub type OwnInput = (Vec<u8>, u64);

/// A request of a window, for the task that asks for all of them.
pub struct Member {
    pub inputs: Vec<OwnInput>,
    waiter: Rc<WaiterState>,
}

#[derive(Default)]
struct WaiterState {
    share: RefCell<Option<Share>>,
    waker: RefCell<Option<Waker>>,
    has_left: Cell<bool>,
}

/// A request that waits in a window. Dropped: it no longer wants anything.
pub struct Waiter {
    waiter: Rc<WaiterState>,
    window: Rc<Window>,
}

/// What a request gets of the common answer.
pub enum Share {
    /// It has to ask by itself.
    Alone,
    Failed(Failure),
    Part(Box<Part>),
}

/// An answer to one request.
pub struct Part {
    pub head: AnswerHead,
    pub body: Vec<u8>,
    pub stored: Result<(), NotStored>,
    pub tokens: Option<TokenUsage>,
    /// Which model answered.
    pub model: usize,
    /// Of one without a word of usage.
    pub seen: Seen,
}

/// How a request came in.
pub enum Entered {
    /// Others wait already.
    Joined(Waiter),
    /// Somebody has to ask for those in the window when it is over.
    Opened(Waiter, Rc<Window>),
}

impl Windows {
    /// Takes a request in whose body is `body`, with at most `most` inputs together.
    pub fn enter(&self, request: &Combinable, body: &[u8], most: usize) -> Entered {
        let inputs = request.inputs.inputs.iter();
        let inputs: Vec<OwnInput> = inputs.map(|input| (input.span.of(body).to_vec(), input.weight)).collect();
        let bytes = inputs.iter().map(|(input, _)| input.len() + 1).sum::<usize>();
        let mut open = self.0.borrow_mut();
        match open.entry(request.key) {
            Entry::Occupied(slot) if slot.get().has_room(inputs.len(), bytes, most) => {
                let window = slot.get().clone();
                if window.state.borrow().inputs + inputs.len() >= most {
                    slot.remove().close();
                }
                Entered::Joined(window.add(inputs, bytes))
            }
            slot => {
                let window = Rc::new(Window::new(request.key));
                if let Entry::Occupied(slot) = &slot {
                    slot.get().close();
                }
                slot.insert(window.clone());
                Entered::Opened(window.add(inputs, bytes), window)
            }
        }
    }

    /// Waits until a window is full or `ms` are over; returns those who wait in it.
    pub async fn wait(&self, window: &Rc<Window>, ms: u64) -> Members {
        let full = poll_fn(|context| match window.state.borrow().is_closed {
            true => Poll::Ready(()),
            false => {
                window.waker.replace(Some(context.waker().clone()));
                Poll::Pending
            }
        });
        let _ = within(full, ms).await;
        window.state.borrow_mut().is_closed = true;
        if let Entry::Occupied(slot) = self.0.borrow_mut().entry(window.key)
            && Rc::ptr_eq(slot.get(), window)
        {
            slot.remove();
        }
        let mut members = std::mem::take(&mut window.state.borrow_mut().members);
        members.retain(|member| !member.waiter.has_left.get());
        Members(members)
    }
}

impl Window {
    fn new(key: Fingerprint) -> Window {
        Window { key, state: RefCell::default(), waiting: Cell::new(0), waker: RefCell::default() }
    }

    fn has_room(&self, inputs: usize, bytes: usize, most: usize) -> bool {
        let state = self.state.borrow();
        !state.is_closed && state.inputs + inputs <= most && state.bytes + bytes <= BATCH_BYTES / 2
    }

    fn close(&self) {
        self.state.borrow_mut().is_closed = true;
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn add(self: &Rc<Window>, inputs: Vec<OwnInput>, bytes: usize) -> Waiter {
        let waiter = Rc::<WaiterState>::default();
        let mut state = self.state.borrow_mut();
        (state.inputs, state.bytes) = (state.inputs + inputs.len(), state.bytes + bytes);
        state.members.push(Member { inputs, waiter: waiter.clone() });
        self.waiting.set(self.waiting.get() + 1);
        Waiter { waiter, window: self.clone() }
    }

    /// Does `work`, unless nobody waits for it any more.
    pub async fn unless_deserted<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|context| {
            if self.waiting.get() == 0 {
                return Poll::Ready(None);
            }
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            self.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }
}

impl Waiter {
    /// What this request gets.
    pub async fn share(&self) -> Share {
        poll_fn(|context| match self.waiter.share.take() {
            Some(share) => Poll::Ready(share),
            None => {
                self.waiter.waker.replace(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.waiter.has_left.set(true);
        self.window.waiting.set(self.window.waiting.get() - 1);
        if self.window.waiting.get() == 0 {
            self.window.wake();
        }
    }
}

/// Those who wait for one answer. Whoever has got nothing when this is dropped, by a panic, gets an error.
pub struct Members(Vec<Member>);

impl Members {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All inputs, in the order of their requests, and the places of each request's own.
    pub fn inputs(&self) -> (Vec<&OwnInput>, Vec<Range<usize>>) {
        let mut at = 0;
        let ranges = self.0.iter().map(|member| {
            at += member.inputs.len();
            at - member.inputs.len()..at
        });
        let ranges = ranges.collect();
        (self.0.iter().flat_map(|member| &member.inputs).collect(), ranges)
    }

    /// Gives each its share, by its place.
    pub fn give(mut self, mut share: impl FnMut(usize) -> Share) {
        for (place, member) in self.0.drain(..).enumerate() {
            member.give(share(place));
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for member in self.0.drain(..) {
            member.give(Share::Failed(Failure::Internal));
        }
    }
}

impl Member {
    fn give(self, share: Share) {
        self.waiter.share.replace(Some(share));
        if let Some(waker) = self.waiter.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::Tape;

    fn request(body: &str) -> Combinable {
        let inputs = Dialect::OpenAi.all_embedding_inputs(body.as_bytes(), &mut Tape::new(), 100).unwrap();
        Combinable { key: Fingerprint([7; 32]), inputs }
    }

    fn enter(windows: &Windows, body: &str, most: usize) -> (Waiter, Option<Rc<Window>>) {
        match windows.enter(&request(body), body.as_bytes(), most) {
            Entered::Joined(waiter) => (waiter, None),
            Entered::Opened(waiter, window) => (waiter, Some(window)),
        }
    }

    #[test]
    fn a_window_takes_in_what_fits_and_then_another_is_opened() {
        let windows = Windows::default();
        let (_first, window) = enter(&windows, r#"{"input":"a"}"#, 4);
        let (_second, joined) = enter(&windows, r#"{"input":["b","c"]}"#, 4);
        assert!(joined.is_none());
        let (_third, other) = enter(&windows, r#"{"input":["d","e"]}"#, 4);
        let (window, other) = (window.unwrap(), other.expect("five do not fit"));
        assert!(window.state.borrow().is_closed && !other.state.borrow().is_closed);
        let (_fourth, joined) = enter(&windows, r#"{"input":[[1,2],[3]]}"#, 4);
        assert!(joined.is_none() && other.state.borrow().is_closed, "it is full, and waits no longer");
        assert!(windows.0.borrow().is_empty());
    }

    #[test]
    fn who_has_left_is_not_asked_for_and_who_is_forgotten_gets_an_error() {
        let windows = Windows::default();
        let (first, window) = enter(&windows, r#"{"input":"a"}"#, 9);
        let (second, _) = enter(&windows, r#"{"input":["b","c"]}"#, 9);
        let window = window.unwrap();
        drop(first);
        window.close();
        let waker = std::task::Context::from_waker(Waker::noop());
        let mut context = waker;
        let mut wait = pin!(windows.wait(&window, 1));
        let Poll::Ready(members) = wait.as_mut().poll(&mut context) else { panic!("it is closed") };
        let (inputs, ranges) = members.inputs();
        assert_eq!(inputs.iter().map(|(input, _)| &input[..]).collect::<Vec<_>>(), [b"\"b\"", b"\"c\""]);
        assert_eq!((ranges.len(), ranges[0].clone()), (1, 0..2));
        drop(members);
        let mut share = pin!(second.share());
        assert!(matches!(share.as_mut().poll(&mut context), Poll::Ready(Share::Failed(Failure::Internal))));
    }
}
