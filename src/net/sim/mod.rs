//! The simulator's outside world, in place of the real one under `--cfg sim`: one thread, one seed, virtual time.
//! A [`World`] owns every task, socket, timer and die; the names that the rest of the gateway uses act on the world of the
//! current thread. Nothing here may read a real clock, random_u64 real rng or depend on an address in memory.

mod ends; // the two ends of a connection and what travels between them
mod executor; // tasks, cores, clock and rng
mod faults; // how the network treats connections
mod socket; // sockets, listeners and dialling over these ends, with the real ones' signatures
mod world; // what tests drive, and the clock, rng and tasks that the code under test sees

#[cfg(test)]
mod tests;

use std::io;

pub use self::{
    faults::{Chop, NetworkFaults, Reachability},
    socket::{
        Cancel, Dial, DirectWriter, Listener, Socket, SocketId, dial, dial_with, hangups, has_input, shutdown_both,
    },
    world::{
        Ended, Place, TaskId, World, between, give_memory_back, here, is_running, kill, now_us, random_u64,
        set_reachability, sleep_ms, spawn_at, spawn_raw, unix_ms,
    },
};

/// What a peer's side of a connection looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// The peer has ended its sending direction and may still read.
    Half,
    /// The connection is reset or closed in both directions.
    Full,
}

/// There is no ring to wake in a simulation: its cores have notifiers with wakers.
pub enum EventFd {}

impl EventFd {
    /// Errors: always.
    pub fn new() -> io::Result<EventFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn notify(&self) {
        match *self {}
    }
}

/// The waiting end of a [`EventFd`], which cannot be.
#[derive(Default)]
pub struct EventFdReader;

impl EventFdReader {
    pub async fn wait(&mut self, notifier: &EventFd) {
        match *notifier {}
    }
}
