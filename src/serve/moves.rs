//! Clients' connections that go to another core, so that a core with many busy ones does not have more than its share: those of
//! HTTP/1.1 between two requests, those of HTTP/2 before their first, as the library's state is tied to its core.
//! A core counts a connection that it gives until the other has said that it counts it: no drain ends in between.

use std::io;
use std::rc::Rc;

use crate::config::snapshot::Rebalance;
use crate::exchange::accept::Preface;
use crate::exchange::client::Peer;
use crate::exchange::core::Core;
use crate::exchange::generation::Current;
use crate::exchange::message::Message;
use crate::exchange::moved::{MovedConnection, Spoken};
use crate::net::{Transport, now_us, sleep_ms, spawn, waited_us};

/// How long an interval is: idle cores help within two of them.
const INTERVAL_MS: u64 = 50;
/// How often it is looked whether connections are to be moved again.
const OFF_MS: u64 = 1000;

/// What is served: a connection, and what counts it while it lives.
pub struct Served {
    pub transport: Transport,
    pub peer: Peer,
    pub counted: Option<Box<dyn Send>>,
    pub spoken: Spoken,
}

/// Measures this core and decides what it gives away, for as long as it serves.
pub async fn balance(current: Rc<Current>) {
    let core = current.core();
    while !core.is_draining() {
        if current.get().snapshot.cores.rebalance == Rebalance::Off {
            core.balance.rest();
            sleep_ms(OFF_MS).await;
            continue;
        }
        // A core without requests wakes for nothing.
        core.balance.noted().await;
        core.balance.begin(now_us(), waited_us());
        loop {
            sleep_ms(INTERVAL_MS).await;
            let happened = core.balance.end_interval(now_us(), waited_us());
            if !happened || core.is_draining() || current.get().snapshot.cores.rebalance == Rebalance::Off {
                break;
            }
        }
        core.balance.rest();
    }
    core.balance.rest();
}

/// Gives a connection to core `to`. Errors: it stays here.
pub async fn give(core: &Core, to: usize, served: Served) -> Result<(), Served> {
    let Served { transport, peer, counted, spoken } = served;
    let transport = match transport.detach().await {
        Ok(transport) => transport,
        Err(transport) => return Err(Served { transport, peer, counted, spoken }),
    };
    let certificate = peer.certificate.map(|names| Box::from(&names[..]));
    let (address, from) = (peer.address, core.id);
    let moved = Box::new(MovedConnection { transport, address, certificate, counted, spoken, from });
    let Err(message) = core.outbox.post(to, Message::Connection(moved)) else { return Ok(()) };
    // The other core is stalled.
    let Message::Connection(moved) = message else { return Ok(()) };
    match serve_here(*moved) {
        Ok(served) => Err(served),
        Err(_) => {
            // Closed. Nobody else counts it.
            core.counters.connections.sub(1);
            Ok(())
        }
    }
}

/// Errors: there is no ring.
fn serve_here(moved: MovedConnection) -> io::Result<Served> {
    let MovedConnection { transport, address, certificate, counted, spoken, from: _ } = moved;
    let peer = Peer { address, certificate: certificate.map(Rc::from) };
    Ok(Served { transport: Transport::attach(transport)?, peer, counted, spoken })
}

/// Takes a connection that another core gives, or gives back.
pub fn take(current: &Rc<Current>, moved: Box<MovedConnection>) {
    let core = current.core();
    let from = moved.from;
    if from != core.id {
        if core.is_draining() {
            // It may have drained already. The other has not, as it counts the connection.
            return core.post(from, Message::Connection(moved));
        }
        core.counters.connections.add(1);
        core.counters.connections_moved.add(1);
        core.post(from, Message::ConnectionTaken);
    }
    spawn(&core.panics, go_on(current.clone(), moved));
}

/// Another core counts a connection that this one gave.
pub fn taken(core: &Core) {
    core.counters.connections.sub(1);
}

async fn go_on(current: Rc<Current>, moved: Box<MovedConnection>) {
    let open = current.core().counters.connections.held();
    let Ok(served) = serve_here(*moved) else { return };
    match served.spoken {
        Spoken::Http1 => super::served(&current, served, Preface::Refused, open).await,
        Spoken::Http2(_) => super::many(&current, served).await,
    }
}
