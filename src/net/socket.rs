//! Connected and listening sockets of a data core on io_uring. One task owns a socket; nothing here is shared. Buffers
//! are passed by value and returned with the result, also on errors; the simulated sockets have the same interface.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use rustix::event::PollFlags;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, accept_with, connect, send, sendmsg,
    shutdown, socket_with,
    sockopt::{
        set_socket_keepalive, set_socket_linger, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl, set_tcp_nodelay,
        set_tcp_user_timeout, socket_error,
    },
};

pub use super::reactor::DirectWriter;
use super::reactor::{Ready, SocketHandle, ready};
use super::{dial::FastOpen, sys::ask_fast_open, watch::Watch};
use crate::limits::{PEER_ASKED_SECONDS, PEER_SILENT_MS};

/// Identifies a socket in the registry of watches.
pub type SocketId = RawFd;

/// A connected stream socket, TCP or Unix.
pub struct Socket {
    // Dropped in this order, so that neither the watch registry nor the reactor refers to a closed descriptor.
    watch: Watch,
    handle: SocketHandle,
    /// The pending wait for send buffer space of [`Socket::poll_write`].
    stalled: Option<Ready>,
    fd: OwnedFd,
    /// Nothing was written yet, so the first bytes may travel with the SYN; posted sends cannot do that.
    is_fresh: bool,
}

/// A connection that belongs to no core. Dropping it closes it.
pub struct DetachedSocket {
    fd: OwnedFd,
    /// What has come of it and was not read.
    early: Vec<u8>,
}

impl DetachedSocket {
    /// What it keeps allocated.
    pub fn bytes(&self) -> u64 {
        self.early.capacity() as u64
    }
}

/// Cancels a wait for readability. See [`Socket::readable_or_cancelled`].
#[derive(Default)]
pub struct Cancel {
    asked: bool,
    waiting: Option<Waker>,
}

impl Cancel {
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Makes the wait end with [`io::ErrorKind::Interrupted`], unless data is available.
    pub fn cancel(&mut self) {
        self.asked = true;
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}

impl Cancel {
    /// For waits of other kinds: ready once `cancel` is called from now on.
    pub async fn cancelled(cancel: &RefCell<Cancel>) {
        cancel.borrow_mut().asked = false;
        poll_fn(|context| cancel.borrow_mut().poll_asked(context)).await
    }

    fn poll_asked(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.asked) {
            return Poll::Ready(());
        }
        match &mut self.waiting {
            Some(waiting) => waiting.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Socket {
    fn new(fd: OwnedFd) -> io::Result<Socket> {
        let handle = SocketHandle::new(fd.as_raw_fd())?;
        Ok(Socket { watch: Watch::new(fd.as_raw_fd()), handle, stalled: None, fd, is_fresh: false })
    }

    /// Takes the connection off this core, for another. Errors: it has ended, or not all is sent; it stays here and loses nothing.
    pub async fn detach(self) -> Result<DetachedSocket, Socket> {
        match poll_fn(|context| self.handle.poll_detach(context)).await {
            Some(early) => {
                let Socket { watch, handle, stalled, fd, is_fresh: _ } = self;
                // Nothing here refers to the descriptor any more.
                drop((watch, handle, stalled));
                Ok(DetachedSocket { fd, early })
            }
            None => Err(self),
        }
    }

    /// Goes on with a connection on this core. Errors: there is no ring.
    pub fn attach(detached: DetachedSocket) -> io::Result<Socket> {
        let DetachedSocket { fd, early } = detached;
        let socket = Socket::new(fd)?;
        socket.handle.put_first(early);
        Ok(socket)
    }

    /// The address of the other end, if it has one.
    pub fn peer(&self) -> Option<IpAddr> {
        let address = rustix::net::getpeername(self.fd()).ok()??;
        SocketAddr::try_from(address).ok().map(|address| address.ip().to_canonical())
    }

    /// The watch of this socket: deadlines and hang-ups.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Reads once, appending to `buffer` within its spare capacity (which must not be empty). 0 is the end of the
    /// stream.
    pub async fn read(&mut self, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let result = poll_fn(|context| self.handle.poll_read(&mut buffer, context)).await;
        (result, buffer)
    }

    /// As `readable`, but `cancel` ends the wait with an `Interrupted` error. Reads nothing in either case.
    pub async fn readable_or_cancelled(&self, cancel: &RefCell<Cancel>) -> io::Result<()> {
        cancel.borrow_mut().asked = false;
        poll_fn(|context| {
            if let Poll::Ready(result) = self.handle.poll_readable(context) {
                return Poll::Ready(result);
            }
            cancel.borrow_mut().poll_asked(context).map(|()| Err(io::ErrorKind::Interrupted.into()))
        })
        .await
    }

    /// Writes all of `buffer`. Each partial write counts as progress for the watch. Small writes are posted without
    /// waiting: they are submitted with the core's other sends of this round, and an error shows in the next write or
    /// in [`Socket::settle`].
    pub async fn write(&mut self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        if let Some(result) = self.post(&buffer) {
            return (result, buffer);
        }
        if let Err(error) = self.settle().await {
            return (Err(error), buffer);
        }
        (self.write_all(&buffer).await, buffer)
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            done += written(poll_fn(|context| self.poll_write(&bytes[done..], context)).await)?;
        }
        Ok(())
    }

    /// As `write`, for shared bytes.
    pub async fn write_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        if let Some(result) = self.post(&bytes) {
            return result;
        }
        self.settle().await?;
        self.write_all(&bytes).await
    }

    /// Writes `bytes` without waiting; what the peer has no room for is sent later. Returns `None` and writes nothing
    /// if there are too many bytes or an earlier send is unfinished. Errors: of an earlier write.
    pub fn post(&mut self, bytes: &[u8]) -> Option<io::Result<()>> {
        if self.is_fresh {
            return None;
        }
        self.handle.post(bytes, self.watch.patience_ms())
    }

    /// Whether [`Socket::post`] would accept a small write.
    pub fn is_free(&self) -> bool {
        !self.is_fresh && self.handle.is_free()
    }

    /// A handle by which another task of this core can post while the owner of the socket does not write itself;
    /// `patience_ms` bounds how long the peer may take nothing. `None`: not supported on this connection.
    pub fn direct_writer(&self, patience_ms: u64) -> Option<DirectWriter> {
        (!self.is_fresh).then(|| self.handle.direct_writer(patience_ms))
    }

    /// Waits until the kernel has accepted everything that was written; required before shutting down or closing.
    pub async fn settle(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_settled(context)).await
    }

    /// See [`Socket::settle`].
    pub fn poll_settled(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch.moved();
        self.handle.poll_settled(context)
    }

    /// Passes received bytes to `take` in place; it returns how many it consumed, at least one, and must not use a
    /// socket. 0 is the end of the stream.
    pub fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        self.handle.poll_take(context, take)
    }

    /// Writes as much of `bytes` as there is room for, at least one byte. Dropping the wait loses nothing.
    pub fn poll_write(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_send(context, |fd| send(fd, bytes, AT_ONCE))
    }

    /// As `poll_write`, gathering several parts.
    pub fn poll_write_parts(&mut self, parts: &[IoSlice<'_>], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_send(context, |fd| send_parts(fd, parts))
    }

    /// As `poll_write_parts`, for callers that cannot wait: without room it returns `WouldBlock`.
    pub fn write_now(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.handle.poll_settled(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(settled) => settled?,
            Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
        }
        Ok(send_parts(self.fd.as_fd(), parts)?)
    }

    /// Sends by a plain system call; the ring is used only to wait. A send in the ring that is dropped may or may not
    /// have been sent.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        send: impl Fn(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.handle.poll_settled(context))?;
        loop {
            if let Some(stalled) = &mut self.stalled {
                let waited = std::task::ready!(Pin::new(stalled).poll(context));
                self.stalled = None;
                waited?;
            }
            match send(self.fd.as_fd()) {
                Ok(count) => {
                    self.is_fresh = false;
                    self.watch.moved();
                    return Poll::Ready(Ok(count));
                }
                Err(rustix::io::Errno::INTR) => {}
                // INPROGRESS: the first bytes could not travel with the SYN.
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INPROGRESS) => {
                    self.stalled = Some(ready(self.fd.as_fd(), PollFlags::OUT));
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Waits until a read would return bytes or the end, without holding a buffer.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| self.handle.poll_readable(context)).await
    }

    /// Shuts down the write direction.
    pub fn finish_writing(&self) {
        let _ = shutdown(self.fd(), rustix::net::Shutdown::Write);
    }

    /// Makes the next close a reset, so that the peer cannot take what was sent for a complete answer.
    pub fn make_close_unclean(&self) {
        let _ = set_socket_linger(self.fd(), Some(std::time::Duration::ZERO));
    }

    /// Prepares a connection that becomes idle before its first read for [`Socket::is_quiet`].
    pub fn rest(&self) {
        self.handle.arm();
    }

    /// Whether an idle kept-alive connection is still open and has no input; required before reuse.
    pub fn is_quiet(&self) -> bool {
        self.handle.is_quiet()
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Shrinks the send buffer, so that writes of more than a few KiB wait for the peer.
    #[cfg(test)]
    pub(in crate::net) fn shrink(&self) {
        rustix::net::sockopt::set_socket_send_buffer_size(self.fd(), 4 << 10).unwrap();
    }
}

const AT_ONCE: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

fn send_parts(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
    // Above UIO_MAXIOV (1024) the kernel fails; a short write is always allowed.
    sendmsg(fd, &parts[..parts.len().min(1024)], &mut SendAncillaryBuffer::default(), AT_ONCE)
}

/// Turns a write of 0 bytes into an error; it would be retried endlessly.
fn written(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        other => other,
    }
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dial {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Connects within `timeout_ms`. See [`dial_with`].
pub async fn dial(to: &Dial, timeout_ms: u64) -> io::Result<Socket> {
    dial_with(to, timeout_ms, FastOpen::Off).await
}

/// Connects within `timeout_ms`. Waits for a non-blocking socket to become writable, so that giving up or dropping the
/// future closes it: a connect operation in the ring that completes while it is being cancelled would leak its
/// descriptor.
pub async fn dial_with(to: &Dial, timeout_ms: u64, fast_open: FastOpen) -> io::Result<Socket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (fd, started) = match to {
        Dial::Tcp(address) => {
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let fd = socket_with(family, SocketType::STREAM, flags, None)?;
            set_tcp_nodelay(&fd, true)?;
            notice_silence(fd.as_fd())?;
            if fast_open == FastOpen::On {
                ask_fast_open(fd.as_fd());
            }
            let started = connect(&fd, address);
            (fd, started)
        }
        Dial::Unix(path) => {
            let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            let started = connect(&fd, &rustix::net::SocketAddrUnix::new(path)?);
            (fd, started)
        }
    };
    let mut socket = Socket::new(fd)?;
    socket.is_fresh = fast_open == FastOpen::On;
    match started {
        Ok(()) => {}
        Err(rustix::io::Errno::INPROGRESS) => {
            socket.watch.shut_down_at(super::now_ms().saturating_add(timeout_ms));
            ready(socket.fd.as_fd(), PollFlags::OUT).await?;
            if socket.watch.take_interrupt().is_some() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            socket.watch.clear();
            socket_error(socket.fd())??;
        }
        Err(error) => return Err(error.into()),
    }
    // A read or write in the ring on a non-blocking descriptor would return EAGAIN instead of waiting.
    rustix::fs::fcntl_setfl(socket.fd(), rustix::fs::OFlags::empty())?;
    Ok(socket)
}

/// Makes the kernel end a connection whose peer has vanished, for example by a power failure or a network partition:
/// sent data has to be acknowledged in time (RFC 5482), and an idle peer is probed (keepalive).
fn notice_silence(fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    set_tcp_user_timeout(fd, PEER_SILENT_MS)?;
    set_socket_keepalive(fd, true)?;
    set_tcp_keepidle(fd, Duration::from_millis(u64::from(PEER_SILENT_MS)))?;
    set_tcp_keepintvl(fd, Duration::from_secs(PEER_ASKED_SECONDS))?;
    set_tcp_keepcnt(fd, PEER_SILENT_MS / 1000 / PEER_ASKED_SECONDS as u32)
}

/// A listening socket, TCP or Unix.
pub struct Listener {
    fd: OwnedFd,
    nodelay: bool,
}

impl Listener {
    /// Takes ownership of a bound, listening descriptor; `nodelay` for TCP.
    pub fn new(fd: OwnedFd, nodelay: bool) -> io::Result<Listener> {
        rustix::fs::fcntl_setfl(&fd, rustix::fs::OFlags::NONBLOCK)?;
        Ok(Listener { fd, nodelay })
    }

    /// For `shutdown_both`: makes `accept` fail.
    pub fn id(&self) -> SocketId {
        self.fd.as_raw_fd()
    }

    /// Accepts a connection that is already in the queue.
    pub fn accept_now(&self) -> Option<Socket> {
        let fd = accept_with(self.fd.as_fd(), SocketFlags::CLOEXEC).ok()?;
        if self.nodelay {
            let _ = set_tcp_nodelay(&fd, true);
        }
        Socket::new(fd).ok()
    }

    /// The next connection. Waits for readiness and accepts by a plain system call: the descriptor is close-on-exec
    /// from the start, and dropping the wait leaks nothing.
    pub async fn accept(&self) -> io::Result<Socket> {
        loop {
            match accept_with(self.fd.as_fd(), SocketFlags::CLOEXEC) {
                Ok(fd) => {
                    if self.nodelay {
                        let _ = set_tcp_nodelay(&fd, true);
                    }
                    return Socket::new(fd);
                }
                Err(rustix::io::Errno::AGAIN) => ready(self.fd.as_fd(), PollFlags::IN).await?,
                Err(rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
