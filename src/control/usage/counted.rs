//! What counts against limits over days, weeks and months, for after a restart. The background core hears it from the limits'
//! home cores; the cores get it back before they start. Minutes are not kept: they are over sooner than a restart.

use std::collections::HashMap;
use std::path::Path;

use shards::quota::{Counted, LimitId, Now, Period};

use super::file;

const TITLE: &str = "ringway limits 1";
pub const FILE: &str = "limits";

/// The newest count of each limit.
#[derive(Default)]
pub struct Counts(HashMap<(LimitId, Period), Counted>);

impl Counts {
    pub fn of(all: impl IntoIterator<Item = Counted>) -> Counts {
        Counts(all.into_iter().map(|counted| ((counted.id, counted.period), counted)).collect())
    }

    pub fn note(&mut self, counted: Counted) {
        self.0.insert((counted.id, counted.period), counted);
    }

    /// Drops what is over.
    pub fn forget(&mut self, now: Now) {
        self.0.retain(|_, counted| counted.slot >= counted.period.slot(now));
    }

    pub fn encode(&self) -> String {
        let mut lines: Vec<String> = self
            .0
            .values()
            .map(|of| format!("{:016x} {} {} {}\n", of.id.0, word(of.period), of.slot, of.amount))
            .collect();
        lines.sort_unstable();
        lines.concat()
    }
}

pub fn write(directory: &Path, lines: &str) -> std::io::Result<()> {
    file::write(&directory.join(FILE), TITLE, lines)
}

/// What was kept, and what is to be said of it. Blocking.
pub fn read(directory: &Path) -> (Vec<Counted>, Option<String>) {
    let (lines, why) = file::read_or_put_aside(&directory.join(FILE), TITLE);
    let lines = lines.unwrap_or_default();
    (lines.lines().filter_map(decode).collect(), why)
}

fn decode(line: &str) -> Option<Counted> {
    let mut words = line.split(' ');
    let id = LimitId(u64::from_str_radix(words.next()?, 16).ok()?);
    let period = [Period::Day, Period::Week, Period::Month].into_iter().find(|period| {
        let mut words = words.clone();
        words.next() == Some(word(*period))
    })?;
    words.next();
    Some(Counted { id, period, slot: words.next()?.parse().ok()?, amount: words.next()?.parse().ok()? })
}

const fn word(period: Period) -> &'static str {
    match period {
        Period::Minute => "minute",
        Period::Day => "day",
        Period::Week => "week",
        Period::Month => "month",
    }
}

#[cfg(test)]
mod tests {
    use shards::Millis;

    use super::*;

    #[test]
    fn counts_are_read_as_they_were_written_until_they_are_over() {
        let directory = tempfile::tempdir().unwrap();
        let counted = |id, period, slot, amount| Counted { id: LimitId(id), period, slot, amount };
        let all = [counted(1, Period::Day, 3, 7), counted(u64::MAX, Period::Month, 0, u64::MAX)];
        let mut counts = Counts::of(all);
        counts.note(counted(1, Period::Day, 3, 9));
        write(directory.path(), &counts.encode()).unwrap();
        let (mut read, why) = read(directory.path());
        read.sort_unstable_by_key(|counted| counted.id);
        assert_eq!((read, why), (vec![counted(1, Period::Day, 3, 9), all[1]], None));
        counts.forget(Now { mono: Millis(0), unix_ms: 4 * 86_400_000 });
        assert_eq!(counts.encode().lines().count(), 1, "the month goes on");
        std::fs::write(directory.path().join(FILE), "ringway limits 1\n00").unwrap();
        let (none, why) = super::read(directory.path());
        assert!(none.is_empty() && why.unwrap().contains("torn"));
    }
}
