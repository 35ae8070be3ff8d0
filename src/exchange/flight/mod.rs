//! One upstream call and everybody who reads it: the leader's own client, others on this core, and other cores by
//! message. What the backend sent goes to a log; each reader follows at its own pace, so that neither a slow nor a
//! vanished client holds the others. Lives on one core; a core that follows another one's flight has a copy fed by mail.

use std::borrow::Cow;
use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use shards::Fingerprint;

use super::entry::Entry;
use super::tags::Tags;
use crate::net::watch::Alarm;

mod bill; // what its upstream call has used
pub mod drained; // a call that goes on for nobody
mod enter; // how one begins
mod follow; // what the leader's core tells its copies elsewhere
pub mod free_list; // flights for the next who need one
mod lead; // what the task that reads the backend says
pub mod state;
pub mod subscriber;
mod verdict; // what the owner answers

use state::{Stage, State};

/// Which of two attempts that run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    First,
    /// Beside one that is slow.
    Hedge,
}

/// Everybody has left: what was waited for is no longer wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abandoned;

/// The bit that tells numbers of flights that one core began by itself from those that owners draw.
const LOCAL: u64 = 1 << 63;

pub struct Flight {
    fingerprint: Option<Fingerprint>,
    state: RefCell<State>,
}

impl Flight {
    /// Whether the owner does not know of it, or there is none.
    pub fn is_local(&self) -> bool {
        self.number().is_none_or(|number| number & LOCAL != 0)
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

    /// Until when an answer that begins is of use to somebody. Of those on other cores it is not known.
    pub fn wanted_until_ms(&self) -> u64 {
        let state = self.state.borrow();
        let until_ms = state.readers.iter().flatten().map(|place| place.until_ms.unwrap_or(u64::MAX));
        if state.followers.is_empty() { until_ms.max().unwrap_or(u64::MAX) } else { u64::MAX }
    }

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
}
