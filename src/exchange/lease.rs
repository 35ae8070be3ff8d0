//! A connection to a backend for one request: kept alive from before, or new. It comes back to the pool once, and only
//! in a certain state.

use std::rc::Rc;

use shards::{Fault, Take};

use super::attempt::Deadlines;
use super::core::Core;
use super::flight::Flight;
use super::letters::Letter;
use super::queue::{self, At, Turn};
use super::route::Plan;
use crate::net::tls;
use crate::net::{Duplex, dial, now_ms};

/// Where a leased connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It served before and may have gone stale: one free retry.
    Reused,
    Fresh,
}

/// A leased connection. Dropped, it is closed and counted as lost.
pub struct Lease {
    core: Rc<Core>,
    backend: usize,
    socket: Option<Duplex>,
    pub origin: Origin,
    /// The right to one of the backend's connections.
    _turn: Turn,
}

/// Which connections are good enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Any,
    Fresh,
}

/// Leases a connection for `plan`, waiting for one if the backend has as many as it may. Errors: every address refused,
/// the wait or the dial took too long, or everybody has left.
pub async fn connection(
    core: &Rc<Core>,
    plan: &Plan,
    wanted: Wanted,
    deadlines: Deadlines,
    flight: &Flight,
) -> Result<Lease, Fault> {
    let backend = plan.backend;
    let patience_ms = core.snapshot.models[plan.model].timeout_queue_ms;
    let left_ms = deadlines.total_ms.saturating_sub(now_ms());
    let turn = queue::turn(core, At::Backend(backend), patience_ms.min(left_ms), flight).await?;
    let mut lease = Lease { core: core.clone(), backend, socket: None, origin: Origin::Fresh, _turn: turn };
    loop {
        let taken = match wanted {
            Wanted::Any => core.pools[backend].borrow_mut().take(core.now()),
            Wanted::Fresh => core.pools[backend].borrow_mut().take_fresh(),
        };
        match taken {
            Take::Reuse(mut socket) => {
                // A look at each, however recently it served: a backend may have answered twice, and the second answer
                // would be taken for that of whoever asks next.
                if socket.is_quiet() {
                    (lease.socket, lease.origin) = (Some(socket), Origin::Reused);
                    return Ok(lease);
                }
                // The backend has closed it, or said something unasked.
                core.pools[backend].borrow_mut().lost();
            }
            Take::Dial => break,
            // Bounded by the turns: there is always room.
            Take::Full => return Err(Fault::Connect),
        }
    }
    match flight.unless_abandoned(connect(core, backend, deadlines)).await {
        Ok(Ok(socket)) => {
            lease.socket = Some(socket);
            Ok(lease)
        }
        Ok(Err(fault)) => Err(deadlines.fault(fault)),
        Err(_) => Err(Fault::Cancelled),
    }
}

/// Tries each address of the backend once, beginning with another one each time.
async fn connect(core: &Core, backend: usize, deadlines: Deadlines) -> Result<Duplex, Fault> {
    let addresses = core.addresses.borrow()[backend].clone();
    let until_ms = now_ms() + core.snapshot.backends[backend].timeout_connect_ms;
    let left_ms = || until_ms.min(deadlines.head_ms).saturating_sub(now_ms()).max(1);
    let turn = core.turns[backend].replace(core.turns[backend].get().wrapping_add(1));
    for step in 0..addresses.len() {
        let address = &addresses[(turn + step) % addresses.len()];
        let Ok(socket) = dial(address, left_ms()).await else {
            core.counters.connect_errors.add(1);
            continue;
        };
        let Some(context) = &core.tls[backend] else { return Ok(socket.into()) };
        return match tls::connect(socket, context, left_ms()).await {
            Ok((stream, _)) => Ok(stream.into()),
            Err(fault) => {
                core.counters.connect_errors.add(1);
                core.post_background(Letter::Insecure { backend, from: core.id, fault });
                Err(Fault::Handshake)
            }
        };
    }
    Err(Fault::Connect)
}

impl Lease {
    /// The connection.
    pub fn socket(&mut self) -> &mut Duplex {
        // Taken only by `give_back`, which consumes the lease.
        self.socket.as_mut().expect("a lease holds its connection")
    }

    /// Ends the connection with a reset: a backend that is in the middle of a long answer, perhaps waiting for us to read
    /// on, learns of an orderly close only when it reads.
    pub fn break_off(mut self) {
        self.socket().make_close_unclean();
    }

    /// Gives the connection back for reuse: the answer was read to its end and both sides keep it alive.
    pub fn give_back(mut self) {
        // One whose deadline has passed, or that was given up, is shut down already.
        let sound = |socket: &Duplex| socket.watch().take_trip().is_none();
        if let Some(socket) = self.socket.take().filter(sound) {
            socket.watch().clear();
            let closing = self.core.pools[self.backend].borrow_mut().give_back(socket, self.core.now());
            drop(closing);
            self.backend = usize::MAX; // the lease has ended
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(pool) = self.core.pools.get(self.backend) {
            pool.borrow_mut().lost();
        }
    }
}
