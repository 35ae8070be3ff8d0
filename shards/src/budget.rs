//! What may be spent in addition to the requests themselves: retries, hedges. Owned by one core, one per model and
//! purpose. Must never pay out more than the reserve plus the configured percentage of requests.

/// A balance in hundredths: each request deposits `percent`, each retry withdraws 100.
#[derive(Clone, Debug)]
pub struct Budget {
    percent: u64,
    most: u64,
    balance: u64,
}

/// What one retry costs.
const PRICE: u64 = 100;

impl Budget {
    /// `reserve` is how many retries may be withdrawn before any deposit, and the maximum that is saved.
    pub const fn new(percent: u32, reserve: u32) -> Self {
        let balance = reserve as u64 * PRICE;
        // Even without a reserve, the price of one retry can be saved.
        let most = if balance > PRICE { balance } else { PRICE };
        Self { percent: percent as u64, most, balance }
    }

    /// A request arrived.
    pub fn deposit(&mut self) {
        self.balance = (self.balance + self.percent).min(self.most);
    }

    /// Withdraws the price of one retry; false if the balance is too low.
    pub fn withdraw(&mut self) -> bool {
        let there = self.balance >= PRICE;
        if there {
            self.balance -= PRICE;
        }
        there
    }

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self) {
        assert!(self.balance <= self.most, "balance {}, at most {}", self.balance, self.most);
    }
}

#[cfg(test)]
mod tests;
