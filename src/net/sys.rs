//! System calls without a safe wrapper. All `unsafe` code of the gateway is in this file: one operation per block.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::os::fd::{BorrowedFd, RawFd};

use rustix::event::{PollFd, PollFlags, poll};

use super::allocations;

/// How far a peer has closed its side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// The peer has shut down its sending direction and may still read.
    Half,
    /// The connection is reset or closed in both directions.
    Full,
}

/// Polls once which of `sockets` have hung up; appends (index, kind) to `found`.
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
        return; // EINTR or ENOMEM: retried at the next tick
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

/// Descriptors that the process was started with, from the first behind standard error on; those that are not open are left out.
/// From now on no child process gets them. The first call alone gives any: they have one owner.
pub fn descriptors_from_the_start(count: u32) -> Vec<std::os::fd::OwnedFd> {
    use std::os::fd::{FromRawFd, OwnedFd};
    static ARE_TAKEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    const FIRST: RawFd = 3;
    if ARE_TAKEN.swap(true, std::sync::atomic::Ordering::Relaxed) {
        return Vec::new();
    }
    let last = FIRST.saturating_add(RawFd::try_from(count).unwrap_or(0));
    let take = |number: RawFd| {
        // SAFETY: it is borrowed for this call alone, which fails if it is not open. WHY: it is known by its number only.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC).ok()?;
        // SAFETY: it is open, and has no other owner: whoever started this process has left it to it, and it is given out once.
        // WHY: as above.
        Some(unsafe { OwnedFd::from_raw_fd(number) })
    };
    (FIRST..last).filter_map(take).collect()
}

/// Whether a read would return at once: with bytes, the end, or an error.
pub fn has_input(socket: RawFd) -> bool {
    // SAFETY: as in `hangups`. WHY: as there.
    let fd = unsafe { BorrowedFd::borrow_raw(socket) };
    let mut polled = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut polled, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

/// Sends as much of `bytes` as there is room for, without waiting.
pub fn send_now(socket: RawFd, bytes: &[u8]) -> rustix::io::Result<usize> {
    // SAFETY: as in `hangups`, for the reactor's socket handles. WHY: as there.
    let fd = unsafe { BorrowedFd::borrow_raw(socket) };
    rustix::net::send(fd, bytes, rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL)
}

/// Shuts down both directions, so that any pending operation on the socket completes.
pub fn shutdown_both(socket: RawFd) {
    // SAFETY: as in `hangups`. WHY: as there.
    let fd = unsafe { BorrowedFd::borrow_raw(socket) };
    let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Both);
}

/// Has the kernel choose the listener of a new connection to a group of SO_REUSEPORT sockets by `program`, which returns an index in
/// the group; with an empty one by the hash of addresses and ports again. `member` is any socket of the group that listens. Errors:
/// the kernel's.
pub fn steer(member: BorrowedFd<'_>, program: &[libc::sock_filter]) -> std::io::Result<()> {
    let fd = std::os::fd::AsRawFd::as_raw_fd(&member);
    let length = u16::try_from(program.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let (option, size) = match length {
        // It reads an argument that it does not use.
        0 => (DETACH_REUSEPORT_BPF, size_of::<libc::c_int>()),
        _ => (ATTACH_REUSEPORT_CBPF, size_of_val(&program)),
    };
    // SAFETY: the descriptor is open for as long as it is borrowed; the kernel reads `size` bytes of `program`, and copies the
    // instructions that it points to, which outlive the call. WHY: no safe wrapper has these options.
    let done =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const program).cast(), size as libc::socklen_t) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Of `asm-generic/socket.h`; the crate has them for Android only.
const ATTACH_REUSEPORT_CBPF: libc::c_int = 51;
const DETACH_REUSEPORT_BPF: libc::c_int = 68;

/// Makes the next close a reset.
pub fn reset_by_close(socket: RawFd) {
    // SAFETY: as in `hangups`, for the reactor's socket handles. WHY: as there.
    let fd = unsafe { BorrowedFd::borrow_raw(socket) };
    let _ = rustix::net::sockopt::set_socket_linger(fd, Some(std::time::Duration::ZERO));
}

/// Enables TCP Fast Open on a socket that is not connected yet. A kernel without it connects normally.
pub fn ask_fast_open(socket: BorrowedFd<'_>) {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the descriptor is open for as long as it is borrowed, and the kernel only reads `length` bytes of `on`.
    // WHY: no safe wrapper has TCP_FASTOPEN_CONNECT.
    unsafe {
        libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, (&raw const on).cast(), length);
    }
}

/// Lets a listening socket take the first bytes of at most so many connections with their SYNs. Errors: no socket of TCP.
pub fn take_fast_open(socket: BorrowedFd<'_>, waiting: libc::c_int) -> std::io::Result<()> {
    let length = size_of_val(&waiting) as libc::socklen_t;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: as in `ask_fast_open`. WHY: no safe wrapper has TCP_FASTOPEN.
    let done =
        unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, (&raw const waiting).cast(), length) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Disables transparent huge pages for this process. A huge page is zeroed whole when it is first touched, which stalls
/// a core for 0.1 to 10 ms in the middle of streams: the median is unaffected, the 99th percentile multiplies.
pub fn refuse_huge_pages() {
    // SAFETY: PR_SET_THP_DISABLE takes one flag and three zeros and touches no memory. WHY: no safe wrapper has it.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// What this thread touches first comes from the memory of `node` while that has some, and from the nearest otherwise: bound to
/// the node strictly, the process would be killed once it is full. Errors: the kernel's, as on one without NUMA.
pub fn prefer_memory_of(node: usize) -> std::io::Result<()> {
    let mut mask = [0_u64; NODES_MAX / 64];
    let word = mask.get_mut(node / 64).ok_or(std::io::ErrorKind::InvalidInput)?;
    *word |= 1 << (node % 64);
    // SAFETY: the kernel reads one bit less than the last argument says from `mask`, which is as long and outlives the call.
    // WHY: no safe wrapper has it.
    let done = unsafe { libc::syscall(libc::SYS_set_mempolicy, libc::MPOL_PREFERRED, mask.as_ptr(), NODES_MAX + 1) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// NUMA nodes that a kernel can have at most (MAX_NUMNODES: 1 << 10).
const NODES_MAX: usize = 1024;

/// Makes the allocator return this thread's freed memory to the system. By itself it does so only after a while, and
/// only when it is used: a thread that becomes idle after a load peak would keep the memory. It scans all memory of the
/// thread in pages of 64 KiB: 1 ms with a million cached answers of 1.1 KB, plus half a millisecond per 128 MiB
/// returned.
pub fn give_memory_back() {
    // SAFETY: it may be called at any time, whatever allocator the program has. WHY: the allocator's safe crate lacks it.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// The allocator's statistics of the process as JSON, or nothing if it has none. It reads atomic counts and takes a lock of the
/// allocator that no allocation takes: for the background core.
pub fn allocator_statistics() -> Option<Vec<u8>> {
    let mut text = vec![0_u8; ALLOCATOR_TEXT_BYTES];
    // SAFETY: it writes at most `text.len()` bytes to `text`, which outlives the call, and gives its start or null; whatever
    // allocator the program has. WHY: the allocator's safe crate lacks it.
    let start = unsafe { libmimalloc_sys::mi_stats_get_json(text.len(), text.as_mut_ptr().cast()) };
    if start.is_null() {
        return None;
    }
    let length = text.iter().position(|byte| *byte == 0)?;
    text.truncate(length);
    Some(text)
}

/// What the allocator writes is 20 KB.
const ALLOCATOR_TEXT_BYTES: usize = 64 << 10;

/// The program's allocator: mimalloc, of whose blocks [`super::allocations`] takes samples while somebody asks for them. Otherwise each
/// call is mimalloc's after a load and a branch.
pub struct SamplingAllocator;

static MIMALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

// SAFETY: every block comes from mimalloc and returns to it, with the arguments of the caller, for which the caller vouches; nothing
// that is called besides panics. WHY: the trait of allocators is unsafe.
unsafe impl GlobalAlloc for SamplingAllocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match allocations::is_sampling() {
            // SAFETY: as above. WHY: as above.
            false => unsafe { MIMALLOC.alloc(layout) },
            // SAFETY: as above. WHY: as above.
            true => seen(layout.size(), || unsafe { MIMALLOC.alloc(layout) }),
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match allocations::is_sampling() {
            // SAFETY: as above. WHY: as above.
            false => unsafe { MIMALLOC.alloc_zeroed(layout) },
            // SAFETY: as above. WHY: as above.
            true => seen(layout.size(), || unsafe { MIMALLOC.alloc_zeroed(layout) }),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match allocations::is_sampling() {
            // SAFETY: as above. WHY: as above.
            false => unsafe { MIMALLOC.dealloc(block, layout) },
            // SAFETY: as above. WHY: as above.
            true => unseen(block, || unsafe { MIMALLOC.dealloc(block, layout) }),
        }
    }

    /// A block that grows or shrinks counts as freed and allocated anew.
    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match allocations::is_sampling() {
            // SAFETY: as above. WHY: as above.
            false => unsafe { MIMALLOC.realloc(block, layout, size) },
            // SAFETY: as above. WHY: as above.
            true => unseen(block, || seen(size, || unsafe { MIMALLOC.realloc(block, layout, size) })),
        }
    }
}

/// Allocates. Never inlined, so that a call that is not sampled saves no registers for it.
#[cold]
#[inline(never)]
fn seen(size: usize, allocate: impl FnOnce() -> *mut u8) -> *mut u8 {
    let block = allocate();
    if !block.is_null() {
        allocations::allocated(block.addr(), size);
    }
    block
}

/// Frees: its address may be another thread's afterwards.
#[cold]
#[inline(never)]
fn unseen<T>(block: *mut u8, free: impl FnOnce() -> T) -> T {
    allocations::freed(block.addr());
    free()
}

/// Fills `frames` with return addresses of this thread, the innermost first; how many. Allocates nothing. The unwinder of gcc 12 finds
/// its tables by glibc's `_dl_find_object` (2.35) without a lock; older ones take one for a moment, which other samples may wait for.
#[inline(never)]
pub fn stack(frames: &mut [usize]) -> usize {
    let mut places = frames.iter_mut();
    let mut depth = 0;
    // SAFETY: the crate's lock is for systems other than Linux: the unwinder may run on several threads at once. WHY: the crate's safe
    // form waits for that lock.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            let Some(place) = places.next() else { return false };
            *place = frame.ip().addr();
            depth += 1;
            true
        });
    }
    depth
}

/// Receive buffers from which the kernel picks when bytes arrive, shared by all receives of one ring. Sizes in bytes.
pub struct Buffers {
    entries: *mut io_uring::types::BufRingEntry,
    bytes: *mut u8,
    count: u16,
    /// Buffers below this index are in use.
    used: u16,
    each: usize,
    tail: u16,
}

/// Gap between two buffers, so that they do not all start in the same cache set: usually only the first lines of a
/// buffer are used.
const STAGGER_BYTES: usize = 5 * 64;

impl Buffers {
    /// Allocates `count` (a power of two) buffers of `each` bytes as group 0 of `ring`; none is in use yet. Only pages
    /// that are written become resident. Errors: out of address space, or the kernel refuses.
    pub fn new(ring: &io_uring::IoUring, count: u16, each: usize) -> std::io::Result<Buffers> {
        let entry = size_of::<io_uring::types::BufRingEntry>();
        let entries = anonymous(usize::from(count) * entry)?.cast();
        let bytes = anonymous(usize::from(count) * (each + STAGGER_BYTES))?;
        // SAFETY: `entries` is page-aligned, zeroed, large enough, and stays mapped for the life of the process.
        // WHY: the kernel reads this memory by itself; no safe wrapper owns it.
        unsafe { ring.submitter().register_buf_ring(entries as u64, count, 0)? };
        Ok(Buffers { entries, bytes, count, used: 0, each, tail: 0 })
    }

    /// Makes up to `more` further buffers available to the kernel.
    pub fn use_more(&mut self, more: u16) {
        let before = self.used;
        self.used = before.saturating_add(more).min(self.count);
        (before..self.used).for_each(|id| self.give_back(id));
    }

    /// How many are in use.
    pub fn used(&self) -> usize {
        usize::from(self.used)
    }

    /// Offset of buffer `id` from the first.
    fn offset(&self, id: u16) -> usize {
        usize::from(id) * (self.each + STAGGER_BYTES)
    }

    /// What the kernel wrote to buffer `id`.
    pub fn filled(&self, id: u16, length: usize) -> &[u8] {
        assert!(id < self.used && length <= self.each, "the kernel returns only buffers that it was given");
        // SAFETY: in bounds by the assertion; the memory stays mapped; the kernel does not write to a buffer again until
        // `give_back`, which borrows `self` mutably. WHY: the buffer was filled from outside of the program.
        unsafe { std::slice::from_raw_parts(self.bytes.add(self.offset(id)), length) }
    }

    /// Returns buffer `id` to the kernel.
    pub fn give_back(&mut self, id: u16) {
        assert!(id < self.used, "only buffers in use are returned");
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `place` is below `count`, so the entry lies in the mapping, and the kernel reads entries only below
        // the tail published here, with release order after the entry is written. WHY: the ring is shared memory.
        unsafe {
            let entry = &mut *self.entries.add(place);
            entry.set_addr(self.bytes.add(self.offset(id)) as u64);
            entry.set_len(self.each as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = io_uring::types::BufRingEntry::tail(self.entries).cast::<std::sync::atomic::AtomicU16>();
            (*tail).store(self.tail, std::sync::atomic::Ordering::Release);
        }
    }
}

fn anonymous(length: usize) -> std::io::Result<*mut u8> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_ANONYMOUS | libc::MAP_PRIVATE);
    // SAFETY: a new private anonymous mapping touches no existing memory. WHY: page-aligned zeroed memory that is never
    // unmapped, as the kernel's side of a buffer ring needs it.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED { Err(std::io::Error::last_os_error()) } else { Ok(start.cast()) }
}

/// Queues a multishot receive, which continues until it is cancelled or the buffers run out. False: the queue is full.
pub fn push_receive(ring: &mut io_uring::IoUring, socket: RawFd, tag: u64) -> bool {
    let entry = io_uring::opcode::RecvMulti::new(io_uring::types::Fd(socket), 0).build().user_data(tag);
    // SAFETY: the entry holds no pointer: its memory is the registered buffer group. WHY: pushing is unsafe as such.
    unsafe { ring.submission().push(&entry).is_ok() }
}

/// How an entry refers to its socket.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    Descriptor(RawFd),
    /// Its index in the ring's fixed file table.
    Number(u32),
}

/// Copies of bytes until they are submitted. The memory is never freed, so that a send in the ring can point to it.
pub struct SendArena {
    bytes: &'static mut [u8],
    used: usize,
}

impl SendArena {
    /// An arena of `capacity` bytes.
    pub fn new(capacity: usize) -> SendArena {
        SendArena { bytes: Box::leak(vec![0; capacity].into_boxed_slice()), used: 0 }
    }

    /// Copies `bytes` and queues a non-waiting send of them: it runs within the call that submits it, and posts a
    /// completion only if it did not send everything. Returns the offset of the copy, or `None` if there is no room in
    /// the arena or the queue.
    pub fn push_send(&mut self, ring: &mut io_uring::IoUring, target: Target, bytes: &[u8], tag: u64) -> Option<usize> {
        use io_uring::{opcode::Send, types};
        let start = self.used;
        let copy = self.bytes.get_mut(start..start + bytes.len())?;
        copy.copy_from_slice(bytes);
        // MSG_WAITALL: a partial send counts as failed and therefore posts a completion.
        let (start_of_copy, length) = (copy.as_ptr(), copy.len() as u32);
        let send = match target {
            Target::Descriptor(socket) => Send::new(types::Fd(socket), start_of_copy, length),
            Target::Number(number) => Send::new(types::Fixed(number), start_of_copy, length),
        };
        let entry = send
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .flags(io_uring::squeue::Flags::SKIP_SUCCESS)
            .user_data(tag);
        // SAFETY: the entry points to memory that is never unmapped. WHY: pushing is unsafe as such.
        unsafe { ring.submission().push(&entry).ok()? };
        self.used += bytes.len();
        Some(start)
    }

    /// The copied bytes.
    pub fn queued(&self, start: usize, length: usize) -> &[u8] {
        &self.bytes[start..start + length]
    }

    /// Empties the arena; call it once everything in it is submitted.
    pub fn clear(&mut self) {
        self.used = 0;
    }
}

/// Queues a wait until `descriptor` is ready for one of `events` or has an error. False: the queue is full.
pub fn push_poll(ring: &mut io_uring::IoUring, descriptor: RawFd, events: PollFlags, tag: u64) -> bool {
    let events = u32::from(events.bits());
    let entry = io_uring::opcode::PollAdd::new(io_uring::types::Fd(descriptor), events).build().user_data(tag);
    // SAFETY: the entry holds no pointer. WHY: pushing is unsafe as such.
    unsafe { ring.submission().push(&entry).is_ok() }
}

/// Where the counter of an eventfd is read to. Never freed, so that a read in the ring can point to it.
#[derive(Clone, Copy)]
pub struct EventFdCount(&'static std::sync::atomic::AtomicU64);

impl EventFdCount {
    pub fn new() -> EventFdCount {
        EventFdCount(Box::leak(Box::default()))
    }
}

/// Queues a read of an eventfd. False: the queue is full.
pub fn push_eventfd_read(ring: &mut io_uring::IoUring, notifier: RawFd, count: EventFdCount, tag: u64) -> bool {
    let entry =
        io_uring::opcode::Read::new(io_uring::types::Fd(notifier), count.0.as_ptr().cast(), 8).build().user_data(tag);
    // SAFETY: the entry points to eight bytes that are never freed or accessed otherwise. WHY: pushing is unsafe as
    // such.
    unsafe { ring.submission().push(&entry).is_ok() }
}

/// Submits what is queued and lets the kernel post completions, without waiting.
pub fn submit_and_reap(ring: &mut io_uring::IoUring) -> std::io::Result<()> {
    let queued = ring.submission().len() as u32;
    enter(ring, queued)
}

/// Submits what is queued and waits for a completion, for `timeout_us` at most.
pub fn submit_and_wait(ring: &mut io_uring::IoUring, timeout_us: u64) -> std::io::Result<usize> {
    let timeout =
        io_uring::types::Timespec::new().sec(timeout_us / 1_000_000).nsec((timeout_us % 1_000_000) as u32 * 1000);
    ring.submitter().submit_with_args(1, &io_uring::types::SubmitArgs::new().timespec(&timeout))
}

/// Lets the kernel post completions without submitting.
pub fn only_reap(ring: &mut io_uring::IoUring) -> std::io::Result<()> {
    enter(ring, 0)
}

fn enter(ring: &mut io_uring::IoUring, queued: u32) -> std::io::Result<()> {
    const GETEVENTS: u32 = 1;
    // SAFETY: no argument is passed. WHY: the safe form asks for completions only when it waits for one.
    unsafe { ring.submitter().enter::<libc::sigset_t>(queued, 0, GETEVENTS, None) }.map(drop)
}

/// Sends SIGPROF to this thread. It has been handled when this returns.
pub fn raise_sigprof() {
    // SAFETY: no pointer is passed; a handler that the process has installed runs here and now, as it might anywhere.
    // WHY: no dependency has a safe form for one thread.
    unsafe {
        libc::raise(libc::SIGPROF);
    }
}
