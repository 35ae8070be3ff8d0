//! Resolves the names of backends: each is looked up again when its answer expires, and the last addresses are kept
//! while lookups fail. Owns only the background core's addresses; the data cores get copies.

mod lookup; // one lookup: search domains, both families, and the system's resolver
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use self::lookup::{Found, Resolver};
use super::Finding;
use super::health::Addresses;
use crate::net::Dial;

/// How often a name is looked up.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bounds of the TTL of an answer.
    pub ttl_min: Duration,
    pub ttl_max: Duration,
    /// Pause before a failed lookup is retried, doubled each time.
    pub retry_min: Duration,
    pub retry_max: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        let [ttl_min, ttl_max, retry_min, retry_max] = [5, 300, 1, 30].map(Duration::from_secs);
        Pace { ttl_min, ttl_max, retry_min, retry_max }
    }
}

impl Pace {
    /// How long an answer is used.
    fn trusted(&self, ttl: Duration) -> Duration {
        ttl.clamp(self.ttl_min, self.ttl_max)
    }

    /// The pause after `failed` failures in a row.
    fn retried(&self, failed: u32) -> Duration {
        self.retry_min.saturating_mul(1 << failed.saturating_sub(1).min(16)).min(self.retry_max)
    }
}

/// A backend whose address is a name.
#[derive(Clone, Debug)]
pub struct Name {
    /// Its number in findings.
    pub backend: u32,
    /// The backend's name, for messages.
    pub called: String,
    pub host: String,
    pub port: u16,
}

/// Keeps the addresses of `name` up to date, forever. `addresses` has the initial ones; if there are none, that was
/// reported already. After a restart it continues with those, which are updated only after a change was reported.
pub async fn follow(name: Name, pace: Pace, resolver: Rc<Resolver>, addresses: Addresses, tell: Rc<dyn Fn(Finding)>) {
    let Name { backend, called, host, port } = name;
    let mut failed = u32::from(addresses.borrow().is_empty());
    loop {
        let known = addresses.borrow().clone();
        let wait = match resolver.look_up(&host, &ips(&known)).await {
            Ok(found) => {
                let said = match std::mem::take(&mut failed) {
                    0 => None,
                    _ if known.is_empty() => Some(format!("the name {host} resolves now")),
                    _ => Some(format!("the name {host} resolves again")),
                };
                if let Some(said) = said {
                    tell(Finding::Log(format!("backend {called}: {said}")));
                }
                if let Some(new) = changed(&known, found.addresses, port) {
                    // A name with rotating addresses of many servers changes all the time; it has moved only if all old
                    // ones are gone.
                    if !known.is_empty() && !known.iter().any(|old| new.contains(old)) {
                        let text = format!("backend {called}: the name {host} resolves to other addresses now");
                        tell(Finding::Log(text));
                    }
                    tell(Finding::Addresses { backend, addresses: new.clone() });
                    addresses.replace(new);
                }
                pace.trusted(found.ttl)
            }
            Err(why) => {
                if failed == 0 {
                    tell(Finding::Log(format!(
                        "backend {called}: the name {host} does not resolve ({why}); the last addresses are kept"
                    )));
                }
                failed = failed.saturating_add(1);
                pace.retried(failed)
            }
        };
        tokio::time::sleep(wait).await;
    }
}

fn ips(known: &[Dial]) -> Vec<IpAddr> {
    let ip = |dial: &Dial| match dial {
        Dial::Tcp(address) => Some(address.ip()),
        Dial::Unix(_) => None,
    };
    known.iter().filter_map(ip).collect()
}

/// The new addresses in a canonical order, without duplicates, if they differ from the known ones. `None` if none were
/// found.
/// The family of the first address is kept first: connections start with it, and the system chose it initially as the
/// one that works best from here.
fn changed(known: &[Dial], found: Vec<IpAddr>, port: u16) -> Option<Arc<[Dial]>> {
    let mut new: Vec<Dial> = Vec::new();
    for ip in found {
        let dial = Dial::Tcp((ip, port).into());
        if !new.contains(&dial) {
            new.push(dial);
        }
    }
    let same = new.len() == known.len() && new.iter().all(|dial| known.contains(dial));
    if same || new.is_empty() {
        return None;
    }
    let is_six = |dial: &Dial| matches!(dial, Dial::Tcp(address) if address.is_ipv6());
    let first_is_six = known.first().is_some_and(is_six);
    new.sort_by_key(|dial| is_six(dial) != first_is_six);
    Some(new.into())
}
