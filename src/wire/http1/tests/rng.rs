//! The seed of this room's random tests: new in each run, printed, and overridden by `RINGWAY_SEED`.

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::hash::{BuildHasher, RandomState};

/// A runner of `cases` cases. Prints the seed; the test harness shows it when the test fails.
pub(in crate::wire) fn runner(cases: u32) -> TestRunner {
    let seed = match std::env::var("RINGWAY_SEED") {
        Ok(text) => text.parse().expect("RINGWAY_SEED is a number"),
        Err(_) => RandomState::new().hash_one(0u8),
    };
    println!("RINGWAY_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&u64::to_le_bytes(seed));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}
