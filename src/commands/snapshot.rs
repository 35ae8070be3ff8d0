//! `ringway snapshot`: has a node that runs write its cache down, for after a restart.

use clap::Args;

use super::node::Node;
use super::{EXIT_STATUS, Failure, print};

const EXAMPLES: &str = "\
Examples:
  ringway snapshot
  ringway snapshot --admin unix:/run/ringway/admin.sock

The node needs cache.snapshot = true and server.state_dir.";

/// Write down the stored answers of a running node, for after a restart
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Arguments {
    #[command(flatten)]
    node: Node,
}

/// # Errors
/// The node cannot be reached, keeps no snapshots, or cannot write one.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    print(&arguments.node.post_patiently("/v1/snapshot")?)
}
