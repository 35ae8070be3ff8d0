//! One look-up of one name. DNS is asked for both families at a time, through the search domains as the system's own
//! resolver does; what DNS has not, and what the hosts file has, the system is asked for on a thread that may block.
//! Owns no answer: nothing is remembered between two look-ups.

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

/// What the system says has no time to live; it is asked again about as often as others ask for it.
const SYSTEM_TTL: Duration = Duration::from_secs(30);

/// Where a name leads. At least one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub addresses: Vec<IpAddr>,
    pub ttl: Duration,
}

/// The system's own way to look a name up; it may block.
pub(super) type System = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// Looks names up.
pub struct Resolver {
    dns: Option<Dns>,
    hosts: Hosts,
    system: System,
}

struct Dns {
    resolver: TokioResolver,
    search: Vec<Name>,
    /// A name with so many dots is tried as it stands before the search domains.
    ndots: usize,
}

/// What DNS has of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Half {
    Some {
        addresses: Vec<IpAddr>,
        ttl: Duration,
    },
    /// It is known that there is none.
    None,
    /// It is not known, and why.
    Unanswered(String),
}

/// What DNS has of a name.
#[derive(Debug, PartialEq, Eq)]
enum Whole {
    Found(Found),
    None,
    Unanswered(String),
}

impl Resolver {
    /// As this machine is set up: its resolver configuration and its hosts file, both read once. Where there is no
    /// configuration that can be used, the system is asked for every name.
    pub fn of_this_machine() -> Resolver {
        let system: System = Arc::new(|host| Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect()));
        Resolver::new(system_conf::read_system_conf().ok(), Hosts::from_system().unwrap_or_default(), system)
    }

    pub(super) fn new(dns: Option<(ResolverConfig, ResolverOpts)>, hosts: Hosts, system: System) -> Resolver {
        Resolver { dns: dns.and_then(|(config, options)| Dns::new(config, options).ok()), hosts, system }
    }

    /// Where `host` leads, given where it led before. Errors: why that is not known, in words for an operator.
    pub async fn look_up(&self, host: &str, known: &[IpAddr]) -> Result<Found, String> {
        let Some(dns) = self.dns.as_ref().filter(|_| !self.is_local(host)) else {
            return self.ask_system(host).await.map_err(|error| error.to_string());
        };
        let why = match dns.look_up(host, known).await {
            Whole::Found(found) => return Ok(found),
            Whole::None => "DNS has no address for it".to_owned(),
            Whole::Unanswered(why) => why,
        };
        // The system may know what DNS does not: mDNS, containers, a line that was added to the hosts file.
        self.ask_system(host).await.map_err(|_| why)
    }

    /// Whether the system has its own answer, which DNS must not mix with. `localhost` is one address or two, as the
    /// hosts file has it.
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
        // A name is looked up when its time is over and not before, and then somebody else is to be asked.
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
            // One that is merely not answered is not passed over: the next one may be another server's name.
            match whole(four, six, known) {
                Whole::None => {}
                told => return told,
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

/// The whole names to try for `name`, in order, as resolv.conf(5) has it.
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

/// Both families together. Addresses of a family that is not answered stay as they were `known`, and are asked for again
/// soon: half an answer must not take the other half out of service. Where there were none, nothing is missed: some
/// servers never answer for the family that they have not.
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
