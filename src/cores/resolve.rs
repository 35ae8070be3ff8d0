//! Resolves the names of backends before the cores start. Blocking, so never on a data core.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::config::snapshot::{Address, Backend, Snapshot};
use crate::net::Dial;

/// Most threads that resolve names. If a DNS server does not answer, each name takes the system's full timeout (10 s
/// unless resolv.conf says otherwise), and the node listens only afterwards, so sequential lookups would take too long.
const THREADS: usize = 16;

type Found = io::Result<Vec<SocketAddr>>;

/// The addresses of each backend. If its name does not resolve, a backend has no addresses and is out of service; a
/// message says so, and the others serve.
pub fn addresses(snapshot: &Snapshot) -> (Vec<Arc<[Dial]>>, Vec<String>) {
    addresses_but(snapshot, |_| None)
}

/// As `addresses`, but for those of which `known` tells them.
pub fn addresses_but(
    snapshot: &Snapshot,
    known: impl Fn(&Backend) -> Option<Arc<[Dial]>>,
) -> (Vec<Arc<[Dial]>>, Vec<String>) {
    resolved(snapshot, known, |host| Ok((host, 0).to_socket_addrs()?.collect()))
}

fn resolved(
    snapshot: &Snapshot,
    known: impl Fn(&Backend) -> Option<Arc<[Dial]>>,
    look_up: impl Fn(&str) -> Found + Sync,
) -> (Vec<Arc<[Dial]>>, Vec<String>) {
    let known: Vec<_> = snapshot.backends.iter().map(known).collect();
    let unknown = snapshot.backends.iter().zip(&known).filter(|(_, known)| known.is_none());
    let names = unknown.filter_map(|(backend, _)| match &backend.address {
        Address::Tcp { host, .. } if host.parse::<IpAddr>().is_err() => Some(host.as_str()),
        _ => None,
    });
    // Each name once, however many backends use it.
    let names: Vec<&str> = names.collect::<BTreeSet<_>>().into_iter().collect();
    let found = look_up_all(&names, look_up);
    let mut warnings = Vec::new();
    let mut lead = |name: &str, address: &Address| match address {
        Address::Unix(path) => vec![Dial::Unix(path.clone())],
        Address::Tcp { host, port } => {
            if let Ok(ip) = host.parse::<IpAddr>() {
                return vec![Dial::Tcp((ip, *port).into())];
            }
            let why = match found.get(host.as_str()) {
                Some(Ok(addresses)) if !addresses.is_empty() => {
                    let with_port = |mut address: SocketAddr| {
                        address.set_port(*port);
                        Dial::Tcp(address)
                    };
                    return addresses.iter().copied().map(with_port).collect();
                }
                Some(Err(error)) => error.to_string(),
                _ => "it has no addresses".to_owned(),
            };
            warnings.push(format!(
                "backend {name}: the name {host} does not resolve ({why}); it gets no requests until it does"
            ));
            Vec::new()
        }
    };
    let all = snapshot.backends.iter().zip(known);
    let addresses = all.map(|(of, known)| known.unwrap_or_else(|| lead(&of.name, &of.address).into())).collect();
    (addresses, warnings)
}

/// Resolves every name once, on this thread and on helper threads.
fn look_up_all<'a>(names: &[&'a str], look_up: impl Fn(&str) -> Found + Sync) -> HashMap<&'a str, Found> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((*name, look_up(name)));
        }
        done
    };
    thread::scope(|scope| {
        // Failing to start a thread is not an error: the others do its share.
        let start = |_| thread::Builder::new().name("ringway-names".to_owned()).spawn_scoped(scope, work).ok();
        let helpers: Vec<_> = (1..names.len().min(THREADS)).filter_map(start).collect();
        let mut found: HashMap<_, _> = work().into_iter().collect();
        for helper in helpers {
            found.extend(helper.join().unwrap_or_default());
        }
        found
    })
}

#[cfg(test)]
mod tests;
