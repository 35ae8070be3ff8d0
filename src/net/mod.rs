//! The outside world of a data core: sockets, clock, rng, spawning, watches and the mail between cores.
//! Nothing else in the gateway opens a socket, reads a clock or throws rng, so that under `--cfg sim` the whole of it
//! is replaced by one seeded, single-threaded world and the real request path runs in it unchanged.

pub mod channel; // messages between cores: wait-free rings and a notifier a core
mod dial; // the first of several addresses to answer
pub mod duplex; // the stream to a backend: plain or TLS, for HTTP/1.1 by value and for HTTP/2 by polling
pub mod http2; // HTTP/2 to backends: streams that read like HTTP/1.1
pub mod tls; // TLS to backends: settings, handshake, stream
pub mod watch; // deadlines and hang-ups of sockets that tasks are waiting on

#[cfg(not(sim))]
mod clock;
#[cfg(not(sim))]
mod eventfd; // the eventfd behind a data core's mail
#[cfg(not(sim))]
mod reactor; // where sockets receive and send: a ring of its own
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
    clock::{now_ms, now_us, sleep_ms, sleep_us, unix_ms},
    eventfd::{EventFd, EventFdReader},
    rng::random_u64,
    runtime::{is_running, spawn_raw},
    socket::{Cancel, Dial, DirectWriter, Listener, Socket, SocketId, dial, dial_with},
    sys::{Hangup, give_memory_back, hangups, has_input, refuse_huge_pages, shutdown_both},
};

#[cfg(sim)]
pub mod sim;
#[cfg(sim)]
pub use self::sim::{
    Cancel, Dial, DirectWriter, EventFd, EventFdReader, Hangup, Listener, Socket, SocketId, dial, dial_with,
    give_memory_back, hangups, has_input, is_running, now_us, random_u64, shutdown_both, sleep_ms, spawn_raw, unix_ms,
};

pub use dial::{DialOptions, FastOpen, dial_any};
pub use duplex::Duplex;

mod spawn;
pub use spawn::{InlineTask, Panics, TaskPool, spawn, spawn_lasting};

/// Milliseconds of the simulated clock.
#[cfg(sim)]
pub fn now_ms() -> u64 {
    now_us() / 1000
}
