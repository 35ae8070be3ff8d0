//! System calls that no safe wrapper covers. All `unsafe` of the gateway is in this file: one operation a block.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, poll};

/// What a peer's side of a connection looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// The peer has ended its sending direction and may still read.
    Half,
    /// The connection is reset or closed in both directions.
    Full,
}

/// Asks the kernel once which of `sockets` have hung up; appends (index, kind) to `found`.
pub fn hangups(sockets: &[RawFd], found: &mut Vec<(usize, Hangup)>) {
    let mut polled: Vec<PollFd> = sockets
        .iter()
        .map(|&fd| {
            // SAFETY: `fd` belongs to a live `Socket`: a watch is a field of its socket and leaves the registry before
            // the descriptor is closed. WHY: the registry cannot hold a borrow of the socket across the owner's awaits.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            PollFd::from_borrowed_fd(fd, PollFlags::RDHUP)
        })
        .collect();
    if poll(&mut polled, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).is_err() {
        return; // EINTR or ENOMEM: the next tick asks again
    }
    for (index, entry) in polled.iter().enumerate() {
        let seen = entry.revents();
        if seen.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            found.push((index, Hangup::Full));
        } else if seen.contains(PollFlags::RDHUP) {
            found.push((index, Hangup::Half));
        }
    }
}

/// Whether a read would give something at once: bytes, the end, or an error.
pub fn has_input(socket: RawFd) -> bool {
    // SAFETY: as in `hangups`. WHY: as there.
    let fd = unsafe { BorrowedFd::borrow_raw(socket) };
    let mut polled = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut polled, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

/// Ends both directions, so that whatever operation is pending on the socket completes.
pub fn shutdown_both(socket: RawFd) {
    // SAFETY: as in `hangups`. WHY: as there.
    let fd = unsafe { BorrowedFd::borrow_raw(socket) };
    let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Both);
}

/// Takes over a connected or listening descriptor of any family as a stream of the ring runtime, which only ever issues
/// recv, send and poll on it.
pub fn adopt(fd: OwnedFd) -> std::io::Result<monoio::net::TcpStream> {
    monoio::net::TcpStream::from_std(std::net::TcpStream::from(fd))
}

/// The descriptor of a stream, as safe wrappers of system calls want it.
pub fn descriptor(stream: &monoio::net::TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the borrow of `stream` keeps its descriptor open for as long as the result lives. WHY: the runtime's type
    // gives the raw number only.
    unsafe { BorrowedFd::borrow_raw(std::os::fd::AsRawFd::as_raw_fd(stream)) }
}

/// Asks the kernel to give this process ordinary pages. A huge page is zeroed whole when it is first touched, which
/// stalls a core for 0.1 to 10 ms in the middle of streams: the median stays, the 99th percentile multiplies.
pub fn refuse_huge_pages() {
    // SAFETY: PR_SET_THP_DISABLE takes one flag and three zeros and touches no memory. WHY: no safe wrapper has it.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}
