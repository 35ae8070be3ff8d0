//! What the doctor says: findings, what could not be seen, what is in order; as text and as JSON.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Could be better.
    Note,
    /// Slow, or fails under load.
    Warning,
    /// The gateway does not start, or stops.
    Critical,
}

impl Level {
    pub fn note() -> Level {
        Level::Note
    }

    fn word(self) -> &'static str {
        match self {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Critical => "critical",
        }
    }

    /// The escape sequence of its colour on a terminal.
    fn colour(self) -> &'static str {
        match self {
            Level::Note => "\x1b[36m",
            Level::Warning => "\x1b[33m",
            Level::Critical => "\x1b[1;31m",
        }
    }
}

/// What one check gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Fine,
    Found(Found),
    /// What it would look at could not be seen, and why.
    NotSeen(String),
    /// There is nothing of the kind on this host.
    Nothing,
}

/// A fault of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub level: Level,
    pub found: String,
    /// Where it was seen.
    pub seen_in: String,
    pub why: String,
    pub remedy: String,
    /// The profile of `ringway tune` that changes it.
    pub profile: Option<String>,
}

/// A fault with the name of its check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Dotted; what stands in front of the first dot is its group.
    pub id: String,
    pub level: Level,
    pub found: String,
    pub seen_in: String,
    pub why: String,
    pub remedy: String,
    /// The command that does it, or null.
    pub tunable: Option<String>,
}

/// Something that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotSeen {
    pub id: String,
    pub why: String,
}

/// Everything of one examination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub worst: Option<Level>,
    /// Worst first, then in the order of the checks.
    pub findings: Vec<Finding>,
    pub not_seen: Vec<NotSeen>,
    /// Checks that found nothing.
    pub in_order: Vec<String>,
}

impl Report {
    pub fn add(&mut self, id: &str, outcome: Outcome) {
        let id = id.to_owned();
        match outcome {
            Outcome::Fine => self.in_order.push(id),
            Outcome::Nothing => {}
            Outcome::NotSeen(why) => self.not_seen.push(NotSeen { id, why: printable(&why) }),
            Outcome::Found(Found { level, found, seen_in, why, remedy, profile }) => {
                self.worst = self.worst.max(Some(level));
                let tunable = profile.map(|profile| format!("ringway tune --profile {profile} --apply"));
                let (found, remedy) = (printable(&found), printable(&remedy));
                self.findings.push(Finding { id, level, found, seen_in, why, remedy, tunable });
                self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
            }
        }
    }

    /// For people: worst first, in groups.
    pub fn text(&self, colours: Colours) -> String {
        let mut out = String::new();
        let paint = |text: &str, colour: &str| match colours {
            Colours::On => format!("{colour}{text}\x1b[0m"),
            Colours::Off => text.to_owned(),
        };
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(out, "{}", self.headline());
        for level in [Level::Critical, Level::Warning, Level::Note] {
            for finding in self.findings.iter().filter(|finding| finding.level == level) {
                let _ = writeln!(out, "\n{}  {}", paint(level.word(), level.colour()), paint(&finding.id, "\x1b[1m"));
                field(&mut out, "found", &format!("{} ({})", finding.found, finding.seen_in));
                field(&mut out, "why", &finding.why);
                field(&mut out, "remedy", &finding.remedy);
                if let Some(command) = &finding.tunable {
                    field(&mut out, "or", command);
                }
            }
        }
        if !self.not_seen.is_empty() {
            let _ = writeln!(out, "\nnot seen");
            for NotSeen { id, why } in &self.not_seen {
                let _ = writeln!(out, "  {id}: {why}");
            }
        }
        if !self.in_order.is_empty() {
            out.push_str("\nin order\n");
            wrapped(&mut out, &self.in_order.join(" "), "  ");
        }
        out
    }

    fn headline(&self) -> String {
        let count = |level| self.findings.iter().filter(|finding| finding.level == level).count();
        let counts = [Level::Critical, Level::Warning, Level::Note].map(|level| (count(level), level.word()));
        let told = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| match (*count, *word) {
            (1, _) | (_, "critical") => format!("{count} {word}"),
            _ => format!("{count} {word}s"),
        });
        let mut told: Vec<String> = told.collect();
        if told.is_empty() {
            told.push("nothing to mend".to_owned());
        }
        format!("{}; {} in order, {} not seen", told.join(", "), self.in_order.len(), self.not_seen.len())
    }

    /// For programs: one object, whose shape docs/tuning.md describes.
    pub fn json(&self) -> String {
        // Strings and words alone: this cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    On,
    Off,
}

const WIDTH: usize = 100;

fn field(out: &mut String, name: &str, text: &str) {
    let mut lines = String::new();
    wrapped(&mut lines, text, "          ");
    let _ = writeln!(out, "  {name:<8}{}", lines.trim());
}

fn wrapped(out: &mut String, text: &str, indent: &str) {
    let mut column = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            out.push('\n');
            column = 0;
        }
        let before = if column == 0 { indent } else { " " };
        let _ = write!(out, "{before}{word}");
        column += before.len() + length;
    }
    out.push('\n');
}

/// Longest text of the host that is repeated, in characters.
const QUOTE_CHARS: usize = 300;

/// Text of the host for a message: without control characters (a terminal obeys some) and not endless.
pub fn printable(text: &str) -> String {
    let mut out = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == QUOTE_CHARS {
            out.push_str("...");
            break;
        }
        match character {
            '\t' => out.push(' '),
            _ if character.is_control() => out.extend(character.escape_default()),
            _ => out.push(character),
        }
    }
    out
}
