//! Sockets, listeners and dialling of a simulated world, with the names and signatures of the real ones. One task owns
//! a socket; dropping it closes it. Dropping a pending read or write marks the socket: using it again panics.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::{
    Hangup, Place,
    ends::EndKey,
    executor::{Inner, current, world},
};
use crate::net::{dial::FastOpen, now_ms, watch::Watch};

/// Identifies a socket in the registry of watches; reused after a close, as descriptors are.
pub type SocketId = usize;

/// A connected stream socket.
pub struct Socket {
    watch: Option<Watch>,
    end: EndKey,
    place: Place,
    world_serial: u64,
}

/// A connection that belongs to no place. Dropping it closes it.
pub struct DetachedSocket(Socket);

impl DetachedSocket {
    pub fn bytes(&self) -> u64 {
        0
    }
}

#[derive(Default)]
struct Pending {
    cancelled: bool,
    wakers: Vec<Waker>,
}

/// Cancels a wait for readability. See [`Socket::readable_or_cancelled`].
pub struct Cancel(Rc<RefCell<Pending>>);

impl Cancel {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Cancel {
        Cancel(Rc::default())
    }

    /// Makes the wait end with [`io::ErrorKind::Interrupted`], unless data is available.
    pub fn cancel(&mut self) {
        let pending = std::mem::take(&mut self.0);
        let mut pending = pending.borrow_mut();
        pending.cancelled = true;
        pending.wakers.drain(..).for_each(Waker::wake);
    }
}

impl Cancel {
    /// For waits of other kinds: ready once `cancel` is called from now on.
    pub async fn cancelled(cancel: &RefCell<Cancel>) {
        let pending = cancel.borrow().0.clone();
        poll_fn(|context| {
            let mut pending = pending.borrow_mut();
            if pending.cancelled {
                return Poll::Ready(());
            }
            pending.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// Records on the end that a pending operation was dropped.
struct Unfinished {
    end: EndKey,
    note: Option<fn(&mut super::ends::Ends, EndKey)>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let (Some(note), Some(world)) = (self.note, current()) {
            note(&mut world.ends.borrow_mut(), self.end);
        }
    }
}

impl Socket {
    fn new(world: &Inner, end: EndKey, id: SocketId) -> Socket {
        Socket { watch: Some(Watch::new(id)), end, place: world.place(), world_serial: world.serial }
    }

    /// Takes the connection off this place, for another. Errors: it has ended; it stays here.
    pub async fn detach(mut self) -> Result<DetachedSocket, Socket> {
        if world().one_in(2) {
            // A receive takes its time to end, and bytes come meanwhile.
            super::sleep_ms(super::between(0, 2)).await;
        }
        if world().ends.borrow_mut().leave(self.end) {
            drop(self.watch.take());
            Ok(DetachedSocket(self))
        } else {
            Err(self)
        }
    }

    /// Goes on with a connection in this place. Errors: never.
    pub fn attach(detached: DetachedSocket) -> io::Result<Socket> {
        let (world, DetachedSocket(mut socket)) = (world(), detached);
        socket.place = world.place();
        let id = world.ends.borrow_mut().move_to(socket.end, socket.place);
        socket.watch = Some(Watch::new(id));
        Ok(socket)
    }

    /// The address of the other end: a simulated one has none.
    pub fn peer(&self) -> Option<IpAddr> {
        None
    }

    /// The watch of this socket: deadlines and hang-ups.
    pub fn watch(&self) -> &Watch {
        self.watch.as_ref().expect("absent only while the socket is dropped")
    }

    /// Reads once, appending to `buffer` within its spare capacity (which must not be empty). 0 is the end of the
    /// stream.
    pub async fn read(&mut self, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let mut unfinished = Unfinished { end: self.end, note: None };
        let result = poll_fn(|context| {
            let world = world();
            let polled = world.ends.borrow_mut().poll_read(&world, self.end, context, &mut buffer);
            if polled.is_pending() {
                unfinished.note = Some(super::ends::Ends::note_dropped_read);
            }
            polled
        })
        .await;
        unfinished.note = None;
        (result, buffer)
    }

    /// As `readable`, but `cancel` ends the wait with an `Interrupted` error. Reads nothing in either case.
    pub async fn readable_or_cancelled(&self, cancel: &RefCell<Cancel>) -> io::Result<()> {
        let pending = cancel.borrow().0.clone();
        poll_fn(|context| {
            let world = world();
            let cancelled = pending.borrow().cancelled;
            // If data and cancellation coincide, either may come first.
            if cancelled && world.one_in(2) {
                return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
            }
            if world.ends.borrow_mut().poll_readable(self.end, context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if cancelled {
                return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
            }
            pending.borrow_mut().wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Writes all of `buffer`.
    pub async fn write(&mut self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        (self.write_all(&buffer).await, buffer)
    }

    /// As `write`, for shared bytes.
    pub async fn write_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        self.write_all(&bytes).await
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut unfinished = Unfinished { end: self.end, note: None };
        let mut written = 0;
        let result = poll_fn(|context| {
            let world = world();
            while written < bytes.len() {
                match world.ends.borrow_mut().poll_write(&world, self.end, context, &bytes[written..]) {
                    Poll::Ready(Ok(count)) => written += count,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        unfinished.note = Some(super::ends::Ends::note_dropped_write);
                        return Poll::Pending;
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
        .await;
        unfinished.note = None;
        result
    }

    /// Never posts: callers fall back to [`Socket::write`], which usually does not wait either.
    pub fn post(&mut self, _bytes: &[u8]) -> Option<io::Result<()>> {
        None
    }

    /// Never: see `post`.
    pub fn is_free(&self) -> bool {
        false
    }

    /// A handle by which another task of the same place can write while the owner of the socket does not.
    pub fn direct_writer(&self, _patience_ms: u64) -> Option<DirectWriter> {
        Some(DirectWriter(self.end))
    }

    /// Nothing to do: everything written is in transit.
    pub async fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// See [`Socket::settle`].
    pub fn poll_settled(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Passes received bytes to `take`; it returns how many it consumed, at least one, and must not use a socket. 0 is
    /// the end of the stream. Dropping the wait loses nothing.
    pub fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        let world = world();
        world.ends.borrow_mut().poll_take(&world, self.end, context, take)
    }

    /// Writes as much of `bytes` as there is room for, at least one byte. Dropping the wait loses nothing.
    pub fn poll_write(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let world = world();
        world.ends.borrow_mut().poll_write(&world, self.end, context, bytes)
    }

    /// As `poll_write`, gathering several parts.
    pub fn poll_write_parts(&mut self, parts: &[IoSlice<'_>], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let first = parts.iter().find(|part| !part.is_empty());
        self.poll_write(first.map_or(&[], |part| part), context)
    }

    /// As `poll_write_parts`, for callers that cannot wait: without room it returns `WouldBlock`.
    pub fn write_now(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.poll_write_parts(parts, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Waits until a read would return bytes or the end, without holding a buffer.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| world().ends.borrow_mut().poll_readable(self.end, context)).await;
        Ok(())
    }

    /// Shuts down the write direction.
    pub fn finish_writing(&self) {
        let world = world();
        world.ends.borrow_mut().finish_writing(&world, self.end);
    }

    /// Makes the next close a reset, so that the peer cannot take what was sent for a complete answer.
    pub fn make_close_unclean(&self) {
        world().ends.borrow_mut().set_unclean(self.end);
    }

    /// Nothing to do: input is always noticed.
    pub fn rest(&self) {}

    /// Whether an idle kept-alive connection is still open and has no input; required before reuse.
    pub fn is_quiet(&self) -> bool {
        world().ends.borrow_mut().is_quiet(self.end)
    }
}

/// See [`Socket::direct_writer`].
pub struct DirectWriter(EndKey);

impl DirectWriter {
    /// Whether a post is worth a try.
    pub fn is_free(&self) -> bool {
        true
    }

    /// Writes all of `bytes` if there is room for them, and at random refuses even then. False: nothing was written.
    pub fn post(&self, bytes: &[u8]) -> bool {
        let world = world();
        !world.one_in(8) && world.ends.borrow_mut().write_whole(&world, self.0, bytes)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let watch = self.watch.take();
        match current().filter(|world| world.serial == self.world_serial) {
            // The watch is in the registry of the socket's own place, wherever the socket is dropped.
            Some(world) => {
                let was = world.enter(self.place);
                drop(watch);
                world.ends.borrow_mut().close(&world, self.end);
                world.enter(was);
            }
            // Its registry is gone, with its world.
            None => std::mem::forget(watch),
        }
    }
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dial {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Connects within `timeout_ms`.
pub async fn dial(to: &Dial, timeout_ms: u64) -> io::Result<Socket> {
    let socket = {
        let world = world();
        let (end, id) = world.ends.borrow_mut().connect(&world, to);
        Socket::new(&world, end, id)
    };
    socket.watch().shut_down_at(now_ms().saturating_add(timeout_ms));
    poll_fn(|context| world().ends.borrow_mut().poll_opened(socket.end, context)).await;
    if socket.watch().take_interrupt().is_some() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    socket.watch().clear();
    world().ends.borrow_mut().take_error(socket.end)?;
    Ok(socket)
}

/// As `dial`: a simulated network has no TCP Fast Open.
pub async fn dial_with(to: &Dial, timeout_ms: u64, _: FastOpen) -> io::Result<Socket> {
    dial(to, timeout_ms).await
}

/// A listening socket. Several at one address share its connections at random.
pub struct Listener {
    number: u64,
    world_serial: u64,
}

impl Listener {
    /// Listens at `address`. The real one takes a descriptor instead.
    pub fn bind(address: &Dial) -> Listener {
        let world = world();
        let number = world.ends.borrow_mut().listen(address);
        Listener { number, world_serial: world.serial }
    }

    /// For [`shutdown_both`]: it then accepts no new connections, and `accept` fails once its queue is empty.
    pub fn id(&self) -> SocketId {
        super::ends::Ends::listener_id(self.number)
    }

    /// The next connection. Dropping the wait loses nothing.
    pub async fn accept(&self) -> io::Result<Socket> {
        poll_fn(|context| {
            let world = world();
            let polled = world.ends.borrow_mut().poll_accept(self.number, world.place(), context);
            polled.map_ok(|(end, id)| Socket::new(&world, end, id))
        })
        .await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(world) = current().filter(|world| world.serial == self.world_serial) {
            world.ends.borrow_mut().stop_listening(&world, self.number);
        }
    }
}

/// Polls which of `sockets` have hung up; appends (index, kind) to `found`.
pub fn hangups(sockets: &[SocketId], found: &mut Vec<(usize, Hangup)>) {
    let world = world();
    let ends = world.ends.borrow();
    found.extend(sockets.iter().enumerate().filter_map(|(index, &id)| ends.hangup(id).map(|kind| (index, kind))));
}

/// Whether a read would return at once.
pub fn has_input(socket: SocketId) -> bool {
    world().ends.borrow().has_input(socket)
}

/// Shuts down both directions, so that any pending operation on the socket completes.
pub fn shutdown_both(socket: SocketId) {
    let world = world();
    world.ends.borrow_mut().shut_both(&world, socket);
}
