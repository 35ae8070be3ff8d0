//! What there is to change, from a profile, the host, and what an earlier change has left to undo. Changes nothing.

use super::files::files;
use super::state::{Kind, Line, Saved};
use crate::host::plan::Cpus;
use crate::host::profile::{Profile, Row, Target};
use crate::host::rule::Verdict;
use crate::host::setting::{Setting, State, applies, settings};
use crate::host::sight::Sight;

/// A change to come, and what is to be said about it.
#[derive(Debug, Default)]
pub struct Intent {
    pub profile: Option<String>,
    pub boot: Option<String>,
    /// In the order they are made.
    pub changes: Vec<Change>,
    /// What there is to undo once all are made.
    pub lines: Vec<Line>,
    /// Settings that are as they should be without our doing.
    pub good: usize,
    /// Settings that this host does not show, and why.
    pub not_seen: Vec<String>,
    /// Paths that somebody else has changed since; they stay as they are.
    pub left: Vec<String>,
    /// What only a person can do.
    pub advice: Vec<Advice>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub path: String,
    pub kind: Kind,
    pub now: Option<String>,
    /// Nothing: the file goes.
    pub wanted: Option<String>,
    pub why: String,
}

/// An argument for the kernel's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    pub text: String,
    pub why: String,
}

const RESTORED: &str = "As it was before ringway tune changed it.";

pub fn intend(sight: &Sight<'_>, profile: Option<&Profile>, saved: &Saved) -> Result<Intent, String> {
    let boot = sight.root.text("/proc/sys/kernel/random/boot_id");
    // What lasted until the machine went down needs no undoing; its paths may mean something else by now.
    let is_live = |line: &&Line| saved.boot == boot || !matches!(line.kind, Kind::Passing(_));
    let live: Vec<&Line> = saved.lines.iter().filter(is_live).collect();
    let mut intent = Intent { profile: profile.map(|profile| profile.name.clone()), boot, ..Intent::default() };

    let mut set: Vec<(Line, &Row)> = Vec::new();
    for row in profile.iter().flat_map(|profile| &profile.rows).filter(|row| applies(row, sight)) {
        for setting in settings(row, sight) {
            if let Some(line) = intent.weigh(&setting, row, &live) {
                set.push((line, row));
            }
        }
    }
    for (path, content) in profile.map(|profile| files(profile, &set)).unwrap_or_default() {
        let now = sight.root.whole(path).map_err(|error| format!("{path}: {error}; move it away first"))?;
        let ours = live.iter().find(|line| line.path == path && line.written == now);
        let before = ours.map_or_else(|| now.clone(), |line| line.before.clone());
        intent.change(path, Kind::File, now, Some(content.clone()), "Makes it last.");
        intent.lines.push(Line { path: path.to_owned(), kind: Kind::File, before, written: Some(content) });
    }
    intent.lines.extend(set.into_iter().map(|(line, _)| line));
    for line in live {
        if !intent.lines.iter().any(|kept| kept.path == line.path) {
            intent.restore(sight, line)?;
        }
    }
    // Files last: what cannot be set is not written down either.
    intent.changes.sort_by_key(|change| change.kind == Kind::File);
    intent.advice = profile.map(|profile| advice(profile, sight)).unwrap_or_default();
    Ok(intent)
}

impl Intent {
    /// What a setting needs, as the line to undo it by. Nothing: it is good as it was, or not seen.
    fn weigh(&mut self, setting: &Setting, row: &Row, live: &[&Line]) -> Option<Line> {
        let now = match &setting.state {
            State::NotSeen(why) => {
                self.not_seen.push(why.clone());
                return None;
            }
            State::Good(now) | State::Bad { now, .. } => now.clone(),
        };
        let ours = live.iter().find(|line| line.path == setting.path && line.written.as_ref() == Some(&now));
        // What was there first decides, so that applying twice is applying once.
        let before = ours.and_then(|line| line.before.clone()).unwrap_or_else(|| now.clone());
        let wanted = match setting.rule.judge(&before) {
            Verdict::Wants(wanted) => setting.form.plain(&wanted),
            Verdict::Holds | Verdict::Strange => {
                self.good += 1;
                return None;
            }
        };
        let kind = match row.target {
            Target::Queue(_) => Kind::Passing(setting.form),
            _ => Kind::Lasting(setting.form),
        };
        self.change(&setting.path, kind, Some(now), Some(wanted.clone()), &format!("{} ({})", row.why, row.source));
        Some(Line { path: setting.path.clone(), kind, before: Some(before), written: Some(wanted) })
    }

    /// Takes back what the profile does not want any more, unless somebody else has changed it.
    fn restore(&mut self, sight: &Sight<'_>, line: &Line) -> Result<(), String> {
        let now = match line.kind {
            Kind::File => sight.root.whole(&line.path).map_err(|error| format!("{}: {error}", line.path))?,
            Kind::Lasting(form) | Kind::Passing(form) => sight.root.text(&line.path).map(|text| form.plain(&text)),
        };
        if now == line.written {
            self.change(&line.path, line.kind, now, line.before.clone(), RESTORED);
        } else if now != line.before {
            self.left.push(line.path.clone());
        }
        Ok(())
    }

    fn change(&mut self, path: &str, kind: Kind, now: Option<String>, wanted: Option<String>, why: &str) {
        if now != wanted {
            self.changes.push(Change { path: path.to_owned(), kind, now, wanted, why: why.to_owned() });
        }
    }
}

/// The arguments of the kernel's command line that are not there yet.
fn advice(profile: &Profile, sight: &Sight<'_>) -> Vec<Advice> {
    let given = sight.root.text("/proc/cmdline").unwrap_or_default();
    let (data, other) = (sight.data_cpus(), sight.other_cpus());
    let texts = profile.rows.iter().filter_map(|row| match &row.target {
        Target::CommandLine(text) => Some((text, &row.why)),
        _ => None,
    });
    let mut advice = Vec::new();
    for (text, why) in texts {
        let names_cpus = text.contains('{');
        if names_cpus && (data.is_empty() || other.is_empty()) {
            continue; // a machine whose every CPU is isolated has none for the system
        }
        let filled = text.replace("{data}", &Cpus(&data).to_string()).replace("{other}", &Cpus(&other).to_string());
        if !filled.split(' ').all(|argument| given.split_whitespace().any(|there| there == argument)) {
            advice.push(Advice { text: filled, why: why.clone() });
        }
    }
    advice
}
