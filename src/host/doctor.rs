//! Examines a host: the checks that need thought, and every row of a profile. Changes nothing.

use super::checks::CHECKS;
use super::profile::{Profile, Row, Target};
use super::report::{Found, Outcome, Report};
use super::setting::{Setting, State, applies, settings};
use super::sight::Sight;

/// Everything that is to be said about the host, measured by a profile.
pub fn examine(sight: &Sight<'_>, profile: &Profile) -> Report {
    let mut report = Report::default();
    for check in CHECKS {
        report.add(check.id, (check.run)(sight));
    }
    for row in &profile.rows {
        if let Some(id) = id(row) {
            let outcome = if applies(row, sight) { judge(row, sight, profile) } else { Outcome::Nothing };
            report.add(&id, outcome);
        }
    }
    report
}

/// The name of a row's check. `None`: a check of its own looks at that, or it is advice.
pub fn id(row: &Row) -> Option<String> {
    match &row.target {
        Target::Sysctl(name) => Some(name.clone()),
        Target::Sysfs(path) => Some(path.trim_start_matches("/sys/").replace('/', ".")),
        Target::Queue(_) | Target::IdleStates(_) | Target::Limit(_) | Target::Slice(_) | Target::CommandLine(_) => None,
    }
}

fn judge(row: &Row, sight: &Sight<'_>, profile: &Profile) -> Outcome {
    let settings = settings(row, sight);
    let bad: Vec<(&Setting, &str, &str)> = settings
        .iter()
        .filter_map(|setting| match &setting.state {
            State::Bad { now, wanted } => Some((setting, now.as_str(), wanted.as_str())),
            State::Good(_) | State::NotSeen(_) => None,
        })
        .collect();
    if let Some((first, now, wanted)) = bad.first() {
        let more = if bad.len() > 1 { format!("; {} files like it", bad.len()) } else { String::new() };
        return Outcome::Found(Found {
            level: row.level,
            found: format!("it is {now}, should be {}{more}", row.rule.words()),
            seen_in: first.path.clone(),
            why: row.why.clone(),
            remedy: match &row.target {
                Target::Sysctl(name) => format!("sysctl -w {name}=\"{wanted}\", and in /etc/sysctl.d to stay"),
                _ => format!("echo {wanted} > {}", first.path),
            },
            profile: Some(profile.name.clone()),
        });
    }
    let unseen = settings.iter().find_map(|setting| match &setting.state {
        State::NotSeen(why) => Some(why.clone()),
        State::Good(_) | State::Bad { .. } => None,
    });
    unseen.map_or(Outcome::Fine, Outcome::NotSeen)
}
