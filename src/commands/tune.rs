//! `ringway tune`: shows what a profile would change on this host, applies it, and reverts it.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::{EXIT_STATUS, Failure, print};
use crate::cores::origin::{Copies, find};
use crate::cores::secure;
use crate::host::profile::Profile;
use crate::host::sight::{Ring, Sight, root};
use crate::host::tune::{Lock, STATE, Saved, apply, intend, saved, show};

const EXAMPLES: &str = "\
Examples:
  ringway tune --list
  ringway tune --profile base                         shows the difference, changes nothing
  sudo ringway tune --profile latency --apply         changes the host, now and for the next start
  sudo ringway tune --undo                            everything as it was

What was there before is kept in /var/lib/ringway/tune.json. When a line fails, those before it are taken back.
Applying twice is applying once; applying another profile takes back what only the first one wanted.";

/// Apply a tuning profile to this host, or undo it
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
#[command(group = ArgGroup::new("what").required(true).args(["profile", "undo", "list"]))]
pub struct Arguments {
    /// The profile to compare the host with
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Change the host; needs root
    #[arg(long, requires = "profile")]
    apply: bool,
    /// Restore everything as it was before the first --apply; needs root
    #[arg(long)]
    undo: bool,
    /// List the profiles and their purposes
    #[arg(long)]
    list: bool,
    /// Place queues and interrupts for the data cores of this configuration
    #[arg(long, value_name = "FILE", env = "RINGWAY_CONFIG")]
    config: Option<PathBuf>,
    /// Where to save the previous settings
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Change the files below this directory: a copy of another host's
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// # Errors
/// There is no such profile, or a change failed; then nothing is changed, or the message says what is.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.list {
        return list();
    }
    let profile = arguments.profile.as_deref().map(Profile::named).transpose().map_err(Failure::other)?;
    let snapshot = match &arguments.config {
        Some(path) if !arguments.undo => Some(find(path, Copies::Used, &secure::look())?.snapshot),
        _ => None,
    };
    let root = root(arguments.root.as_deref());
    let state = arguments.state.clone().unwrap_or_else(|| root.path(STATE));
    let writes = arguments.apply || (arguments.undo && state.exists());
    let _lock = if writes { Some(Lock::take(&state).map_err(Failure::other)?) } else { None };
    let saved: Saved = saved(&state).map_err(Failure::other)?;
    let sight = Sight::new(&root, None, snapshot.as_ref(), Ring::Untried);
    let intent = intend(&sight, profile.as_ref(), &saved).map_err(Failure::other)?;
    if !writes {
        let end = match profile {
            Some(_) => "\nNothing was changed; use --apply to make the changes.\n",
            None => "\nThere is nothing to undo.\n",
        };
        return print(&(show(&intent) + end));
    }
    apply(&root, &intent, &saved, &state).map_err(Failure::other)?;
    let end = match (intent.changes.len(), arguments.undo) {
        (0, false) => "\nNothing to change.\n".to_owned(),
        (_, true) => "\nUndone.\n".to_owned(),
        (_, false) => format!("\nChanged; the previous settings are saved in {}.\n", state.display()),
    };
    print(&(show(&intent) + &end))
}

fn list() -> Result<(), Failure> {
    let mut out = String::new();
    for name in Profile::names() {
        let profile = Profile::named(name).map_err(Failure::other)?;
        out.push_str(&format!("{name:<16} {}\n", profile.summary));
    }
    print(&out)
}
