//! The map of slots, as servers of a cluster see it. Another one is asked each time, so that none that is cut off is believed alone; a
//! map from before the one that is known does not replace it.

use crate::control::masters::server;
use crate::control::redis::{Access, refused, within};
use crate::limits::REDIS_MASTERS;
use crate::wire::cluster::{Master, Topology, slots};
use crate::wire::resp::Reply;

pub struct Cluster {
    hosts: Vec<(String, u16)>,
    /// Of the map that is known; grows with each change in the cluster.
    epoch: u64,
    turn: usize,
}

impl Cluster {
    pub fn new(hosts: &[(String, u16)]) -> Cluster {
        Cluster { hosts: hosts.to_vec(), epoch: 0, turn: 0 }
    }

    /// The map, from one of the masters that are known or one that is configured. Errors: why nobody tells.
    pub async fn ask(&mut self, access: &Access, known: &[Master]) -> Result<Topology, String> {
        self.turn = self.turn.wrapping_add(1);
        let known = known.iter().map(|master| (master.host.clone(), master.port));
        let mut candidates: Vec<_> = known.collect();
        let first = self.turn % candidates.len().max(1);
        candidates.rotate_left(first);
        for host in &self.hosts {
            if !candidates.contains(host) {
                candidates.push(host.clone());
            }
        }
        let (mut faults, mut older) = (Vec::new(), None::<(u64, Topology)>);
        for (host, port) in candidates {
            match within(ask_one(access, &host, port)).await {
                Ok((epoch, topology)) if epoch >= self.epoch => {
                    self.epoch = epoch;
                    return Ok(topology);
                }
                Ok((epoch, topology)) => {
                    if older.as_ref().is_none_or(|(other, _)| *other < epoch) {
                        older = Some((epoch, topology));
                    }
                }
                Err(why) => faults.push(format!("{host}:{port}: {why}")),
            }
        }
        // Nobody knows of the epoch any more: the cluster was made anew.
        let (epoch, topology) = older.ok_or_else(|| faults.join("; "))?;
        self.epoch = epoch;
        Ok(topology)
    }
}

/// The epoch and the map, by a server that is not cut off.
async fn ask_one(access: &Access, host: &str, port: u16) -> Result<(u64, Topology), String> {
    let mut connection = access.connect(&server(host, port).await?).await?;
    let (reply, text) = connection.ask(&[b"CLUSTER", b"INFO"]).await?;
    let Reply::Bulk(span) = reply else { return Err(refused(&reply, &text)) };
    let info = String::from_utf8_lossy(span.of(&text)).into_owned();
    let value = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let epoch = value("cluster_current_epoch").and_then(|epoch| epoch.trim().parse().ok());
    let epoch = epoch.ok_or_else(|| "it tells no epoch".to_owned())?;
    let (reply, text) = connection.ask(&[b"CLUSTER", b"SLOTS"]).await?;
    let mut ranges = slots(&reply, &text).ok_or_else(|| refused(&reply, &text))?;
    // Each server has an order of its own.
    ranges.sort_by_key(|range| range.first);
    if ranges.is_empty() {
        return Err("it knows of no slots: the cluster is not made yet".to_owned());
    }
    let mut masters: Vec<Master> = Vec::new();
    let mut placed = Vec::with_capacity(ranges.len());
    for range in ranges {
        let host = if range.host.is_empty() { host } else { range.host };
        let found = masters.iter().position(|master| master.port == range.port && master.host == host);
        let place = match found {
            Some(place) => place,
            None if masters.len() >= REDIS_MASTERS => {
                return Err(format!("the cluster has more than {REDIS_MASTERS} masters"));
            }
            None => {
                masters.push(server(host, range.port).await?);
                masters.len() - 1
            }
        };
        placed.push((range.first, range.last, place));
    }
    Ok((epoch, Topology::cluster(masters, placed.into_iter())))
}
