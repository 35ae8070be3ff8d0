//! Stub.
use crate::Budget;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Connect,
    Handshake,
    Closed,
    Garbage,
    Refused,
    HeadTimeout,
    FirstTimeout,
    Truncated,
    FirstEvent(EventFault),
    Status(u16),
    ContextWindow,
    NoBackend,
    QueueFull,
    QueueTimeout,
    Deadline,
    Cancelled,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFault {
    Overloaded,
    RateLimited,
    Server,
    Client,
    ContextWindow,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    Free,
    Budgeted,
    OtherModel,
    Never,
}
pub const fn again(fault: Fault) -> Again {
    match fault {
        Fault::Connect | Fault::Handshake | Fault::Refused => Again::Free,
        Fault::Closed | Fault::Garbage | Fault::HeadTimeout | Fault::FirstTimeout | Fault::Truncated => Again::Budgeted,
        Fault::FirstEvent(EventFault::Client) => Again::Never,
        Fault::FirstEvent(EventFault::ContextWindow) => Again::OtherModel,
        Fault::FirstEvent(_) => Again::Budgeted,
        Fault::Status(408 | 409 | 425 | 429 | 500 | 502 | 503 | 504 | 520..=524 | 529) => Again::Budgeted,
        Fault::Status(401 | 402 | 403 | 404 | 407) => Again::OtherModel,
        Fault::Status(_) => Again::Never,
        Fault::ContextWindow | Fault::NoBackend | Fault::QueueFull | Fault::QueueTimeout => Again::OtherModel,
        Fault::Deadline => Again::OtherModel,
        Fault::Cancelled => Again::Never,
    }
}
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub retries: u32,
    pub backoff_ms: u64,
    pub backoff_max_ms: u64,
    pub hint_max_ms: u64,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    Untried,
    None,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Again { after_ms: u64 },
    OtherModel,
    GiveUp,
}
pub struct Attempts {
    rules: Rules,
    used: u32,
}
impl Attempts {
    pub const fn new(rules: Rules) -> Self {
        Self { rules, used: 0 }
    }
    pub fn next(
        &mut self,
        fault: Fault,
        hint_ms: Option<u64>,
        others: Others,
        left_ms: Option<u64>,
        budget: &mut Budget,
        dice: u64,
    ) -> Step {
        match again(fault) {
            Again::Never => return Step::GiveUp,
            Again::OtherModel => return Step::OtherModel,
            Again::Free if others == Others::Untried => return Step::Again { after_ms: 0 },
            _ => {}
        }
        if self.used >= self.rules.retries {
            return Step::OtherModel;
        }
        let mut after_ms = 0;
        if others == Others::None {
            let most = (self.rules.backoff_ms << self.used.min(16)).min(self.rules.backoff_max_ms);
            after_ms = (dice % (most + 1)).max(hint_ms.unwrap_or(0));
            if hint_ms.is_some_and(|hint| hint > self.rules.hint_max_ms) || left_ms.is_some_and(|left| after_ms >= left)
            {
                return Step::OtherModel;
            }
        }
        if again(fault) == Again::Budgeted && !budget.withdraw() {
            return Step::OtherModel;
        }
        self.used += 1;
        Step::Again { after_ms }
    }
}
