//! The second level of the cache, as the cores need it: where its name leads, how its connections are secured, and how the nodes that
//! share it hear of purges.

use std::net::ToSocketAddrs;
use std::rc::Rc;
use std::sync::Arc;

use tracing::warn;

use super::secure;
use crate::config::snapshot::{Redis, Snapshot, Tls};
use crate::control::admin::Admin;
use crate::control::nodes::{Hooks, Nodes};
use crate::control::redis::Server;
use crate::control::shared::{self, SharedLimits};
use crate::exchange::purges::Purges;
use crate::exchange::second::Settings;
use crate::net::Dial;
use crate::net::tls::{Offer, TlsContext};

/// Settings of the second level; none without one. Blocking, so before the cores start. Errors: its certificates cannot be read.
pub fn settings(snapshot: &Snapshot) -> Result<Option<Settings>, String> {
    let Some(redis) = &snapshot.redis else { return Ok(None) };
    let Redis { host, port, user, password, database, is_secure, tls_ca, timeout_ms } = redis.clone();
    let addresses: Arc<[Dial]> = match (host.as_str(), port).to_socket_addrs() {
        Ok(addresses) => addresses.map(Dial::Tcp).collect(),
        Err(error) => {
            warn!("redis: {host} cannot be resolved: {error}; answers are kept in memory only until a restart");
            Arc::default()
        }
    };
    let tls = match is_secure {
        false => None,
        true => Some(secure::lone(&Tls { server_name: host, ca: tls_ca, client: None }, Offer::Http1)?),
    };
    Ok(Some(Settings { addresses, tls, user, password, database, timeout_ms }))
}

fn server(settings: Settings) -> Result<Server, String> {
    let Settings { addresses, tls, user, password, database, .. } = settings;
    let tls = match &tls {
        None => None,
        Some(settings) => Some(TlsContext::new(settings).map_err(|error| error.to_string())?.client()),
    };
    Ok(Server { addresses, tls, user, password, database })
}

/// Limits that these nodes share.
pub fn limits(settings: Settings, nodes_min: u16, hooks: shared::Hooks) -> Result<Rc<SharedLimits>, String> {
    let timeout_ms = settings.timeout_ms;
    Ok(Rc::new(SharedLimits::new(server(settings)?, hooks, nodes_min, timeout_ms)))
}

/// The nodes that share a Redis with this one; `seen` are the purges that an earlier process had heard of.
pub fn nodes(
    second: Settings,
    purges: Arc<Purges>,
    admin: &Rc<Admin>,
    seen: &[(String, u64)],
) -> Result<Rc<Nodes>, String> {
    let server = server(second)?;
    let (caught_up, purged) = (purges.clone(), Rc::downgrade(admin));
    let hooks = Hooks {
        purge: Box::new(move |name| {
            purges.purge_named(name);
            purged.upgrade().into_iter().for_each(|admin| admin.purged_elsewhere());
        }),
        caught_up: Box::new(move || caught_up.caught_up()),
    };
    let nodes = Rc::new(Nodes::new(server, hooks));
    nodes.recall(seen);
    admin.reach(nodes.clone());
    Ok(nodes)
}
