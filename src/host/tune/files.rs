//! The files that make a profile last. Each says who wrote it and how it goes away again.

use super::state::{Kind, Line};
use crate::host::profile::{Profile, Row, Target};
use crate::host::rule::Verdict;

const SYSCTL: &str = "/etc/sysctl.d/60-ringway.conf";
const TMPFILES: &str = "/etc/tmpfiles.d/60-ringway.conf";
const LIMITS: &str = "/etc/security/limits.d/60-ringway.conf";
const SERVICE: &str = "/etc/systemd/system/ringway.service.d/60-tune.conf";
const SLICE: &str = "/etc/systemd/system/ringway.slice.d/60-tune.conf";

/// The user of the service.
const USER: &str = "ringway";

/// Paths and contents for a profile, of which these lines are set on this host, each with its row.
pub fn files(profile: &Profile, lines: &[(Line, &Row)]) -> Vec<(&'static str, String)> {
    let mut sysctl = String::new();
    let mut tmpfiles = String::new();
    for (line, row) in lines {
        let value = line.written.as_deref().unwrap_or_default();
        match (&row.target, line.kind) {
            (Target::Sysctl(name), _) => sysctl.push_str(&format!("\n# {}\n{name} = {value}\n", row.why)),
            (_, Kind::Lasting(_)) => tmpfiles.push_str(&format!("\n# {}\nw {} - - - - {value}\n", row.why, line.path)),
            (_, Kind::Passing(_) | Kind::File) => {}
        }
    }
    let (mut limits, mut service, mut slice) = (String::new(), String::new(), String::new());
    for row in &profile.rows {
        // What the rule asks for where there is nothing.
        let value = match row.rule.judge("0") {
            Verdict::Wants(value) => value,
            Verdict::Holds => "0".to_owned(),
            Verdict::Strange => continue,
        };
        match &row.target {
            Target::Limit(name) => {
                // limits.conf counts locked memory in KiB, systemd in bytes.
                let kibibytes = value.parse::<u64>().map_or(value.clone(), |bytes| (bytes / 1024).to_string());
                let of_login = if name == "memlock" { &kibibytes } else { &value };
                limits.push_str(&format!("\n# {}\n{USER} - {name} {of_login}\n", row.why));
                service.push_str(&format!("\n# {}\nLimit{}={value}\n", row.why, name.to_uppercase()));
            }
            Target::Slice(name) => slice.push_str(&format!("\n# {}\n{name}={value}\n", row.why)),
            Target::Sysctl(_)
            | Target::Sysfs(_)
            | Target::Queue(_)
            | Target::IdleStates(_)
            | Target::CommandLine(_) => {}
        }
    }
    let head = format!("# Written by ringway tune --profile {}; ringway tune --undo removes it.\n", profile.name);
    let bodies = [
        (SYSCTL, "", sysctl),
        (TMPFILES, "", tmpfiles),
        (LIMITS, "", limits),
        (SERVICE, "[Service]\n", service),
        (SLICE, "[Slice]\n", slice),
    ];
    let full = bodies.into_iter().filter(|(_, _, body)| !body.is_empty());
    full.map(|(path, section, body)| (path, format!("{head}{section}{body}"))).collect()
}
