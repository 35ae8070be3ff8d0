//! The program's own allocator, and what its samples say of a program of which that is known. One test: the process has one profile
//! at a time, and other tests would be in it.

use std::hint::black_box;
use std::sync::mpsc::channel;

use ringway::net::SamplingAllocator;
use ringway::net::allocations::{Allocations, Amount, Sampling};

#[global_allocator]
static ALLOCATOR: SamplingAllocator = SamplingAllocator;

/// Far more than the bytes between two samples: such a block is always sampled, and counts as itself.
const LARGE: usize = 8 << 20;

#[inline(never)]
fn kept_block() -> Vec<u8> {
    black_box(vec![1; black_box(LARGE)])
}

#[inline(never)]
fn freed_block() {
    drop(black_box(vec![1_u8; black_box(LARGE)]));
}

#[inline(never)]
fn zeroed_block() -> Vec<u8> {
    black_box(vec![0; black_box(LARGE)])
}

#[inline(never)]
fn growing_block() -> Vec<u8> {
    let mut block = Vec::with_capacity(black_box(LARGE));
    block.resize(LARGE, 1);
    block.reserve_exact(black_box(LARGE));
    black_box(block)
}

#[inline(never)]
fn small_blocks() -> Vec<Vec<u8>> {
    (0..100_000).map(|_| black_box(vec![1; black_box(500)])).collect()
}

#[inline(never)]
fn block_for_another_thread() -> Vec<u8> {
    black_box(vec![1; black_box(LARGE)])
}

/// What stacks with this function in them allocated, and what of it is in use; in MiB.
fn of(samples: &Allocations, function: &str) -> (f64, f64) {
    let (mut allocated, mut in_use) = (Amount::default(), Amount::default());
    for site in &samples.sites {
        let mut has_it = false;
        for frame in &site.frames {
            backtrace::resolve(std::ptr::without_provenance_mut(*frame), |symbol| {
                has_it |= symbol.name().is_some_and(|name| format!("{name:#}").ends_with(function));
            });
        }
        if has_it {
            allocated += site.allocated;
            in_use += site.in_use;
        }
    }
    (allocated.bytes / f64::from(1 << 20), in_use.bytes / f64::from(1 << 20))
}

#[test]
fn samples_say_what_was_allocated_and_what_is_in_use() {
    let before = kept_block();
    let sampling = Sampling::begin().unwrap();
    assert!(Sampling::begin().is_none(), "one at a time");
    drop(before);
    let kept = [kept_block(), kept_block(), kept_block()];
    (0..5).for_each(|_| freed_block());
    let zeroed = zeroed_block();
    let grown = growing_block();
    let small = small_blocks();
    let (give, take) = channel();
    let other = std::thread::spawn(move || {
        give.send(block_for_another_thread()).unwrap();
        give.send(block_for_another_thread()).unwrap();
    });
    drop(take.recv().unwrap());
    let given = take.recv().unwrap();
    other.join().unwrap();
    let samples = sampling.end();

    assert_eq!(of(&samples, "allocations::kept_block"), (24.0, 24.0));
    assert_eq!(of(&samples, "allocations::freed_block"), (40.0, 0.0));
    assert_eq!(of(&samples, "allocations::zeroed_block"), (8.0, 8.0));
    assert_eq!(of(&samples, "allocations::growing_block"), (8.0 + 16.0, 16.0), "freed as it was, allocated as it is");
    assert_eq!(of(&samples, "allocations::block_for_another_thread"), (16.0, 8.0));
    // 47.7 MiB of samples of 64 KiB: some 760, so that the error is some 4 %.
    let (allocated, in_use) = of(&samples, "allocations::small_blocks");
    assert!(
        (35.0..62.0).contains(&in_use) && (allocated - in_use).abs() < 0.01,
        "{allocated} MiB, {in_use} MiB in use"
    );
    assert_eq!((samples.elsewhere.allocated, samples.not_followed), (Amount::default(), Amount::default()));

    drop((kept, zeroed, grown, small, given));
    freed_block();
    let sampling = Sampling::begin().unwrap();
    drop(sampling);
    freed_block();
    let samples = Sampling::begin().unwrap().end();
    assert_eq!(
        of(&samples, "allocations::freed_block"),
        (0.0, 0.0),
        "nothing is left of what was before, nor sampled in between"
    );
}
