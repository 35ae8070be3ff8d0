//! `ringway demo`: an embedded backend and the gateway in one process, without any file.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use clap::Args;

use super::{EXIT_STATUS, Failure, print};
use crate::config::load::load;
use crate::config::snapshot::Listen;
use crate::cores::launch::{self, OnHangup};
use crate::demo::{backend, configuration};

const EXAMPLES: &str = "\
Examples:
  ringway demo
  ringway demo --listen 127.0.0.1:9000 --cores 2

It prints requests to try. The second time the same request is answered from the cache (x-cache: HIT).";

/// Try the gateway with a small built-in model server
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Arguments {
    /// Loopback address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = loopback)]
    pub listen: SocketAddr,
    /// Number of data cores; default: as in the core plan
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub cores: Option<u16>,
}

/// # Errors
/// Why the backend or the cores did not start, or failed.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .map_err(|error| Failure::other(format!("no free port for the demo's backend: {error}")))?;
    let backend = backend::start(listener)
        .map_err(|error| Failure::other(format!("the demo's backend did not start: {error}")))?;
    let text = configuration::configuration(arguments.listen, backend.address(), arguments.cores);
    let nothing = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let snapshot = load(&text, Path::new("demo.toml"), &|_| None, &nothing)?;
    let invite = |bound: &[Listen], admin: Option<&Listen>| {
        if let Some(Listen::Tcp(address)) = bound.first() {
            // Serving continues even if the text cannot be printed.
            let _ = print(&configuration::invitation(*address, admin.map(|admin| admin as &dyn std::fmt::Display)));
        }
    };
    launch::run(snapshot, OnHangup::Stop, invite).map_err(|launch::Ended| Failure::Told)
}

/// The demo requires no key, so only this machine may reach it.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "not an IP address with a port, such as 127.0.0.1:8080".to_owned())?;
    if address.ip().to_canonical().is_loopback() {
        Ok(address)
    } else {
        Err("the demo asks for no key, so it listens on loopback only, such as 127.0.0.1:8080".to_owned())
    }
}
