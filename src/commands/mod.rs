//! The command line, one file per subcommand; `main.rs` is its table of contents. Owns what they share: common
//! arguments, output, and the exit status of a failure.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::problem::Problems;
use crate::cores::origin::Missing;

pub mod check;
pub mod completions;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod import;
pub mod install;
pub mod key;
pub mod man;
mod node; // requests to a running node
pub mod purge;
pub mod serve;
pub mod snapshot;
pub mod template;
pub mod top;
pub mod tune;

/// Printed at the end of every help page.
const EXIT_STATUS: &str = "\
Exit status:
  0  done
  1  refused or failed; the reason is on standard error
  2  the command line itself is wrong";

const EXAMPLES: &str = "\
Examples:
  ringway demo
  ringway config sample > ringway.toml
  ringway check ringway.toml
  ringway serve -c ringway.toml
  ringway top
  printf %s \"$KEY\" | ringway key hash
  ringway purge --model gpt-4o-mini
  ringway doctor";

/// Ringway: an LLM gateway. One OpenAI-compatible endpoint in front of many model servers.
///
/// It caches answers, coalesces identical concurrent requests, and balances the rest over backends.
#[derive(Debug, Parser)]
#[command(name = "ringway", version, after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Line {
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands, in the order of the help page.
#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(demo::Arguments),
    Serve(serve::Arguments),
    Top(top::Arguments),
    Check(check::Arguments),
    Config(config::Arguments),
    Template(template::Arguments),
    Key(key::Arguments),
    Purge(purge::Arguments),
    Snapshot(snapshot::Arguments),
    Import(import::Arguments),
    Doctor(doctor::Arguments),
    Tune(tune::Arguments),
    Install(install::Install),
    Uninstall(install::Uninstall),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct ConfigurationFile {
    /// The configuration file
    #[arg(
        short = 'c',
        long = "config",
        value_name = "FILE",
        env = "RINGWAY_CONFIG",
        default_value = "/etc/ringway/ringway.toml"
    )]
    pub path: PathBuf,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is invalid; each problem is a line of its own.
    #[error("{0}")]
    Configuration(Problems),
    /// The configuration is valid, but this host does not support it; each reason is a line of its own.
    #[error("{0}")]
    Host(String),
    /// Nothing more to print: the reason was logged while the node ran.
    #[error("")]
    Told,
    /// Anything else, as one sentence.
    #[error("ringway: {0}\n")]
    Other(String),
    /// The report was printed; the exit status sums it up.
    #[error("")]
    Status(u8),
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Failure {
        Failure::Configuration(problems)
    }
}

impl From<Missing> for Failure {
    fn from(missing: Missing) -> Failure {
        match missing {
            Missing::Problems(problems) => Failure::Configuration(problems),
            Missing::Fault(lines) => Failure::Host(lines),
        }
    }
}

impl Failure {
    fn other(what: impl Into<String>) -> Failure {
        Failure::Other(what.into())
    }
}

/// Prints a failure to standard error and returns its exit status.
pub fn exit(done: Result<(), Failure>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Status(status)) => ExitCode::from(status),
        Err(failure) => {
            // If standard error is gone, there is nowhere to report it.
            let _ = write!(io::stderr(), "{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output. A reader that went away (`| head`) has what it wanted: that is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::other(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a line for a person to standard error; ignores errors.
fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
