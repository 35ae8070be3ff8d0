//! How many requests a backend gets at a time, found from how long it takes. Owned by one core, one per backend; holds no
//! clock. More than the backend has room for wait inside it, where nothing puts them in order; so the limit is lowered
//! when answers take longer than they do on their own, and raised while they do not.

// Of the known ways (additive increase by Vegas' queue estimate, Netflix' gradient of a short over a long average, BBR's
// two filters) this is a gradient over a base that is measured: now and then the limit is lowered to a quarter for some
// answers, which shows how long they take without a queue. A long average as a base drifts up with the very queue that it
// is to show, and a lowest value drifts down with the noise of answers of all lengths.

/// The limit, and what it was found from.
#[derive(Clone, Debug)]
pub struct Concurrency {
    least: u32,
    most: u32,
    limit: u32,
    /// How long answers take without a queue, in microseconds, by kind; 0 if that is not known yet.
    base_us: [u64; KINDS],
    window: Window,
    phase: Phase,
    /// Windows until the base is measured again.
    until_probe: u32,
    /// As `until_probe` was last, and the limit at that time.
    apart: u32,
    probed_at: u32,
    /// Answers that were cut short for overload count once until so many answers have come.
    deaf: u32,
}

/// Answers that come as a stream are timed to their first content, others to their end: they have bases of their own.
pub const KINDS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Answers to requests of before the limit was lowered are let by.
    Settling(u32),
    /// At a quarter of the limit, the base is measured.
    Probing,
    Running,
}

/// Answers that are judged together.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    count: [u32; KINDS],
    sum_us: [u64; KINDS],
    /// Most in flight.
    busiest: u32,
}

/// Answers may take so many eighths of the base before the limit is lowered: they vary, and a short queue keeps the
/// backend busy.
const TOLERATED_EIGHTHS: u64 = 10;
/// The limit grows by an eighth, and at least by one, with each window without a queue.
const GROWTH: u32 = 8;
/// Answers in a window, or as many as twice the limit: what was sent under the limit of before has come by then.
const WINDOW_LEAST: u32 = 32;
/// So many show the base.
const PROBE_ANSWERS: u32 = 16;
/// Windows between two probes: few at first, when the base is a guess, then ever more.
const APART_LEAST: u32 = 2;
const APART_MOST: u32 = 64;
/// Where the search begins.
const LIMIT_FIRST: u32 = 8;

impl Concurrency {
    /// Between `least` and `most`, at least one.
    pub fn new(least: u32, most: u32) -> Self {
        let (least, most) = (least.max(1), most.max(least).max(1));
        let limit = LIMIT_FIRST.clamp(least, most);
        Self {
            least,
            most,
            limit,
            base_us: [0; KINDS],
            window: Window::default(),
            phase: Phase::Running,
            until_probe: APART_LEAST,
            apart: APART_LEAST,
            probed_at: limit,
            deaf: 0,
        }
    }

    /// How many requests may be in flight.
    pub fn limit(&self) -> u32 {
        match self.phase {
            Phase::Settling(_) | Phase::Probing => self.probe_limit(),
            Phase::Running => self.limit,
        }
    }

    fn probe_limit(&self) -> u32 {
        (self.limit / 4).max(self.least)
    }

    /// An answer began, or came, `us` after its request was sent, while `in_flight` were in flight, itself included.
    pub fn answered(&mut self, kind: usize, us: u64, in_flight: u32) {
        self.deaf = self.deaf.saturating_sub(1);
        if let Phase::Settling(left) = self.phase {
            // Those that were sent while there was a queue waited in it.
            self.phase = if left > 1 { Phase::Settling(left - 1) } else { Phase::Probing };
            return;
        }
        let kind = kind.min(KINDS - 1);
        self.window.count[kind] += 1;
        self.window.sum_us[kind] = self.window.sum_us[kind].saturating_add(us.max(1));
        self.window.busiest = self.window.busiest.max(in_flight);
        let answers: u32 = self.window.count.iter().sum();
        match self.phase {
            Phase::Probing if answers >= PROBE_ANSWERS => self.end_probe(),
            Phase::Running if answers >= self.limit.saturating_mul(2).max(WINDOW_LEAST) => self.judge(),
            Phase::Probing | Phase::Running | Phase::Settling(_) => {}
        }
    }

    /// The backend said that it has too much, or failed as one does that has.
    pub fn overloaded(&mut self) {
        if self.deaf > 0 {
            return;
        }
        self.limit = (self.limit - self.limit / 4).max(self.least);
        // Whatever is in flight was sent under the limit of before.
        self.deaf = self.limit;
        (self.window, self.phase) = (Window::default(), Phase::Running);
    }

    fn judge(&mut self) {
        let window = core::mem::take(&mut self.window);
        let mut expected = 0u64;
        let mut taken = 0u64;
        for kind in 0..KINDS {
            let (count, sum_us) = (u64::from(window.count[kind]), window.sum_us[kind]);
            let Some(mean_us) = sum_us.checked_div(count) else { continue };
            let base_us = &mut self.base_us[kind];
            if *base_us == 0 {
                *base_us = mean_us;
            } else if mean_us < *base_us / 2 {
                // The backend has become faster, or the base was measured in a queue.
                *base_us = mean_us;
                self.apart = APART_LEAST;
                self.until_probe = self.until_probe.min(APART_LEAST);
            } else if mean_us < *base_us {
                *base_us -= (*base_us - mean_us) / 4; // a part of it is chance
            } else if window.busiest <= self.limit / 2 {
                // No queue of our making: it takes so long.
                *base_us += (mean_us - *base_us) / 8;
            }
            expected = expected.saturating_add(base_us.saturating_mul(count));
            taken = taken.saturating_add(sum_us);
        }
        if window.busiest <= self.limit / 2 {
            return; // a limit that was never reached says nothing
        }
        // The limit times what is tolerated over what was measured: between a half and all of it.
        let tolerated = u128::from(expected) * u128::from(TOLERATED_EIGHTHS) / 8;
        let felt = u128::from(self.limit) * tolerated / u128::from(taken.max(1));
        let felt = u32::try_from(felt).unwrap_or(u32::MAX).clamp(self.limit / 2, self.limit);
        self.limit = (felt + (self.limit / GROWTH).max(1)).clamp(self.least, self.most);
        self.until_probe = self.until_probe.saturating_sub(1);
        // Much lower than where the base was measured: the base may be wrong, or the backend has become slower.
        if self.until_probe == 0 || self.limit <= self.probed_at / 2 {
            self.begin_probe();
        }
    }

    fn begin_probe(&mut self) {
        self.probed_at = self.limit;
        self.apart = self.apart.saturating_mul(2).min(APART_MOST);
        self.until_probe = self.apart;
        if self.probe_limit() < self.limit {
            self.phase = Phase::Settling(self.limit);
        }
    }

    fn end_probe(&mut self) {
        let window = core::mem::take(&mut self.window);
        for kind in 0..KINDS {
            let mean_us = window.sum_us[kind].checked_div(u64::from(window.count[kind]));
            let Some(mean_us) = mean_us else { continue };
            let was_us = self.base_us[kind];
            let now_us = if mean_us < was_us / 2 || was_us == 0 { mean_us } else { was_us.midpoint(mean_us) };
            self.base_us[kind] = now_us;
            if now_us.abs_diff(was_us) > was_us / 4 {
                // It was far off: soon once more.
                (self.apart, self.until_probe) = (APART_LEAST, APART_LEAST);
            }
        }
        self.phase = Phase::Running;
    }

    /// Panics if an invariant is violated. For tests and simulation.
    pub fn check(&self) {
        assert!((self.least..=self.most).contains(&self.limit), "{} of {} to {}", self.limit, self.least, self.most);
        assert!((self.least..=self.limit).contains(&self.limit()), "a probe lowers it, within the bounds");
        assert!(self.until_probe <= APART_MOST, "a probe comes");
    }
}

#[cfg(test)]
mod tests;
