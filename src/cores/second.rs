//! The second level of the cache, as the cores need it: where its name leads, how its connections are secured, and how the nodes that
//! share it hear of purges.

use std::net::ToSocketAddrs;
use std::rc::Rc;
use std::sync::Arc;

use tracing::warn;

use super::secure;
use crate::config::snapshot::{Redis, RedisLayout, Snapshot, Tls};
use crate::control::admin::Admin;
use crate::control::masters::{Layout, Masters};
use crate::control::nodes::{Hooks, Nodes};
use crate::control::redis::{Access, Server};
use crate::control::shared::{self, SharedLimits};
use crate::exchange::purges::Purges;
use crate::exchange::second::Settings;
use crate::net::tls::{Offer, TlsContext};
use crate::wire::cluster::{Master, Topology};

/// The second level: as data cores need it, and how the background core finds its servers.
#[derive(Clone)]
pub struct Second {
    pub settings: Settings,
    pub layout: Layout,
}

/// None without a second level. Blocking, so before the cores start. Errors: its certificates cannot be read.
pub fn settings(snapshot: &Snapshot) -> Result<Option<Second>, String> {
    let Some(redis) = &snapshot.redis else { return Ok(None) };
    let Redis { layout, hosts, user, password, database, is_secure, tls_ca, timeout_ms } = redis.clone();
    let is_alone = matches!(layout, RedisLayout::Single);
    let topology = match hosts.first() {
        Some((host, port)) if is_alone => {
            let addresses = match (host.as_str(), *port).to_socket_addrs() {
                Ok(addresses) => addresses.collect(),
                Err(error) => {
                    warn!("redis: {host} cannot be resolved: {error}; answers are kept in memory only until a restart");
                    Arc::default()
                }
            };
            Topology::single(Master { host: host.clone(), port: *port, addresses })
        }
        // Found once the background core runs.
        _ => Topology::default(),
    };
    let server_name = hosts.first().map_or_else(String::new, |(host, _)| host.clone());
    let tls = match is_secure {
        false => None,
        true => Some(secure::lone(&Tls { server_name, ca: tls_ca, client: None }, Offer::Http1)?),
    };
    let settings = Settings { topology: Arc::new(topology), is_alone, tls, user, password, database, timeout_ms };
    let layout = match layout {
        RedisLayout::Single => Layout::Single,
        RedisLayout::Cluster => Layout::Cluster { hosts },
        RedisLayout::Sentinel { service, user, password } => {
            let access = Access { user, password, database: 0, ..access(&settings)? };
            Layout::Sentinel { service, hosts, access }
        }
    };
    Ok(Some(Second { settings, layout }))
}

fn access(settings: &Settings) -> Result<Access, String> {
    let Settings { tls, user, password, database, .. } = settings.clone();
    let tls = match &tls {
        None => None,
        Some(settings) => Some(TlsContext::new(settings).map_err(|error| error.to_string())?.client().0),
    };
    Ok(Access { tls, user, password, database })
}

/// Redis for the background core.
pub fn server(settings: &Settings) -> Result<Server, String> {
    let masters = Rc::new(Masters::new(settings.topology.clone()));
    Ok(Server { access: access(settings)?, masters })
}

/// Limits that these nodes share.
pub fn limits(server: Server, settings: &Settings, nodes_min: u16, hooks: shared::Hooks) -> Rc<SharedLimits> {
    Rc::new(SharedLimits::new(server, hooks, nodes_min, settings.timeout_ms))
}

/// The nodes that share a Redis with this one; `seen` are the purges that an earlier process had heard of, `untold` those that Redis
/// has not heard of.
pub fn nodes(
    server: Server,
    purges: Arc<Purges>,
    admin: &Rc<Admin>,
    (seen, untold): (&[(String, u64)], &[String]),
) -> Rc<Nodes> {
    let (noted, behind, caught_up) = (purges.clone(), purges.clone(), purges.clone());
    let (purged, told) = (Rc::downgrade(admin), Rc::downgrade(admin));
    let hooks = Hooks {
        purge: Box::new(move |name| {
            purges.purge_named(name);
            purged.upgrade().into_iter().for_each(|admin| admin.purged_elsewhere());
        }),
        note: Box::new(move |name, number| noted.numbers.note(name, number)),
        behind: Box::new(move || behind.behind()),
        caught_up: Box::new(move || {
            caught_up.caught_up();
            told.upgrade().into_iter().for_each(|admin| admin.purged_elsewhere());
        }),
    };
    let nodes = Rc::new(Nodes::new(server, hooks));
    nodes.recall(seen, untold);
    admin.reach(nodes.clone());
    nodes
}
