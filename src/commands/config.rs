//! `ringway config`: prints the annotated sample and the reference of keys. Reads nothing.

use clap::{Args, Subcommand};

use super::{EXIT_STATUS, Failure, print};
use crate::config::{sample, schema};

const EXAMPLES: &str = "\
Examples:
  ringway config sample > ringway.toml
  ringway config sample --minimal > ringway.toml
  ringway config keys timeout | less
  ringway config schema > ringway.schema.json";

/// Print a configuration to start from, every key of it, or its schema
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Arguments {
    #[command(subcommand)]
    page: Page,
}

#[derive(Debug, Subcommand)]
enum Page {
    /// A configuration with every key, its default and what it does
    Sample {
        /// Only the required keys
        #[arg(long)]
        minimal: bool,
    },
    /// Every key with its type, default and an example
    Keys {
        /// Only keys with this in their name or description
        word: Option<String>,
    },
    /// The JSON Schema of the configuration, for editors
    Schema,
}

/// # Errors
/// When standard output cannot be written, or no key matches.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    print(&match &arguments.page {
        Page::Sample { minimal: false } => sample::sample(),
        Page::Sample { minimal: true } => sample::minimal(),
        Page::Keys { word: None } => sample::reference(),
        Page::Keys { word: Some(word) } => sample::matching(word)
            .ok_or_else(|| Failure::other(format!("no key has \"{word}\" in its name or description")))?,
        Page::Schema => schema::schema(),
    })
}
