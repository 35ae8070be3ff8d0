//! Stub.
pub struct Budget {
    percent: u32,
    reserve: u64,
    balance: u64,
}
impl Budget {
    pub const fn new(percent: u32, reserve: u32) -> Self {
        Self { percent, reserve: reserve as u64 * 100, balance: reserve as u64 * 100 }
    }
    pub fn deposit(&mut self) {
        self.balance = (self.balance + self.percent as u64).min(self.reserve.max(100));
    }
    pub fn withdraw(&mut self) -> bool {
        if self.balance >= 100 {
            self.balance -= 100;
            true
        } else {
            false
        }
    }
}
