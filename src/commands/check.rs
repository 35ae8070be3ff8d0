//! `ringway check`: reports every error in a configuration, or summarizes it. Starts nothing.

mod probe; // asks the backends

use std::io;
use std::path::PathBuf;

use clap::Args;

use super::{ConfigurationFile, EXIT_STATUS, Failure, print};
use crate::config::load::{Loaded, load_file, load_input};
use crate::config::snapshot::{Access, CacheMode, Listen, Snapshot};
use crate::config::value::{spell_duration, spell_size};
use crate::control::admin::source::Source;
use crate::cores::origin::{Copies, stored};
use crate::cores::preflight::{Preflight, preflight};
use crate::cores::secure;

const EXAMPLES: &str = "\
Examples:
  ringway check
  ringway check new.toml && mv new.toml ringway.toml
  ringway config sample --minimal | ringway check -
  ringway check --probe

Each problem is a line on standard error: file:line:column: key: what is wrong; remedy.
The environment and the files that the configuration refers to must be there, as for serve, and certificates and keys
are read. So are this host's CPUs, memory, ports and directories looked at. With --probe every backend is asked for its list
of models, which shows names, connections, certificates, credentials, and model names that it does not have. Where the file names
a store, what the store has is checked, too; the copy that was kept of it does not count.";

/// Check a configuration
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigurationFile,
    /// The configuration file, instead of --config; - is standard input
    #[arg(value_name = "FILE")]
    named: Option<PathBuf>,
    /// Ask every backend for its models, too
    #[arg(long)]
    probe: bool,
}

/// # Errors
/// The configuration's problems.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = arguments.named.as_ref().unwrap_or(&arguments.file.path);
    let look = secure::look();
    let (loaded, called) = match path.as_os_str() == "-" {
        true => (load_input(io::stdin().lock(), &look)?, "standard input".to_owned()),
        false => (load_file(path, &look)?, path.display().to_string()),
    };
    let (snapshot, called, told) = match loaded {
        Loaded::Here(snapshot) => (*snapshot, called, String::new()),
        Loaded::Elsewhere(own) => {
            let found = stored(&own, Copies::Ignored, &look)?;
            let Source { endpoints, revision, .. } = found.origin.source;
            let told = format!("{called}: good, leads to {}\n", endpoints.join(", "));
            let called = format!("{}, revision {}", own.store.called(), revision.unwrap_or_default());
            (found.snapshot, called, told)
        }
    };
    let Preflight { mut errors, warnings } = preflight(&snapshot);
    let mut good = Vec::new();
    if arguments.probe {
        let probed = probe::probe(&snapshot).map_err(Failure::other)?;
        errors.extend(probed.errors);
        good = probed.good;
    }
    if !errors.is_empty() {
        let lines: Vec<String> = errors.iter().map(|error| format!("{called}: {error}\n")).collect();
        return Err(Failure::Host(lines.concat()));
    }
    let warnings: String = warnings.iter().map(|warning| format!("  warning: {warning}\n")).collect();
    let good: String = good.iter().map(|line| format!("  {line}\n")).collect();
    print(&format!("{told}{called}: good\n{}{warnings}{good}", summary(&snapshot)))
}

/// A summary of a configuration in a few lines, each ending with a line break, including settings without effect.
pub fn summary(snapshot: &Snapshot) -> String {
    let Snapshot { server, cache, backends, models, tenants, .. } = snapshot;
    let spelled = |(address, listener): (&Listen, Option<usize>)| {
        let is_secure = listener.is_some_and(|place| server.listeners[place].tls.is_some());
        format!("{address}{}", if is_secure { " with TLS" } else { "" })
    };
    let listen: Vec<String> = server.addresses().map(spelled).collect();
    let mut out = format!("  listens on {}\n", listen.join(", "));
    out.push_str(&format!("  {} over {}\n", counted(models.len(), "model"), counted(backends.len(), "backend")));
    if !snapshot.prompts.is_empty() {
        out.push_str(&format!("  {}\n", counted(snapshot.prompts.templates().len(), "prompt template")));
    }
    let keys: usize = tenants.iter().map(|tenant| tenant.credentials.len()).sum();
    match snapshot.access {
        Access::Open => out.push_str("  asks for no key\n"),
        Access::Keys => {
            out.push_str(&format!("  {} with {}\n", counted(tenants.len(), "tenant"), counted(keys, "key")));
        }
    }
    match cache.mode {
        CacheMode::On => {
            let (memory, ttl) = (spell_size(cache.memory_bytes), spell_duration(cache.ttl_ms));
            out.push_str(&format!("  cache of {memory}, answers live {ttl}\n"));
        }
        CacheMode::Off => out.push_str("  no cache\n"),
    }
    for (index, backend) in backends.iter().enumerate() {
        let used = models.iter().flat_map(|model| &model.targets).any(|target| target.backend == index);
        if !used {
            out.push_str(&format!("  note: no model uses the backend \"{}\"\n", backend.name));
        }
    }
    out
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
