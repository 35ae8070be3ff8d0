//! `ringway install` and `ringway uninstall`: the files of the service. Without --apply they only show what they would
//! do.

use std::path::PathBuf;

use clap::Args;

use super::{EXIT_STATUS, Failure, print};
use crate::host::install::{Piece, Step, carry_out, install_steps, pieces, uninstall_steps};
use crate::host::sight::root;

const EXAMPLES: &str = "\
Examples:
  ringway install                       shows every file it would write, changes nothing
  sudo ringway install --apply
  ringway install --apply --root /tmp/image
  sudo ringway uninstall --apply

Files alone are written; the commands that make the system take notice are shown at the end.
The configuration is yours: it is written where there is none, and never replaced or removed.";

const AFTER_INSTALL: &str = "
To have the system take notice:
  systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload
  ringway check --config /etc/ringway/ringway.toml
  systemctl enable --now ringway
";

const BEFORE_UNINSTALL: &str = "
Stop it first: systemctl disable --now ringway. Afterwards: systemctl daemon-reload.
The user ringway, /etc/ringway, /var/lib/ringway and /var/log/ringway stay.
";

/// Write the files of the systemd service
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Install {
    #[command(flatten)]
    how: How,
}

/// Remove the files written by install
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Uninstall {
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct How {
    /// Make the changes; without it, only show them
    #[arg(long)]
    apply: bool,
    /// Use this directory instead of /
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// # Errors
/// A file cannot be read or written; then nothing is changed, or the message says what is.
pub fn install(arguments: &Install) -> Result<(), Failure> {
    run(&arguments.how, install_steps, AFTER_INSTALL)
}

/// # Errors
/// As for `install`.
pub fn uninstall(arguments: &Uninstall) -> Result<(), Failure> {
    run(&arguments.how, uninstall_steps, BEFORE_UNINSTALL)
}

type Steps = fn(&crate::host::Root, &[Piece]) -> Result<Vec<Step>, String>;

fn run(how: &How, steps: Steps, end: &str) -> Result<(), Failure> {
    let program = std::env::current_exe().and_then(std::fs::read);
    let program = program.map_err(|error| Failure::other(format!("this program cannot be read: {error}")))?;
    let (root, pieces) = (root(how.root.as_deref()), pieces(program));
    let steps = steps(&root, &pieces).map_err(Failure::other)?;
    let shown = pieces.iter().zip(&steps).map(|(piece, step)| format!("{:<40} {}\n", piece.path, step.words()));
    let shown: String = shown.collect();
    if !how.apply {
        return print(&format!("{shown}\nNothing was changed; use --apply to make the changes.\n"));
    }
    carry_out(&root, &pieces, &steps).map_err(Failure::other)?;
    print(&format!("{shown}{end}"))
}
