//! The master of a service, as its Sentinels see it. The first that answers is believed, if the server says the same of itself. One
//! of them is listened to.

use crate::control::masters::server;
use crate::control::redis::{Access, Connection, refused, within};
use crate::wire::cluster::Master;
use crate::wire::resp::Reply;

const SWITCHED: &[u8] = b"+switch-master";

pub struct Sentinels {
    service: String,
    /// The one that answered last comes first.
    hosts: Vec<(String, u16)>,
    access: Access,
    heard: Option<Connection>,
}

impl Sentinels {
    pub fn new(service: &str, hosts: &[(String, u16)], access: &Access) -> Sentinels {
        Sentinels { service: service.to_owned(), hosts: hosts.to_vec(), access: access.clone(), heard: None }
    }

    /// The master. Errors: why it is not known.
    pub async fn ask(&mut self, access: &Access) -> Result<Master, String> {
        let mut faults = Vec::new();
        for place in 0..self.hosts.len() {
            let (host, port) = self.hosts[place].clone();
            match within(self.ask_one(&host, port)).await {
                Ok((master, heard)) => {
                    self.heard = heard.or(self.heard.take());
                    match within(is_master(access, &master)).await {
                        Ok(()) => {
                            self.hosts.rotate_left(place);
                            return Ok(master);
                        }
                        // This one may be cut off from the others, who know of another.
                        Err(why) => faults.push(why),
                    }
                }
                Err(why) => {
                    if place == 0 {
                        self.heard = None;
                    }
                    faults.push(format!("Sentinel {host}:{port}: {why}"));
                }
            }
        }
        Err(faults.join("; "))
    }

    /// Waits until it is told that there is another master, or nobody can tell any more.
    pub async fn hear(&mut self) {
        while let Some(connection) = &mut self.heard {
            match connection.next().await {
                Ok((Reply::Array(parts), text)) => {
                    if let [Reply::Bulk(kind), _, Reply::Bulk(switched)] = &parts[..]
                        && kind.of(&text) == b"message"
                        && switched.of(&text).split(|byte| *byte == b' ').next() == Some(self.service.as_bytes())
                    {
                        return;
                    }
                }
                Ok(_) => {}
                Err(_) => self.heard = None,
            }
        }
        // It is asked at times, too.
        std::future::pending().await
    }

    /// The master, and a connection on which changes are told if there is none.
    async fn ask_one(&self, host: &str, port: u16) -> Result<(Master, Option<Connection>), String> {
        let sentinel = server(host, port).await?;
        let heard = match self.heard {
            Some(_) => None,
            None => {
                let mut connection = self.access.connect(&sentinel).await?;
                match connection.ask(&[b"SUBSCRIBE", SWITCHED]).await? {
                    (Reply::Array(_), _) => Some(connection),
                    (reply, text) => return Err(refused(&reply, &text)),
                }
            }
        };
        let mut connection = self.access.connect(&sentinel).await?;
        let (reply, text) = connection.ask(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self.service.as_bytes()]).await?;
        let Reply::Array(parts) = &reply else {
            return Err(match reply {
                Reply::Nothing => format!("it knows no service \"{}\"", self.service),
                reply => refused(&reply, &text),
            });
        };
        let [Reply::Bulk(host), Reply::Bulk(port)] = &parts[..] else { return Err(refused(&reply, &text)) };
        let (host, port) = (std::str::from_utf8(host.of(&text)), std::str::from_utf8(port.of(&text)));
        match (host, port.ok().and_then(|port| port.parse().ok())) {
            (Ok(host), Some(port)) => Ok((server(host, port).await?, heard)),
            _ => Err("it names no address".to_owned()),
        }
    }
}

/// Errors: it says that it is a replica, or nothing.
async fn is_master(access: &Access, master: &Master) -> Result<(), String> {
    let called = format!("{}:{}", master.host, master.port);
    let mut connection = access.connect(master).await.map_err(|why| format!("the master {called}: {why}"))?;
    let (reply, text) = connection.ask(&[b"ROLE"]).await?;
    match &reply {
        Reply::Array(parts) => match parts.first() {
            Some(Reply::Bulk(role)) if role.of(&text) == b"master" => Ok(()),
            _ => Err(format!("{called} is no master yet")),
        },
        // The user may not ask: then Sentinel is believed.
        Reply::Error(span) if span.of(&text).starts_with(b"NOPERM") => Ok(()),
        reply => Err(refused(reply, &text)),
    }
}
