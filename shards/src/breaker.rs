//! Whether one backend is in service, as one core sees it: what its own requests met, what the active check says, and
//! what other cores found. Owned by that core; holds no timer, every question brings the time.
//! Must never let more than one probe at a time through to a backend that is out of service.

use crate::Millis;

/// When a backend is taken out of service, and how it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerRules {
    /// So many failures in a row.
    pub errors_in_row: u32,
    /// Or failures in percent of what was asked within `window_ms`, once `volume_min` was asked; 0 = off.
    pub error_percent: u32,
    pub window_ms: u64,
    pub volume_min: u32,
    /// How long it then stays out; doubled by each failed probe, and by each trip before it was wholly back.
    pub eject_ms: u64,
    pub eject_max_ms: u64,
    /// Good probes in a row that put it back.
    pub probes: u32,
    /// How long its share grows after that.
    pub slow_start_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Serving,
    /// Out of service for a time, or held down by the active check.
    Tripped,
    /// That time is over: one request after the other finds out whether it is well.
    Probing,
}

/// What a request may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// One request may go, to find out.
    Probe,
    Shut,
}

/// What a request went as. Every pass ends exactly once, in [`Breaker::end`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a pass has to end"]
pub enum Pass {
    /// In this term of service: one that is over says nothing of how the backend is now.
    Ordinary {
        term: u32,
    },
    Probe,
}

impl Pass {
    /// The term of service that it went in; none for a probe.
    pub const fn term(&self) -> Option<u32> {
        match self {
            Pass::Ordinary { term } => Some(*term),
            Pass::Probe => None,
        }
    }
}

/// How a request went, as far as it tells of the backend's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Good,
    Bad,
    /// It says nothing: cancelled, or the client's own fault.
    Neutral,
}

/// What an active check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    Passed,
    Failed,
}

/// Why a breaker turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    ErrorsInRow,
    ErrorRatio,
    ProbeFailed,
    ProbesPassed,
    CheckFailed,
    CheckPassed,
}

impl Reason {
    /// For logs and metrics.
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

/// A turn that others should hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub from: State,
    pub to: State,
    pub reason: Reason,
    /// How long it stays out at least, where it was taken out.
    pub for_ms: u64,
    /// Which trip or return by requests this is, or was last, of all that this core has heard of.
    /// It goes along where others are told, and orders what crosses.
    pub epoch: u64,
}

pub struct Breaker {
    rules: BreakerRules,
    state: State,
    /// Of `Tripped`: no probe before.
    until: Millis,
    /// The active check failed last.
    held: bool,
    row: u32,
    window: Window,
    probe_out: bool,
    probes_good: u32,
    /// The next ejection's length.
    eject_ms: u64,
    /// When it came back into service.
    returned: Option<Millis>,
    /// Terms of service, counted: each return begins one. Wraps after more returns than any pass sees.
    term: u32,
    /// Of the last trip or return by requests, here or elsewhere: one more than what was known where it was found. Of two
    /// that cross on their way the higher holds on every core, and of two that are equal the trip, which probes mend: so
    /// cores that have told each other everything agree, in whatever order they heard of it. What the active check says
    /// is not counted in it: every core hears that from one sender, in order.
    epoch: u64,
}

#[derive(Clone, Copy, Default)]
struct Window {
    since: Millis,
    good: u32,
    bad: u32,
}

/// A share is in so many parts of a whole one.
pub const WHOLE_SHARE: u32 = 256;
/// What a backend that has just come back gets: a tenth.
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

    /// As others are told: what the active check holds down is out, whatever requests say.
    pub fn state(&self) -> State {
        if self.held { State::Tripped } else { self.state }
    }

    /// The part of its weight that it gets now, in 1/256: less than all for a time after it came back.
    pub fn share(&self, now: Millis) -> u32 {
        let Some(returned) = self.returned else { return WHOLE_SHARE };
        let back_ms = now.since(returned);
        if back_ms >= self.rules.slow_start_ms {
            return WHOLE_SHARE;
        }
        let growth = u64::from(WHOLE_SHARE - FIRST_SHARE);
        FIRST_SHARE + (u128::from(growth) * u128::from(back_ms) / u128::from(self.rules.slow_start_ms)) as u32
    }

    /// A request goes. Through a gate that is shut it goes only in a panic, as an ordinary one that proves nothing.
    /// Allocates nothing, as nothing in here does.
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

    /// A request that went is over.
    pub fn end(&mut self, pass: Pass, outcome: Outcome, now: Millis) -> Option<Change> {
        match pass {
            Pass::Probe => {
                self.probe_out = false;
                // Another core or the active check may have decided meanwhile.
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
            // One that went before the backend was taken out says nothing new, not even when it is back by now: requests
            // that hung run into their time-outs long after the backend has recovered.
            Pass::Ordinary { term } if term != self.term || self.state() != State::Serving => None,
            Pass::Ordinary { .. } => self.judge(outcome, now),
        }
    }

    /// The term of service that this is, or that was last.
    pub const fn term(&self) -> u32 {
        self.term
    }

    /// An answer that had begun well, and whose pass has ended, broke off. It speaks of the term that it was begun in; a
    /// probe's of the one that its pass ended in, which it may have opened.
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

    /// Wholly back, and for long enough: the trips before count no more.
    fn forget_if_whole(&mut self, now: Millis) {
        let whole_ms = self.rules.slow_start_ms.max(self.rules.eject_ms);
        if self.state == State::Serving && self.returned.is_none_or(|at| now.since(at) >= whole_ms) {
            self.eject_ms = self.rules.eject_ms;
        }
    }

    /// Out for `for_ms`, wherever that was found; the next ejection will be twice as long.
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

    /// What the active check found. A failed one holds the backend down until one passes.
    pub fn checked(&mut self, check: Check, now: Millis) -> Option<Change> {
        let (from, epoch) = (self.state(), self.epoch);
        match (check, self.held) {
            (Check::Failed, false) => {
                self.held = true;
                let turned = self.state == State::Serving;
                turned.then_some(Change { from, to: State::Tripped, reason: Reason::CheckFailed, for_ms: 0, epoch })
            }
            (Check::Passed, true) => {
                self.held = false;
                // What requests met still counts: then probes decide.
                (self.state == State::Serving).then(|| {
                    self.come_back(now);
                    Change { from, to: State::Serving, reason: Reason::CheckPassed, for_ms: 0, epoch }
                })
            }
            (Check::Failed, true) | (Check::Passed, false) => None,
        }
    }

    // What other cores found. It is not told on: whoever found it has told everybody.

    /// Requests of another core took it out of service for so long. The doubling goes on from there, so that a backend
    /// that stays dead is not asked once a core at every length. Nothing where a later turn is known.
    pub fn elsewhere_tripped(&mut self, for_ms: u64, epoch: u64, now: Millis) {
        if epoch < self.epoch {
            return;
        }
        self.epoch = epoch;
        self.forget_if_whole(now);
        // An ejection that is still on is not made shorter; one from before a return is over.
        let until = if self.state == State::Serving { now } else { self.until };
        self.go_out(until.max(now.after(for_ms)), for_ms);
    }

    /// Probes of another core put it back. Nothing where a later turn is known, or a trip as late as this.
    pub fn elsewhere_restored(&mut self, epoch: u64, now: Millis) {
        let is_news = epoch > self.epoch;
        self.epoch = self.epoch.max(epoch);
        if is_news && self.state != State::Serving {
            self.come_back(now);
        }
    }

    /// Panics when a law of this machine is broken. For tests and simulation.
    pub fn check(&self) {
        assert!(self.eject_ms >= self.rules.eject_ms, "an ejection is never shorter than the first");
        assert!(self.eject_ms <= self.rules.eject_max_ms.max(self.rules.eject_ms), "nor longer than the longest");
        assert!(self.state != State::Probing || self.probes_good < self.rules.probes, "enough good probes restore");
        assert!(self.row < self.rules.errors_in_row || self.state != State::Serving, "enough errors in a row trip");
    }
}

#[cfg(test)]
mod tests;
