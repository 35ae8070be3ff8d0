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

    /// Panics when a law of this machine is broken. For tests and simulation.
    pub fn check(&self) {
        assert!(self.balance <= self.most, "{} saved up, at most {}", self.balance, self.most);
    }
}

#[cfg(test)]
mod tests;
