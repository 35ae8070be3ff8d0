//! `ringway purge`: drops stored answers of a node that runs.

use clap::Args;
use serde_json::json;

use super::node::Node;
use super::{EXIT_STATUS, Failure, print};

const EXAMPLES: &str = "\
Examples:
  ringway purge --all
  ringway purge --model gpt-4o-mini
  ringway purge --tenant search --admin unix:/run/ringway/admin.sock

The fingerprint of an answer is `key` in Cache-Status, with cache.show_key = true.";

/// Drop stored answers of a running node
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Arguments {
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    node: Node,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Scope {
    /// All of them
    #[arg(long)]
    all: bool,
    /// Those of a [[model]]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Those of every [[model]] with this version
    #[arg(long, value_name = "TAG")]
    version: Option<String>,
    /// Those to requests of a [[tenant]]
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// The one with this key
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
}

/// # Errors
/// The node cannot be reached, or refuses.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Scope { model, version, tenant, fingerprint, .. } = &arguments.scope;
    let named = [("model", model), ("version", version), ("tenant", tenant), ("fingerprint", fingerprint)];
    let body = match named.iter().find_map(|(scope, name)| Some((scope, name.as_ref()?))) {
        Some((scope, name)) => json!({ *scope: name }),
        None => json!({ "all": true }),
    };
    let answer = arguments.node.post("/v1/purge", body.to_string())?;
    print(&answer)
}
