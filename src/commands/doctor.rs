//! `ringway doctor`: reports what should be changed on this host, and how. Changes nothing.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args;

use super::{Failure, print};
use crate::cores::origin::{Copies, find};
use crate::cores::secure;
use crate::host::doctor::examine;
use crate::host::profile::Profile;
use crate::host::report::{Colours, Level};
use crate::host::sight::{Ring, Sight, root};

const EXAMPLES: &str = "\
Examples:
  ringway doctor
  ringway doctor --config /etc/ringway/ringway.toml     beside the core plan and cache.memory
  ringway doctor --pid $(pidof ringway)                 limits and control group of a running gateway
  ringway doctor --profile latency --json

It needs no root, and says what it could not see without.

Exit status:
  0  nothing to mend (what could not be seen does not count)
  1  it could not examine; the reason is on standard error
  2  the command line itself is wrong
  3  notes: it could be better
  4  warnings: slow, or fails under load
  5  critical: the gateway does not start here, or stops";

/// Report host settings that should be changed
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Compare the host with this configuration's cores, listeners and cache
    #[arg(long, value_name = "FILE", env = "RINGWAY_CONFIG")]
    config: Option<PathBuf>,
    /// The profile to compare with; see `ringway tune --list`
    #[arg(long, value_name = "NAME", default_value = "base")]
    profile: String,
    /// Examine the limits, CPU mask and control group of this process instead of the current one
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Read /proc and /sys below this directory: a copy of another host's
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// # Errors
/// Why the host could not be examined; or, after the report, its worst level as the exit status.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let profile = Profile::named(&arguments.profile).map_err(Failure::other)?;
    let snapshot = match &arguments.config {
        Some(path) => Some(find(path, Copies::Used, &secure::look())?.snapshot),
        None => None,
    };
    let root = root(arguments.root.as_deref());
    if let Some(pid) = arguments.pid.filter(|pid| !root.exists(&format!("/proc/{pid}"))) {
        return Err(Failure::other(format!("there is no process {pid}")));
    }
    let ring = if arguments.root.is_some() { Ring::Untried } else { Sight::try_ring() };
    let report = examine(&Sight::new(&root, arguments.pid, snapshot.as_ref(), ring), &profile);
    let on_terminal = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let colours = if on_terminal { Colours::On } else { Colours::Off };
    print(&if arguments.json { report.json() } else { report.text(colours) })?;
    match report.worst {
        None => Ok(()),
        Some(Level::Note) => Err(Failure::Status(3)),
        Some(Level::Warning) => Err(Failure::Status(4)),
        Some(Level::Critical) => Err(Failure::Status(5)),
    }
}
