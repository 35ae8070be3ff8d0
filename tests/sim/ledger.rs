//! What a story has seen: every request of a client, every call that reached a backend, and the laws between the two.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use ringway::net::Dial;

use ringway::net::{now_ms, now_us};
use ringway::observe::counters::Counters;

use crate::prompt::Form;
use crate::reload::Sent;

/// How good the answer to a call was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// Not yet, or never, sent to its end.
    Unfinished,
    /// Complete and right; it may be stored.
    Whole,
    /// Complete in form, but cut at a length: it may be relayed, never stored.
    Short,
    /// An error, honestly told.
    Error,
    /// Something that only looks like an answer by its framing; it may be relayed, never stored.
    Broken,
}

/// One request as it reached a backend.
#[derive(Clone, Debug)]
pub struct Call {
    pub prompt: u64,
    pub request_id: String,
    pub act: String,
    /// By which configuration it was made.
    pub generation: u64,
    pub worth: Worth,
    /// The backend has said that it did nothing about it.
    pub refused: bool,
    /// When the backend had sent the last of it, or knew that nobody wants it.
    pub over_ms: Option<u64>,
    /// When it was rated last.
    pub rated_ms: u64,
    pub called_us: u64,
    /// Of a call over HTTP/1.1: one over HTTP/2 may have stood in line on its connection.
    pub way: Option<Way>,
}

/// How a call reached its backend.
#[derive(Clone, Debug)]
pub struct Way {
    pub backend: usize,
    pub address: Dial,
    /// When its connection was accepted, and when its own first byte came.
    pub accepted_us: u64,
    pub begun_us: u64,
    /// How many calls its connection had carried before.
    pub before: usize,
}

/// A core that was told where a backend is from now on.
#[derive(Clone, Debug)]
pub struct Told {
    pub core: usize,
    pub backend: usize,
    pub addresses: Arc<[Dial]>,
    pub at_us: u64,
}

/// What a client got for one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The client has not got to it, or was killed.
    Open,
    /// A complete answer with the right text.
    Answer { call: usize },
    /// A complete answer that a backend itself had cut at a length or broken.
    Relayed { call: usize },
    /// What an probe_request that is no prompt should get.
    ProbeRequest,
    /// A complete error.
    Error { status: u16, code: String },
    /// An error event and then an unclean end.
    ErrorEvent { code: String },
    /// The connection ended in the middle of the answer, and the client could see that.
    Cut,
    /// The connection ended before the first byte of an answer.
    Nothing,
}

/// What a client asked, and what it got.
#[derive(Clone, Debug)]
#[allow(dead_code)] // some of it is only for the reader of a failure
pub struct Request {
    /// The how-manieth of the story, from 0.
    pub number: usize,
    pub prompt: u64,
    pub form: Form,
    pub tenant: usize,
    pub outcome: Outcome,
    pub cache: Option<String>,
    pub asked_ms: u64,
    pub asked_us: u64,
    pub closed_ms: u64,
    /// The call whose content the client has seen.
    pub seen: Option<usize>,
    pub told: String,
}

/// How long answers are kept, and how exactly that can be told from outside.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keeping {
    pub ttl_ms: u64,
    pub stale_ms: u64,
    /// Longest time from the last byte of a backend to where the answer is kept.
    pub slack_ms: u64,
}

/// How a process of the node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With all it has in its last snapshot.
    Stopped,
    Killed,
}

#[derive(Default)]
pub struct Book {
    keeping: Keeping,
    pub calls: Vec<Call>,
    pub requests: BTreeMap<String, Request>,
    /// In the order in which it happened.
    pub told: Vec<Told>,
    /// What was purged, and when that was done: of one tenant, or of all.
    pub purged: Vec<(Option<usize>, u64)>,
    /// How each process of the node ended, and when.
    pub ends: Vec<(End, u64)>,
    /// By number, from 1.
    pub generations: Vec<Sent>,
    /// Connections that are open now, by address.
    pub open: BTreeMap<String, usize>,
    next: u64,
}

/// Shared by everybody in a story.
#[derive(Clone)]
pub struct Ledger(Rc<RefCell<Book>>);

impl Ledger {
    pub fn new(keeping: Keeping) -> Ledger {
        Ledger(Rc::new(RefCell::new(Book { keeping, ..Book::default() })))
    }

    /// Notes a request and gives it its id.
    pub fn ask(&self, prompt: u64, form: Form, tenant: usize, told: String) -> String {
        let mut book = self.0.borrow_mut();
        book.next += 1;
        let id = format!("ask-{}", book.next);
        let number = book.requests.len();
        let (outcome, asked_ms, asked_us, closed_ms) = (Outcome::Open, now_ms(), now_us(), u64::MAX);
        let (cache, seen) = (None, None);
        let request =
            Request { number, prompt, form, tenant, outcome, cache, asked_ms, asked_us, closed_ms, seen, told };
        book.requests.insert(id.clone(), request);
        id
    }

    /// Notes what a request got. Once.
    pub fn close(&self, id: &str, outcome: Outcome, cache: Option<&str>) {
        let mut book = self.0.borrow_mut();
        let request = book.requests.get_mut(id).expect("only what was asked is answered");
        assert_eq!(request.outcome, Outcome::Open, "{id} gets one outcome");
        request.outcome = outcome;
        request.closed_ms = now_ms();
        request.cache = cache.map(str::to_owned);
    }

    /// Notes that content of `call` reached the client of request `id`.
    pub fn see(&self, id: &str, call: usize) {
        if let Some(request) = self.0.borrow_mut().requests.get_mut(id) {
            request.seen = Some(call);
        }
    }

    /// Notes a call and gives it its number.
    pub fn call(
        &self,
        prompt: u64,
        request_id: &str,
        credential: Option<&str>,
        act: String,
        way: Option<Way>,
    ) -> usize {
        let generation = credential.and_then(|text| text.strip_prefix("generation-")?.parse().ok());
        let generation = generation.unwrap_or_else(|| panic!("a call without our credential: {credential:?}"));
        let mut book = self.0.borrow_mut();
        let request = book.requests.get(request_id).unwrap_or_else(|| panic!("a call for nobody: {request_id}"));
        assert_eq!(request.prompt, prompt, "a call asks what its request asked");
        assert!(!request.told.contains("only-if-cached"), "a call for what was to come from the cache alone");
        let (worth, refused, over_ms, rated_ms, called_us) = (Worth::Unfinished, false, None, now_ms(), now_us());
        let request_id = request_id.to_owned();
        book.calls.push(Call {
            prompt,
            request_id,
            act,
            generation,
            worth,
            refused,
            over_ms,
            rated_ms,
            called_us,
            way,
        });
        book.calls.len() - 1
    }

    /// Notes that a purge, of one tenant or of all, has returned.
    pub fn purge(&self, tenant: Option<usize>) {
        self.0.borrow_mut().purged.push((tenant, now_us()));
    }

    /// Notes that the node's process ends here.
    pub fn restart(&self, end: End) {
        self.0.borrow_mut().ends.push((end, now_ms()));
    }

    /// Notes that the next generation goes to the cores.
    pub fn sent(&self, sent: Sent) {
        self.0.borrow_mut().generations.push(sent);
    }

    /// Notes that every core has acknowledged what is up to `number`.
    pub fn in_force(&self, number: u64) {
        for sent in self.0.borrow_mut().generations.iter_mut().take(number as usize) {
            sent.in_force_us.get_or_insert_with(now_us);
        }
    }

    /// Notes that a core knows of a backend's addresses.
    pub fn tell(&self, told: Told) {
        self.0.borrow_mut().told.push(told);
    }

    /// Notes a connection at `address` until the guard is dropped.
    pub fn connected(&self, address: &Dial) -> Connected {
        let address = format!("{address:?}");
        *self.0.borrow_mut().open.entry(address.clone()).or_default() += 1;
        Connected { ledger: self.clone(), address }
    }

    pub fn rate(&self, call: usize, worth: Worth) {
        let call = &mut self.0.borrow_mut().calls[call];
        (call.worth, call.rated_ms) = (worth, now_ms());
    }

    /// Notes that the backend refuses a call, so that it may be made elsewhere.
    pub fn refuse(&self, call: usize) {
        self.0.borrow_mut().calls[call].refused = true;
    }

    /// Notes that the backend is done with a call.
    pub fn over(&self, call: usize) {
        self.0.borrow_mut().calls[call].over_ms = Some(now_ms());
    }

    pub fn look<R>(&self, look: impl FnOnce(&Book) -> R) -> R {
        look(&self.0.borrow())
    }
}

/// See [`Ledger::connected`].
pub struct Connected {
    ledger: Ledger,
    address: String,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut book = self.ledger.0.borrow_mut();
        *book.open.get_mut(&self.address).expect("it was counted") -= 1;
    }
}

/// Whether an answer said of itself that it had expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    Fresh,
    Stale,
}

impl Book {
    /// Whether `call` may answer request `id` at all: its own prompt, asked by its own tenant, and, from the cache,
    /// only what is complete and young, or marked as too old.
    pub fn check_source(&self, id: &str, call: usize, cache: Option<&str>, marked: Marked) {
        let request = &self.requests[id];
        let call = self.calls.get(call).unwrap_or_else(|| panic!("{id} got an answer from no call: {call}"));
        assert_eq!(call.prompt, request.prompt, "{id} got the answer to another prompt: {call:?}");
        let asker = &self.requests[&call.request_id];
        assert_eq!(asker.tenant, request.tenant, "{id} got another tenant's answer: {call:?}");
        for (tenant, purged_us) in &self.purged {
            let concerns = tenant.is_none_or(|tenant| tenant == request.tenant) && request.asked_us > *purged_us;
            assert!(!concerns || call.called_us >= *purged_us, "{id} got what was purged at {purged_us}: {call:?}");
        }
        let Keeping { ttl_ms, stale_ms, slack_ms } = self.keeping;
        let over_ms = if call.worth == Worth::Unfinished { call.over_ms.unwrap_or(u64::MAX) } else { call.rated_ms };
        let age_ms = request.asked_ms.saturating_sub(over_ms);
        let most_ms = slack_ms
            + match (cache, marked) {
                (Some("HIT"), Marked::Stale) => ttl_ms + stale_ms,
                (Some("HIT"), Marked::Fresh) => ttl_ms,
                _ => 0, // whoever joins a call joins one that runs
            };
        assert!(age_ms <= most_ms, "{id} got what was {age_ms} ms old, {cache:?} {marked:?}: {call:?}");
        if cache == Some("HIT") {
            assert_eq!(call.worth, Worth::Whole, "{id} got from the cache what must not be there: {call:?}");
        }
        let expired = now_ms().saturating_sub(call.rated_ms) >= ttl_ms && stale_ms > 0;
        assert!(marked == Marked::Fresh || expired, "{id} got a good answer that was called stale: {call:?}");
    }
}

/// Tokens that are recorded as spent by the tenant of this number.
pub fn recorded_tokens<'a>(counters: impl Iterator<Item = &'a Counters>, tenant: u32) -> u64 {
    let mut sum = 0;
    for of_core in counters {
        of_core.usage.read(|key, amounts| {
            if key.tenant == tenant {
                sum += amounts.prompt_tokens + amounts.completion_tokens;
            }
        });
    }
    sum
}
