//! Stub.
use crate::Millis;
pub struct BreakerRules {
    pub errors_in_row: u32,
    pub error_percent: u32,
    pub window_ms: u64,
    pub volume_min: u32,
    pub eject_ms: u64,
    pub eject_max_ms: u64,
    pub probes: u32,
    pub slow_start_ms: u64,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Serving,
    Tripped,
    Probing,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Open,
    Probe,
    Shut,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Ordinary,
    Probe,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Good,
    Bad,
    Neutral,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    Passed,
    Failed,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub from: State,
    pub to: State,
    pub for_ms: u64,
}
pub struct Breaker {
    rules: BreakerRules,
}
impl Breaker {
    pub const fn new(rules: BreakerRules) -> Self {
        Self { rules }
    }
    pub fn gate(&self, _: Millis) -> Gate {
        let _ = &self.rules;
        Gate::Open
    }
    pub fn share(&self, _: Millis) -> u32 {
        256
    }
    pub fn begin(&mut self, _: Millis) -> Pass {
        Pass::Ordinary
    }
    pub fn end(&mut self, _: Pass, _: Outcome, _: Millis) -> Option<Change> {
        None
    }
    pub fn cool(&mut self, _: u64, _: Millis) -> Option<Change> {
        None
    }
    pub fn checked(&mut self, _: Check, _: Millis) -> Option<Change> {
        None
    }
    pub fn elsewhere_tripped(&mut self, _: u64, _: Millis) {}
    pub fn elsewhere_restored(&mut self, _: Millis) {}
}
