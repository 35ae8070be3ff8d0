//! What the task that reads the backend says of its flight.

use std::sync::Arc;

use bytes::Bytes;

use super::state::{HEARTBEAT_MS, Stage};
use super::{Flight, LOCAL};
use crate::exchange::answer::{AnswerHead, End, Reuse};
use crate::exchange::core::Core;
use crate::exchange::entry::Entry;
use crate::exchange::message::{Message, Part};
use crate::exchange::owner::settle;
use crate::net::now_ms;

/// What followers elsewhere are told beside bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum News {
    AnswerHead,
    Bytes,
    End,
}

impl Flight {
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
        let is_drained;
        let (outgrown, added) = {
            let mut state = self.state.borrow_mut();
            let was_whole = state.whole;
            let fresh = &mut *core.memory.fresh.borrow_mut();
            fresh.clear();
            write(&mut fresh.bytes);
            state.serve(&fresh.bytes, &mut fresh.framed);
            let added = state.append(|log| log.extend_from_slice(&fresh.bytes));
            fresh.serial += 1;
            state.fresh = fresh.serial;
            is_drained = state.drained_from.is_some();
            (was_whole && !state.whole, added)
        };
        if added > 0 {
            self.tell(core, added, News::Bytes);
        }
        if outgrown {
            self.close_to_others(core);
        }
        if is_drained {
            self.bound_drained(core);
        }
    }

    /// Lets nobody else join: the owner is told that nothing will be stored.
    pub fn close_to_others(&self, core: &Core) {
        self.settle(core, None);
    }

    /// Tells the owner, once, if it knows of the flight. A private one has none.
    pub(super) fn settle(&self, core: &Core, kept: Option<Arc<Entry>>) {
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

    /// The flight is over, once; a second end is ignored.
    pub fn finish(&self, core: &Core, end: End) {
        let kept;
        {
            let mut state = self.state.borrow_mut();
            if state.end.is_some() {
                return;
            }
            state.alarms = [None; 2];
            self.has_drained(core, &mut state, &end);
            kept = match &end {
                End::Complete { reuse: Reuse::Kept(entry), .. } => Some(entry.clone()),
                End::Complete { reuse: Reuse::Converted | Reuse::AsItCame, .. } => None,
                End::Failed(_) | End::Stale(..) => None,
            };
            state.end = Some(end);
        }
        self.tell(core, 0, News::End);
        if let (Some(number), Some(fingerprint)) = (self.number(), self.fingerprint) {
            core.flights.feeding.borrow_mut().remove(&(fingerprint, number));
        }
        self.settle(core, kept);
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
}
