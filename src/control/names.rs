//! Where the names of backends lead: each is looked up again when its answer runs out, and what was known last is kept
//! while nobody answers. Owns no addresses but the background core's list; the data cores get copies.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use tokio::time::Instant;

use super::Finding;
use super::health::Addresses;
use crate::net::Dial;

/// How often a name is looked up.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// An answer is trusted for its own time to live, within these.
    pub ttl_min: Duration,
    pub ttl_max: Duration,
    /// How soon a failed look-up is tried again: doubled each time.
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
    /// How long an answer is trusted.
    fn trusted(&self, ttl: Duration) -> Duration {
        ttl.clamp(self.ttl_min, self.ttl_max)
    }

    /// How long to wait after so many failures in a row.
    fn retried(&self, failed: u32) -> Duration {
        self.retry_min.saturating_mul(1 << failed.saturating_sub(1).min(16)).min(self.retry_max)
    }
}

/// A backend whose address is a name.
#[derive(Clone, Debug)]
pub struct Name {
    pub backend: usize,
    /// The backend's name, for messages.
    pub called: String,
    pub host: String,
    pub port: u16,
}

/// A resolver as the system's configuration and hosts file have it. Errors: there is none that can be read.
pub fn system() -> Result<TokioResolver, String> {
    let explain =
        |error: &dyn std::fmt::Display| format!("the system's resolver configuration cannot be used: {error}");
    TokioResolver::builder_tokio().map_err(|error| explain(&error))?.build().map_err(|error| explain(&error))
}

/// Follows `name` for ever.
pub async fn follow(
    name: Name,
    pace: Pace,
    resolver: Rc<TokioResolver>,
    addresses: Addresses,
    tell: Rc<dyn Fn(Finding)>,
) {
    let mut failed = 0;
    loop {
        let wait = match resolver.lookup_ip(fully(&name.host)).await {
            Ok(found) => {
                if std::mem::take(&mut failed) > 0 {
                    tell(Finding::Said(format!("backend {}: the name {} resolves again", name.called, name.host)));
                }
                let known = addresses.borrow()[name.backend].clone();
                if let Some(new) = changed(&known, found.iter(), name.port) {
                    addresses.borrow_mut()[name.backend] = new.clone();
                    tell(Finding::Addresses { backend: name.backend, addresses: new });
                }
                pace.trusted(found.valid_until().saturating_duration_since(Instant::now().into_std()))
            }
            Err(error) => {
                if failed == 0 {
                    let kept = if addresses.borrow()[name.backend].is_empty() {
                        "it gets no requests until it does"
                    } else {
                        "the last addresses are kept"
                    };
                    let (called, host) = (&name.called, &name.host);
                    tell(Finding::Said(format!(
                        "backend {called}: the name {host} does not resolve ({error}); {kept}"
                    )));
                }
                failed += 1;
                pace.retried(failed)
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// A name with a dot is whole: search domains are for short ones, and would double every look-up.
fn fully(host: &str) -> String {
    if host.contains('.') && !host.ends_with('.') { format!("{host}.") } else { host.to_owned() }
}

/// The new addresses, if they are other ones; in whatever order they came, and each once. An answer without any changes
/// nothing.
fn changed(known: &[Dial], found: impl Iterator<Item = IpAddr>, port: u16) -> Option<Arc<[Dial]>> {
    let mut new: Vec<Dial> = Vec::new();
    for ip in found {
        let dial = Dial::Tcp((ip, port).into());
        if !new.contains(&dial) {
            new.push(dial);
        }
    }
    let same = new.len() == known.len() && new.iter().all(|dial| known.contains(dial));
    (!same && !new.is_empty()).then(|| new.into())
}

#[cfg(test)]
mod tests;
