//! `ringway serve`: loads the configuration and starts the cores. A bad configuration starts nothing.

use clap::Args;
use tracing::info;

use super::{ConfigurationFile, EXIT_STATUS, Failure};
use crate::config::load::load_file;
use crate::config::snapshot::{Listen, Snapshot};
use crate::cores::launch::{self, OnHangup};
use crate::cores::{notify, secure};

const EXAMPLES: &str = "\
Examples:
  ringway serve --config /etc/ringway/ringway.toml
  VLLM_KEY=... ringway serve --config ringway.toml

SIGTERM or SIGINT stops it: no new connection, running requests finish within server.timeout_drain.
SIGUSR1 opens the access log by its name again, for log rotation. SIGHUP changes nothing.";

/// Run the gateway
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigurationFile,
}

/// # Errors
/// The configuration's problems, or why the cores did not start or ended badly.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    start(load_file(&arguments.file.path, &secure::look())?)
}

fn start(snapshot: Snapshot) -> Result<(), Failure> {
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
    launch::run(snapshot, OnHangup::Reload, ready).map_err(|launch::Ended| Failure::Told)
}
