//! `ringway demo`: an embedded backend and the gateway in one process, without any file.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use clap::Args;

use super::{EXIT_STATUS, Failure, print};
use crate::config::load::load;
use crate::config::snapshot::Listen;
use crate::cores::launch::{self, Begin, Source};
use crate::demo::{backend, configuration};

const EXAMPLES: &str = "\
Examples:
  ringway demo
  ringway demo --listen 127.0.0.1:9000 --cores 2

It prints requests to try. The second time the same request is answered from the cache (x-cache: HIT). A page at
http://127.0.0.1:9901/ shows what happens; one of the two model servers can be switched off to watch it.";

/// Try the gateway with a small built-in model server
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Arguments {
    /// Loopback address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = loopback)]
    pub listen: SocketAddr,
    /// Loopback address of the page and the admin listener; default: 127.0.0.1:9901, or a free port where that is taken
    #[arg(long, value_name = "ADDRESS", value_parser = loopback)]
    pub admin: Option<SocketAddr>,
    /// Number of data cores; default: as in the core plan
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub cores: Option<u16>,
}

/// # Errors
/// Why the backend or the cores did not start, or failed.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (one, two) = (model_server()?, model_server()?);
    let admin = arguments.admin.unwrap_or_else(free_admin);
    let backends = [one.address(), two.address()];
    let text = configuration::configuration(arguments.listen, admin, backends, arguments.cores);
    let nothing = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let snapshot = load(&text, Path::new("demo.toml"), &|_| None, &nothing)?;
    let invite = |bound: &[Listen], admin: Option<&Listen>| {
        if let Some(Listen::Tcp(address)) = bound.first() {
            // Serving continues even if the text cannot be printed.
            let admin = admin.map(|admin| admin as &dyn std::fmt::Display);
            let _ = print(&configuration::invitation(*address, admin, backends[1]));
        }
    };
    launch::run(snapshot, Source::BuiltIn, Begin::Anew, invite).map_err(|launch::Ended| Failure::Told)
}

fn model_server() -> Result<backend::Handle, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .map_err(|error| Failure::other(format!("no free port for the demo's backend: {error}")))?;
    backend::start(listener).map_err(|error| Failure::other(format!("the demo's backend did not start: {error}")))
}

/// The default address of the admin listener, or port 0 where another program has it.
fn free_admin() -> SocketAddr {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 9901));
    match TcpListener::bind(default) {
        Ok(_) => default,
        Err(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
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
