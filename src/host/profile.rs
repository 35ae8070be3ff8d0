//! The profiles: rows of what a host should be like, each with its reason and source, written in `tuning/*.toml` and part of
//! the program. Both `doctor` and `tune` read them: what one finds the other changes.

use serde::Deserialize;

use super::report::Level;
use super::rule::Rule;

/// The profiles, in the order they are listed; each includes what its file says.
static FILES: &[(&str, &str)] = &[
    ("base", include_str!("../../tuning/base.toml")),
    ("throughput", include_str!("../../tuning/throughput.toml")),
    ("latency", include_str!("../../tuning/latency.toml")),
    ("numa", include_str!("../../tuning/numa.toml")),
    ("virtual-machine", include_str!("../../tuning/virtual-machine.toml")),
];

/// A profile with the rows of those that it includes.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: String,
    pub summary: String,
    pub rows: Vec<Row>,
}

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    pub target: Target,
    pub rule: Rule,
    pub level: Level,
    pub when: When,
    pub why: String,
    pub source: String,
}

/// What a row is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A name of sysctl's, such as `net.core.somaxconn`.
    Sysctl(String),
    /// A path with `*` for any part of a name.
    Sysfs(String),
    Queue(Queue),
    /// Idle states of the data cores that take longer than so many microseconds to leave.
    IdleStates(u64),
    /// A resource limit of the service and of the user `ringway`, in the words of limits.conf.
    Limit(String),
    /// A resource setting of the slice, in systemd's words.
    Slice(String),
    /// Arguments of the kernel's command line; `{data}`, `{other}` stand for lists of CPUs.
    CommandLine(String),
}

/// What of a network interface's queues is placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Queue {
    /// The interrupt of queue n goes to the n-th data core, round and round.
    Interrupts,
    /// Where there are fewer queues than data cores: packets are spread over the data cores by their flow.
    ReceiveSteering,
    /// Where packets are spread so: how many flows each queue remembers.
    ReceiveFlows,
    /// Data core n sends by queue n, round and round.
    TransmitSteering,
}

/// Hosts that a row is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    #[default]
    Always,
    /// Where the setting exists: it belongs to a part of the kernel that need not be there.
    Present,
    /// With swap space.
    Swap,
    /// With several NUMA nodes.
    Numa,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    summary: String,
    #[serde(default)]
    includes: Vec<String>,
    #[serde(default, rename = "set")]
    rows: Vec<Written>,
}

/// A row as it is written: one target, one rule.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    sysctl: Option<String>,
    sysfs: Option<String>,
    queue: Option<Queue>,
    idle_states_over_us: Option<u64>,
    limit: Option<String>,
    slice: Option<String>,
    command_line: Option<String>,
    equals: Option<String>,
    at_least: Option<Vec<u64>>,
    at_most: Option<u64>,
    bits: Option<u64>,
    one_of: Option<Vec<String>>,
    spans: Option<[u64; 2]>,
    #[serde(default = "Level::note")]
    level: Level,
    #[serde(default)]
    when: When,
    why: String,
    source: String,
}

impl Profile {
    pub fn names() -> impl Iterator<Item = &'static str> {
        FILES.iter().map(|(name, _)| *name)
    }

    /// The profile of this name. Errors: which there are, or (never, while the tests pass) what is wrong with its text.
    pub fn named(name: &str) -> Result<Profile, String> {
        let Some((name, text)) = FILES.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = Profile::names().collect();
            return Err(format!("there is no profile \"{name}\"; there are {}", names.join(", ")));
        };
        let file = parse(name, text)?;
        let mut rows: Vec<Row> = Vec::new();
        for included in &file.includes {
            let Some((included, text)) = FILES.iter().find(|(known, _)| known == included) else {
                return Err(format!("tuning/{name}.toml: there is no profile \"{included}\" to include"));
            };
            // One level: what an included profile includes is written out by the one that includes it.
            for row in parse(included, text)?.rows {
                rows.push(row.row(included)?);
            }
        }
        for row in file.rows {
            let row = row.row(name)?;
            // The profile's own row stands in the place of an included one.
            rows.retain(|other| other.target != row.target);
            rows.push(row);
        }
        Ok(Profile { name: (*name).to_owned(), summary: file.summary, rows })
    }
}

fn parse(name: &str, text: &str) -> Result<File, String> {
    toml::from_str(text).map_err(|error| format!("tuning/{name}.toml: {error}"))
}

impl Written {
    fn row(self, profile: &str) -> Result<Row, String> {
        let mut targets = [
            self.sysctl.map(Target::Sysctl),
            self.sysfs.map(Target::Sysfs),
            self.queue.map(Target::Queue),
            self.idle_states_over_us.map(Target::IdleStates),
            self.limit.map(Target::Limit),
            self.slice.map(Target::Slice),
            self.command_line.map(Target::CommandLine),
        ]
        .into_iter()
        .flatten();
        let mut rules = [
            self.equals.map(Rule::Equals),
            self.at_least.map(Rule::AtLeast),
            self.at_most.map(Rule::AtMost),
            self.bits.map(Rule::Bits),
            self.one_of.map(Rule::OneOf),
            self.spans.map(|[low, high]| Rule::Spans(low, high)),
        ]
        .into_iter()
        .flatten();
        let (Some(target), None) = (targets.next(), targets.next()) else {
            return Err(format!("tuning/{profile}.toml: a row has no target, or two: {}", self.why));
        };
        let rule = match (&target, rules.next(), rules.next()) {
            (Target::Queue(_) | Target::IdleStates(_) | Target::CommandLine(_), None, None) => {
                Rule::Equals(String::new())
            }
            (Target::Queue(_) | Target::IdleStates(_) | Target::CommandLine(_), ..)
            | (_, None, _)
            | (_, _, Some(_)) => {
                return Err(format!("tuning/{profile}.toml: {target:?} has no rule, two, or one too many"));
            }
            (_, Some(rule), None) => rule,
        };
        Ok(Row { target, rule, level: self.level, when: self.when, why: self.why, source: self.source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_whole_and_every_row_has_its_reason_and_source() {
        for name in Profile::names() {
            let profile = Profile::named(name).unwrap_or_else(|error| panic!("{error}"));
            assert!(!profile.summary.is_empty() && !profile.rows.is_empty(), "{name}");
            for (place, row) in profile.rows.iter().enumerate() {
                assert!(row.why.len() > 20 && row.why.ends_with('.'), "{name}: {:?}: {}", row.target, row.why);
                assert!(row.source.len() > 5, "{name}: {:?}", row.target);
                let again = profile.rows[..place].iter().any(|other| other.target == row.target);
                assert!(!again, "{name}: {:?} stands there twice", row.target);
            }
        }
        assert!(Profile::named("fast").unwrap_err().contains("there are base, throughput"));
    }

    #[test]
    fn a_row_has_one_target_and_one_rule() {
        let refused = |row: &str| {
            let text = format!("summary = \"s\"\n[[set]]\nwhy = \"w\"\nsource = \"s\"\n{row}");
            let parsed = parse("x", &text);
            parsed
                .and_then(|file| file.rows.into_iter().map(|row| row.row("x")).collect::<Result<Vec<_>, _>>())
                .is_err()
        };
        assert!(!refused("sysctl = \"a.b\"\nequals = \"1\""));
        assert!(!refused("queue = \"interrupts\""));
        for row in [
            "equals = \"1\"",
            "sysctl = \"a.b\"",
            "sysctl = \"a.b\"\nsysfs = \"/a\"\nequals = \"1\"",
            "sysctl = \"a.b\"\nequals = \"1\"\nbits = 1",
            "queue = \"interrupts\"\nequals = \"1\"",
            "queue = \"sideways\"",
            "sysctl = \"a.b\"\nequals = \"1\"\ncolour = \"red\"",
        ] {
            assert!(refused(row), "{row}");
        }
    }
}
