//! `ringway completions`: prints a shell's completion script. Reads nothing.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::{EXIT_STATUS, Failure, Line, print};

const EXAMPLES: &str = "\
Examples:
  ringway completions bash > /etc/bash_completion.d/ringway
  ringway completions zsh > \"${fpath[1]}/_ringway\"
  ringway completions fish > ~/.config/fish/completions/ringway.fish";

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Arguments {
    shell: Shell,
}

/// # Errors
/// When standard output cannot be written.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut Line::command(), "ringway", &mut script);
    print(&String::from_utf8_lossy(&script))
}
