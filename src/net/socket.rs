//! Connected and listening sockets of a data core on the ring. One task owns a socket; nothing here is shared.
//! Buffers are lent to the kernel by value and come back with the result, also on errors.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use bytes::{Buf, Bytes};
use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, CancelableAsyncReadRent, Canceller};
use monoio::net::TcpStream;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, accept_with, connect, shutdown, socket_with,
    sockopt::{set_socket_linger, set_tcp_nodelay, socket_error},
};

use super::{
    sys::{adopt, descriptor},
    watch::Watch,
};

/// What the registry of watches knows a socket by.
pub type SocketId = RawFd;

/// A connected stream socket, TCP or Unix.
pub struct Socket {
    // First, so that the watch leaves the registry before the descriptor is closed.
    watch: Watch,
    stream: TcpStream,
}

/// Takes back a read that has not completed. See [`Socket::read_until_quit`].
pub struct Quit(Canceller);

impl Quit {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Quit {
        Quit(Canceller::new())
    }

    /// Makes the pending read end with [`io::ErrorKind::Interrupted`], unless it has data already.
    pub fn quit(&mut self) {
        self.0 = std::mem::take(&mut self.0).cancel();
    }
}

impl Socket {
    fn new(fd: OwnedFd) -> io::Result<Socket> {
        let stream = adopt(fd)?;
        Ok(Socket { watch: Watch::new(stream.as_raw_fd()), stream })
    }

    /// The watch of this socket: deadlines and hang-ups.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Reads once, behind what `buffer` holds, into its spare capacity (which must not be empty). 0 is the end.
    pub async fn read(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let (start, end) = (buffer.len(), buffer.capacity());
        let (result, slice) = self.stream.read(buffer.slice_mut(start..end)).await;
        (result, slice.into_inner())
    }

    /// As `read`, but `quit` takes the read back: then the result is an `Interrupted` error and no byte is lost.
    pub async fn read_until_quit(
        &mut self,
        buffer: Vec<u8>,
        quit: &std::cell::RefCell<Quit>,
    ) -> (io::Result<usize>, Vec<u8>) {
        let (start, end) = (buffer.len(), buffer.capacity());
        let handle = quit.borrow().0.handle();
        let (result, slice) = self.stream.cancelable_read(buffer.slice_mut(start..end), handle).await;
        let result = match result {
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => Err(io::ErrorKind::Interrupted.into()),
            other => other,
        };
        (result, slice.into_inner())
    }

    /// Writes all of `buffer`. Each part the peer takes counts as progress for the watch.
    pub async fn write(&mut self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let length = buffer.len();
        // The usual case first: one send takes everything.
        let (result, mut buffer) = self.stream.write(buffer).await;
        let mut done = match written(result) {
            Ok(count) if count == length => return (Ok(()), buffer),
            Ok(count) => count,
            Err(error) => return (Err(error), buffer),
        };
        while done < length {
            self.watch.moved();
            let (result, slice) = self.stream.write(buffer.slice(done..)).await;
            buffer = slice.into_inner();
            match written(result) {
                Ok(count) => done += count,
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(()), buffer)
    }

    /// As `write`, of bytes that stay shared.
    pub async fn write_bytes(&mut self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            let (result, _) = self.stream.write(bytes.clone()).await;
            bytes.advance(written(result)?);
            self.watch.moved();
        }
        Ok(())
    }

    /// Waits until a read would give bytes or the end, without lending a buffer.
    pub async fn readable(&self) -> io::Result<()> {
        self.stream.readable(false).await
    }

    /// Ends our sending direction.
    pub fn finish_writing(&self) {
        let _ = shutdown(self.fd(), rustix::net::Shutdown::Write);
    }

    /// Makes the coming close a reset, so that what was sent cannot be taken for a whole answer.
    pub fn make_close_unclean(&self) {
        let _ = set_socket_linger(self.fd(), Some(std::time::Duration::ZERO));
    }

    /// Whether an idle kept-alive connection is still open and silent, as it has to be before it is used again.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [0u8; 1];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        matches!(rustix::net::recv(self.fd(), &mut byte, flags), Err(rustix::io::Errno::AGAIN))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        descriptor(&self.stream)
    }
}

/// A write that takes nothing would be tried for ever.
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

/// Connects, giving up after `timeout_ms`. An own non-blocking socket waits to become writable, so that giving up closes
/// it: a connect operation in the ring that completes while it is being cancelled would leak its descriptor.
pub async fn dial(to: &Dial, timeout_ms: u64) -> io::Result<Socket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (fd, started) = match to {
        Dial::Tcp(address) => {
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let fd = socket_with(family, SocketType::STREAM, flags, None)?;
            set_tcp_nodelay(&fd, true)?;
            let started = connect(&fd, address);
            (fd, started)
        }
        Dial::Unix(path) => {
            let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            let started = connect(&fd, &rustix::net::SocketAddrUnix::new(path)?);
            (fd, started)
        }
    };
    let socket = Socket::new(fd)?;
    match started {
        Ok(()) => {}
        Err(rustix::io::Errno::INPROGRESS) => {
            socket.watch.shut_down_at(super::now_ms() + timeout_ms);
            socket.stream.writable(false).await?;
            if socket.watch.take_trip().is_some() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            socket.watch.clear();
            socket_error(socket.fd())??;
        }
        Err(error) => return Err(error.into()),
    }
    // On the ring a non-blocking descriptor would answer EAGAIN instead of waiting.
    rustix::fs::fcntl_setfl(socket.fd(), rustix::fs::OFlags::empty())?;
    Ok(socket)
}

/// A listening socket, TCP or Unix.
pub struct Listener {
    stream: TcpStream,
    nodelay: bool,
}

impl Listener {
    /// Takes over a bound, listening descriptor; `nodelay` for TCP.
    pub fn new(fd: OwnedFd, nodelay: bool) -> io::Result<Listener> {
        rustix::fs::fcntl_setfl(&fd, rustix::fs::OFlags::NONBLOCK)?;
        Ok(Listener { stream: adopt(fd)?, nodelay })
    }

    /// For `shutdown_both`: ends `accept` with an error.
    pub fn id(&self) -> SocketId {
        self.stream.as_raw_fd()
    }

    /// A connection that waits already.
    pub fn accept_now(&self) -> Option<Socket> {
        let fd = accept_with(descriptor(&self.stream), SocketFlags::CLOEXEC).ok()?;
        if self.nodelay {
            let _ = set_tcp_nodelay(&fd, true);
        }
        Socket::new(fd).ok()
    }

    /// The next connection. Waits for readiness and accepts by a plain call: the descriptor is close-on-exec from birth,
    /// and dropping the wait leaks nothing.
    pub async fn accept(&self) -> io::Result<Socket> {
        loop {
            match accept_with(descriptor(&self.stream), SocketFlags::CLOEXEC) {
                Ok(fd) => {
                    if self.nodelay {
                        let _ = set_tcp_nodelay(&fd, true);
                    }
                    return Socket::new(fd);
                }
                Err(rustix::io::Errno::AGAIN) => self.stream.readable(false).await?,
                Err(rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
