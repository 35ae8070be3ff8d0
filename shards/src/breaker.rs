//! Whether one backend is in service, as seen by one core: from its own requests, the active check and messages of
//! other cores. Owned by that core; holds no timer, every call passes the time. Must never let more than one probe at a
//! time through to a backend that is out of service.

use crate::Millis;

/// When a backend is ejected, and how it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerRules {
    /// Consecutive failures that eject it.
    pub errors_in_row: u32,
    /// Percentage of failures within `window_ms` that ejects it, from `volume_min` requests on; 0 = off.
    pub error_percent: u32,
    pub window_ms: u64,
    pub volume_min: u32,
    /// Length of the first ejection; doubled by each failed probe and by each trip before full recovery.
    pub eject_ms: u64,
    pub eject_max_ms: u64,
    /// Consecutive successful probes that restore it.
    pub probes: u32,
    /// How long its share ramps up after that.
    pub slow_start_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Serving,
    /// Out of service for a time, or held down by the active check.
    Tripped,
    /// The ejection is over: one request at a time probes the backend.
    Probing,
}

/// What a request may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// One request may go, as a probe.
    Probe,
    Shut,
}

/// How a request was admitted. Every pass ends exactly once, in [`Breaker::end`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a pass has to end"]
pub enum Pass {
    /// In this term of service: results from an ended term do not show the present health.
    Ordinary {
        term: u32,
    },
    Probe,
}

impl Pass {
    /// The term of service in which it was admitted; none for a probe.
    pub const fn term(&self) -> Option<u32> {
        match self {
            Pass::Ordinary { term } => Some(*term),
            Pass::Probe => None,
        }
    }
}

/// The outcome of a request, as evidence of the backend's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Good,
    Bad,
    /// No evidence: cancelled, or the client's fault.
    Neutral,
}

/// The result of an active check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    Passed,
    Failed,
}

/// Why a breaker changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    ErrorsInRow,
    ErrorRatio,
    ProbeFailed,
    ProbesPassed,
    CheckFailed,
    CheckPassed,
}

impl State {
    pub const ALL: [State; 3] = [State::Serving, State::Probing, State::Tripped];

    /// For logs, metrics and the status.
    pub const fn label(self) -> &'static str {
        match self {
            State::Serving => "serving",
            State::Tripped => "tripped",
            State::Probing => "probing",
        }
    }
}

impl Reason {
    pub const ALL: [Reason; 6] = [
        Reason::ErrorsInRow,
        Reason::ErrorRatio,
        Reason::ProbeFailed,
        Reason::ProbesPassed,
        Reason::CheckFailed,
        Reason::CheckPassed,
    ];

    /// The state that it leads to.
    pub const fn leads_to(self) -> State {
        match self {
            Reason::ErrorsInRow | Reason::ErrorRatio | Reason::ProbeFailed | Reason::CheckFailed => State::Tripped,
            Reason::ProbesPassed | Reason::CheckPassed => State::Serving,
        }
    }

    /// For logs, metrics and the status.
    pub const fn label(self) -> &'static str {
        match self {
            Reason::ErrorsInRow => "errors_in_row",
            Reason::ErrorRatio => "error_ratio",
            Reason::ProbeFailed => "probe_failed",
            Reason::ProbesPassed => "probes_passed",
            Reason::CheckFailed => "check_failed",
            Reason::CheckPassed => "check_passed",
        }
    }
}

/// A change of state that other cores should learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub from: State,
    pub to: State,
    pub reason: Reason,
    /// Least time out of service, if it was ejected.
    pub for_ms: u64,
    /// Epoch of the latest trip or return caused by requests, of all that this core knows. Sent along to other cores to
    /// order concurrent changes.
    pub epoch: u64,
}

pub struct Breaker {
    rules: BreakerRules,
    state: State,
    /// When `Tripped`: no probe before this time.
    until: Millis,
    /// The last active check failed.
    held: bool,
    row: u32,
    window: Window,
    probe_out: bool,
    probes_good: u32,
    /// Length of the next ejection.
    eject_ms: u64,
    /// When it returned into service.
    returned: Option<Millis>,
    /// Counts terms of service: each return begins one. Wraps after more returns than any pass outlives.
    term: u32,
    /// Epoch of the last trip or return caused by requests, on any core: one more than the highest known where it was
    /// found. Of two concurrent changes the higher epoch wins on every core, and on a tie the trip, which probes
    /// correct; so cores that have exchanged all messages agree, in whatever order they arrived. Active checks are not
    /// counted: every core gets their results from one sender, in order.
    epoch: u64,
}

#[derive(Clone, Copy, Default)]
struct Window {
    since: Millis,
    good: u32,
    bad: u32,
}

/// Denominator of a share.
pub const WHOLE_SHARE: u32 = 256;
/// Share of a backend that has just returned: a tenth.
const FIRST_SHARE: u32 = 26;

impl Breaker {
    /// In service.
    pub const fn new(rules: BreakerRules) -> Self {
        Self {
            rules,
            state: State::Serving,
            until: Millis(0),
            held: false,
            row: 0,
            window: Window { since: Millis(0), good: 0, bad: 0 },
            probe_out: false,
            probes_good: 0,
            eject_ms: rules.eject_ms,
            returned: None,
            term: 0,
            epoch: 0,
        }
    }

    /// What the next request may do.
    pub fn gate(&self, now: Millis) -> Gate {
        if self.held {
            return Gate::Shut;
        }
        match self.state {
            State::Serving => Gate::Open,
            State::Tripped if now < self.until => Gate::Shut,
            State::Tripped | State::Probing if self.probe_out => Gate::Shut,
            State::Tripped | State::Probing => Gate::Probe,
        }
    }

    /// The state as reported: a backend held down by the active check is out of service, whatever requests show.
    pub fn state(&self) -> State {
        if self.held { State::Tripped } else { self.state }
    }

    /// The share of its weight in effect now, in 1/256: reduced for a time after it returned.
    pub fn share(&self, now: Millis) -> u32 {
        let Some(returned) = self.returned else { return WHOLE_SHARE };
        let back_ms = now.since(returned);
        if back_ms >= self.rules.slow_start_ms {
            return WHOLE_SHARE;
        }
        let growth = u64::from(WHOLE_SHARE - FIRST_SHARE);
        FIRST_SHARE + (u128::from(growth) * u128::from(back_ms) / u128::from(self.rules.slow_start_ms)) as u32
    }

    /// A request starts. With the gate shut it can only start in panic mode, as an ordinary one that proves nothing.
    /// Allocates nothing, like every method here.
    pub fn begin(&mut self, now: Millis) -> Pass {
        if self.gate(now) != Gate::Probe {
            return Pass::Ordinary { term: self.term };
        }
        if self.state == State::Tripped {
            self.state = State::Probing;
            self.probes_good = 0;
        }
        self.probe_out = true;
        Pass::Probe
    }

    /// A request has ended.
    pub fn end(&mut self, pass: Pass, outcome: Outcome, now: Millis) -> Option<Change> {
        match pass {
            Pass::Probe => {
                self.probe_out = false;
                // Another core or the active check may have changed the state meanwhile.
                if self.state() != State::Probing {
                    return None;
                }
                match outcome {
                    Outcome::Neutral => None,
                    Outcome::Bad => Some(self.trip(Reason::ProbeFailed, now)),
                    Outcome::Good => {
                        self.probes_good += 1;
                        (self.probes_good >= self.rules.probes).then(|| self.restore(Reason::ProbesPassed, now))
                    }
                }
            }
            // A request from before the ejection is no new evidence, even if the backend is back: hung requests time
            // out long after it has recovered.
            Pass::Ordinary { term } if term != self.term || self.state() != State::Serving => None,
            Pass::Ordinary { .. } => self.judge(outcome, now),
        }
    }

    /// The current term of service, or the last one.
    pub const fn term(&self) -> u32 {
        self.term
    }

    /// An answer was truncated after a good start, when its pass had already ended. It counts for the term in which it
    /// was started; a probe's for the term in which its pass ended, which it may have opened.
    pub fn broke_off(&mut self, term: u32, outcome: Outcome, now: Millis) -> Option<Change> {
        self.end(Pass::Ordinary { term }, outcome, now)
    }

    fn judge(&mut self, outcome: Outcome, now: Millis) -> Option<Change> {
        if now.since(self.window.since) >= self.rules.window_ms {
            self.window = Window { since: now, good: 0, bad: 0 };
        }
        match outcome {
            Outcome::Neutral => return None,
            Outcome::Good => {
                self.row = 0;
                self.window.good = self.window.good.saturating_add(1);
                return None;
            }
            Outcome::Bad => {
                self.row = self.row.saturating_add(1);
                self.window.bad = self.window.bad.saturating_add(1);
            }
        }
        if self.row >= self.rules.errors_in_row {
            return Some(self.trip(Reason::ErrorsInRow, now));
        }
        let (bad, all) = (u64::from(self.window.bad), u64::from(self.window.bad) + u64::from(self.window.good));
        let percent = u64::from(self.rules.error_percent);
        let too_many = percent > 0 && all >= u64::from(self.rules.volume_min) && bad * 100 >= percent * all;
        too_many.then(|| self.trip(Reason::ErrorRatio, now))
    }

    fn trip(&mut self, reason: Reason, now: Millis) -> Change {
        let from = self.state();
        self.forget_if_whole(now);
        let for_ms = self.eject_ms;
        self.epoch += 1;
        self.go_out(now.after(for_ms), for_ms);
        Change { from, to: State::Tripped, reason, for_ms, epoch: self.epoch }
    }

    /// Fully recovered, and for long enough: earlier trips no longer count.
    fn forget_if_whole(&mut self, now: Millis) {
        let whole_ms = self.rules.slow_start_ms.max(self.rules.eject_ms);
        if self.state == State::Serving && self.returned.is_none_or(|at| now.since(at) >= whole_ms) {
            self.eject_ms = self.rules.eject_ms;
        }
    }

    /// Ejected for `for_ms`, whichever core found it; the next ejection will be twice as long.
    fn go_out(&mut self, until: Millis, for_ms: u64) {
        let most = self.rules.eject_max_ms.max(self.rules.eject_ms);
        self.eject_ms = self.eject_ms.max(for_ms.saturating_mul(2).min(most));
        self.state = State::Tripped;
        self.until = until;
        self.probes_good = 0;
    }

    fn restore(&mut self, reason: Reason, now: Millis) -> Change {
        let from = self.state();
        self.epoch += 1;
        self.come_back(now);
        Change { from, to: self.state(), reason, for_ms: 0, epoch: self.epoch }
    }

    fn come_back(&mut self, now: Millis) {
        self.state = State::Serving;
        self.returned = Some(now);
        self.term = self.term.wrapping_add(1);
        self.row = 0;
        self.window = Window { since: now, good: 0, bad: 0 };
    }

    /// Result of an active check. A failed one holds the backend down until one passes.
    pub fn checked(&mut self, check: Check, now: Millis) -> Option<Change> {
        let (from, epoch) = (self.state(), self.epoch);
        match (check, self.held) {
            (Check::Failed, false) => {
                self.held = true;
                let was_serving = self.state == State::Serving;
                was_serving.then_some(Change {
                    from,
                    to: State::Tripped,
                    reason: Reason::CheckFailed,
                    for_ms: 0,
                    epoch,
                })
            }
            (Check::Passed, true) => {
                self.held = false;
                // The evidence of requests still counts: probes decide.
                (self.state == State::Serving).then(|| {
                    self.come_back(now);
                    Change { from, to: State::Serving, reason: Reason::CheckPassed, for_ms: 0, epoch }
                })
            }
            (Check::Failed, true) | (Check::Passed, false) => None,
        }
    }

    // Changes found by other cores. They are not forwarded: the core that found one informs every other.

    /// Requests of another core ejected the backend for `for_ms`. The doubling continues from there, so that a dead
    /// backend is not probed by each core at each length. Ignored if a later change is known.
    pub fn elsewhere_tripped(&mut self, for_ms: u64, epoch: u64, now: Millis) {
        if epoch < self.epoch {
            return;
        }
        self.epoch = epoch;
        self.forget_if_whole(now);
        // An ejection in force is not shortened; one from before a return is over.
        let until = if self.state == State::Serving { now } else { self.until };
        self.go_out(until.max(now.after(for_ms)), for_ms);
    }

    /// Probes of another core restored the backend. Ignored if a later change or a trip of the same epoch is known.
    pub fn elsewhere_restored(&mut self, epoch: u64, now: Millis) {
        let is_news = epoch > self.epoch;
        self.epoch = self.epoch.max(epoch);
        if is_news && self.state != State::Serving {
            self.come_back(now);
        }
    }

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self) {
        assert!(self.eject_ms >= self.rules.eject_ms, "an ejection is no shorter than the first");
        assert!(self.eject_ms <= self.rules.eject_max_ms.max(self.rules.eject_ms), "an ejection exceeds the maximum");
        assert!(
            self.state != State::Probing || self.probes_good < self.rules.probes,
            "probing goes on after enough good probes"
        );
        assert!(
            self.row < self.rules.errors_in_row || self.state != State::Serving,
            "serving goes on after enough errors in a row"
        );
    }
}

#[cfg(test)]
mod tests;
