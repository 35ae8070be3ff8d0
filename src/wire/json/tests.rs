//! Tests of the scanner, the tape and the canonical form.

mod laws;
pub(crate) mod model;
mod tables;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// Checks a property on generated cases. Prints the seed, which a failure shows; `SEED` overrides it.
pub(crate) fn law<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the system has random bytes");
        u64::from_le_bytes(bytes)
    });
    println!("SEED={seed}");
    let mut long_seed = [0; 32];
    long_seed[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &long_seed));
    if let Err(failure) = runner.run(&strategy, test) {
        panic!("SEED={seed}: {failure}");
    }
}
