//! One upstream call and everybody who reads it: the leader's own client, others on this core, and other cores by
//! message. What the backend sent goes to a log; each reader follows at its own pace, so that neither a slow nor a
//! vanished client holds the others. Lives on one core; a core that follows another one's flight has a copy fed by mail.

use std::borrow::Cow;
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use shards::{CoreId, Fingerprint};

use super::core::Core;
use super::generation::Generation;
use super::messages::{Entry, Message, Part, settle};
use super::purges::Tags;
use crate::config::snapshot::Price;
use crate::dialect::facts::{Form, NotStored, TokenUsage};
use crate::error::Failure;
use crate::net::now_ms;
use crate::net::watch::Alarm;

mod free_list; // flights for the next who need one
mod state;
mod subscriber;
mod verdict; // what the owner answers

pub use free_list::FreeList;
pub use state::{DirectWriter, Served};
use state::{HEARTBEAT_MS, Place, Stage, State};
pub use subscriber::{Subscriber, SubscriberEvent};

/// The head of an answer, as far as it goes to clients.
#[derive(Debug)]
pub struct AnswerHead {
    pub status: u16,
    /// The backend it came from.
    pub backend: Arc<str>,
    /// What the log holds: the events of a stream without usage event and `[DONE]`, or the body as it came.
    pub form: Form,
    pub content_type: Cow<'static, [u8]>,
    /// Of the body, if the backend said it.
    pub length: Option<u64>,
    /// Further header lines that clients may see, each with its line end.
    pub fields: Vec<u8>,
    /// Of the model that answered.
    pub price: Price,
    /// How much of the time up to here was spent waiting, not working.
    pub waited_us: u64,
}

/// How a flight ended.
#[derive(Clone, Debug)]
pub enum End {
    /// The answer is complete; with the usage event of a stream, if the backend sent one.
    Complete {
        reuse: Reuse,
        /// Why the cache does not keep it.
        not_stored: Option<NotStored>,
        usage_event: Option<Bytes>,
        tokens: Option<TokenUsage>,
    },
    /// Every backend failed, and there is an expired answer that may serve in that case (RFC 5861 4), to those who take one.
    Stale(Arc<Entry>, Failure),
    Failed(Failure),
}

/// Whom a complete answer serves beside those who get it in the form in which it came.
#[derive(Clone, Debug)]
pub enum Reuse {
    /// Whoever asks later, too: it is stored.
    Kept(Arc<Entry>),
    /// Followers that asked for the other form, if it can be converted exactly.
    Converted,
    AsItCame,
}

/// What followers elsewhere are told beside bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum News {
    AnswerHead,
    Bytes,
    End,
}

/// Which of two attempts that run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    First,
    /// PendingResponse beside one that is slow.
    Hedge,
}

/// Everybody has left: what was waited for is no longer wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abandoned;

/// The flight that feeds a copy on another core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub leader: CoreId,
    pub number: u64,
}

/// The bit that tells numbers of flights that one core began by itself from those that owners draw.
const LOCAL: u64 = 1 << 63;

pub struct Flight {
    fingerprint: Option<Fingerprint>,
    state: RefCell<State>,
}

impl Flight {
    /// A flight whose owner is about to be asked; others on this core can take part from now on.
    pub fn asking(core: &Generation, fingerprint: Fingerprint, tags: Tags) -> Rc<Flight> {
        Flight::enter_map(core, fingerprint, tags, Stage::Asking)
    }

    /// A flight of this core, to be settled as `number`.
    /// `stale` may serve if every backend fails.
    pub fn leading(
        core: &Generation,
        fingerprint: Fingerprint,
        tags: Tags,
        number: u64,
        stale: Option<Arc<Entry>>,
    ) -> Rc<Flight> {
        let flight = Flight::enter_map(core, fingerprint, tags, Stage::Flying(Some(number)));
        flight.state.borrow_mut().stale = stale;
        flight
    }

    /// A flight of this core that its owner does not know of: it did not answer.
    pub fn local(core: &Generation, fingerprint: Fingerprint, tags: Tags) -> Rc<Flight> {
        let number = core.local_flights.get() + 1;
        core.local_flights.set(number);
        Flight::enter_map(core, fingerprint, tags, Stage::Flying(Some(LOCAL | number)))
    }

    /// Whether the owner does not know of it, or there is none.
    pub fn is_local(&self) -> bool {
        self.number().is_none_or(|number| number & LOCAL != 0)
    }

    fn enter_map(core: &Generation, fingerprint: Fingerprint, tags: Tags, stage: Stage) -> Rc<Flight> {
        let flight = Flight::new(core, Some(fingerprint), stage);
        {
            let mut state = flight.state.borrow_mut();
            state.tags = tags;
            if !matches!(state.stage, Stage::Asking) {
                state.born = core.purges.latest();
            }
        }
        let before = core.flights.borrow_mut().insert(fingerprint, flight.clone());
        Flight::keep_fed(core, before);
        flight
    }

    /// Takes what there is for `fingerprint` from where others look for it: it is silent.
    pub fn displace(core: &Core, fingerprint: &Fingerprint) {
        let before = core.flights.borrow_mut().remove(fingerprint);
        Flight::keep_fed(core, before);
    }

    /// A copy nobody joins any more still gets its messages: those who read it here are not done.
    fn keep_fed(core: &Core, before: Option<Rc<Flight>>) {
        if let Some(before) = before
            && before.is_copy()
        {
            core.displaced.borrow_mut().push(before);
        }
    }

    /// Whether another core's messages decide how it goes on.
    fn is_copy(&self) -> bool {
        let state = self.state.borrow();
        state.end.is_none() && matches!(state.stage, Stage::Asking | Stage::Fed(_))
    }

    /// Whether this is a flight for `fingerprint`.
    pub fn is_for(&self, fingerprint: &Fingerprint) -> bool {
        self.fingerprint.as_ref() == Some(fingerprint)
    }

    /// A flight for one exchange alone.
    pub fn private(core: &Generation, stale: Option<Arc<Entry>>) -> Rc<Flight> {
        let flight = Flight::new(core, None, Stage::Flying(None));
        flight.state.borrow_mut().stale = stale;
        flight
    }

    /// Takes a place in the flight.
    pub fn subscriber(self: &Rc<Flight>, core: &Rc<Core>) -> Subscriber {
        let mut state = self.state.borrow_mut();
        let place = state.readers.iter().position(Option::is_none).unwrap_or_else(|| {
            state.readers.push(None);
            state.readers.len() - 1
        });
        state.readers[place] = Some(Place::default());
        Subscriber { core: core.clone(), flight: self.clone(), place, opened: false, inline_call: None }
    }

    /// Whether this is flight `number` of this core, and others may join.
    pub fn is_open_as(&self, number: u64) -> bool {
        let state = self.state.borrow();
        !state.settled && !state.abandoned && matches!(state.stage, Stage::Flying(Some(own)) if own == number)
    }

    /// Whether one who comes now gets the answer from its start.
    pub fn can_be_joined(&self) -> bool {
        let state = self.state.borrow();
        state.whole && !state.abandoned
    }

    /// How many purges there had been when it began, on this core or its leader's. One whose owner has not answered is joined by
    /// everybody: what it is told is looked at then.
    pub fn born(&self) -> u64 {
        self.state.borrow().born
    }

    /// To what its answer belongs.
    pub fn tags(&self) -> Tags {
        self.state.borrow().tags
    }

    /// Takes the flight from where others look for it: its owner does not answer.
    pub fn give_up(&self, core: &Core) {
        if self.is_asking() {
            self.leave_map(core);
        }
    }

    /// The content type of the answer, for the cache to keep.
    pub fn content_type(&self) -> Cow<'static, [u8]> {
        let said = self.state.borrow().answer_head.as_ref().map(|answer_head| answer_head.content_type.clone());
        said.filter(|content_type| !content_type.is_empty()).unwrap_or(Cow::Borrowed(b"application/json"))
    }

    /// Whether anything of an answer has come.
    pub fn has_opened(&self) -> bool {
        self.state.borrow().answer_head.is_some()
    }

    /// The number of the flight this one reads, of this core or another.
    pub fn number(&self) -> Option<u64> {
        match &self.state.borrow().stage {
            Stage::Flying(number) => *number,
            Stage::Fed(source) => Some(source.number),
            _ => None,
        }
    }

    /// Takes what the leader's core sent first: everything up to now.
    pub fn join_fed(
        &self,
        core: &Core,
        source: Source,
        born: u64,
        answer_head: Option<Arc<AnswerHead>>,
        bytes: &[u8],
        end: Option<End>,
    ) {
        {
            let mut state = self.state.borrow_mut();
            (state.stage, state.born) = (Stage::Fed(source), born);
            if state.is_empty() {
                drop(state);
                self.leave_map(core);
                if end.is_none() {
                    self.stop_following(core, source);
                }
                return;
            }
        }
        self.fed(core, source, answer_head, 0, bytes, end);
    }

    /// Takes what the leader's core sent since.
    pub fn fed(
        &self,
        core: &Core,
        source: Source,
        answer_head: Option<Arc<AnswerHead>>,
        at: u64,
        bytes: &[u8],
        end: Option<End>,
    ) {
        let mut state = self.state.borrow_mut();
        if !matches!(state.stage, Stage::Fed(own) if own == source) || state.end.is_some() {
            return;
        }
        let tells_more = answer_head.is_some() || end.is_some();
        if state.answer_head.is_none() {
            state.answer_head = answer_head;
        }
        state.heard_ms = now_ms();
        let reach = state.reach();
        let lost = at > reach;
        if !lost {
            // What is here already comes again where a message crossed with the joining.
            let known = (reach - at).min(bytes.len() as u64) as usize;
            state.serve(&bytes[known..], &mut core.fresh.borrow_mut().framed);
            state.append(|log| log.extend_from_slice(&bytes[known..]));
        }
        if lost && end.is_none() {
            self.stop_following(core, source);
        }
        if lost {
            // A message was lost on the way, and with it a part of the answer.
            state.end = Some(End::Failed(Failure::FlightLost));
        } else {
            state.end = end;
        }
        if state.end.is_some() {
            self.leave_map(core);
        }
        if tells_more || lost { state.wake() } else { state.wake_behind() }
    }

    fn stop_following(&self, core: &Core, source: Source) {
        if let Some(fingerprint) = self.fingerprint {
            core.post(source.leader, Message::Leave { fingerprint, number: source.number, follower: core.id });
        }
    }

    // What the task that reads the backend says.

    /// When everybody has left, `alarm` is tripped.
    pub fn set_alarm(&self, lane: Lane, alarm: Alarm) {
        self.state.borrow_mut().alarms[lane as usize] = Some(alarm);
    }

    /// Waits for `work`, and drops it when everybody has left.
    pub async fn unless_abandoned<T>(&self, work: impl Future<Output = T>) -> Result<T, Abandoned> {
        let mut work = std::pin::pin!(work);
        poll_fn(|context| {
            if self.is_abandoned() {
                return Poll::Ready(Err(Abandoned));
            }
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            self.state.borrow_mut().pump = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// A sign of life, whatever it brought: who follows knows that somebody is at work. Cores that are fed hear of it
    /// now and then.
    pub fn alive(&self, core: &Core) {
        let now_ms = now_ms();
        let tell = {
            let mut state = self.state.borrow_mut();
            state.heard_ms = now_ms;
            !state.followers.is_empty() && now_ms >= state.told_ms + HEARTBEAT_MS
        };
        if tell {
            self.tell(core, 0, News::Bytes);
        }
    }

    /// When a sign of life was last heard.
    pub fn heard_ms(&self) -> u64 {
        self.state.borrow().heard_ms
    }

    /// An expired answer, for the case that every backend fails.
    pub fn stale(&self) -> Option<Arc<Entry>> {
        self.state.borrow().stale.clone()
    }

    /// Whether everybody has left.
    pub fn is_abandoned(&self) -> bool {
        self.state.borrow().abandoned
    }

    /// The answer begins: from here on clients get it, and there is no other attempt. `held` is what has come of it.
    pub fn open(&self, core: &Core, answer_head: AnswerHead, held: Vec<u8>) {
        let (outgrown, added) = {
            let mut state = self.state.borrow_mut();
            let added = state.begin(held, answer_head.length.is_some());
            state.answer_head = Some(Arc::new(answer_head));
            (!state.whole, added)
        };
        self.tell(core, added, News::AnswerHead);
        if outgrown {
            self.close_to_others(core);
        }
    }

    /// Lets `write` append to the log. An answer that outgrows what may be stored can no longer be joined.
    pub fn push(&self, core: &Core, write: impl FnOnce(&mut Vec<u8>)) {
        let (outgrown, added) = {
            let mut state = self.state.borrow_mut();
            let was_whole = state.whole;
            let fresh = &mut *core.fresh.borrow_mut();
            fresh.clear();
            write(&mut fresh.bytes);
            state.serve(&fresh.bytes, &mut fresh.framed);
            let added = state.append(|log| log.extend_from_slice(&fresh.bytes));
            fresh.serial += 1;
            state.fresh = fresh.serial;
            (was_whole && !state.whole, added)
        };
        if added > 0 {
            self.tell(core, added, News::Bytes);
        }
        if outgrown {
            self.close_to_others(core);
        }
    }

    /// Lets nobody else join: the owner is told that nothing will be stored.
    pub fn close_to_others(&self, core: &Core) {
        self.settle(core, None);
    }

    /// Tells the owner, once, if it knows of the flight. A private one has none.
    fn settle(&self, core: &Core, kept: Option<Arc<Entry>>) {
        let mut state = self.state.borrow_mut();
        let (Some(fingerprint), Stage::Flying(Some(number)), false) = (self.fingerprint, &state.stage, state.settled)
        else {
            return;
        };
        let number = *number;
        state.settled = true;
        drop(state);
        self.leave_map(core);
        if number & LOCAL == 0 {
            settle(core, fingerprint, number, kept);
        }
    }

    /// Shows `look` the whole log, if it was kept whole.
    pub fn look_at_whole<R>(&self, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let state = self.state.borrow();
        state.whole.then(|| look(state.bytes()))
    }

    /// The whole log, if it was kept whole, for the cache to keep.
    pub fn freeze(&self) -> Option<Bytes> {
        let mut state = self.state.borrow_mut();
        state.whole.then(|| state.freeze())
    }

    /// The flight is over, once; a second end is ignored.
    pub fn finish(&self, core: &Core, end: End) {
        let kept;
        {
            let mut state = self.state.borrow_mut();
            if state.end.is_some() {
                return;
            }
            state.alarms = [None; 2];
            kept = match &end {
                End::Complete { reuse: Reuse::Kept(entry), .. } => Some(entry.clone()),
                End::Complete { reuse: Reuse::Converted | Reuse::AsItCame, .. } => None,
                End::Failed(_) | End::Stale(..) => None,
            };
            state.end = Some(end);
        }
        self.tell(core, 0, News::End);
        if let (Some(number), Some(fingerprint)) = (self.number(), self.fingerprint) {
            core.feeding.borrow_mut().remove(&(fingerprint, number));
        }
        self.settle(core, kept);
    }

    /// Whether the fastest reader is near enough, or everybody has left.
    pub fn has_room(&self) -> bool {
        self.state.borrow().has_room()
    }

    /// Waits until there is room.
    pub fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.borrow_mut();
        if state.has_room() {
            return Poll::Ready(());
        }
        state.pump = Some(context.waker().clone());
        Poll::Pending
    }

    /// Wakes the readers here, and writes to the followers elsewhere: the last `added` bytes of the log, and the news.
    fn tell(&self, core: &Core, added: usize, news: News) {
        let mut state = self.state.borrow_mut();
        match news {
            News::Bytes => state.wake_behind(),
            News::AnswerHead | News::End => state.wake(),
        }
        let (Some(fingerprint), Stage::Flying(Some(number))) = (self.fingerprint, &state.stage) else { return };
        if state.followers.is_empty() {
            return;
        }
        // What was just added is never cut off: the log's front alone is.
        let log = state.bytes();
        let bytes = Bytes::copy_from_slice(&log[log.len() - added.min(log.len())..]);
        let at = state.reach() - bytes.len() as u64;
        let number = *number;
        for &(follower, _) in &state.followers {
            let answer_head = if news == News::AnswerHead { state.answer_head.clone() } else { None };
            let end = if news == News::End { state.end.clone() } else { None };
            let (leader, part, bytes) = (core.id, Part::Next, bytes.clone());
            let born = state.born;
            core.post(follower, Message::Feed { fingerprint, number, leader, part, born, answer_head, at, bytes, end });
        }
        state.told_ms = now_ms();
    }

    /// Feeds core `follower` from the start on.
    pub fn add_follower(&self, core: &Core, follower: CoreId) {
        let mut state = self.state.borrow_mut();
        let (Some(fingerprint), Stage::Flying(Some(number))) = (self.fingerprint, &state.stage) else { return };
        let number = *number;
        match state.followers.iter_mut().find(|(core, _)| *core == follower) {
            Some((_, joined)) => *joined += 1,
            None => state.followers.push((follower, 1)),
        }
        let bytes = Bytes::copy_from_slice(state.bytes());
        let (answer_head, end) = (state.answer_head.clone(), state.end.clone());
        let (leader, part) = (core.id, Part::First);
        let (born, at) = (state.born, 0);
        core.post(follower, Message::Feed { fingerprint, number, leader, part, born, answer_head, at, bytes, end });
    }

    /// Feeds core `follower` no more; whether there is another one.
    pub fn remove_follower(&self, core: &Core, follower: CoreId) -> bool {
        let mut state = self.state.borrow_mut();
        if let Some(place) = state.followers.iter().position(|(core, _)| *core == follower) {
            state.followers[place].1 -= 1;
            if state.followers[place].1 == 0 {
                state.followers.swap_remove(place);
            }
        }
        let alarms = state.abandon_if_empty();
        let others = !state.followers.is_empty();
        if !others && let Some(pump) = state.pump.take() {
            pump.wake();
        }
        drop(state);
        self.end_abandoned(core, alarms);
        others
    }

    /// Nobody is left: nobody joins any more, and the backend is left alone at once.
    fn end_abandoned(&self, core: &Core, alarms: [Option<Alarm>; 2]) {
        if self.is_abandoned() {
            self.settle(core, None);
        }
        alarms.into_iter().flatten().for_each(Alarm::interrupt);
    }

    /// How much of the answer has come.
    pub fn received_bytes(&self) -> u64 {
        self.state.borrow().reach()
    }

    /// Where the flight stands, for a simulation that found one left behind.
    #[cfg(sim)]
    pub fn describe(&self) -> String {
        let state = self.state.borrow();
        let (stage, followers) = (&state.stage, &state.followers);
        let readers: Vec<Option<u64>> = state.readers.iter().map(|place| Some(place.as_ref()?.at)).collect();
        format!("{stage:?}, readers {readers:?}, followers {followers:?}, reach {}, end {:?}", state.reach(), state.end)
    }

    fn leave_map(&self, core: &Core) {
        let Some(fingerprint) = self.fingerprint else { return };
        core.displaced.borrow_mut().retain(|flight| !std::ptr::eq(&**flight, self));
        let mut flights = core.flights.borrow_mut();
        if flights.get(&fingerprint).is_some_and(|flight| std::ptr::eq(&**flight, self)) {
            flights.remove(&fingerprint);
        }
    }
}
