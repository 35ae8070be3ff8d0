//! Which servers of Redis take writes: asked of Sentinels or of a cluster, again whenever somebody finds that it is not so any more.
//! Owned by the background core; the data cores are told of each change. Off the request path.

mod cluster; // the map of slots
mod sentinel; // the master of a service

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use self::cluster::Cluster;
use self::sentinel::Sentinels;
use super::redis::Access;
use crate::wire::cluster::{Master, Topology};

/// How often is asked when nothing happens, and while something does.
const CALM: Duration = Duration::from_secs(10);
const BUSY: Duration = Duration::from_millis(500);
/// How long something happens, after somebody has found that servers have moved or are gone.
const BUSY_FOR: Duration = Duration::from_secs(30);
/// How long they usually take to be found.
const FOUND_WITHIN: Duration = Duration::from_secs(2);
/// Between two questions at least, however many ask for one.
const APART: Duration = Duration::from_millis(100);

/// Who knows.
#[derive(Clone, Debug)]
pub enum Layout {
    /// Nobody needs to be asked.
    Single,
    Sentinel {
        service: String,
        hosts: Vec<(String, u16)>,
        access: Access,
    },
    Cluster {
        hosts: Vec<(String, u16)>,
    },
}

/// The servers as far as they are known, for everything on the background core that uses them.
#[derive(Default)]
pub struct Masters {
    topology: RefCell<Arc<Topology>>,
    doubted: Notify,
}

impl Masters {
    pub fn new(topology: Arc<Topology>) -> Masters {
        Masters { topology: RefCell::new(topology), doubted: Notify::new() }
    }

    /// The one that has `key`.
    pub fn of(&self, key: &[u8]) -> Option<Master> {
        let topology = self.topology.borrow();
        topology.masters.get(topology.place_of(key)?).cloned()
    }

    pub fn topology(&self) -> Arc<Topology> {
        self.topology.borrow().clone()
    }

    /// Waits until they are known, for a moment at most.
    pub async fn found(&self) {
        let deadline = Instant::now() + FOUND_WITHIN;
        while self.topology.borrow().masters.is_empty() && Instant::now() < deadline {
            sleep(APART / 2).await;
        }
    }

    /// They may be others by now.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Asks for ever. `access` is to the servers themselves. `moved` is called before a change is known here, and told of it.
    pub async fn follow(&self, layout: &Layout, access: &Access, moved: impl Fn(&Arc<Topology>)) {
        let mut asker = match layout {
            Layout::Single => return,
            Layout::Sentinel { service, hosts, access: own } => Asker::Sentinel(Sentinels::new(service, hosts, own)),
            Layout::Cluster { hosts } => Asker::Cluster(Cluster::new(hosts)),
        };
        let (mut said, mut busy_until) = (false, Instant::now());
        loop {
            let found = match &mut asker {
                Asker::Sentinel(sentinels) => sentinels.ask(access).await.map(Topology::single),
                Asker::Cluster(cluster) => cluster.ask(access, &self.topology().masters).await,
            };
            let mut pause = if Instant::now() < busy_until { BUSY } else { CALM };
            match found {
                Ok(topology) => {
                    if std::mem::replace(&mut said, false) {
                        info!("redis: its servers are known again");
                    }
                    if topology != *self.topology() {
                        info!("redis: {}", told(&topology));
                        let topology = Arc::new(topology);
                        moved(&topology);
                        self.topology.replace(topology);
                    }
                }
                Err(why) => {
                    pause = BUSY;
                    if !std::mem::replace(&mut said, true) {
                        warn!("redis: where its servers are is not known: {why}");
                    }
                }
            }
            sleep(APART).await;
            let is_doubted = match &mut asker {
                Asker::Sentinel(sentinels) => {
                    let news = async {
                        tokio::select! {
                            // A failover is over: what is said now is the truth.
                            () = sentinels.hear() => false,
                            () = self.doubted.notified() => true,
                        }
                    };
                    timeout(pause, news).await.unwrap_or(false)
                }
                Asker::Cluster(_) => timeout(pause, self.doubted.notified()).await.is_ok(),
            };
            if is_doubted {
                busy_until = Instant::now() + BUSY_FOR;
            }
        }
    }
}

enum Asker {
    Sentinel(Sentinels),
    Cluster(Cluster),
}

fn told(topology: &Topology) -> String {
    let masters: Vec<_> = topology.masters.iter().map(|master| format!("{}:{}", master.host, master.port)).collect();
    match topology.is_cluster() {
        true => format!("the masters of the cluster are {}", masters.join(", ")),
        false => format!("the master is {}", masters.join(", ")),
    }
}

/// A server by its name or address. Errors: its name leads nowhere.
pub(super) async fn server(host: &str, port: u16) -> Result<Master, String> {
    let found = lookup_host((host, port)).await.map_err(|error| format!("{host} cannot be resolved: {error}"))?;
    Ok(Master { host: host.to_owned(), port, addresses: found.collect() })
}
