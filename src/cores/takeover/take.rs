//! The new process: asks the running one for its sockets, and tells it when every thread is ready.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};
use tracing::{info, warn};

use super::{Connection, LimitsLink, LimitsMessage, Message, Owner, Row, Use, VERSION, store};
use crate::config::snapshot::Listen;
use crate::exchange::quota::Handed;
use crate::net::tls::TicketSeed;

/// The sockets of one address.
pub struct Found {
    pub sockets: Vec<OwnedFd>,
    /// With the actual port.
    pub bound: Listen,
    pub owner: Owner,
    /// Whether they are all of their group of SO_REUSEPORT sockets, in its order.
    pub is_in_order: bool,
}

/// What a process begins with.
#[derive(Default)]
pub struct Inherited {
    /// None once it is used.
    sockets: Vec<(Row, Option<OwnedFd>)>,
    tickets: Option<TicketSeed>,
    /// Who has to be told.
    predecessor: Option<Arc<Connection>>,
}

/// What counted against limits in the process before.
#[derive(Default)]
pub struct Taken {
    pub ledgers: Vec<Handed>,
    /// Messages about limits that came with it.
    early: Vec<LimitsMessage>,
}

impl Inherited {
    /// What the service manager has kept. To be called once, before any descriptor is opened.
    pub fn kept() -> Inherited {
        let sockets = store::kept().into_iter().map(|(row, descriptor)| (row, Some(descriptor))).collect();
        Inherited { sockets, ..Inherited::default() }
    }

    /// What nobody has asked for is kept no longer; of what is the service manager's own, the log says so.
    pub fn forget_rest(&self) {
        let rest = || self.sockets.iter().filter(|(_, descriptor)| descriptor.is_some()).map(|(row, _)| row);
        store::forget(rest().filter(|row| row.owner == Owner::Gateway));
        for Row { bound, .. } in rest().filter(|row| row.owner == Owner::Manager) {
            warn!(
                "the service manager listens on {bound}, which no listener of the configuration has: nobody is served there"
            );
        }
    }

    /// Asks the process that listens at `path`; `kept` is inherited if there is none. Errors: why nothing can be taken over.
    pub fn ask(path: &Path, kept: Inherited) -> Result<Inherited, String> {
        let explain = |error: io::Error| format!("cannot take over from the process at {}: {error}", path.display());
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET.cloexec(), None).map_err(explain)?;
        match SockAddr::unix(path).and_then(|address| socket.connect(&address)) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                info!("no process to take over from at {}", path.display());
                return Ok(kept);
            }
            Err(error) => return Err(explain(error)),
        }
        let connection = Connection::new(socket.into()).map_err(explain)?;
        let program = env!("CARGO_PKG_VERSION").to_owned();
        connection
            .send(&Message::Ask { version: VERSION, program, limits: true, packed: true }, None)
            .map_err(explain)?;
        let mut inherited = Inherited::default();
        loop {
            match connection.receive().map_err(explain)? {
                (Message::Socket(row), Some(descriptor)) => inherited.sockets.push((row, Some(descriptor))),
                (Message::Tickets { seed }, _) => inherited.tickets = TicketSeed::from_bytes(&seed),
                (Message::End, _) => break,
                (Message::Refused { why }, _) => return Err(explain(io::Error::other(why))),
                // A socket whose descriptor did not fit: too many are open.
                (Message::Socket(_), None) => return Err(explain(io::Error::other("too many open descriptors"))),
                _ => {}
            }
        }
        inherited.predecessor = Some(Arc::new(connection));
        Ok(inherited)
    }

    /// The sockets of one address, and what it is bound to; none if it is new. What asks for a free port may be there twice:
    /// each is found once, in the order of the configuration.
    pub fn sockets(&mut self, purpose: Use, address: &Listen) -> Option<Found> {
        let name = address.to_string();
        // What the service manager listens on is for whoever has its address: it does not say what for.
        let is_for = |row: &Row| row.purpose == purpose || (row.owner == Owner::Manager && purpose == Use::Admin);
        let of_it = |row: &Row| is_for(row) && row.configured == name;
        let first = self.sockets.iter().find(|(row, descriptor)| of_it(row) && descriptor.is_some());
        let (bound, owner) = first.map(|(row, _)| (row.bound.clone(), row.owner))?;
        let same = self.sockets.iter_mut().filter(|(row, _)| of_it(row) && row.bound == bound);
        let mut found: Vec<(Option<u32>, OwnedFd)> =
            same.filter_map(|(row, descriptor)| Some((row.member, descriptor.take()?))).collect();
        found.sort_by_key(|(member, _)| *member);
        let is_in_order = found.iter().zip(0..).all(|((member, _), place)| *member == Some(place));
        let sockets = found.into_iter().map(|(_, descriptor)| descriptor).collect();
        Some(Found { sockets, bound: bound.parse().ok()?, owner, is_in_order })
    }

    pub fn take_tickets(&mut self) -> Option<TicketSeed> {
        self.tickets.take()
    }

    /// Whether another process serves until [`Inherited::commit`].
    pub fn has_predecessor(&self) -> bool {
        self.predecessor.is_some()
    }

    /// Every thread is ready: the predecessor accepts no more. Errors: it goes on instead.
    pub fn commit(&self) -> Result<Taken, String> {
        let mut taken = Taken::default();
        let Some(predecessor) = &self.predecessor else { return Ok(taken) };
        let explain = |error: io::Error| format!("cannot take over: {error}");
        let used = self.sockets.iter().enumerate().filter(|(_, (_, descriptor))| descriptor.is_none());
        let kept = used.map(|(place, _)| place).collect();
        predecessor.send(&Message::Commit { kept }, None).map_err(explain)?;
        loop {
            match predecessor.receive().map_err(explain)?.0 {
                Message::Done => return Ok(taken),
                Message::Ledgers { rows } => taken.ledgers.extend(rows.into_iter().map(Handed::from)),
                Message::Packed(packed) => taken.ledgers.extend(packed.into_handed()),
                Message::Limits { message } => taken.early.push(message),
                Message::Refused { why } => return Err(explain(io::Error::other(why))),
                Message::Unknown => {}
                _ => return Err(explain(io::ErrorKind::InvalidData.into())),
            }
        }
    }

    /// Hears of limits until the predecessor has ended.
    pub fn link_limits(&self, link: &Arc<LimitsLink>, taken: Taken) {
        if let Some(predecessor) = &self.predecessor {
            link.begin(predecessor);
            if let Err(error) = link.listen_apart(taken.early) {
                warn!("limits of the process before are not heard of: no thread can be started: {error}");
            }
        }
    }
}
