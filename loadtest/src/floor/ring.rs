//! The floor's ring: multishot accept and receive, provided buffers, sends of constant bytes. All `unsafe` of the
//! measuring tools is in this file, one operation per block.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

/// The kernel requires a power of two.
const BUFFERS: u16 = 1024;
const BUFFER_BYTES: usize = 8 << 10;
const GROUP: u16 = 0;
const PAGE_BYTES: usize = 4096;
const SUBMISSIONS: u32 = 2048;
const COMPLETIONS: u32 = 8192;

/// The kind of a completion: upper half of its tag; the lower half is the descriptor.
const ACCEPT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SEND: u64 = 3 << 32;

/// Received bytes borrowed from the ring; not `Clone`, so that they are returned once.
pub struct Buffer {
    number: u16,
    length: usize,
}

pub enum Event {
    Accepted(TcpStream),
    /// The multishot accept ended and must be submitted again.
    AcceptEnded,
    /// `continues`: more will follow without another submission.
    Received {
        fd: RawFd,
        buffer: Buffer,
        continues: bool,
    },
    /// All buffers were in use; the multishot receive ended and must be submitted again.
    NoBuffer {
        fd: RawFd,
    },
    Closed {
        fd: RawFd,
    },
    Sent,
}

pub struct Ring {
    ring: IoUring,
    /// `BUFFERS` entries shared with the kernel, never freed.
    entries: NonNull<types::BufRingEntry>,
    /// `BUFFERS` times `BUFFER_BYTES`, never freed.
    memory: NonNull<u8>,
    tail: u16,
}

/// Zeroed, page-aligned memory that is never freed: the kernel may write to it as long as the process lives.
fn pages(bytes: usize) -> NonNull<u8> {
    assert!(bytes > 0);
    let layout = Layout::from_size_align(bytes, PAGE_BYTES).expect("constant sizes");
    // SAFETY: the layout's size is not 0. WHY: the buffer ring must begin on a page, and is written by the kernel.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}

impl Ring {
    pub fn new() -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETIONS).setup_single_issuer().setup_defer_taskrun();
        let ring = builder.build(SUBMISSIONS)?;
        let entries = pages(usize::from(BUFFERS) * size_of::<types::BufRingEntry>()).cast();
        let memory = pages(usize::from(BUFFERS) * BUFFER_BYTES);
        // SAFETY: `entries` holds BUFFERS entries on its own pages and is never freed.
        // WHY: provided buffers are what makes the floor a floor; no safe wrapper has them.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, BUFFERS, GROUP, 0)? };
        let mut ring = Ring { ring, entries, memory, tail: 0 };
        for number in 0..BUFFERS {
            ring.give_back(Buffer { number, length: 0 });
        }
        Ok(ring)
    }

    pub fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        let accept = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).flags(0o2000000 /* SOCK_CLOEXEC */);
        self.push(&accept.build().user_data(ACCEPT))
    }

    pub fn receive(&mut self, socket: &TcpStream) -> io::Result<()> {
        let fd = socket.as_raw_fd();
        self.push(&opcode::RecvMulti::new(types::Fd(fd), GROUP).build().user_data(RECEIVE | fd as u64))
    }

    /// Sends all of `bytes`, otherwise the connection ends.
    pub fn send(&mut self, socket: &TcpStream, bytes: &'static [u8]) -> io::Result<()> {
        let fd = socket.as_raw_fd();
        // MSG_WAITALL lets the kernel finish a short write; MSG_NOSIGNAL keeps a gone client from killing the process.
        let send = opcode::Send::new(types::Fd(fd), bytes.as_ptr(), bytes.len() as u32).flags(0x100 | 0x4000);
        self.push(&send.build().user_data(SEND | fd as u64))
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: every entry made above points to memory that is never freed (constant bytes, ring memory) and to
            // descriptors the kernel checks itself. WHY: the submission queue has no safe way in.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }

    /// Submits pending entries, waits for completions, and appends them to `events`.
    pub fn wait(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        match self.ring.submit_and_wait(1) {
            Err(error)
                if error.kind() != io::ErrorKind::Interrupted && error.raw_os_error() != Some(16 /* EBUSY */) =>
            {
                return Err(error);
            }
            _ => {}
        }
        for completion in self.ring.completion() {
            let (tag, result, flags) = (completion.user_data(), completion.result(), completion.flags());
            let fd = tag as u32 as RawFd;
            match tag >> 32 << 32 {
                ACCEPT => {
                    if result >= 0 {
                        // SAFETY: the kernel has just made this descriptor for us, and gives it to nobody else.
                        // WHY: multishot accept answers with bare numbers.
                        events.push(Event::Accepted(unsafe { TcpStream::from_raw_fd(result) }));
                    }
                    if !cqueue::more(flags) {
                        events.push(Event::AcceptEnded);
                    }
                }
                RECEIVE => events.push(match cqueue::buffer_select(flags) {
                    Some(number) if result > 0 => {
                        let buffer = Buffer { number, length: (result as usize).min(BUFFER_BYTES) };
                        Event::Received { fd, buffer, continues: cqueue::more(flags) }
                    }
                    _ if result == -105 /* ENOBUFS */ => Event::NoBuffer { fd },
                    _ => Event::Closed { fd },
                }),
                _ => events.push(Event::Sent),
            }
        }
        Ok(())
    }

    pub fn bytes(&self, buffer: &Buffer) -> &[u8] {
        assert!(buffer.number < BUFFERS && buffer.length <= BUFFER_BYTES);
        // SAFETY: number and length lie inside `memory` (asserted), the kernel filled these bytes and does not touch
        // them until the buffer is given back, which takes it by value. WHY: the kernel wrote them behind Rust's back.
        unsafe {
            std::slice::from_raw_parts(
                self.memory.as_ptr().add(usize::from(buffer.number) * BUFFER_BYTES),
                buffer.length,
            )
        }
    }

    pub fn give_back(&mut self, buffer: Buffer) {
        assert!(buffer.number < BUFFERS);
        let place = usize::from(self.tail & (BUFFERS - 1));
        // SAFETY: `place` is below BUFFERS; the kernel reads an entry only once the tail has passed it.
        // WHY: the entries are shared memory.
        let entry = unsafe { &mut *self.entries.as_ptr().add(place) };
        entry.set_addr(self.memory.as_ptr() as u64 + (usize::from(buffer.number) * BUFFER_BYTES) as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer.number);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `entries` begins a registered ring; its tail is two aligned bytes that live as long as the process,
        // and the kernel only reads them. WHY: the release store is what publishes the entry to the kernel.
        let tail = unsafe { AtomicU16::from_ptr(types::BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
