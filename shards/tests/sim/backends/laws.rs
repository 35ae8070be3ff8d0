//! Invariants over all cores, separate from the machines, and counts of what happened.

use std::collections::BTreeMap;

use shards::breaker::Reason;
use shards::{Again, Fault, Others, Step, again};

use super::WELL_MS;
use super::core::{Core, PERCENT, Policy, RESERVE, Town};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Served,
    Failed,
    /// The client left.
    Left,
}

/// How a request was admitted to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Ordinary,
    Probe,
    /// To one that is out of service, because too many are.
    Panic,
}

pub struct Laws {
    ends: BTreeMap<u64, Option<End>>,
    /// Requests from each core to each backend in the last period.
    shares: Vec<Vec<u64>>,
    pub counts: Counts,
}

impl Laws {
    pub fn new(cores: usize, backends: usize) -> Laws {
        Laws { ends: BTreeMap::new(), shares: vec![vec![0; backends]; cores], counts: Counts::default() }
    }

    /// The number of a new request.
    pub fn began(&mut self) -> u64 {
        let number = self.ends.len() as u64;
        self.ends.insert(number, None);
        number
    }

    pub fn sent(&mut self, core: usize, backend: usize, way: Way, now: u64) {
        match way {
            Way::Ordinary => {}
            Way::Probe => self.counts.probes += 1,
            Way::Panic => self.counts.panics += 1,
        }
        if now >= WELL_MS {
            assert_eq!(way, Way::Ordinary, "out of service after recovery");
            self.shares[core][backend] += 1;
        }
    }

    pub fn turned(&mut self, reason: Reason) {
        let place = match reason {
            Reason::ErrorsInRow => 0,
            Reason::ErrorRatio => 1,
            Reason::ProbeFailed => 2,
            Reason::ProbesPassed => 3,
            Reason::CheckFailed | Reason::CheckPassed => unreachable!("caused by requests"),
        };
        self.counts.turns[place] += 1;
    }

    pub fn stepped(&mut self, fault: Fault, step: Step, others: Others) {
        // The table again.
        match again(fault) {
            Again::Never => assert_eq!(step, Step::GiveUp, "{fault:?} is not retried"),
            Again::OtherModel => assert_eq!(step, Step::OtherModel, "{fault:?} is not retried at this model"),
            Again::Free | Again::Unsuited | Again::Budgeted | Again::Elsewhere => assert_ne!(step, Step::GiveUp),
        }
        let hurries = step == (Step::Again { after_ms: 0 });
        assert!(!hurries || others == Others::Untried, "an immediate retry at a backend that failed");
        match step {
            Step::Again { after_ms } => {
                self.counts.retries += u64::from(matches!(again(fault), Again::Budgeted | Again::Elsewhere));
                self.counts.moves += u64::from(matches!(again(fault), Again::Free | Again::Unsuited));
                self.counts.waits += u64::from(after_ms > 0);
            }
            Step::OtherModel | Step::GiveUp => {}
        }
    }

    pub fn ended(&mut self, number: u64, end: End, now: u64) {
        let before = self.ends.insert(number, Some(end));
        assert_eq!(before, Some(None), "request {number} ends once, having begun");
        assert!(end != End::Failed || now < WELL_MS, "failed after recovery");
        match end {
            End::Served => self.counts.served += 1,
            End::Failed => self.counts.failed += 1,
            End::Left => self.counts.left += 1,
        }
    }

    /// Checked after every event, over all cores.
    pub fn check(&self, cores: &[Core]) {
        let earned = self.ends.len() as u64 * u64::from(PERCENT);
        let most = cores.len() as u64 * u64::from(RESERVE) * 100 + earned;
        assert!(self.counts.retries * 100 <= most, "{} retries of {} requests", self.counts.retries, self.ends.len());
    }

    /// Checked whenever no message is in flight: all cores agree on every backend, however their messages crossed.
    pub fn check_told(&self, cores: &[Core]) {
        let known = cores[0].serving();
        for core in cores {
            assert_eq!(core.serving(), known, "cores that have exchanged all messages agree");
        }
    }

    /// Checked once faults have stopped and nothing is in flight.
    pub fn check_at_rest(&self, town: &Town) {
        assert!(self.ends.values().all(Option::is_some), "every request has an end");
        let first: Vec<usize> = town.first().collect();
        let sum: u64 = first.iter().map(|&backend| u64::from(town.weights[backend])).sum();
        for counts in &self.shares {
            let all: u64 = counts.iter().sum();
            assert_eq!(first.iter().map(|&backend| counts[backend]).sum::<u64>(), all, "requests to other backends");
            // Within two picks per backend of its share: credits before the period and after it.
            for &backend in first.iter().filter(|_| town.policy == Policy::RoundRobin) {
                let off = (counts[backend] * sum).abs_diff(all * u64::from(town.weights[backend]));
                assert!(off <= 2 * first.len() as u64 * sum, "{counts:?} for {:?} of {first:?}", town.weights);
            }
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub events: u64,
    served: u64,
    failed: u64,
    left: u64,
    /// Retries charged to the budget; free attempts at another backend.
    retries: u64,
    moves: u64,
    waits: u64,
    probes: u64,
    panics: u64,
    /// Consecutive errors, error ratio, probe failed, probes passed.
    turns: [u64; 4],
}

impl Counts {
    fn rows(&mut self) -> [&mut u64; 13] {
        let [row, ratio, failed, passed] = &mut self.turns;
        [
            &mut self.events,
            &mut self.served,
            &mut self.failed,
            &mut self.left,
            &mut self.retries,
            &mut self.moves,
            &mut self.waits,
            &mut self.probes,
            &mut self.panics,
            row,
            ratio,
            failed,
            passed,
        ]
    }

    pub fn add(&mut self, other: &Counts) {
        let mut other = other.clone();
        for (sum, part) in self.rows().into_iter().zip(other.rows()) {
            *sum += *part;
        }
    }

    pub fn check_all_happened(&mut self) {
        assert!(self.rows().into_iter().all(|count| *count > 0), "never covered by the simulation, some of: {self:?}");
    }
}
