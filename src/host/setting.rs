//! From a row of a profile to what it means on this host: files, what stands in them and what should.
//! Reads and computes; changes nothing.

use serde::{Deserialize, Serialize};

use super::list::mask;
use super::nic::Nic;
use super::profile::{Queue, Row, Target, When};
use super::root::Seen;
use super::rule::{Rule, Verdict, chosen, spaced};
use super::sight::Sight;

/// One file of the kernel as a row sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Absolute, without the root's prefix.
    pub path: String,
    pub form: Form,
    pub rule: Rule,
    pub state: State,
}

/// How a file is written and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Fields with space between them.
    Fields,
    /// Words of which one stands in brackets.
    Choice,
    /// A set of CPUs, in hexadecimal.
    Mask,
}

/// How a setting is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Good(String),
    Bad {
        now: String,
        wanted: String,
    },
    /// It cannot be seen, and why.
    NotSeen(String),
}

impl Form {
    /// The value alone, in the one spelling that can be compared and written.
    pub fn plain(self, text: &str) -> String {
        match self {
            Form::Fields => spaced(text),
            Form::Choice => chosen(text),
            Form::Mask => {
                let digits: String = text.chars().filter(|&letter| letter != ',' && !letter.is_whitespace()).collect();
                let short = digits.trim_start_matches('0').to_lowercase();
                if short.is_empty() { "0".to_owned() } else { short }
            }
        }
    }

    /// The spelling that the kernel takes: more than 32 bits of a mask without commas it refuses.
    pub fn spelled(self, plain: &str) -> String {
        match self {
            Form::Fields | Form::Choice => plain.to_owned(),
            Form::Mask => {
                let digits: Vec<char> = plain.chars().collect();
                let words: Vec<String> = digits.rchunks(8).rev().map(|word| word.iter().collect()).collect();
                words.join(",")
            }
        }
    }
}

impl Setting {
    fn read(sight: &Sight<'_>, path: String, form: Form, rule: Rule) -> Setting {
        let state = match sight.root.read(&path) {
            Seen::Absent => State::NotSeen(format!("there is no {path}")),
            Seen::Hidden(why) => State::NotSeen(format!("{path}: {why}")),
            Seen::Text(text) => {
                let now = form.plain(&text);
                match rule.judge(&now) {
                    Verdict::Holds => State::Good(now),
                    Verdict::Wants(wanted) => State::Bad { now, wanted },
                    Verdict::Strange => State::NotSeen(format!("{path} is not what it should be: {text}")),
                }
            }
        };
        Setting { path, form, rule, state }
    }
}

/// Whether a row is for a host like this one.
pub fn applies(row: &Row, sight: &Sight<'_>) -> bool {
    match row.when {
        When::Always => true,
        When::Present => match &row.target {
            Target::Sysctl(name) => sight.root.exists(&sysctl_path(name)),
            Target::Sysfs(pattern) => !sight.root.matching(pattern).is_empty(),
            _ => true,
        },
        When::Swap => sight.memory("SwapTotal:").is_none_or(|bytes| bytes > 0),
        When::Numa => sight.topology.nodes > 1,
    }
}

/// The files a row is about on this host; none for rows that are not about files of the kernel.
pub fn settings(row: &Row, sight: &Sight<'_>) -> Vec<Setting> {
    let judged = |path: String, form: Form| Setting::read(sight, path, form, row.rule.clone());
    match &row.target {
        Target::Sysctl(name) => vec![judged(sysctl_path(name), Form::Fields)],
        Target::Sysfs(pattern) => match sight.root.matching(pattern) {
            found if found.is_empty() => vec![judged(pattern.clone(), Form::Choice)],
            found => found.into_iter().map(|path| judged(path, Form::Choice)).collect(),
        },
        Target::Queue(queue) => sight.nics.iter().flat_map(|nic| placed(*queue, nic, sight)).collect(),
        Target::IdleStates(over_us) => slow_states(sight, *over_us)
            .into_iter()
            .map(|state| placed_file(sight, format!("{state}/disable"), Form::Fields, "1".to_owned()))
            .collect(),
        Target::Limit(_) | Target::Slice(_) | Target::CommandLine(_) => Vec::new(),
    }
}

/// `/proc/sys/...` for a name of sysctl's. A dot inside a name, as VLAN interfaces have, is written as a slash there.
pub fn sysctl_path(name: &str) -> String {
    let swapped = name.chars().map(|letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    });
    format!("/proc/sys/{}", swapped.collect::<String>())
}

/// Idle states of data cores that take longer than so many microseconds to leave, as paths.
pub fn slow_states(sight: &Sight<'_>, over_us: u64) -> Vec<String> {
    let states = sight
        .data_cpus()
        .into_iter()
        .flat_map(|cpu| sight.root.matching(&format!("/sys/devices/system/cpu/cpu{cpu}/cpuidle/state*")));
    states.filter(|state| sight.number(&format!("{state}/latency")).is_ok_and(|us| us > over_us)).collect()
}

fn placed(queue: Queue, nic: &Nic, sight: &Sight<'_>) -> Vec<Setting> {
    let cpus = sight.data_cpus_near(nic);
    let is_short = nic.rx.len() < cpus.len() && cpus.len() > 1;
    let nth = |place: usize| cpus.get(place % cpus.len().max(1)).copied();
    match queue {
        _ if cpus.is_empty() => Vec::new(),
        Queue::Interrupts => nic
            .interrupts
            .iter()
            .map(|interrupt| {
                let path = format!("/proc/irq/{}/smp_affinity", interrupt.number);
                placed_file(sight, path, Form::Mask, mask(nth(interrupt.queue)))
            })
            .collect(),
        Queue::ReceiveSteering | Queue::ReceiveFlows if !is_short => Vec::new(),
        Queue::ReceiveSteering => {
            let all = mask(cpus.iter().copied());
            let files = nic.rx.iter().map(|queue| nic.queue_file(queue, "rps_cpus"));
            files.map(|path| placed_file(sight, path, Form::Mask, all.clone())).collect()
        }
        Queue::ReceiveFlows => {
            // The kernel rounds up to powers of two; the sum over the queues is what the whole table holds.
            let each = (FLOWS / nic.rx.len().max(1)).next_power_of_two();
            let files = nic.rx.iter().map(|queue| nic.queue_file(queue, "rps_flow_cnt"));
            files.map(|path| placed_file(sight, path, Form::Fields, each.to_string())).collect()
        }
        Queue::TransmitSteering if nic.tx.len() < 2 => Vec::new(),
        Queue::TransmitSteering => {
            let queues = nic.tx.len();
            let of = |place: usize| cpus.iter().copied().enumerate().filter(move |(core, _)| core % queues == place);
            let file = |(place, queue): (usize, &String)| {
                let cpus = mask(of(place).map(|(_, cpu)| cpu));
                placed_file(sight, nic.queue_file(queue, "xps_cpus"), Form::Mask, cpus)
            };
            nic.tx.iter().enumerate().map(file).collect()
        }
    }
}

/// Flows that all queues of an interface remember together; `net.core.rps_sock_flow_entries` of the profiles says the same.
const FLOWS: usize = 32_768;

fn placed_file(sight: &Sight<'_>, path: String, form: Form, wanted: String) -> Setting {
    Setting::read(sight, path, form, Rule::Equals(form.plain(&wanted)))
}
