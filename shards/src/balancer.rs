//! Which of several backends gets the next request. Owned by one core, one a model; no core sees another's counts.
//! Must never choose a backend that the caller calls unavailable, or one of weight 0.

use alloc::vec::Vec;

/// Smooth weighted round robin: shares follow the weights, and a heavy backend's turns are spread over the round
/// (weights 3 and 1 give a a b a, not a a a b).
///
/// Each turn every available backend gains its weight, the one that has gained most is picked and pays what all
/// gained together. The credits always sum to 0, so a backend that was away comes back without a burst of turns.
#[derive(Clone, Debug)]
pub struct RoundRobin {
    weights: Vec<u32>,
    credits: Vec<i64>,
}

impl RoundRobin {
    /// One backend a weight, in the caller's order. Weight 0 takes no requests.
    pub fn new(count: usize) -> Self {
        Self { weights: alloc::vec![1; count], credits: alloc::vec![0; count] }
    }

    /// The index of the backend whose turn it is, or `None` if none is available. Asks `available` once a backend of
    /// positive weight, and allocates nothing.
    pub fn pick(&mut self, w: impl Fn(usize) -> u32) -> Option<usize> {
        let mut gained = 0i64;
        let mut best: Option<usize> = None;
        for backend in 0..self.weights.len() {
            let weight = w(backend);
            if weight == 0 {
                continue;
            }
            self.credits[backend] += i64::from(weight);
            gained += i64::from(weight);
            if best.is_none_or(|best| self.credits[backend] > self.credits[best]) {
                best = Some(backend);
            }
        }
        if let Some(best) = best {
            self.credits[best] -= gained;
        }
        best
    }

    pub fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// Panics when a law of this machine is broken. For tests and simulation.
    pub fn check(&self) {
        assert_eq!(self.credits.iter().sum::<i64>(), 0, "what one pays, the others gained");
        // Credits of those picked from stay within a round of each other; who leaves and comes back adds a round each.
        let round = self.weights.iter().map(|&weight| i64::from(weight)).sum::<i64>();
        let bound = round * self.weights.len().max(1) as i64;
        assert!(self.credits.iter().all(|credit| credit.abs() <= bound), "credits {:?}", self.credits);
    }
}

/// The backend with the fewest requests in flight for its weight, or `None` if none is available.
///
/// `in_flight` and `weights` have one place a backend; without a weight it counts as 0 and gets nothing. Among equals
/// the turns follow the weights by `cursor`, which the caller keeps: at rest, when nothing is in flight anywhere, a
/// heavy backend still gets its share. Asks `available` up to three times a backend; allocates nothing.
pub fn least(
    count: usize,
    in_flight: impl Fn(usize) -> u32,
    weight: impl Fn(usize) -> u32,
    cursor: &mut usize,
) -> Option<usize> {
    let candidates = || (0..count).map(|b| (b, u64::from(in_flight(b)), u64::from(weight(b)))).filter(|c| c.2 > 0);
    let lower = |a: (usize, u64, u64), b: (usize, u64, u64)| if b.1 * a.2 < a.1 * b.2 { b } else { a };
    let (_, ll, lw) = candidates().reduce(lower)?;
    let tied = || candidates().filter(move |&(_, load, weight)| load * lw == ll * weight);
    let shares: u64 = tied().map(|(_, _, weight)| weight).sum();
    let mut turn = *cursor as u64 % shares;
    *cursor = cursor.wrapping_add(1);
    for (backend, _, weight) in tied() {
        if turn < weight {
            return Some(backend);
        }
        turn -= weight;
    }
    None
}
pub fn first_tier(tiers: &[u16], weight: impl Fn(usize) -> u32) -> Option<u16> {
    tiers.iter().enumerate().filter(|(t, _)| weight(*t) > 0).map(|(_, t)| *t).min()
}
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(7, |h: u64, b| (h ^ *b as u64).wrapping_mul(0x100000001b3))
}
pub fn two_choices(
    count: usize,
    cost: impl Fn(usize) -> u64,
    weight: impl Fn(usize) -> u32,
    _dice: u64,
) -> Option<usize> {
    (0..count).filter(|b| weight(*b) > 0).min_by_key(|b| cost(*b))
}
pub struct Ring(usize);
impl Ring {
    pub fn new(names: &[u64], _: &[u32]) -> Self {
        Self(names.len())
    }
    pub fn pick(&self, place: u64, _load: impl Fn(usize) -> u32, weight: impl Fn(usize) -> u32) -> Option<usize> {
        (0..self.0).map(|b| (b + place as usize) % self.0).find(|b| weight(*b) > 0)
    }
}
