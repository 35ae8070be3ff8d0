//! One lookup of one name. DNS is queried for both address families at once, through the search domains as the system's
//! resolver does. Names that DNS does not have, and names in the hosts file, are passed to the system's resolver on a
//! thread that may block. Caches nothing.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use tokio::time::Instant;

/// The system's resolver returns no TTL; this is about how often other names are looked up.
const SYSTEM_TTL: Duration = Duration::from_secs(30);

/// The addresses of a name, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub addresses: Vec<IpAddr>,
    pub ttl: Duration,
}

/// The system's resolver; may block.
pub(super) type System = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// Resolves names.
pub struct Resolver {
    dns: Option<Dns>,
    hosts: Hosts,
    system: System,
}

struct Dns {
    resolver: TokioResolver,
    search: Vec<Name>,
    /// A name with at least this many dots is tried as it is before the search domains.
    ndots: usize,
}

/// The DNS result for one address family.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Half {
    Some {
        addresses: Vec<IpAddr>,
        ttl: Duration,
    },
    /// There are no such records.
    None,
    /// The lookup failed, and why.
    Unanswered(String),
}

/// The DNS result for a name.
#[derive(Debug, PartialEq, Eq)]
enum Whole {
    Found(Found),
    None,
    Unanswered(String),
}

impl Resolver {
    /// As this machine is configured: its resolver configuration and its hosts file, both read once. Without a usable
    /// configuration, the system's resolver is used for every name.
    pub fn of_this_machine() -> Resolver {
        let system: System = Arc::new(|host| Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect()));
        Resolver::new(system_conf::read_system_conf().ok(), Hosts::from_system().unwrap_or_default(), system)
    }

    pub(super) fn new(dns: Option<(ResolverConfig, ResolverOpts)>, hosts: Hosts, system: System) -> Resolver {
        Resolver { dns: dns.and_then(|(config, options)| Dns::new(config, options).ok()), hosts, system }
    }

    /// The addresses of `host`, given the known ones. Errors: why they cannot be determined, for operators.
    pub async fn look_up(&self, host: &str, known: &[IpAddr]) -> Result<Found, String> {
        let Some(dns) = self.dns.as_ref().filter(|_| !self.is_local(host)) else {
            return self.ask_system(host).await.map_err(|error| error.to_string());
        };
        let why = match dns.look_up(host, known).await {
            Whole::Found(found) => return Ok(found),
            Whole::None => "DNS has no address for it".to_owned(),
            Whole::Unanswered(why) => why,
        };
        // The system may know names that DNS does not: mDNS, containers, a new line in the hosts file.
        self.ask_system(host).await.map_err(|_| why)
    }

    /// Whether the name is local, so that DNS must not be used. `localhost` has one address or two, as in the hosts
    /// file.
    fn is_local(&self, host: &str) -> bool {
        let Ok(name) = Name::from_utf8(host) else { return true };
        let in_hosts = |family| self.hosts.lookup_static_host(&Query::query(name.clone(), family)).is_some();
        name.is_localhost() || in_hosts(RecordType::A) || in_hosts(RecordType::AAAA)
    }

    async fn ask_system(&self, host: &str) -> io::Result<Found> {
        let (system, host) = (self.system.clone(), host.to_owned());
        let asked = tokio::task::spawn_blocking(move || system(&host)).await;
        let addresses = asked.map_err(io::Error::other)??;
        if addresses.is_empty() {
            return Err(io::Error::other("the system has no address for it"));
        }
        Ok(Found { addresses, ttl: SYSTEM_TTL })
    }
}

impl Dns {
    fn new(config: ResolverConfig, mut options: ResolverOpts) -> Result<Dns, NetError> {
        // A name is looked up only when its TTL has expired, and then the server must be queried.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let mut search: Vec<Name> = config.search().to_vec();
        if search.is_empty() {
            search.extend(config.domain().cloned());
        }
        let ndots = options.ndots;
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        Ok(Dns { resolver: resolver.with_options(options).build()?, search, ndots })
    }

    async fn look_up(&self, host: &str, known: &[IpAddr]) -> Whole {
        let Ok(name) = Name::from_utf8(host) else { return Whole::Unanswered("it is no name for DNS".to_owned()) };
        for candidate in candidates(&name, &self.search, self.ndots) {
            let (four, six) =
                tokio::join!(self.half(&candidate, RecordType::A), self.half(&candidate, RecordType::AAAA));
            // A candidate that got no answer is not skipped: the next one may name another server.
            match whole(four, six, known) {
                Whole::None => {}
                answer => return answer,
            }
        }
        Whole::None
    }

    async fn half(&self, name: &Name, family: RecordType) -> Half {
        match self.resolver.lookup(name.clone(), family).await {
            Ok(found) => {
                let addresses: Vec<_> = found.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
                let ttl = found.valid_until().saturating_duration_since(Instant::now().into_std());
                if addresses.is_empty() { Half::None } else { Half::Some { addresses, ttl } }
            }
            Err(error) if error.is_no_records_found() => Half::None,
            Err(NetError::Dns(DnsError::ResponseCode(code))) => Half::Unanswered(format!("DNS answers: {code}")),
            Err(NetError::Timeout) => Half::Unanswered("DNS does not answer in time".to_owned()),
            Err(error) => Half::Unanswered(format!("DNS: {error}")),
        }
    }
}

/// The fully qualified names to try for `name`, in order, as in resolv.conf(5).
fn candidates(name: &Name, search: &[Name], ndots: usize) -> Vec<Name> {
    let mut itself = name.clone();
    itself.set_fqdn(true);
    if name.is_fqdn() {
        return vec![itself];
    }
    let dots = usize::from(name.num_labels()).saturating_sub(1);
    let mut all: Vec<Name> = search
        .iter()
        .filter_map(|domain| name.clone().append_domain(domain).ok())
        .map(|mut candidate| {
            candidate.set_fqdn(true);
            candidate
        })
        .collect();
    all.retain(|candidate| *candidate != itself);
    all.insert(if dots >= ndots { 0 } else { all.len() }, itself);
    all
}

/// Combines both families. If one is unanswered, its `known` addresses are kept and looked up again soon: half an
/// answer must not take the other half out of service. If there were none, nothing is missing: some servers never
/// answer for a family that they do not have.
fn whole(four: Half, six: Half, known: &[IpAddr]) -> Whole {
    let mut found = Found { addresses: Vec::new(), ttl: Duration::MAX };
    let mut unanswered = None;
    let mut fresh = false;
    for (half, is_family) in [(four, IpAddr::is_ipv4 as fn(&IpAddr) -> bool), (six, IpAddr::is_ipv6)] {
        match half {
            Half::Some { addresses, ttl } => {
                found.addresses.extend(addresses);
                found.ttl = found.ttl.min(ttl);
                fresh = true;
            }
            Half::None => {}
            Half::Unanswered(why) => {
                let kept = known.iter().copied().filter(is_family);
                let before = found.addresses.len();
                found.addresses.extend(kept);
                if found.addresses.len() > before {
                    found.ttl = Duration::ZERO;
                }
                unanswered = Some(why);
            }
        }
    }
    match (fresh, unanswered) {
        (true, _) => Whole::Found(found),
        (false, Some(why)) => Whole::Unanswered(why),
        (false, None) => Whole::None,
    }
}

#[cfg(test)]
mod tests;
