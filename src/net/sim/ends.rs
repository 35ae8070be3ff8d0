//! The two ends of each simulated connection and the parcels in transit between them, with the behaviour of Linux TCP:
//! windows, half closes, resets, poll results. Owned by the world; holds wakers, never runs a task.

mod flow; // reading, writing, parcels in transit, and the end of a connection

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::{
    Chop, Dial, Hangup, Place, Reachability, SocketId,
    executor::{Event, Inner},
};

/// Identifies an end permanently, unlike a [`SocketId`], which is reused as the kernel reuses descriptors.
pub(super) type EndKey = u64;

/// Listener ids start here, so that none equals a socket's.
const LISTENERS: SocketId = 1 << 40;

enum Parcel {
    Bytes(Bytes),
    Finish,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AnswerHead,
    Open,
    Refused,
    /// Reset by the peer, or shut down before it was open.
    Dead,
    /// Closed by its owner; kept until the peer's end is closed too.
    Closed,
}

struct End {
    id: Option<SocketId>,
    place: Place,
    address: Option<Dial>,
    peer: EndKey,
    state: State,
    /// In transit to this end, with times of arrival.
    incoming: VecDeque<(u64, Parcel)>,
    last_arrival_us: u64,
    /// Arrived and not yet read.
    inbox: VecDeque<u8>,
    /// Written by this end and not yet read at the other end.
    outstanding: usize,
    window: usize,
    latency_us: u64,
    chop: Chop,
    peer_finished: bool,
    shut_read: bool,
    shut_write: bool,
    /// The FIN of our direction waits behind bytes that the window holds back.
    finish_held: bool,
    error: Option<i32>,
    unclean: bool,
    reading: Option<Waker>,
    writing: Option<Waker>,
    read_dropped: bool,
    write_dropped: bool,
}

impl End {
    fn wake(&mut self) {
        for waker in [self.reading.take(), self.writing.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn is_readable(&self) -> bool {
        !self.inbox.is_empty()
            || self.peer_finished
            || self.shut_read
            || self.error.is_some()
            || !matches!(self.state, State::Open | State::AnswerHead)
    }

    fn hangup(&self) -> Option<Hangup> {
        let half = self.peer_finished || self.shut_read;
        if self.error.is_some() || (half && self.shut_write) || !matches!(self.state, State::Open | State::AnswerHead) {
            Some(Hangup::Full)
        } else {
            half.then_some(Hangup::Half)
        }
    }

    fn take_error(&mut self) -> Option<io::Error> {
        self.error.take().map(io::Error::from_raw_os_error)
    }
}

#[derive(Default)]
struct EventFdReader {
    /// Accepts no more connections; queued ones are still accepted.
    shut: bool,
    queue: VecDeque<EndKey>,
    waiting: Vec<Waker>,
}

/// All ends, listeners and socket ids of a world.
#[derive(Default)]
pub(super) struct Ends {
    ends: BTreeMap<EndKey, End>,
    made: EndKey,
    /// The end behind each socket id; the lowest free id is assigned next.
    names: Vec<Option<EndKey>>,
    readers: BTreeMap<u64, (Dial, EventFdReader)>,
    readers_made: u64,
    reachabilities: Vec<(Dial, Reachability)>,
}

impl Ends {
    fn make(&mut self, world: &Inner, place: Place, state: State) -> EndKey {
        let network = world.network.get();
        self.made += 1;
        let chop = if world.one_in(network.chopped_one_in) {
            Chop::UpTo([1, 3, 20, 300][world.between(0, 3) as usize])
        } else {
            Chop::Whole
        };
        let end = End {
            id: None,
            place,
            address: None,
            peer: 0,
            state,
            incoming: VecDeque::new(),
            last_arrival_us: 0,
            inbox: VecDeque::new(),
            outstanding: 0,
            window: world.between(network.window_bytes.0, network.window_bytes.1) as usize,
            latency_us: world.between(network.latency_us.0, network.latency_us.1),
            chop,
            peer_finished: false,
            shut_read: false,
            shut_write: false,
            finish_held: false,
            error: None,
            unclean: false,
            reading: None,
            writing: None,
            read_dropped: false,
            write_dropped: false,
        };
        self.ends.insert(self.made, end);
        self.made
    }

    fn name(&mut self, key: EndKey) -> SocketId {
        let id = self.names.iter().position(Option::is_none).unwrap_or(self.names.len());
        if id == self.names.len() {
            self.names.push(None);
        }
        self.names[id] = Some(key);
        if let Some(end) = self.ends.get_mut(&key) {
            end.id = Some(id);
        }
        id
    }

    /// The end of a live socket, which its owner holds.
    fn of(&mut self, key: EndKey) -> &mut End {
        self.ends.get_mut(&key).expect("an open socket has an end")
    }

    /// Nobody waits at an end any more. False: it has ended.
    pub(super) fn leave(&mut self, key: EndKey) -> bool {
        let end = self.of(key);
        if end.state != State::Open || end.peer_finished || end.shut_read || end.error.is_some() {
            return false;
        }
        (end.reading, end.writing) = (None, None);
        true
    }

    /// Whoever has an end is in `place` from now on; its name.
    pub(super) fn move_to(&mut self, key: EndKey, place: Place) -> SocketId {
        let end = self.of(key);
        end.place = place;
        end.id.expect("an open end has a name")
    }

    pub(super) fn open_at(&self, place: Place) -> Vec<SocketId> {
        self.ends.values().filter(|end| end.place == place).filter_map(|end| end.id).collect()
    }

    pub(super) fn open_to(&self, place: Place, address: &Dial) -> usize {
        let is_to = |end: &&End| end.place == place && end.id.is_some() && end.address.as_ref() == Some(address);
        self.ends.values().filter(is_to).count()
    }

    pub(super) fn describe(&self) -> String {
        let line = |(key, end): (&EndKey, &End)| {
            format!(
                "{key} -> {} at {:?}: {:?}, inbox {}, incoming {}, outstanding {} of {}, peer finished {}, shut {} {}, \
                 error {:?}, waits to read {}, to write {}\n",
                end.peer,
                end.place,
                end.state,
                end.inbox.len(),
                end.incoming.len(),
                end.outstanding,
                end.window,
                end.peer_finished,
                end.shut_read,
                end.shut_write,
                end.error,
                end.reading.is_some(),
                end.writing.is_some(),
            )
        };
        self.ends.iter().map(line).collect()
    }

    // Connecting.

    pub(super) fn set_reachability(&mut self, address: &Dial, reachability: Reachability) {
        self.reachabilities.retain(|(known, _)| known != address);
        self.reachabilities.push((address.clone(), reachability));
    }

    fn reachability(&self, address: &Dial) -> Reachability {
        self.reachabilities
            .iter()
            .find(|(known, _)| known == address)
            .map_or(Reachability::Welcome, |&(_, reachability)| reachability)
    }

    pub(super) fn connect(&mut self, world: &Inner, to: &Dial) -> (EndKey, SocketId) {
        let key = self.make(world, world.place(), State::AnswerHead);
        let id = self.name(key);
        let end = self.of(key);
        end.address = Some(to.clone());
        let mut wait_us = end.latency_us;
        match self.reachability(to) {
            Reachability::BlackHole => return (key, id),
            Reachability::Slow { ms } => wait_us += ms * 1000,
            Reachability::Welcome | Reachability::Refuse => {}
        }
        world.schedule(world.now_us() + wait_us, Event::Knock(key));
        (key, id)
    }

    pub(super) fn knock(&mut self, world: &Inner, key: EndKey) {
        // Gone, or shut down meanwhile.
        let Some(end) = self.ends.get(&key).filter(|end| end.state == State::AnswerHead) else { return };
        let latency_us = end.latency_us;
        let address = end.address.clone();
        let at_us = world.now_us() + latency_us;
        let readers: Vec<u64> = match address {
            Some(address) if self.reachability(&address) != Reachability::Refuse => {
                let open = self.readers.iter().filter(|(_, (at, reader))| *at == address && !reader.shut);
                open.map(|(&number, _)| number).collect()
            }
            _ => Vec::new(),
        };
        if readers.is_empty() {
            // Left without a peer, which `opened` reports as a refusal.
            world.schedule(at_us, Event::Opened(key));
            return;
        }
        let number = readers[world.between(0, readers.len() as u64 - 1) as usize];
        let peer = self.make(world, Place::Outside, State::Open);
        let end = self.of(peer);
        (end.peer, end.latency_us) = (key, latency_us);
        let end = self.of(key);
        end.peer = peer;
        end.last_arrival_us = at_us;
        world.schedule(at_us, Event::Opened(key));
        if let Some((_, reader)) = self.readers.get_mut(&number) {
            reader.queue.push_back(peer);
            reader.waiting.drain(..).for_each(Waker::wake);
        }
    }

    pub(super) fn opened(&mut self, key: EndKey) {
        let Some(end) = self.ends.get_mut(&key).filter(|end| end.state == State::AnswerHead) else { return };
        if end.peer == 0 {
            end.state = State::Refused;
            end.error = Some(libc::ECONNREFUSED);
        } else {
            end.state = State::Open;
        }
        end.wake();
    }

    /// Ready when the connection is open, refused or shut down.
    pub(super) fn poll_opened(&mut self, key: EndKey, context: &Context<'_>) -> Poll<()> {
        let end = self.of(key);
        if end.state == State::AnswerHead {
            end.writing = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    pub(super) fn take_error(&mut self, key: EndKey) -> io::Result<()> {
        self.of(key).take_error().map_or(Ok(()), Err)
    }

    /// The id by which [`shut_both`](Self::shut_both) refers to a listener.
    pub(super) fn listener_id(number: u64) -> SocketId {
        LISTENERS + number as usize
    }

    pub(super) fn listen(&mut self, at: &Dial) -> u64 {
        self.readers_made += 1;
        self.readers.insert(self.readers_made, (at.clone(), EventFdReader::default()));
        self.readers_made
    }

    /// Connections that were not accepted are reset, as the kernel does.
    pub(super) fn stop_listening(&mut self, world: &Inner, number: u64) {
        let Some((_, reader)) = self.readers.remove(&number) else { return };
        for key in reader.queue {
            self.of(key).unclean = true;
            self.close(world, key);
        }
    }

    pub(super) fn poll_accept(
        &mut self,
        number: u64,
        place: Place,
        context: &Context<'_>,
    ) -> Poll<io::Result<(EndKey, SocketId)>> {
        let Some((_, reader)) = self.readers.get_mut(&number) else {
            return Poll::Ready(Err(io::Error::from_raw_os_error(libc::EINVAL)));
        };
        let Some(key) = reader.queue.pop_front() else {
            if reader.shut {
                return Poll::Ready(Err(io::Error::from_raw_os_error(libc::EINVAL)));
            }
            reader.waiting.push(context.waker().clone());
            return Poll::Pending;
        };
        self.of(key).place = place;
        Poll::Ready(Ok((key, self.name(key))))
    }
}
