//! A connection to a backend for one request: kept alive from before, or new. It comes back to the pool once, and only
//! in a certain state.

use std::rc::Rc;

use shards::Take;

use super::core::Core;
use super::route::Plan;
use crate::error::Failure;
use crate::net::{Socket, dial};

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
    socket: Option<Socket>,
    pub origin: Origin,
}

/// Which connections are good enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Any,
    Fresh,
}

/// Leases a connection for `plan`. Errors: every address refused, or the time-out passed.
pub async fn connection(core: &Rc<Core>, plan: &Plan, wanted: Wanted) -> Result<Lease, Failure> {
    let backend = plan.backend;
    let new = |socket, origin| Lease { core: core.clone(), backend, socket, origin };
    loop {
        match take(core, backend, wanted) {
            Take::Reuse(socket) => {
                // A look at each, however recently it served: a backend may have answered twice, and the second answer
                // would be taken for that of whoever asks next.
                let quiet = socket.is_quiet();
                let lease = new(Some(socket), Origin::Reused);
                if quiet {
                    return Ok(lease);
                }
                // The backend has closed it, or said something unasked: dropped, and counted as lost.
            }
            Take::Dial => return connect(core, new(None, Origin::Fresh)).await,
            Take::Full => return Err(Failure::NoBackend),
        }
    }
}

fn take(core: &Core, backend: usize, wanted: Wanted) -> Take<Socket> {
    let mut pool = core.pools[backend].borrow_mut();
    match wanted {
        Wanted::Any => pool.take(core.now()),
        Wanted::Fresh => pool.take_fresh(),
    }
}

/// Tries each address of the backend once, beginning with another one each time.
async fn connect(core: &Core, mut lease: Lease) -> Result<Lease, Failure> {
    let addresses = core.addresses.borrow()[lease.backend].clone();
    let timeout_ms = core.snapshot.backends[lease.backend].timeout_connect_ms;
    let turn = core.turns[lease.backend].replace(core.turns[lease.backend].get().wrapping_add(1));
    for step in 0..addresses.len() {
        let address = &addresses[(turn + step) % addresses.len()];
        if let Ok(socket) = dial(address, timeout_ms).await {
            lease.socket = Some(socket);
            return Ok(lease);
        }
        core.counters.connect_errors.add(1);
    }
    Err(Failure::BackendConnect)
}

impl Lease {
    /// The connection.
    pub fn socket(&mut self) -> &mut Socket {
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
        let sound = |socket: &Socket| socket.watch().take_trip().is_none();
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
