//! A flight that other cores follow, and the copies that they have of it.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use shards::CoreId;

use super::Flight;
use super::state::Stage;
use crate::error::Failure;
use crate::exchange::answer::{AnswerHead, End, Source};
use crate::exchange::core::Core;
use crate::exchange::message::{Message, Part};
use crate::net::now_ms;

impl Flight {
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
            state.serve(&bytes[known..], &mut core.memory.fresh.borrow_mut().framed);
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

    /// Feeds core `follower` from the start on.
    pub fn add_follower(self: &Rc<Flight>, core: &Core, follower: CoreId) {
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
        if state.drained_from.is_some() {
            drop(state);
            self.subscriber_joined(core);
        }
    }

    /// Feeds core `follower` no more; whether there is another one.
    pub fn remove_follower(self: &Rc<Flight>, core: &Core, follower: CoreId) -> bool {
        let mut state = self.state.borrow_mut();
        if let Some(place) = state.followers.iter().position(|(core, _)| *core == follower) {
            state.followers[place].1 -= 1;
            if state.followers[place].1 == 0 {
                state.followers.swap_remove(place);
            }
        }
        let others = !state.followers.is_empty();
        if !others && let Some(pump) = state.pump.take() {
            pump.wake();
        }
        drop(state);
        self.subscriber_left(core);
        others
    }
}
