//! Estimates, blocks that are freed, and tables that are full.

use super::*;

/// A thread whose random numbers begin with this.
fn thread(seed: u64) -> Thread {
    let thread = Thread::new();
    thread.random.set(seed);
    thread.left.set(thread.gap());
    thread
}

/// What samples of `count` blocks of `size` say that there is.
fn estimate(seed: u64, size: usize, count: usize) -> Amount {
    let (thread, mut sum) = (thread(seed), Amount::default());
    (0..count).for_each(|_| thread.sampled(size, || sum += Amount::of_sample(size)));
    sum
}

#[test]
fn estimates_are_as_much_above_as_below_the_truth() {
    for (size, count) in [(24, 300_000), (1_000, 20_000), (65_536, 400), (1 << 20, 50), (10 << 20, 5)] {
        let estimates: Vec<Amount> = (1..=100).map(|seed| estimate(seed, size, count)).collect();
        let mean = |of: fn(&Amount) -> f64| estimates.iter().map(of).sum::<f64>() / estimates.len() as f64;
        let (blocks, bytes) = (mean(|one| one.blocks), mean(|one| one.bytes));
        // Each has an error of 10 % or less, their mean one of 1 %: three times that is allowed.
        let near = |found: f64, truth: f64| (found / truth - 1.0).abs() < 0.03;
        assert!(near(blocks, count as f64), "{size}: {blocks} of {count} blocks");
        assert!(near(bytes, (size * count) as f64), "{size}: {bytes} of {} bytes", size * count);
        let below = estimates.iter().filter(|one| one.blocks < count as f64).count();
        assert!((25..=75).contains(&below) || size > 256 << 10, "{size}: {below} of 100 are too small");
    }
}

#[test]
fn one_that_is_large_is_sampled_once_and_counts_as_itself() {
    let thread = thread(7);
    let mut samples = Vec::new();
    (0..20).for_each(|_| thread.sampled(100 << 20, || samples.push(Amount::of_sample(100 << 20))));
    assert_eq!(samples, [Amount { blocks: 1.0, bytes: f64::from(100 << 20) }; 20]);
}

#[test]
fn what_a_sample_allocates_itself_is_not_sampled() {
    let (thread, inner) = (thread(1), Cell::new(0));
    let mut outer = 0;
    for _ in 0..10 {
        thread.sampled(100 << 20, || {
            outer += 1;
            thread.sampled(100 << 20, || inner.set(inner.get() + 1));
        });
    }
    assert_eq!((outer, inner.get()), (10, 0));
}

#[test]
fn threads_have_samples_of_their_own() {
    let [one, other] = [Thread::new(), Thread::new()];
    let gaps = |thread: &Thread| {
        thread.is_due(1);
        [thread.left.get(), thread.gap(), thread.gap()]
    };
    assert_ne!(gaps(&one), gaps(&other));
}

const LARGE: usize = 16 << 20;

fn bytes(amount: Amount) -> usize {
    amount.bytes as usize
}

#[test]
fn a_block_is_in_use_until_it_is_freed() {
    let tables = Tables::<8, 8>::new();
    tables.add(0x1000, LARGE, 1, &[1, 2, 3]);
    tables.add(0x2000, LARGE, 1, &[1, 2, 3]);
    tables.add(0x3000, LARGE, 1, &[1, 2]);
    tables.add(0x4000, LARGE, 2, &[1, 2]);
    tables.free(0x2000);
    tables.free(0x2008);
    tables.free(0x4000);
    let mut sites = tables.read().sites;
    sites.sort_by_key(|site| (site.thread, std::cmp::Reverse(site.frames.len())));
    let found: Vec<_> = sites
        .iter()
        .map(|site| (site.thread, &*site.frames, bytes(site.allocated) / LARGE, bytes(site.in_use) / LARGE))
        .collect();
    assert_eq!(found, [(1, &[1, 2, 3][..], 2, 1), (1, &[1, 2], 1, 1), (2, &[1, 2], 1, 0)]);
    // An address that is used again is another block.
    tables.add(0x2000, LARGE, 3, &[4]);
    let sites = tables.read().sites;
    assert_eq!(sites.iter().map(|site| bytes(site.in_use)).sum::<usize>(), 3 * LARGE);
    tables.clear();
    assert!(tables.read().sites.is_empty());
    tables.add(0x2000, LARGE, 3, &[4]);
    assert_eq!(bytes(tables.read().sites[0].allocated), LARGE, "a sum begins anew");
}

#[test]
fn stacks_without_room_are_one_sum() {
    let tables = Tables::<8, 4096>::new();
    (0..20).for_each(|stack| tables.add(0x1000 + 0x100 * stack, LARGE, 1, &[stack]));
    tables.free(0x1000 + 0x100 * 19);
    let told = tables.read();
    assert_eq!((told.sites.len(), told.not_followed.blocks), (8, 0.0));
    assert_eq!((bytes(told.elsewhere.allocated), bytes(told.elsewhere.in_use)), (12 * LARGE, 11 * LARGE));
    assert_eq!(told.sites.iter().map(|site| bytes(site.allocated)).sum::<usize>(), 8 * LARGE);
}

#[test]
fn blocks_without_room_are_counted() {
    let tables = Tables::<8, 1>::new();
    let addresses: Vec<usize> = (1..=BUCKET + 3).map(|number| number << 12).collect();
    addresses.iter().for_each(|address| tables.add(*address, LARGE, 1, &[1]));
    let told = tables.read();
    assert_eq!((bytes(told.sites[0].allocated), bytes(told.sites[0].in_use)), ((BUCKET + 3) * LARGE, BUCKET * LARGE));
    assert_eq!(told.not_followed.blocks, 3.0);
    addresses.iter().for_each(|address| tables.free(*address));
    assert_eq!(tables.read().sites[0].in_use, Amount::default());
    tables.add(0x1000, LARGE, 1, &[1]);
    assert_eq!(bytes(tables.read().sites[0].in_use), LARGE, "there is room again");
}

#[test]
fn a_stack_that_is_too_deep_keeps_its_innermost_frames() {
    let tables = Tables::<8, 8>::new();
    let frames: Vec<usize> = (1..=ALLOCATION_FRAMES + 10).collect();
    tables.add(0x1000, LARGE, 1, &frames);
    assert_eq!(tables.read().sites[0].frames, frames[..ALLOCATION_FRAMES]);
}

#[test]
fn threads_that_write_at_once_lose_nothing() {
    static SHARED: Tables<64, 1024> = Tables::new();
    const EACH: usize = 2_000;
    std::thread::scope(|scope| {
        for thread in 1..=4_usize {
            scope.spawn(move || {
                for number in 0..EACH {
                    let address = thread << 32 | (number % 50 + 1) << 4;
                    // Each has its own stacks, and one of all.
                    let stack = if number % 2 == 0 { 0 } else { thread };
                    SHARED.add(address, LARGE, 1, &[stack]);
                    if number < EACH - 50 {
                        SHARED.free(address);
                    }
                }
            });
        }
    });
    let told = SHARED.read();
    assert_eq!(
        (told.sites.len(), told.elsewhere.allocated, told.not_followed),
        (5, Amount::default(), Amount::default())
    );
    let sum = |of: fn(&Site) -> Amount| told.sites.iter().map(|site| bytes(of(site))).sum::<usize>() / LARGE;
    assert_eq!((sum(|site| site.allocated), sum(|site| site.in_use)), (4 * EACH, 4 * 50));
    let common = told.sites.iter().find(|site| site.frames == [0]).unwrap();
    assert_eq!(bytes(common.allocated) / LARGE, 4 * EACH / 2);
}
