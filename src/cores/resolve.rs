//! Names of backends to addresses, before the cores start. Blocking, so never on a data core.

use std::net::ToSocketAddrs;
use std::sync::Arc;

use crate::config::snapshot::{Address, Snapshot};
use crate::net::Dial;

/// The addresses of each backend. A name that does not resolve leaves its backend without any, which takes it out of
/// service; the message says so and the others serve.
pub fn addresses(snapshot: &Snapshot) -> (Vec<Arc<[Dial]>>, Vec<String>) {
    let mut warnings = Vec::new();
    let mut resolve = |name: &str, address: &Address| match address {
        Address::Unix(path) => vec![Dial::Unix(path.clone())],
        Address::Tcp { host, port } => match (host.as_str(), *port).to_socket_addrs() {
            Ok(found) => found.map(Dial::Tcp).collect(),
            Err(error) => {
                warnings.push(format!(
                    "backend {name}: the name {host} does not resolve ({error}); it gets no requests until it does"
                ));
                Vec::new()
            }
        },
    };
    let addresses = snapshot.backends.iter().map(|backend| resolve(&backend.name, &backend.address).into()).collect();
    (addresses, warnings)
}
