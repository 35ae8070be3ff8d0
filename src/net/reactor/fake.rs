//! A fake kernel for tests: tests feed its sockets and descriptors; completions come in any order, late, partial,
//! cancelled, or only after the completion queue has overflowed. It keeps the guarantees of the real one: a queued send
//! runs within the call that submits it, and the completions of one operation come in order.

use std::collections::{HashMap, VecDeque};
use std::os::fd::RawFd;

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::kernel::Completion;
use crate::net::sys::{EventFdCount, Target};

/// Small, so that tests reach each bound often.
const QUEUE: usize = 6;
const COMPLETIONS: usize = 4;
const BUFFERS: usize = 16;
const BUFFERS_STEP: usize = 4;
pub const BUFFER_BYTES: usize = 48;
const ARENA_BYTES: usize = 400;
const FIXED_FILES: usize = 4;

/// A seeded random generator (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A random number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// An open file: a socket and its peer. Operations keep it alive, even after its descriptor is closed.
#[derive(Default)]
pub struct File {
    /// Sent by the peer and not received yet.
    pub incoming: VecDeque<u8>,
    /// The peer has ended its direction: cleanly, or by this error.
    pub ended: Option<Result<(), Errno>>,
    /// What the peer has received.
    pub outgoing: Vec<u8>,
    /// How many more bytes the peer accepts.
    pub room: usize,
    /// The error that sends fail with.
    pub broken: Option<Errno>,
    pub shut_down: bool,
    pub reset_by_close: bool,
}

impl File {
    fn send(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        if self.shut_down {
            return Err(Errno::PIPE);
        }
        let taken = bytes.len().min(self.room);
        if taken == 0 {
            return Err(Errno::AGAIN);
        }
        self.room -= taken;
        self.outgoing.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn is_ready(&self, events: PollFlags) -> bool {
        let broken = self.broken.is_some() || self.shut_down;
        broken
            || events.contains(PollFlags::OUT) && self.room > 0
            || events.contains(PollFlags::IN) && (!self.incoming.is_empty() || self.ended.is_some())
    }
}

enum Entry {
    Receive { fd: RawFd, tag: u64 },
    Send { target: Target, start: usize, length: usize, tag: u64 },
    Poll { fd: RawFd, events: PollFlags, tag: u64 },
}

/// Operations in the kernel refer to files, not descriptors.
#[derive(Debug)]
pub enum Pending {
    Receive { file: usize, tag: u64 },
    Poll { file: usize, events: PollFlags, tag: u64 },
}

impl Pending {
    fn tag(&self) -> u64 {
        match self {
            Pending::Receive { tag, .. } | Pending::Poll { tag, .. } => *tag,
        }
    }
}

pub struct Fake {
    pub random: Random,
    /// One in this many operations that can go wrong does; 0 for a kernel that does everything at once and completely.
    pub chaos: usize,
    pub files: Vec<File>,
    pub descriptors: HashMap<RawFd, usize>,
    fixed: Vec<Option<usize>>,
    queue: VecDeque<Entry>,
    pending: Vec<Pending>,
    completions: VecDeque<Completion>,
    /// Completions for which the queue had no room.
    overflow: VecDeque<Completion>,
    buffers: Vec<Vec<u8>>,
    /// Buffers that the kernel may fill.
    available: VecDeque<u16>,
    arena: Vec<u8>,
}

impl Fake {
    pub fn new(random: Random, chaos: usize) -> Fake {
        Fake {
            random,
            chaos,
            files: Vec::new(),
            descriptors: HashMap::new(),
            fixed: vec![None; FIXED_FILES],
            queue: VecDeque::new(),
            pending: Vec::new(),
            completions: VecDeque::new(),
            overflow: VecDeque::new(),
            buffers: vec![Vec::new(); BUFFERS_STEP],
            available: (0..BUFFERS_STEP as u16).collect(),
            arena: Vec::new(),
        }
    }

    /// Opens a socket with the lowest free descriptor, as a kernel does. Returns the descriptor and the file.
    pub fn open(&mut self) -> (RawFd, usize) {
        let fd = (3..).find(|fd| !self.descriptors.contains_key(fd)).expect("there are many");
        self.files.push(File { room: usize::MAX, ..File::default() });
        self.descriptors.insert(fd, self.files.len() - 1);
        (fd, self.files.len() - 1)
    }

    pub fn close(&mut self, fd: RawFd) {
        self.descriptors.remove(&fd).expect("it is open");
    }

    /// Operations that keep `file` open.
    pub fn holders(&self, file: usize) -> Vec<&Pending> {
        let is_holder = |pending: &&Pending| match pending {
            Pending::Receive { file: held, .. } | Pending::Poll { file: held, .. } => *held == file,
        };
        self.pending.iter().filter(is_holder).collect()
    }

    /// Whether the fixed file table keeps `file` open.
    pub fn fixed_holds(&self, file: usize) -> bool {
        self.fixed.contains(&Some(file))
    }

    /// Buffers that the kernel may fill.
    pub fn available(&self) -> usize {
        self.available.len()
    }

    /// Filled buffers whose completions were not taken yet.
    pub fn filled(&self) -> usize {
        self.completions.iter().chain(&self.overflow).filter(|done| done.buffer.is_some()).count()
    }

    fn goes_wrong(&mut self) -> bool {
        self.chaos > 0 && self.random.one_in(self.chaos)
    }

    fn push(&mut self, entry: Entry) -> bool {
        let has_room = self.queue.len() < QUEUE;
        if has_room {
            self.queue.push_back(entry);
        }
        has_room
    }

    fn complete(&mut self, done: Completion) {
        // Once there is an overflow, later completions queue behind it.
        if self.overflow.is_empty() && self.completions.len() < COMPLETIONS {
            self.completions.push_back(done);
        } else {
            self.overflow.push_back(done);
        }
    }

    fn submit(&mut self) {
        while let Some(entry) = self.queue.pop_front() {
            match entry {
                Entry::Receive { fd, tag } => match self.descriptors.get(&fd) {
                    Some(&file) => self.pending.push(Pending::Receive { file, tag }),
                    None => self.fail(tag, Errno::BADF),
                },
                Entry::Poll { fd, events, tag } => match self.descriptors.get(&fd) {
                    Some(&file) => self.pending.push(Pending::Poll { file, events, tag }),
                    None => self.fail(tag, Errno::BADF),
                },
                Entry::Send { target, start, length, tag } => {
                    let file = match target {
                        Target::Descriptor(fd) => self.descriptors.get(&fd).copied(),
                        Target::Number(number) => self.fixed.get(number as usize).copied().flatten(),
                    };
                    let Some(file) = file else {
                        self.fail(tag, Errno::BADF);
                        continue;
                    };
                    let short = if self.goes_wrong() { self.random.below(length) } else { length };
                    let bytes = self.arena[start..start + length].to_vec();
                    match self.files[file].send(&bytes[..short]) {
                        Ok(taken) if taken == length => {} // success posts no completion
                        Ok(taken) => self.complete(Completion { tag, result: taken as i32, buffer: None, more: false }),
                        Err(error) => self.fail(tag, error),
                    }
                }
            }
            // It may accept only a part of what is queued.
            if self.goes_wrong() {
                return;
            }
        }
    }

    fn fail(&mut self, tag: u64, error: Errno) {
        self.complete(Completion { tag, result: -error.raw_os_error(), buffer: None, more: false });
    }

    fn reap(&mut self) {
        while self.completions.len() < COMPLETIONS
            && let Some(done) = self.overflow.pop_front()
        {
            self.completions.push_back(done);
        }
        // Operations complete in any order relative to each other.
        for _ in 0..self.pending.len() {
            let at = self.random.below(self.pending.len());
            if self.pending.is_empty() || self.goes_wrong() {
                continue; // later
            }
            match self.pending[at] {
                Pending::Receive { file, tag } => self.receive(at, file, tag),
                Pending::Poll { file, events, tag } => {
                    if self.files[file].is_ready(events) {
                        self.pending.swap_remove(at);
                        self.complete(Completion { tag, result: events.bits().into(), buffer: None, more: false });
                    }
                }
            }
        }
    }

    fn receive(&mut self, at: usize, file: usize, tag: u64) {
        let waiting = self.files[file].incoming.len();
        if self.files[file].shut_down {
            self.pending.swap_remove(at);
            self.complete(Completion { tag, result: 0, buffer: None, more: false });
        } else if waiting > 0 {
            let Some(id) = self.available.pop_front() else {
                self.pending.swap_remove(at);
                return self.fail(tag, Errno::NOBUFS);
            };
            let most = waiting.min(BUFFER_BYTES);
            let length = if self.goes_wrong() { 1 + self.random.below(most) } else { most };
            self.buffers[usize::from(id)] = self.files[file].incoming.drain(..length).collect();
            // A multishot receive may end at any time; it is armed again then.
            let more = !self.goes_wrong();
            if !more {
                self.pending.swap_remove(at);
            }
            self.complete(Completion { tag, result: length as i32, buffer: Some(id), more });
        } else if let Some(end) = self.files[file].ended {
            self.pending.swap_remove(at);
            match end {
                Ok(()) => self.complete(Completion { tag, result: 0, buffer: None, more: false }),
                Err(error) => self.fail(tag, error),
            }
        }
    }
}

/// The interface of [`super::kernel::Ring`].
impl Fake {
    pub fn push_receive(&mut self, fd: RawFd, tag: u64) -> bool {
        self.push(Entry::Receive { fd, tag })
    }

    pub fn push_send(&mut self, target: Target, bytes: &[u8], tag: u64) -> Option<usize> {
        let start = self.arena.len();
        if start + bytes.len() > ARENA_BYTES || !self.push(Entry::Send { target, start, length: bytes.len(), tag }) {
            return None;
        }
        self.arena.extend_from_slice(bytes);
        Some(start)
    }

    pub fn push_poll(&mut self, fd: RawFd, events: PollFlags, tag: u64) -> bool {
        self.push(Entry::Poll { fd, events, tag })
    }

    pub fn push_eventfd_read(&mut self, fd: RawFd, _count: EventFdCount, tag: u64) -> bool {
        self.push(Entry::Poll { fd, events: PollFlags::IN, tag })
    }

    pub fn submit_and_reap(&mut self) {
        // The call may be interrupted before it does anything.
        if !self.goes_wrong() {
            self.submit();
            self.reap();
        }
    }

    pub fn submit_and_wait(&mut self, _timeout_us: u64) {
        self.submit_and_reap();
    }

    pub fn only_reap(&mut self) {
        self.reap();
    }

    pub fn cancel(&mut self, tag: u64) {
        let Some(at) = self.pending.iter().position(|pending| pending.tag() == tag) else { return };
        // It may still deliver something before it is cancelled.
        if let Pending::Receive { file, tag } = self.pending[at]
            && self.goes_wrong()
            && !self.files[file].incoming.is_empty()
        {
            self.receive(at, file, tag);
        }
        if let Some(at) = self.pending.iter().position(|pending| pending.tag() == tag) {
            self.pending.swap_remove(at);
            self.fail(tag, Errno::CANCELED);
        }
    }

    pub fn is_submitted(&mut self) -> bool {
        self.queue.is_empty()
    }

    pub fn overflows(&mut self) -> bool {
        !self.overflow.is_empty()
    }

    pub fn has_completions(&mut self) -> bool {
        !self.completions.is_empty() || !self.overflow.is_empty() || !self.pending.is_empty()
    }

    pub fn take_completions(&mut self, into: &mut Vec<Completion>) {
        into.extend(self.completions.drain(..));
    }

    pub fn received(&self, id: u16, length: usize) -> &[u8] {
        assert!(!self.available.contains(&id), "the kernel may be writing to buffer {id}");
        &self.buffers[usize::from(id)][..length]
    }

    pub fn give_back(&mut self, id: u16) {
        assert!(
            usize::from(id) < self.buffers.len() && !self.available.contains(&id),
            "buffer {id} was returned twice"
        );
        self.buffers[usize::from(id)].clear();
        self.available.push_back(id);
    }

    pub fn buffers_used(&self) -> usize {
        self.buffers.len()
    }

    pub fn use_more_buffers(&mut self) {
        for id in self.buffers.len()..(self.buffers.len() + BUFFERS_STEP).min(BUFFERS) {
            self.buffers.push(Vec::new());
            self.available.push_back(id as u16);
        }
    }

    pub fn queued(&self, start: usize, length: usize) -> &[u8] {
        &self.arena[start..start + length]
    }

    pub fn clear_queued(&mut self) {
        assert!(!self.queue.iter().any(|entry| matches!(entry, Entry::Send { .. })), "a queued send points to it");
        self.arena.clear();
    }

    pub fn fixed_files(&self) -> u32 {
        FIXED_FILES as u32
    }

    pub fn set_fixed_file(&mut self, number: u32, fd: RawFd) -> bool {
        let file = if fd < 0 { None } else { self.descriptors.get(&fd).copied() };
        if fd >= 0 && self.goes_wrong() {
            return false;
        }
        self.fixed[number as usize] = file;
        true
    }

    fn file(&mut self, fd: RawFd) -> &mut File {
        let file = *self.descriptors.get(&fd).expect("a call on a descriptor that is open");
        &mut self.files[file]
    }

    pub fn send_now(&mut self, fd: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
        let short = if self.goes_wrong() { self.random.below(bytes.len()) } else { bytes.len() };
        self.file(fd).send(&bytes[..short])
    }

    pub fn reset_by_close(&mut self, fd: RawFd) {
        self.file(fd).reset_by_close = true;
    }

    pub fn shut_down(&mut self, fd: RawFd) {
        self.file(fd).shut_down = true;
    }
}
