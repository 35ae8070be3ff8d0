//! Ringway, an LLM gateway: the map of the house, rooms in the order a reader meets them.
//! Verbs are steps, nouns are state. Arrows between rooms run one way; `tests/arrows.rs` checks them:
//! main > cores > serve > exchange > upstream > {shards, dialect, wire, config::snapshot, observe, net}; dialect > wire;
//! wire, limits and error import no room.

pub mod limits; // every hard bound with its unit, reason and source

pub mod error; // every failure once: blame, status, public code, retry, log level, label

pub mod wire; // bytes to values and back; no I/O, no panic, fuzzed

pub mod dialect; // what differs between LLM APIs

pub mod prompts; // templates of prompts

pub mod config; // keys, load, snapshot

pub mod net; // the outside world: sockets, clock, rng, spawning, mail; or the simulator in its place

pub mod observe; // counters and the access log

pub mod upstream; // backends and models as one core sees them: permits, plans, connections

pub mod exchange; // one request and its answer, a file a step

pub mod serve; // client connections: handshake and protocol

#[cfg(not(sim))]
pub mod control; // what the background core does: health checks, names

#[cfg(not(sim))]
pub mod disk; // what the I/O core writes and reads: snapshots of the cache

#[cfg(not(sim))]
pub mod host; // the machine: CPUs, what is not as it should be, changing it

#[cfg(not(sim))]
pub mod cores; // the kinds of thread: launch, data, io, background

#[cfg(not(sim))]
pub mod demo; // the embedded backend behind `ringway demo`

#[cfg(not(sim))]
pub mod commands; // the command line, one file a subcommand

#[cfg(test)]
#[path = "../tests/golden/golden.rs"]
mod golden; // files that tests compare with
