//! Consistent hashing with bounded load: requests that belong together meet the same backend, whose caches then help, and
//! no backend gets more than a quarter above its fair share for it.

use alloc::vec::Vec;

/// Points of a backend on the ring for each unit of weight, as long as there are not too many.
const POINTS: u32 = 64;
/// Most points of a ring, or a little more: a search in it stays in the cache.
const POINTS_MAX: u64 = 16_384;
/// How much more than its fair share a backend may have, in percent.
const LOAD_PERCENT: u64 = 125;

/// Points in order of their place.
#[derive(Clone, Debug)]
pub struct Ring {
    pub(super) points: Vec<(u64, u32)>,
    count: usize,
}

impl Ring {
    /// Backends by a name that stays the same over restarts and nodes, as [`hash`] gives it, and by weight.
    pub fn new(names: &[u64], weights: &[u32]) -> Self {
        let all: u64 = weights.iter().map(|&weight| u64::from(weight) * u64::from(POINTS)).sum();
        let mut points = Vec::new();
        for (backend, (&name, &weight)) in names.iter().zip(weights).enumerate() {
            let mut own = u64::from(weight) * u64::from(POINTS);
            if all > POINTS_MAX {
                own = own * POINTS_MAX / all;
            }
            points.extend((0..own.max(1)).map(|point| (mix(name ^ mix(point + 1)), backend as u32)));
        }
        points.sort_unstable();
        Self { points, count: names.len() }
    }

    /// The backend for what belongs at `place`: the first on the ring from there on that is available and not overloaded.
    ///
    /// A backend is overloaded when one more would be over 125 % of its share, by weight, of all that is in flight. All
    /// of them cannot be, so that there is one as long as one is available. Allocates nothing.
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

/// Where bytes belong on a ring. For placement alone: it is fast, and everybody can find bytes that meet.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut state = bytes.len() as u64;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let mut eight = [0; 8];
        eight.copy_from_slice(word);
        state = mix(state ^ u64::from_le_bytes(eight));
    }
    let mut rest = [0; 8];
    rest[..words.remainder().len()].copy_from_slice(words.remainder());
    mix(state ^ u64::from_le_bytes(rest))
}

/// The finalizer of splitmix64: each bit of the input changes about half of the output.
fn mix(mut word: u64) -> u64 {
    word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
