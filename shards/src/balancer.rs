//! Which of several backends gets the next request. Owned by one core, one per model. Each policy asks for the current
//! weight of a backend, 0 if it is unavailable; slow starts and trips are part of the weight. Must never choose a
//! backend of weight 0.

mod ring;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

pub use ring::{Ring, hash, hash_seeded};

/// Smooth weighted round robin: shares follow the weights, and the picks of a heavy backend are spread over the round
/// (weights 3 and 1 give a a b a, not a a a b).
///
/// At each pick every available backend gains its weight; the one with the most credit is picked and pays the sum of
/// what all gained. Credits always sum to 0, so a backend that was unavailable comes back without a burst.
#[derive(Clone, Debug)]
pub struct RoundRobin {
    credits: Vec<i64>,
}

impl RoundRobin {
    /// For `count` backends.
    pub fn new(count: usize) -> Self {
        Self { credits: alloc::vec![0; count] }
    }

    /// The next backend, or `None` if none is available. Asks for each weight once; allocates nothing.
    pub fn pick(&mut self, weight: impl Fn(usize) -> u32) -> Option<usize> {
        let mut gained = 0;
        let mut best: Option<usize> = None;
        for backend in 0..self.credits.len() {
            let weight = i64::from(weight(backend));
            if weight == 0 {
                continue;
            }
            self.credits[backend] += weight;
            gained += weight;
            if best.is_none_or(|best| self.credits[backend] > self.credits[best]) {
                best = Some(backend);
            }
        }
        if let Some(best) = best {
            self.credits[best] -= gained;
        }
        best
    }

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self) {
        assert_eq!(self.credits.iter().sum::<i64>(), 0, "credits sum to 0");
    }
}

/// The backend with the fewest requests in flight relative to its weight, or `None` if none is available.
///
/// Ties are broken by weight with `cursor`, which the caller keeps, so that a heavy backend gets its share even when
/// nothing is in flight anywhere. The cursor's bits are reversed, which fills a range evenly from the first steps on: a
/// plain count would give each backend a run as long as its weight, and weights are fine-grained during slow start.
/// Allocates nothing.
pub fn least(
    count: usize,
    in_flight: impl Fn(usize) -> u32,
    weight: impl Fn(usize) -> u32,
    cursor: &mut usize,
) -> Option<usize> {
    let candidates = || {
        let all = (0..count).map(|backend| (backend, u64::from(in_flight(backend)), u64::from(weight(backend))));
        all.filter(|&(_, _, weight)| weight > 0)
    };
    // load / weight compared by cross-multiplication: the product of two u32 fits into u64.
    let lower = |a: (usize, u64, u64), b: (usize, u64, u64)| if b.1 * a.2 < a.1 * b.2 { b } else { a };
    let (_, least_load, least_weight) = candidates().reduce(lower)?;
    let tied = || candidates().filter(move |&(_, load, weight)| load * least_weight == least_load * weight);
    let shares: u64 = tied().map(|(_, _, weight)| weight).sum();
    let mut point = ((u128::from((*cursor as u64).reverse_bits()) * u128::from(shares)) >> 64) as u64;
    *cursor = cursor.wrapping_add(1);
    for (backend, _, weight) in tied() {
        if point < weight {
            return Some(backend);
        }
        point -= weight;
    }
    None
}

/// The one with the lower cost per weight of two different backends drawn by weight, or `None` if none is available.
///
/// Two, not all: each core's view of the costs is stale, so all requests would go to the same cheapest backend at once.
/// The weight counts twice: in the draw, or a heavy backend among many light ones could not get its share; and in the
/// comparison, or of two backends that are always both drawn the light one would carry as much as the heavy one. So
/// in-flight requests follow the weights under load, and heavy backends are preferred when idle.
pub fn two_choices(
    count: usize,
    cost: impl Fn(usize) -> u64,
    weight: impl Fn(usize) -> u32,
    rng: u64,
) -> Option<usize> {
    let all: u64 = (0..count).map(|backend| u64::from(weight(backend))).sum();
    let draw = |without: Option<usize>, all: u64, rng: u32| {
        let mut place = ((u128::from(rng) * u128::from(all)) >> 32) as u64;
        (0..count).filter(|&backend| Some(backend) != without).find(|&backend| {
            let weight = u64::from(weight(backend));
            let here = place < weight;
            place = place.saturating_sub(weight);
            here
        })
    };
    let first = draw(None, all, rng as u32)?;
    let Some(second) = draw(Some(first), all - u64::from(weight(first)), (rng >> 32) as u32) else {
        return Some(first);
    };
    let dearer =
        |a: usize, b: usize| u128::from(cost(a)) * u128::from(weight(b)) > u128::from(cost(b)) * u128::from(weight(a));
    Some(if dearer(first, second) { second } else { first })
}

/// The lowest tier that has an available backend; weights of higher tiers are not asked for. One tier per backend,
/// ascending.
pub fn first_tier(tiers: &[u16], weight: impl Fn(usize) -> u32) -> Option<u16> {
    let available = tiers.iter().enumerate().filter(|&(backend, _)| weight(backend) > 0);
    available.map(|(_, &tier)| tier).min()
}
