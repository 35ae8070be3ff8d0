//! The requests of one client connection, one after another; those that came together are begun side by side. Owned by the
//! connection's task. Each is served by `run`.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;

use shards::CoreId;

use super::accept::{self, Accepted, Preface};
use super::ahead::{self, Ahead};
use super::buffers::BUFFER_BYTES;
use super::client::{ClientConnection, Peer};
use super::generation::{Current, Generation};
use super::record;
use super::relay::{self, Next};
use super::run::{Ended, serve};
use crate::error::Failure;
use crate::net::pipelined::{self, After, Pipelined};
use crate::net::{Transport, now_ms, spawn};

/// How the requests of a connection ended.
pub enum Left {
    Closed,
    /// The first bytes are the beginning of HTTP/2's preface, which were read.
    Preface(Vec<u8>),
    /// It has been served for now, and another core has less to do.
    Moves(CoreId),
}

/// Serves the requests of one client connection to its end.
pub async fn connection(current: &Rc<Current>, socket: &mut Transport, mut preface: Preface, peer: &Peer) -> Left {
    loop {
        // Idle: no buffer, no exchange, a small future.
        socket.watch().idle_until(now_ms() + current.get().snapshot.server.timeout_idle_ms);
        if socket.readable().await.is_err() {
            return Left::Closed;
        }
        match Box::pin(busy(current, socket, preface, peer)).await {
            Rest::Quiet => preface = Preface::Refused,
            Rest::Closed => return Left::Closed,
            Rest::Preface(early) => return Left::Preface(early),
            Rest::Moves(to) => return Left::Moves(to),
        }
    }
}

enum Rest {
    Quiet,
    Closed,
    Preface(Vec<u8>),
    Moves(CoreId),
}

/// Serves the one request of a stream of HTTP/2.
pub async fn stream(current: &Current, socket: &mut Transport, peer: Peer) {
    let core = current.core();
    let _user = core.memory.buffers.join();
    let begun = current.get();
    let timeout_ms = begun.snapshot.server.timeout_write_ms;
    let mut client = ClientConnection::new(&begun, socket, peer);
    drop(begun);
    let accepted = accept::head(current, &mut client, Preface::Refused).await;
    let generation = &current.get();
    let end = match accepted {
        Accepted::Head => serve(generation, &mut client).await,
        Accepted::Refused(failure) => {
            refuse(generation, &mut client, failure);
            Ended::Clean(Next::Close)
        }
        Accepted::Quiet | Accepted::Closed | Accepted::Preface => Ended::Reset,
    };
    match end {
        Ended::Clean(_) => drop(client.finish(timeout_ms).await),
        Ended::Cut | Ended::Reset => client.socket.abort().await,
    }
    client.release(core);
}

/// Serves a request that was pipelined, before it is its turn.
async fn pipelined(current: Rc<Current>, request: Vec<u8>, answer: Pipelined, followed: Rc<Cell<bool>>, peer: Peer) {
    let core = current.core();
    let _user = core.memory.buffers.join();
    let generation = &current.get();
    let mut transport = Transport::Pipelined(Box::new(answer));
    let mut client = ClientConnection::new(generation, &mut transport, peer);
    client.input = request;
    client.followed = Some(followed);
    client.need(core);
    let end = match accept::head(&current, &mut client, Preface::Refused).await {
        Accepted::Head => serve(generation, &mut client).await,
        Accepted::Refused(_) | Accepted::Quiet | Accepted::Closed | Accepted::Preface => Ended::Reset, // it was read before
    };
    let sent = client.flush(generation.snapshot.server.timeout_write_ms).await;
    client.release(core);
    transport.end_pipelined(match end {
        _ if sent.is_err() => After::Reset,
        Ended::Clean(Next::KeepAlive) => After::KeepAlive,
        Ended::Clean(Next::Close) | Ended::Cut => After::Close,
        Ended::Reset => After::Reset,
    });
}

/// Answers what cannot be understood.
fn refuse(generation: &Rc<Generation>, client: &mut ClientConnection<'_>, failure: Failure) {
    let mut record = record::begin_refused();
    record.client = client.peer.address;
    relay::refuse(generation, &mut record, &failure, &mut client.output);
    record.failure = Some(failure);
    record::end(generation, &record);
}

/// Serves requests until the connection falls quiet or ends.
async fn busy(current: &Rc<Current>, socket: &mut Transport, mut preface: Preface, peer: &Peer) -> Rest {
    let core = current.core();
    let _user = core.memory.buffers.join();
    let begun = current.get();
    let timeout_ms = begun.snapshot.server.timeout_write_ms;
    let mut client = ClientConnection::new(&begun, socket, peer.clone());
    drop(begun);
    // What came behind the request in hand.
    let mut behind: Option<Box<Ahead>> = None;
    let rest = loop {
        let end = if let Some(answer) = behind.as_mut().and_then(|behind| behind.pop()) {
            behind.iter_mut().for_each(|behind| begin_more(current, behind, peer));
            match Box::pin(ahead::forward(core, &mut client, answer, timeout_ms)).await {
                Ok(After::KeepAlive) => continue,
                Ok(After::Close) => Ended::Cut,
                Ok(After::Reset) | Err(ahead::Gone) => Ended::Reset,
            }
        } else {
            behind.take().into_iter().for_each(|behind| behind.rejoin(core, &mut client));
            let accepted = accept::head(current, &mut client, preface).await;
            preface = Preface::Refused;
            // The exchange's own, to its end.
            let generation = &current.get();
            match accepted {
                Accepted::Head => {}
                Accepted::Preface => {
                    let early = std::mem::take(&mut client.input);
                    client.release(core);
                    return Rest::Preface(early);
                }
                Accepted::Quiet => break client.settle(timeout_ms).await.map_or(Rest::Closed, |()| Rest::Quiet),
                Accepted::Closed => {
                    let _ = client.settle(timeout_ms).await;
                    break Rest::Closed;
                }
                Accepted::Refused(failure) => {
                    refuse(generation, &mut client, failure);
                    client.linger(generation).await;
                    break Rest::Closed;
                }
            }
            client.followed = None;
            behind = Ahead::split(core, &mut client, generation.snapshot.server.pipelined_max);
            let mut serving = pin!(serve(generation, &mut client));
            poll_fn(|context| {
                let state = serving.as_mut().poll(context);
                // What waits lets others begin; what does not is the cheapest one after the other.
                if state.is_pending()
                    && let Some(behind) = &mut behind
                {
                    begin_more(current, behind, peer);
                }
                state
            })
            .await
        };
        match end {
            Ended::Clean(Next::KeepAlive) => {}
            Ended::Clean(Next::Close) | Ended::Cut => {
                drop(behind);
                client.linger(&current.get()).await;
                break Rest::Closed;
            }
            Ended::Reset => {
                client.socket.make_close_unclean();
                break Rest::Closed;
            }
        }
        // Requests that came together are answered together.
        let more = (behind.is_some() || !client.pending().is_empty()) && client.output.len() < BUFFER_BYTES / 2;
        if !more && client.flush(timeout_ms).await.is_err() {
            break Rest::Closed;
        }
        if core.balance.has_gift()
            && behind.is_none()
            && client.may_move()
            && !core.is_draining()
            && let Some(to) = core.balance.take_gift()
        {
            break client.settle(timeout_ms).await.map_or(Rest::Closed, |()| Rest::Moves(to));
        }
    };
    client.release(core);
    rest
}

/// Begins what came behind the request in hand, as far as that can be.
fn begin_more(current: &Rc<Current>, behind: &mut Ahead, peer: &Peer) {
    let core = current.core();
    let most = current.get().snapshot.server.pipelined_max;
    while let Some(request) = behind.next(core, most) {
        let (writer, answer) = pipelined::answer();
        let followed = behind.push(answer);
        spawn(&core.panics, pipelined(current.clone(), request, writer, followed, peer.clone()));
    }
}
