//! Usage over restarts, beside another process, and with files that are damaged.

use shards::Millis;
use shards::quota::{LimitId, Period};

use super::*;
use crate::observe::series::{Names, SeriesIndex, UsageKey};

const DAY_MS: u64 = 86_400_000;

fn labels() -> Labels {
    let mut names = Names::default();
    names.tenants.number("t");
    names.models.number("m");
    Labels::new(Vec::new(), Vec::new(), Vec::new(), &names, 0)
}

/// A process: one core, and what the background core keeps.
struct Process {
    usage: Usage,
    core: Arc<Counters>,
    index: SeriesIndex<UsageKey>,
}

impl Process {
    fn start(state: &Path) -> Process {
        let core = Arc::new(Counters::new(1));
        let (counts, why) = kept_counts(Some(state));
        assert_eq!(why, None);
        let usage = Usage::new(Some(state.to_owned()), vec![core.clone()], counts);
        Process { usage, core, index: SeriesIndex::default() }
    }

    fn use_tokens(&mut self, credential: u64, tokens: u64) {
        let amounts = Amounts { requests: 1, prompt_tokens: tokens, ..Amounts::default() };
        self.index.add(&self.core.usage, UsageKey { tenant: 0, credential, model: 0 }, amounts);
    }

    /// The second at `unix_ms` begins.
    fn tick(&self, unix_ms: u64) {
        self.usage.tick(&labels(), unix_ms);
    }

    fn write(&self, unix_ms: u64) {
        self.usage.collect(&labels(), unix_ms);
        run(self.usage.write(Now { mono: Millis(0), unix_ms }));
    }

    /// Day, key, requests, tokens.
    fn told(&self) -> Vec<(u64, u64, u64, u64)> {
        let days = run(self.usage.rows(0, 10, 100)).unwrap();
        let rows = days.iter().flat_map(|(day, rows)| rows.iter().map(move |(key, amounts)| (day, key, amounts)));
        rows.map(|(day, key, amounts)| (*day, key.credential, amounts.requests, amounts.prompt_tokens)).collect()
    }
}

fn run<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

#[test]
fn usage_goes_on_after_a_restart_and_is_told_by_day() {
    let state = tempfile::tempdir().unwrap();
    let mut first = Process::start(state.path());
    first.use_tokens(1, 10);
    first.use_tokens(2, 5);
    first.write(0);
    first.use_tokens(2, 1);
    first.tick(DAY_MS);
    first.use_tokens(1, 1);
    first.write(DAY_MS);
    assert_eq!(first.told(), [(0, 1, 1, 10), (0, 2, 2, 6), (1, 1, 1, 1)]);
    drop(first);
    let mut second = Process::start(state.path());
    assert_eq!(second.told(), [(0, 1, 1, 10), (0, 2, 2, 6), (1, 1, 1, 1)]);
    second.use_tokens(1, 3);
    second.usage.collect(&labels(), DAY_MS);
    assert_eq!(second.told(), [(0, 1, 1, 10), (0, 2, 2, 6), (1, 1, 2, 4)], "before it is written");
    second.write(DAY_MS);
    // A clock that is set back finds its day again.
    second.tick(0);
    second.use_tokens(2, 2);
    second.write(0);
    second.write(DAY_MS);
    assert_eq!(second.told(), [(0, 1, 1, 10), (0, 2, 3, 8), (1, 1, 2, 4)]);
    assert!(run(second.usage.rows(0, 10, 2)).is_none(), "more rows than were asked for");
}

#[test]
fn two_processes_lose_nothing_of_each_other() {
    let state = tempfile::tempdir().unwrap();
    let (mut old, mut new) = (Process::start(state.path()), Process::start(state.path()));
    old.use_tokens(1, 10);
    old.write(0);
    new.use_tokens(1, 1);
    new.write(0);
    old.use_tokens(1, 10);
    old.write(0);
    assert_eq!(new.told(), [(0, 1, 3, 21)]);
    drop(old);
    new.write(0);
    new.use_tokens(1, 1);
    new.write(0);
    assert_eq!(new.told(), [(0, 1, 4, 22)]);
    assert_eq!(Process::start(state.path()).told(), [(0, 1, 4, 22)]);
}

#[test]
fn a_damaged_file_is_put_aside() {
    let state = tempfile::tempdir().unwrap();
    let mut first = Process::start(state.path());
    first.use_tokens(1, 10);
    first.write(0);
    drop(first);
    let path = state.path().join("usage/1970-01-01");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let mut second = Process::start(state.path());
    second.use_tokens(1, 1);
    second.write(0);
    assert_eq!(second.told(), [(0, 1, 1, 1)]);
    assert!(state.path().join("usage/1970-01-01.damaged").exists());
}

#[test]
fn what_counts_against_limits_is_kept() {
    let state = tempfile::tempdir().unwrap();
    let counted = Counted { id: LimitId(7), period: Period::Day, slot: 0, amount: 9 };
    let first = Process::start(state.path());
    first.usage.counted([counted]);
    first.write(0);
    drop(first);
    assert_eq!(kept_counts(Some(state.path())), (vec![counted], None));
}

#[test]
fn without_a_directory_the_last_days_are_in_memory() {
    let core = Arc::new(Counters::new(1));
    let mut process =
        Process { usage: Usage::new(None, vec![core.clone()], Vec::new()), core, index: SeriesIndex::default() };
    for day in 0..40 {
        process.tick(day * DAY_MS);
        process.use_tokens(1, 1);
        process.write(day * DAY_MS);
    }
    let days = run(process.usage.rows(0, 50, 100)).unwrap();
    assert_eq!((days.len(), *days.keys().next().unwrap()), (USAGE_DAYS_IN_MEMORY, 40 - USAGE_DAYS_IN_MEMORY as u64));
}
