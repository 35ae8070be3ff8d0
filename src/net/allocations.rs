//! Samples of what the program allocates, while somebody asks for them. Every thread counts down the bytes until its next sample;
//! a sample adds to the sums of its stack, and its block is followed until it is freed. Threads share the tables without a lock,
//! and nothing here allocates or panics: it runs inside the allocator. [`super::SamplingAllocator`] calls it.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::sys;
use crate::limits::{ALLOCATION_FRAMES, ALLOCATION_SAMPLE_BYTES, ALLOCATION_STACKS, FOLLOWED_BUCKETS};

/// Whether allocations are sampled. All that an allocation costs otherwise is a look at this.
static IS_SAMPLING: AtomicBool = AtomicBool::new(false);
/// Whether somebody has the tables.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);
/// Threads that may be writing to the tables.
static WRITERS: AtomicU32 = AtomicU32::new(0);
/// Untouched pages of it take no memory.
static TABLES: Tables<ALLOCATION_STACKS, FOLLOWED_BUCKETS> = Tables::new();
/// Where the random numbers of the next thread begin.
static SEEDS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static THREAD: Thread = const { Thread::new() };
}

/// The golden ratio as a fraction of 2^64: steps of splitmix64, and multiplicative hashes.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Blocks of a bucket: their addresses are one cache line.
const BUCKET: usize = 8;
/// Places that are tried for a stack.
const PROBES: usize = 16;
/// Blocks are summed up in parts.
const PARTS: f64 = 256.0;

/// An estimate of the whole from its samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Amount {
    pub blocks: f64,
    pub bytes: f64,
}

impl Amount {
    /// What a sampled block of `size` stands for: a block is sampled with probability 1 - e^(-size/mean).
    fn of_sample(size: usize) -> Amount {
        let share = -(-(size as f64) / ALLOCATION_SAMPLE_BYTES as f64).exp_m1();
        Amount { blocks: 1.0 / share, bytes: size as f64 / share }
    }
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
    }
}

/// What one stack of one thread allocated.
#[derive(Clone, Debug)]
pub struct Site {
    /// The kernel's number of the thread.
    pub thread: u32,
    /// Return addresses, the innermost first.
    pub frames: Vec<usize>,
    pub allocated: Amount,
    /// Of it, what was still in use at the end.
    pub in_use: Amount,
}

/// What was sampled.
#[derive(Clone, Debug)]
pub struct Allocations {
    pub sites: Vec<Site>,
    /// Allocated by stacks for which there was no room; their threads and frames are unknown.
    pub elsewhere: Site,
    /// Of all that was allocated, blocks for which there was no room: they count as freed.
    pub not_followed: Amount,
}

/// A profile in progress. It ends when this is dropped.
pub struct Sampling(());

impl Sampling {
    /// Begins to sample all threads; `None` while somebody else does. May wait for a thread that is just recording a last sample.
    pub fn begin() -> Option<Sampling> {
        if IS_TAKEN.swap(true, Ordering::SeqCst) {
            return None;
        }
        await_writers();
        TABLES.clear();
        IS_SAMPLING.store(true, Ordering::SeqCst);
        Some(Sampling(()))
    }

    /// Ends it. May wait as above.
    pub fn end(self) -> Allocations {
        IS_SAMPLING.store(false, Ordering::SeqCst);
        await_writers();
        TABLES.read()
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        IS_SAMPLING.store(false, Ordering::SeqCst);
        IS_TAKEN.store(false, Ordering::SeqCst);
    }
}

fn await_writers() {
    while WRITERS.load(Ordering::SeqCst) > 0 {
        std::thread::yield_now();
    }
}

/// Whether the allocator is to call [`allocated`] and [`freed`].
#[inline(always)]
pub(super) fn is_sampling() -> bool {
    IS_SAMPLING.load(Ordering::Relaxed)
}

/// A block was allocated.
pub(super) fn allocated(address: usize, size: usize) {
    THREAD.with(|thread| {
        thread.sampled(size, || {
            WRITERS.fetch_add(1, Ordering::SeqCst);
            // Whoever ends the profile waits for writers after clearing this, and reads the tables afterwards.
            if IS_SAMPLING.load(Ordering::SeqCst) {
                let mut frames = [0; ALLOCATION_FRAMES];
                let depth = sys::stack(&mut frames);
                let thread = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
                TABLES.add(address, size, thread, frames.get(..depth).unwrap_or_default());
            }
            WRITERS.fetch_sub(1, Ordering::SeqCst);
        });
    });
}

/// A block is about to be freed: afterwards, another thread may get its address.
pub(super) fn freed(address: usize) {
    TABLES.free(address);
}

/// What a thread knows of sampling. Without a destructor: threads allocate until their very end.
struct Thread {
    /// Bytes until the next sample; 0 before the first allocation.
    left: Cell<u64>,
    random: Cell<u64>,
    is_inside: Cell<bool>,
}

impl Thread {
    const fn new() -> Thread {
        Thread { left: Cell::new(0), random: Cell::new(0), is_inside: Cell::new(false) }
    }

    /// Calls `record` if a block of `size` is due for a sample. What `record` allocates itself is not counted.
    fn sampled(&self, size: usize, record: impl FnOnce()) {
        if !self.is_inside.get() && self.is_due(size) {
            self.is_inside.set(true);
            record();
            self.is_inside.set(false);
        }
    }

    fn is_due(&self, size: usize) -> bool {
        if self.left.get() == 0 {
            self.random.set(mixed(SEEDS.fetch_add(GOLDEN, Ordering::Relaxed)));
            self.left.set(self.gap());
        }
        match self.left.get().checked_sub(size as u64) {
            Some(left @ 1..) => {
                self.left.set(left);
                false
            }
            _ => {
                self.left.set(self.gap());
                true
            }
        }
    }

    /// Bytes from one sample to the next, at least 1: exponentially distributed, so that every byte is as likely as any other.
    fn gap(&self) -> u64 {
        let next = self.random.get().wrapping_add(GOLDEN);
        self.random.set(next);
        let share = ((mixed(next) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        (-share.ln() * ALLOCATION_SAMPLE_BYTES as f64).ceil().max(1.0) as u64
    }
}

/// The output function of splitmix64 (Steele et al. 2014).
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Sums by stack, and the sampled blocks that are in use.
struct Tables<const STACKS: usize, const BUCKETS: usize> {
    /// Hashes of the stacks; 0: unused.
    keys: [AtomicU64; STACKS],
    stacks: [Stack; STACKS],
    elsewhere: Stack,
    addresses: [Bucket; BUCKETS],
    blocks: [[Block; BUCKET]; BUCKETS],
    not_followed: Sum,
}

struct Stack {
    thread: AtomicU32,
    depth: AtomicUsize,
    frames: [AtomicUsize; ALLOCATION_FRAMES],
    allocated: Sum,
}

struct Sum {
    parts: AtomicU64,
    bytes: AtomicU64,
}

/// Addresses of blocks; 0: unused. A block is in the bucket that its address says or in none, so that a free looks at one line.
#[repr(align(64))]
struct Bucket([AtomicUsize; BUCKET]);

struct Block {
    size: AtomicUsize,
    /// Its index; `STACKS`: elsewhere.
    stack: AtomicUsize,
}

impl<const STACKS: usize, const BUCKETS: usize> Tables<STACKS, BUCKETS> {
    const fn new() -> Self {
        const { assert!(STACKS.is_power_of_two() && BUCKETS.is_power_of_two()) };
        Tables {
            keys: [const { AtomicU64::new(0) }; STACKS],
            stacks: [const { Stack::new() }; STACKS],
            elsewhere: Stack::new(),
            addresses: [const { Bucket([const { AtomicUsize::new(0) }; BUCKET]) }; BUCKETS],
            blocks: [const { [const { Block::new() }; BUCKET] }; BUCKETS],
            not_followed: Sum::new(),
        }
    }

    /// Adds a sampled block.
    fn add(&self, address: usize, size: usize, thread: u32, frames: &[usize]) {
        let index = self.stack(thread, frames);
        let amount = Amount::of_sample(size);
        self.stacks.get(index).unwrap_or(&self.elsewhere).allocated.add(amount);
        let bucket = bucket_of(address, BUCKETS);
        let (Some(addresses), Some(blocks)) = (self.addresses.get(bucket), self.blocks.get(bucket)) else { return };
        let claim = |place: &AtomicUsize| {
            place.load(Ordering::Relaxed) == 0
                && place.compare_exchange(0, address, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        match addresses.0.iter().zip(blocks).find(|(place, _)| claim(place)) {
            Some((_, block)) => {
                block.size.store(size, Ordering::Relaxed);
                block.stack.store(index, Ordering::Relaxed);
            }
            None => self.not_followed.add(amount),
        }
    }

    /// A block is in use no more. Its owner alone can free it, so nobody else writes to its place.
    fn free(&self, address: usize) {
        let Some(addresses) = self.addresses.get(bucket_of(address, BUCKETS)) else { return };
        if let Some(place) = addresses.0.iter().find(|place| place.load(Ordering::Relaxed) == address) {
            place.store(0, Ordering::Release);
        }
    }

    /// The index of a stack; `STACKS` if there is no room for it.
    fn stack(&self, thread: u32, frames: &[usize]) -> usize {
        let hash =
            frames.iter().fold(mixed(thread.into()), |hash, frame| mixed(hash ^ *frame as u64).wrapping_add(GOLDEN));
        let key = hash.max(1);
        for probe in 0..PROBES {
            let index = (hash as usize).wrapping_add(probe) & (STACKS - 1);
            let (Some(place), Some(stack)) = (self.keys.get(index), self.stacks.get(index)) else { break };
            match place.compare_exchange(0, key, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    stack.thread.store(thread, Ordering::Relaxed);
                    stack.depth.store(frames.len().min(ALLOCATION_FRAMES), Ordering::Relaxed);
                    stack.frames.iter().zip(frames).for_each(|(place, frame)| place.store(*frame, Ordering::Relaxed));
                    return index;
                }
                // Two stacks of one hash among some thousands: once in 10^12 profiles.
                Err(other) if other == key => return index,
                Err(_) => {}
            }
        }
        STACKS
    }

    /// Nobody writes meanwhile.
    fn clear(&self) {
        for (key, stack) in self.keys.iter().zip(&self.stacks) {
            if key.swap(0, Ordering::Relaxed) != 0 {
                stack.allocated.clear();
            }
        }
        self.elsewhere.allocated.clear();
        self.not_followed.clear();
        // Written to only where it has to be: what is untouched takes no memory.
        let places = self.addresses.iter().flat_map(|bucket| &bucket.0);
        places.filter(|place| place.load(Ordering::Relaxed) != 0).for_each(|place| place.store(0, Ordering::Relaxed));
    }

    /// Nobody adds anything meanwhile.
    fn read(&self) -> Allocations {
        let mut in_use = vec![Amount::default(); STACKS + 1];
        for (addresses, blocks) in self.addresses.iter().zip(&self.blocks) {
            for (_, block) in addresses.0.iter().zip(blocks).filter(|(place, _)| place.load(Ordering::Acquire) != 0) {
                if let Some(sum) = in_use.get_mut(block.stack.load(Ordering::Relaxed)) {
                    *sum += Amount::of_sample(block.size.load(Ordering::Relaxed));
                }
            }
        }
        let is_used = |index: usize| self.keys.get(index).is_some_and(|key| key.load(Ordering::Relaxed) != 0);
        let stacks = self.stacks.iter().zip(&in_use).enumerate().filter(|(index, _)| is_used(*index));
        Allocations {
            sites: stacks.map(|(_, (stack, in_use))| stack.read(*in_use)).collect(),
            elsewhere: self.elsewhere.read(in_use.last().copied().unwrap_or_default()),
            not_followed: self.not_followed.get(),
        }
    }
}

impl Stack {
    const fn new() -> Stack {
        Stack {
            thread: AtomicU32::new(0),
            depth: AtomicUsize::new(0),
            frames: [const { AtomicUsize::new(0) }; ALLOCATION_FRAMES],
            allocated: Sum::new(),
        }
    }

    fn read(&self, in_use: Amount) -> Site {
        let frames = self.frames.iter().take(self.depth.load(Ordering::Relaxed));
        Site {
            thread: self.thread.load(Ordering::Relaxed),
            frames: frames.map(|frame| frame.load(Ordering::Relaxed)).collect(),
            allocated: self.allocated.get(),
            in_use,
        }
    }
}

impl Block {
    const fn new() -> Block {
        Block { size: AtomicUsize::new(0), stack: AtomicUsize::new(0) }
    }
}

impl Sum {
    const fn new() -> Sum {
        Sum { parts: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    fn add(&self, amount: Amount) {
        self.parts.fetch_add((amount.blocks * PARTS).round() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(amount.bytes.round() as u64, Ordering::Relaxed);
    }

    fn clear(&self) {
        self.parts.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }

    fn get(&self) -> Amount {
        let (parts, bytes) = (self.parts.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        Amount { blocks: parts as f64 / PARTS, bytes: bytes as f64 }
    }
}

/// Blocks are aligned, so that the last bits of an address say little.
fn bucket_of(address: usize, buckets: usize) -> usize {
    (((address >> 3) as u64).wrapping_mul(GOLDEN) >> 32) as usize & (buckets - 1)
}

#[cfg(test)]
mod tests;
