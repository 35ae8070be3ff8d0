//! An open connection with the behaviour of Linux TCP: windows, half closes, resets, results on a socket that was shut
//! down.

use std::io;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::{EndKey, Ends, Event, Hangup, Inner, LISTENERS, Parcel, SocketId, State};
use crate::net::sim::faults::cut;

impl Ends {
    pub(in crate::net::sim) fn poll_read(
        &mut self,
        world: &Inner,
        key: EndKey,
        context: &Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        assert!(buffer.capacity() > buffer.len(), "a read needs room");
        let room = buffer.capacity() - buffer.len();
        self.poll_take_some(world, key, context, room, |bytes| {
            buffer.extend_from_slice(bytes);
            bytes.len()
        })
    }

    /// `take` gets bytes and returns how many it consumed.
    pub(in crate::net::sim) fn poll_take(
        &mut self,
        world: &Inner,
        key: EndKey,
        context: &Context<'_>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_take_some(world, key, context, usize::MAX, take)
    }

    fn poll_take_some(
        &mut self,
        world: &Inner,
        key: EndKey,
        context: &Context<'_>,
        most: usize,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        let end = self.of(key);
        assert!(!end.read_dropped, "a read was dropped before it was done: its bytes would be lost");
        if end.inbox.is_empty() {
            // A direction that was ended cleanly stays so, even if a reset follows.
            if end.peer_finished {
                return Poll::Ready(Ok(0));
            }
            if let Some(error) = end.take_error() {
                return Poll::Ready(Err(error));
            }
            if end.is_readable() {
                return Poll::Ready(Ok(0));
            }
            end.reading = Some(context.waker().clone());
            return Poll::Pending;
        }
        let shown = cut(world, end.chop, end.inbox.len().min(most));
        let count = take(&end.inbox.make_contiguous()[..shown]).min(shown);
        end.inbox.drain(..count);
        let peer = end.peer;
        self.give_back_window(world, peer, count);
        Poll::Ready(Ok(count))
    }

    fn give_back_window(&mut self, world: &Inner, key: EndKey, count: usize) {
        if let Some(end) = self.ends.get_mut(&key) {
            end.outstanding -= count;
            if let Some(waker) = end.writing.take() {
                waker.wake();
            }
            if std::mem::take(&mut end.finish_held) {
                self.send(world, key, Parcel::Finish);
            }
        }
    }

    pub(in crate::net::sim) fn poll_readable(&mut self, key: EndKey, context: &Context<'_>) -> Poll<()> {
        let end = self.of(key);
        if end.is_readable() {
            return Poll::Ready(());
        }
        end.reading = Some(context.waker().clone());
        Poll::Pending
    }

    /// Accepts a part of `bytes`, at least one byte if there is any.
    pub(in crate::net::sim) fn poll_write(
        &mut self,
        world: &Inner,
        key: EndKey,
        context: &Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let end = self.of(key);
        assert!(!end.write_dropped, "a write was dropped before it was done: the stream has a hole");
        if let Some(error) = end.take_error() {
            return Poll::Ready(Err(error));
        }
        if end.shut_write || end.state != State::Open {
            return Poll::Ready(Err(io::Error::from_raw_os_error(libc::EPIPE)));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = end.window.saturating_sub(end.outstanding);
        if room == 0 {
            end.writing = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = cut(world, end.chop, room.min(bytes.len()));
        end.outstanding += count;
        self.send(world, key, Parcel::Bytes(Bytes::copy_from_slice(&bytes[..count])));
        Poll::Ready(Ok(count))
    }

    /// Accepts all of `bytes`, in any number of parcels. False: none of them.
    pub(in crate::net::sim) fn write_whole(&mut self, world: &Inner, key: EndKey, mut bytes: &[u8]) -> bool {
        let Some(end) = self.ends.get_mut(&key) else { return false };
        let is_open = end.state == State::Open && !end.shut_write && end.error.is_none();
        if !is_open || end.window.saturating_sub(end.outstanding) < bytes.len() {
            return false;
        }
        end.outstanding += bytes.len();
        let chop = end.chop;
        while !bytes.is_empty() {
            let (parcel, rest) = bytes.split_at(cut(world, chop, bytes.len()));
            self.send(world, key, Parcel::Bytes(Bytes::copy_from_slice(parcel)));
            bytes = rest;
        }
        true
    }

    pub(in crate::net::sim) fn note_dropped_read(&mut self, key: EndKey) {
        if let Some(end) = self.ends.get_mut(&key) {
            end.read_dropped = true;
        }
    }

    pub(in crate::net::sim) fn note_dropped_write(&mut self, key: EndKey) {
        if let Some(end) = self.ends.get_mut(&key) {
            end.write_dropped = true;
        }
    }

    // Parcels in transit.

    fn send(&mut self, world: &Inner, from: EndKey, parcel: Parcel) {
        let Some(end) = self.ends.get(&from) else { return };
        let (latency_us, to) = (end.latency_us, end.peer);
        let Some(peer) = self.ends.get_mut(&to) else { return };
        if let Parcel::Reset = parcel {
            // Parcels behind the point where the reset overtakes are lost.
            peer.incoming.truncate(world.between(0, peer.incoming.len() as u64) as usize);
        }
        let late_us = world.between(0, world.network.get().jitter_us);
        let at_us = (world.now_us() + latency_us + late_us).max(peer.last_arrival_us);
        peer.last_arrival_us = at_us;
        peer.incoming.push_back((at_us, parcel));
        world.schedule(at_us, Event::Arrive(to));
    }

    pub(in crate::net::sim) fn arrive(&mut self, world: &Inner, key: EndKey) {
        let Some(end) = self.ends.get_mut(&key) else { return };
        // A reset may have dropped the parcel of this event.
        if end.incoming.front().is_none_or(|&(at_us, _)| at_us > world.now_us()) {
            return;
        }
        let Some((_, parcel)) = end.incoming.pop_front() else { return };
        match parcel {
            Parcel::Bytes(bytes) => match end.state {
                State::Closed => self.send(world, key, Parcel::Reset),
                State::Dead => {}
                // RFC 1122 4.2.2.13: data after both directions were shut down triggers a reset.
                _ if end.shut_read && end.shut_write => {
                    end.state = State::Dead;
                    end.error = Some(libc::ECONNRESET);
                    end.wake();
                    self.send(world, key, Parcel::Reset);
                }
                _ => {
                    end.inbox.extend(&bytes);
                    if let Some(waker) = end.reading.take() {
                        waker.wake();
                    }
                }
            },
            Parcel::Finish => {
                end.peer_finished = true;
                if let Some(waker) = end.reading.take() {
                    waker.wake();
                }
            }
            Parcel::Reset => {
                end.incoming.clear();
                end.finish_held = false;
                // After both ends have finished, the connection is over, and a reset changes nothing.
                if end.state != State::Closed && !(end.peer_finished && end.shut_write) {
                    end.state = State::Dead;
                    end.error = Some(if end.peer_finished { libc::EPIPE } else { libc::ECONNRESET });
                    end.wake();
                }
            }
        }
    }

    // Ending.

    pub(in crate::net::sim) fn finish_writing(&mut self, world: &Inner, key: EndKey) {
        let end = self.of(key);
        if end.state == State::Open && !end.shut_write {
            end.shut_write = true;
            if let Some(waker) = end.writing.take() {
                waker.wake();
            }
            if end.outstanding < end.window {
                self.send(world, key, Parcel::Finish);
            } else {
                end.finish_held = true;
            }
        }
    }

    pub(in crate::net::sim) fn shut_both(&mut self, world: &Inner, id: SocketId) {
        if let Some((_, reader)) = id.checked_sub(LISTENERS).and_then(|number| self.readers.get_mut(&(number as u64))) {
            reader.shut = true;
            reader.waiting.drain(..).for_each(Waker::wake);
            return;
        }
        let Some(key) = self.names.get(id).copied().flatten() else { return };
        self.finish_writing(world, key);
        let end = self.of(key);
        end.shut_read = true;
        let opening = end.state == State::AnswerHead;
        if opening {
            end.state = State::Dead;
        }
        end.wake();
        if opening {
            self.send(world, key, Parcel::Reset);
        }
    }

    pub(in crate::net::sim) fn set_unclean(&mut self, key: EndKey) {
        self.of(key).unclean = true;
    }

    pub(in crate::net::sim) fn is_quiet(&mut self, key: EndKey) -> bool {
        let end = self.of(key);
        assert!(!end.read_dropped, "a read was dropped before it was done: its bytes would be lost");
        !end.is_readable()
    }

    pub(in crate::net::sim) fn has_input(&self, id: SocketId) -> bool {
        let end = self.names.get(id).copied().flatten().and_then(|key| self.ends.get(&key));
        end.is_some_and(|end| end.is_readable())
    }

    pub(in crate::net::sim) fn hangup(&self, id: SocketId) -> Option<Hangup> {
        match self.names.get(id).copied().flatten().and_then(|key| self.ends.get(&key)) {
            Some(end) => end.hangup(),
            None => Some(Hangup::Full),
        }
    }

    pub(in crate::net::sim) fn close(&mut self, world: &Inner, key: EndKey) {
        let end = self.of(key);
        if let Some(id) = end.id.take() {
            self.names[id] = None;
        }
        let end = self.of(key);
        let unread = std::mem::take(&mut end.inbox).len();
        let was_open = matches!(end.state, State::Open | State::AnswerHead);
        let (resets, finishes) = (end.unclean || unread > 0, !end.shut_write);
        let blocked = end.outstanding >= end.window;
        if resets {
            end.finish_held = false;
        }
        end.state = State::Closed;
        let peer = end.peer;
        self.give_back_window(world, peer, unread);
        if was_open && resets {
            self.send(world, key, Parcel::Reset);
        } else if was_open && finishes && blocked {
            self.of(key).finish_held = true;
        } else if was_open && finishes {
            self.send(world, key, Parcel::Finish);
        }
        if self.ends.get(&peer).is_none_or(|peer| peer.state == State::Closed) {
            self.ends.remove(&key);
            self.ends.remove(&peer);
        }
    }
}
