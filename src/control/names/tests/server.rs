//! A DNS server for tests, and resolvers that query only it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::Hosts;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::proto::rr::Name;
use tokio::net::UdpSocket;

use super::super::lookup::Resolver;

/// The reply to a query.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Each with this TTL in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// The name exists, but has no records of this type.
    Nothing,
    ServFail,
    Silence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    A,
    Aaaa,
}

/// The records of the server, and the queries it got; other names get NXDOMAIN.
#[derive(Default)]
pub struct Zone {
    replies: RefCell<HashMap<(String, Family), Reply>>,
    pub asked: RefCell<Vec<(String, Family)>>,
}

impl Zone {
    pub fn set(&self, name: &str, family: Family, reply: Reply) {
        self.replies.borrow_mut().insert((name.to_owned(), family), reply);
    }

    pub fn forget(&self, name: &str) {
        self.replies.borrow_mut().retain(|(known, _), _| known != name);
    }

    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        // RFC 1035 4.1.2: labels, each with its length, to an empty one; then type and class.
        let (mut name, mut at) = (String::new(), 12);
        while question[at] > 0 {
            let end = at + 1 + usize::from(question[at]);
            name += &(String::from_utf8_lossy(&question[at + 1..end]).to_lowercase() + ".");
            at = end;
        }
        let family = match question[at + 2] {
            1 => Family::A,
            28 => Family::Aaaa,
            other => panic!("asked for type {other}"),
        };
        self.asked.borrow_mut().push((name.clone(), family));
        let mut answer = question[..at + 5].to_vec();
        // A response, recursion available; one question and nothing else yet.
        (answer[2], answer[3]) = (0x81, 0x80);
        answer[6..12].fill(0);
        match self.replies.borrow().get(&(name, family)) {
            Some(Reply::Addresses(addresses, ttl)) => {
                answer[7] = addresses.len().try_into().unwrap();
                for address in addresses {
                    let (kind, octets) = match address {
                        IpAddr::V4(four) => (1, four.octets().to_vec()),
                        IpAddr::V6(six) => (28, six.octets().to_vec()),
                    };
                    // RFC 1035 4.1.4: a pointer to the name of the question, 12 bytes from the start.
                    answer.extend([0xc0, 12, 0, kind, 0, 1]);
                    answer.extend(ttl.to_be_bytes());
                    answer.extend([0, octets.len().try_into().unwrap()]);
                    answer.extend(octets);
                }
            }
            Some(Reply::Nothing) => {}
            Some(Reply::ServFail) => answer[3] |= 2,
            Some(Reply::Silence) => return None,
            None => answer[3] |= 3,
        }
        Some(answer)
    }
}

/// Serves `zone` for the duration of the test.
pub async fn serve(zone: Rc<Zone>) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let mut packet = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut packet).await {
            if let Some(answer) = zone.answer(&packet[..length]) {
                let _ = socket.send_to(&answer, from).await;
            }
        }
    });
    address
}

/// The configuration of a resolver, besides its server.
pub struct Manner {
    pub search: &'static [&'static str],
    pub ndots: usize,
    pub timeout: Duration,
    pub hosts: &'static str,
    pub system: fn(&str) -> io::Result<Vec<IpAddr>>,
}

impl Default for Manner {
    fn default() -> Manner {
        let system = |_: &str| Err(io::Error::other("the system knows nothing"));
        Manner { search: &[], ndots: 1, timeout: Duration::from_secs(600), hosts: "", system }
    }
}

pub fn resolver(server: SocketAddr, manner: &Manner) -> Resolver {
    let mut connection = ConnectionConfig::new(ProtocolConfig::Udp);
    connection.port = server.port();
    let search = manner.search.iter().map(|domain| Name::from_ascii(domain).unwrap()).collect();
    let server = NameServerConfig::new(server.ip(), true, vec![connection]);
    let mut options = ResolverOpts::default();
    (options.attempts, options.ndots, options.timeout) = (1, manner.ndots, manner.timeout);
    let mut hosts = Hosts::default();
    hosts.read_hosts_conf(manner.hosts.as_bytes()).unwrap();
    let config = ResolverConfig::from_parts(None, search, vec![server]);
    Resolver::new(Some((config, options)), hosts, Arc::new(manner.system))
}

pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
