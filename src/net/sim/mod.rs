//! The simulator's outside world, which replaces the real one under `--cfg sim`: one thread, one seed, virtual time. A
//! [`World`] owns every task, socket, timer and generator; the names that the rest of the gateway uses act on the
//! current thread's world. Nothing here may read a real clock, use real randomness or depend on a memory address.

mod ends; // the two ends of a connection and what is in transit between them
mod executor; // tasks, cores, clock and random numbers
mod faults; // how the network treats connections
mod socket; // sockets, listeners and dialling over these ends, with the signatures of the real ones
mod world; // the interface for tests, and clock, randomness and tasks for the code under test

#[cfg(test)]
mod tests;

use std::io;

pub use self::{
    faults::{Chop, NetworkFaults, Reachability},
    socket::{
        Cancel, DetachedSocket, Dial, DirectWriter, Listener, Socket, SocketId, dial, dial_with, hangups, has_input,
        shutdown_both,
    },
    world::{
        Ended, Place, TaskId, World, between, give_memory_back, here, is_running, kill, now_us, random_u64,
        set_reachability, sleep_ms, sleep_us, spawn_at, spawn_raw, unix_ms, unix_us, waited_us,
    },
};

/// How far a peer has closed its side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// The peer has shut down its sending direction and may still read.
    Half,
    /// The connection is reset or closed in both directions.
    Full,
}

/// Never exists in a simulation, whose cores have notifiers with wakers.
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

/// The waiting end of an [`EventFd`], which cannot exist.
#[derive(Default)]
pub struct EventFdReader;

impl EventFdReader {
    pub async fn wait(&mut self, notifier: &EventFd) {
        match *notifier {}
    }
}
