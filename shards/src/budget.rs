//! What may be spent beside the requests themselves: retries, hedges. Owned by one core, one a model and purpose.
//! Must never pay out more than the reserve and the agreed percentage of what came in.

/// A balance in hundredths: each request pays in `percent`, each retry takes out a hundred.
#[derive(Clone, Debug)]
pub struct Budget {
    percent: u64,
    most: u64,
    balance: u64,
}

/// What one retry costs.
const PRICE: u64 = 100;

impl Budget {
    /// `reserve` is how many may be taken out before anything was paid in, and the most that is saved up.
    pub const fn new(percent: u32, reserve: u32) -> Self {
        let balance = reserve as u64 * PRICE;
        // Without a reserve, too, as much has to be saved as one retry costs.
        let most = if balance > PRICE { balance } else { PRICE };
        Self { percent: percent as u64, most, balance }
    }

    /// A request came.
    pub fn deposit(&mut self) {
        self.balance = (self.balance + self.percent).min(self.most);
    }

    /// Takes out what one retry costs; false if it is not there.
    pub fn withdraw(&mut self) -> bool {
        let there = self.balance >= PRICE;
        if there {
            self.balance -= PRICE;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, each_seed};

    #[test]
    fn what_goes_out_is_covered_by_what_came_in() {
        each_seed(200, |seed| {
            let mut random = Random::new(seed);
            let (percent, reserve) = (random.below(101), random.below(20));
            let mut budget = Budget::new(percent as u32, reserve as u32);
            let (mut came, mut went) = (0, 0);
            for _ in 0..2_000 {
                if random.chance(50) {
                    budget.deposit();
                    came += 1;
                } else if budget.withdraw() {
                    went += 1;
                }
                assert!(went * 100 <= reserve * 100 + came * percent, "{went} of {came} at {percent} %");
            }
        });
    }

    #[test]
    fn one_in_five() {
        let mut budget = Budget::new(20, 0);
        let paid = (0..100).filter(|_| {
            budget.deposit();
            budget.withdraw()
        });
        assert_eq!(paid.count(), 20);
    }
}
