//! The outside world of a data core: sockets, clock, random numbers, spawning, watches and channels between cores.
//! Nothing else in the gateway opens a socket, reads a clock or draws a random number, so that `--cfg sim` replaces all
//! of it by a seeded, single-threaded world in which the real request path runs unchanged.

#[cfg(not(sim))]
pub mod allocations; // samples of what is allocated
pub mod arena; // anonymous memory maps for large bodies
pub mod channel; // messages between cores: wait-free rings and a notifier per core
mod dial; // the first of several addresses to answer
pub mod duplex; // the stream to a backend: plain or TLS, for HTTP/1.1 by value and for HTTP/2 by polling
pub mod http2; // HTTP/2 to backends: streams that read like HTTP/1.1
pub mod pipelined; // answers to pipelined requests, before it is their turn
pub mod tls; // TLS to backends and from clients: settings, handshake, stream
pub mod transport; // the stream from a client: plain or TLS
pub mod watch; // deadlines and hang-ups of sockets that tasks wait on

#[cfg(not(sim))]
mod clock;
#[cfg(not(sim))]
mod eventfd; // the eventfd that wakes a data core
#[cfg(not(sim))]
mod reactor; // socket I/O, readiness and timers on io_uring
#[cfg(not(sim))]
mod rng;
#[cfg(not(sim))]
pub mod runtime; // builds the ring runtime of a data core
#[cfg(not(sim))]
mod socket;
#[cfg(not(sim))]
mod sys;

#[cfg(not(sim))]
pub use self::{
    clock::{clock_start_s, now_ms, now_us, sleep_ms, sleep_us, unix_ms, unix_us},
    eventfd::{EventFd, EventFdReader},
    reactor::waited_us,
    rng::random_u64,
    runtime::{is_running, spawn_raw},
    socket::{Cancel, DetachedSocket, Dial, DirectWriter, Listener, Socket, SocketId, dial, dial_with},
    sys::{
        Hangup, SamplingAllocator, allocator_statistics, descriptors_from_the_start, give_memory_back, hangups,
        has_input, prefer_memory_of, raise_sigprof, refuse_huge_pages, shutdown_both, steer, take_fast_open,
    },
};

#[cfg(sim)]
pub mod sim;
#[cfg(sim)]
pub use self::sim::{
    Cancel, DetachedSocket, Dial, DirectWriter, EventFd, EventFdReader, Hangup, Listener, Socket, SocketId, dial,
    dial_with, give_memory_back, hangups, has_input, is_running, now_us, random_u64, shutdown_both, sleep_ms,
    spawn_raw, unix_ms, unix_us, waited_us,
};

pub use dial::{DialOptions, FastOpen, dial_any};
pub use duplex::Duplex;
pub use transport::Transport;

mod spawn;
mod within; // waits that end
pub use spawn::{InlineTask, Panics, TaskPool, spawn, spawn_lasting};
pub use within::within;

/// Lets the other tasks of this core run before this one continues.
#[cfg(not(sim))]
pub async fn next_round() {
    sleep_us(0).await; // a task that woke itself would be the next to run
}

/// The same in the simulated world, whose other tasks run in between if its time moves on.
#[cfg(sim)]
pub async fn next_round() {
    sim::sleep_us(1).await;
}

/// Milliseconds of the simulated clock.
#[cfg(sim)]
pub fn now_ms() -> u64 {
    now_us() / 1000
}
