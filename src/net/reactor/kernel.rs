//! The reactor's interface to the kernel: a ring, the buffers that it receives into, the arena that queued sends point
//! to, and a few plain calls on sockets. Tests replace it by a fake kernel, which completes operations in any order,
//! late, partially or never, as the real one may.

use std::io;
use std::os::fd::RawFd;

use io_uring::{IoUring, cqueue};
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::fixed_files::fixed_files_max;
use crate::net::sys::{self, Buffers, EventFdCount, SendArena, Target};

pub(super) const RING_ENTRIES: u32 = 1024;
const COMPLETIONS: u32 = 8192;
/// Most receive buffers of a core. A buffer is emptied when its reader runs, mostly within the same round.
pub(super) const BUFFERS: u16 = 1024;
/// Initial number of buffers, and the increment each time they run out. The kernel uses them in turn, so all of them
/// pass through the caches: with no more than are needed, the bytes of a request are still cached when it is read.
pub(super) const BUFFERS_STEP: u16 = 64;
pub(super) const BUFFER_BYTES: usize = 8 << 10;
/// Arena for the sends of a round. It is filled from its start in each round, so a small round stays in the L1 cache.
pub(super) const SEND_ARENA_BYTES: usize = 256 << 10;

/// A completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Completion {
    /// The tag that the operation was queued with.
    pub tag: u64,
    /// A count, or a negated error number.
    pub result: i32,
    /// The buffer that was filled, or that was taken but not filled.
    pub buffer: Option<u16>,
    /// The operation continues and will complete again.
    pub more: bool,
}

/// The real kernel, by means of one ring.
pub(super) struct Ring {
    ring: IoUring,
    buffers: Buffers,
    arena: SendArena,
    /// Size of the ring's fixed file table.
    fixed_files: u32,
}

impl Ring {
    /// Errors: the kernel refuses a ring or its memory.
    pub fn new() -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
        builder.setup_cqsize(COMPLETIONS);
        let ring = builder.build(RING_ENTRIES)?;
        let mut buffers = Buffers::new(&ring, BUFFERS, BUFFER_BYTES)?;
        buffers.use_more(BUFFERS_STEP);
        Ok(Ring { fixed_files: fixed_files_max(&ring), ring, buffers, arena: SendArena::new(SEND_ARENA_BYTES) })
    }

    /// Queues a multishot receive, which continues until it is cancelled or the buffers run out. False: the queue is
    /// full.
    pub fn push_receive(&mut self, socket: RawFd, tag: u64) -> bool {
        sys::push_receive(&mut self.ring, socket, tag)
    }

    /// Copies `bytes` and queues a send of them: it runs within the call that submits it, and posts a completion only
    /// if it did not send everything. Returns the offset of the copy, or `None` if there is no room in the arena or the
    /// queue.
    pub fn push_send(&mut self, target: Target, bytes: &[u8], tag: u64) -> Option<usize> {
        self.arena.push_send(&mut self.ring, target, bytes, tag)
    }

    /// Queues a wait until `descriptor` is ready for one of `events` or has an error. False: the queue is full.
    pub fn push_poll(&mut self, descriptor: RawFd, events: PollFlags, tag: u64) -> bool {
        sys::push_poll(&mut self.ring, descriptor, events, tag)
    }

    /// Queues a read of an eventfd. False: the queue is full.
    pub fn push_eventfd_read(&mut self, descriptor: RawFd, count: EventFdCount, tag: u64) -> bool {
        sys::push_eventfd_read(&mut self.ring, descriptor, count, tag)
    }

    /// Submits what is queued and lets the kernel post completions, without waiting.
    pub fn submit_and_reap(&mut self) {
        // Callers check `is_submitted` and retry what was not accepted.
        let _ = sys::submit_and_reap(&mut self.ring);
    }

    /// Submits what is queued and waits for a completion, for `timeout_us` at most.
    pub fn submit_and_wait(&mut self, timeout_us: u64) {
        let _ = sys::submit_and_wait(&mut self.ring, timeout_us);
    }

    /// Lets the kernel post completions without submitting.
    pub fn only_reap(&mut self) {
        let _ = sys::only_reap(&mut self.ring);
    }

    /// Cancels the operation with `tag`. Its last completion still arrives.
    pub fn cancel(&mut self, tag: u64) {
        // Not found: it has completed already.
        let _ = self.ring.submitter().register_sync_cancel(None, io_uring::types::CancelBuilder::user_data(tag));
    }

    /// Whether the kernel has accepted everything that was queued.
    pub fn is_submitted(&mut self) -> bool {
        self.ring.submission().is_empty()
    }

    /// Whether completions wait in the kernel because the queue is full.
    pub fn overflows(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    /// Whether completions are available. Read from shared memory, without a system call.
    pub fn has_completions(&mut self) -> bool {
        self.ring.submission().taskrun() || !self.ring.completion().is_empty()
    }

    /// Appends all available completions to `into`.
    pub fn take_completions(&mut self, into: &mut Vec<Completion>) {
        into.extend(self.ring.completion().map(|done| Completion {
            tag: done.user_data(),
            result: done.result(),
            buffer: cqueue::buffer_select(done.flags()),
            more: cqueue::more(done.flags()),
        }));
    }

    /// What the kernel wrote to buffer `id`.
    pub fn received(&self, id: u16, length: usize) -> &[u8] {
        self.buffers.filled(id, length)
    }

    /// Returns buffer `id` to the kernel.
    pub fn give_back(&mut self, id: u16) {
        self.buffers.give_back(id);
    }

    /// How many buffers are in use.
    pub fn buffers_used(&self) -> usize {
        self.buffers.used()
    }

    /// Makes more buffers available to the kernel, up to the most.
    pub fn use_more_buffers(&mut self) {
        self.buffers.use_more(BUFFERS_STEP);
    }

    /// The bytes of a queued send.
    pub fn queued(&self, start: usize, length: usize) -> &[u8] {
        self.arena.queued(start, length)
    }

    /// Empties the send arena; call it once everything in it is submitted.
    pub fn clear_queued(&mut self) {
        self.arena.clear();
    }

    /// Size of the fixed file table.
    pub fn fixed_files(&self) -> u32 {
        self.fixed_files
    }

    /// Puts `socket` into entry `number` of the fixed file table, or removes it (-1). False: the kernel refuses.
    pub fn set_fixed_file(&mut self, number: u32, socket: RawFd) -> bool {
        self.ring.submitter().register_files_update(number, &[socket]).is_ok()
    }

    /// Sends as much of `bytes` as there is room for, without waiting.
    pub fn send_now(&mut self, socket: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
        sys::send_now(socket, bytes)
    }

    /// Makes the next close a reset.
    pub fn reset_by_close(&mut self, socket: RawFd) {
        sys::reset_by_close(socket);
    }

    /// Shuts down both directions, so that any pending operation on the socket completes.
    pub fn shut_down(&mut self, socket: RawFd) {
        sys::shutdown_both(socket);
    }
}

#[cfg(not(test))]
pub(super) type Kernel = Ring;

#[cfg(test)]
pub(super) use under_test::Kernel;

#[cfg(test)]
mod under_test {
    use super::*;
    use crate::net::reactor::fake::Fake;

    /// The real kernel, or a fake.
    #[allow(clippy::large_enum_variant, reason = "one a thread")]
    pub enum Kernel {
        Ring(Ring),
        Fake(Fake),
    }

    macro_rules! either {
        ($(fn $name:ident(&mut self $(, $argument:ident: $kind:ty)*) $(-> $result:ty)?;)*
         $(ref fn $ref_name:ident(&self $(, $ref_argument:ident: $ref_kind:ty)*) -> $ref_result:ty;)*) => {
            impl Kernel {
                $(pub fn $name(&mut self $(, $argument: $kind)*) $(-> $result)? {
                    match self {
                        Kernel::Ring(ring) => ring.$name($($argument),*),
                        Kernel::Fake(fake) => fake.$name($($argument),*),
                    }
                })*
                $(pub fn $ref_name(&self $(, $ref_argument: $ref_kind)*) -> $ref_result {
                    match self {
                        Kernel::Ring(ring) => ring.$ref_name($($ref_argument),*),
                        Kernel::Fake(fake) => fake.$ref_name($($ref_argument),*),
                    }
                })*
            }
        };
    }

    impl Kernel {
        pub fn new() -> io::Result<Kernel> {
            Ring::new().map(Kernel::Ring)
        }

        /// As with an old kernel.
        pub fn refuse_fixed_files(&mut self) {
            if let Kernel::Ring(ring) = self {
                ring.fixed_files = 0;
            }
        }
    }

    either! {
        fn push_receive(&mut self, socket: RawFd, tag: u64) -> bool;
        fn push_send(&mut self, target: Target, bytes: &[u8], tag: u64) -> Option<usize>;
        fn push_poll(&mut self, descriptor: RawFd, events: PollFlags, tag: u64) -> bool;
        fn push_eventfd_read(&mut self, descriptor: RawFd, count: EventFdCount, tag: u64) -> bool;
        fn submit_and_reap(&mut self);
        fn submit_and_wait(&mut self, timeout_us: u64);
        fn only_reap(&mut self);
        fn cancel(&mut self, tag: u64);
        fn is_submitted(&mut self) -> bool;
        fn overflows(&mut self) -> bool;
        fn has_completions(&mut self) -> bool;
        fn take_completions(&mut self, into: &mut Vec<Completion>);
        fn give_back(&mut self, id: u16);
        fn use_more_buffers(&mut self);
        fn clear_queued(&mut self);
        fn set_fixed_file(&mut self, number: u32, socket: RawFd) -> bool;
        fn send_now(&mut self, socket: RawFd, bytes: &[u8]) -> Result<usize, Errno>;
        fn reset_by_close(&mut self, socket: RawFd);
        fn shut_down(&mut self, socket: RawFd);
        ref fn received(&self, id: u16, length: usize) -> &[u8];
        ref fn buffers_used(&self) -> usize;
        ref fn queued(&self, start: usize, length: usize) -> &[u8];
        ref fn fixed_files(&self) -> u32;
    }
}
