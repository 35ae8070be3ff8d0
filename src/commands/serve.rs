//! `ringway serve`: loads the configuration and starts the cores. A bad configuration starts nothing.

use clap::Args;
use tracing::info;

use super::{ConfigurationFile, EXIT_STATUS, Failure};
use crate::config::snapshot::{Listen, Snapshot};
use crate::cores::launch::{self, Begin, Source};
use crate::cores::origin::{Copies, Found, find};
use crate::cores::{notify, secure};
use crate::net::refuse_huge_pages;

const EXAMPLES: &str = "\
Examples:
  ringway serve --config /etc/ringway/ringway.toml
  VLLM_KEY=... ringway serve --config ringway.toml
  ringway serve --config /etc/ringway/ringway.toml --take-over

SIGTERM or SIGINT stops it: no new connection, running requests finish within server.timeout_drain.
Where the file names a store, the configuration is read there; while the store is down, from the copy that was kept of it.
SIGHUP reads the configuration again: what changed takes effect without a failed request; one with an error changes nothing.
If the program file was replaced, SIGHUP starts the new one with --take-over instead.
SIGUSR1 opens the access log by its name again, for log rotation.";

/// Run the gateway
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigurationFile,
    /// Take over from the process that serves now, without a refused connection
    ///
    /// That process gives its listening sockets away through server.control_socket when this one is ready, finishes what it has
    /// begun, and ends. If this one cannot start, nothing changes. Where no process is there to take over from, it starts as
    /// usual.
    #[arg(long)]
    take_over: bool,
}

/// # Errors
/// The configuration's problems, or why the cores did not start or ended badly.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    // Before anything is allocated: a huge page that the configuration touches lies on one node whole.
    refuse_huge_pages();
    let path = &arguments.file.path;
    let begin = if arguments.take_over { Begin::TakeOver } else { Begin::Anew };
    let Found { snapshot, origin } = find(path, Copies::Used, &secure::look())?;
    start(snapshot, Source::File(path.clone(), origin), begin)
}

fn start(snapshot: Snapshot, source: Source, begin: Begin) -> Result<(), Failure> {
    let ready = |bound: &[Listen], admin: Option<&Listen>| {
        if let Some(admin) = admin {
            info!("admin on {admin}");
        }
        for listen in bound {
            info!("listening on {listen}");
        }
        let addresses: Vec<String> = bound.iter().map(Listen::to_string).collect();
        notify::ready(&format!("serving on {}", addresses.join(", ")));
    };
    launch::run(snapshot, source, begin, ready).map_err(|launch::Ended| Failure::Told)
}
