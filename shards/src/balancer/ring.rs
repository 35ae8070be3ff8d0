//! Consistent hashing with bounded load: related requests go to the same backend, which profits from its caches, and
//! affinity never gives a backend more than 125 % of its fair share.

use alloc::vec::Vec;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Points on the ring for each unit of a backend's weight, unless `POINTS_MAX` is exceeded.
const POINTS: u32 = 64;
/// Approximate maximum of points on a ring: a search stays in the processor's cache.
const POINTS_MAX: u64 = 16_384;
/// Most load of a backend, as a percentage of its fair share.
const LOAD_PERCENT: u64 = 125;

/// Points sorted by position.
#[derive(Clone, Debug)]
pub struct Ring {
    pub(super) points: Vec<(u64, u32)>,
    count: usize,
}

impl Ring {
    /// Backends by the [`hash`] of a name that is stable over restarts and nodes, and by weight.
    pub fn new(names: &[u64], weights: &[u32]) -> Self {
        let all: u64 = weights.iter().map(|&weight| u64::from(weight) * u64::from(POINTS)).sum();
        let mut points = Vec::new();
        for (backend, (&name, &weight)) in names.iter().zip(weights).enumerate() {
            let mut own = u64::from(weight) * u64::from(POINTS);
            if all > POINTS_MAX {
                own = own * POINTS_MAX / all;
            }
            points.extend((0..own.max(1)).map(|point| (xxh3_64_with_seed(&point.to_le_bytes(), name), backend as u32)));
        }
        points.sort_unstable();
        Self { points, count: names.len() }
    }

    /// The backend for the key at `place`: the first from there on the ring that is available and not overloaded.
    ///
    /// A backend is overloaded if one more request would exceed 125 % of its share, by weight, of all requests in
    /// flight. Not all of them can be, so there is a result whenever one is available. Allocates nothing.
    pub fn pick(&self, place: u64, load: impl Fn(usize) -> u32, weight: impl Fn(usize) -> u32) -> Option<usize> {
        let available = || (0..self.count).filter(|&backend| weight(backend) > 0);
        let weights: u64 = available().map(|backend| u64::from(weight(backend))).sum();
        let all: u64 = available().map(|backend| u64::from(load(backend))).sum::<u64>() + 1;
        let room = |backend: usize| {
            let fair = (all * LOAD_PERCENT * u64::from(weight(backend))).div_ceil(100 * weights.max(1));
            u64::from(load(backend)) < fair
        };
        let start = self.points.partition_point(|&(point, _)| point < place);
        let round = self.points[start..].iter().chain(&self.points[..start]);
        let mut found = round.map(|&(_, backend)| backend as usize).filter(|&backend| weight(backend) > 0);
        found.find(|&backend| room(backend))
    }
}

/// The position of `bytes` on a ring. For placement only: it is fast, and collisions are easy to construct.
pub fn hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// As [`hash`], in one of many independent ways.
pub fn hash_seeded(bytes: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}
