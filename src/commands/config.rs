//! `ringway config`: prints the annotated sample and the reference of keys. Reads nothing.

use clap::{Args, Subcommand};

use super::{EXIT_STATUS, Failure, print};
use crate::config::sample;

const EXAMPLES: &str = "\
Examples:
  ringway config sample > ringway.toml
  ringway config keys | less";

/// Print a configuration to start from, or every key of it
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Arguments {
    #[command(subcommand)]
    page: Page,
}

#[derive(Debug, Subcommand)]
enum Page {
    /// A configuration with every key, its default and what it does
    Sample,
    /// Every key with its type, default and an example
    Keys,
}

/// # Errors
/// When standard output cannot be written.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    print(&match arguments.page {
        Page::Sample => sample::sample(),
        Page::Keys => sample::reference(),
    })
}
