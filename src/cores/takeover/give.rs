//! The running process: gives its sockets to a successor that asks, and learns that the successor serves. A thread of its own,
//! which waits and copies nothing to the cores; what became of it is one word that the background core looks at.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use shards::quota::{InParts, Ledger};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::limits_link::{LedgerForm, ledgers, running};
use super::{Connection, LimitsLink, Message, Owner, Row, START_PATIENCE, Use, VERSION, store};
use crate::config::snapshot::{Listen, Snapshot};
use crate::control::admin::Listener;
use crate::cores::listen::Listening;
use crate::cores::notify;
use crate::net::now_ms;
use crate::net::tls::TicketSeed;

/// How often the secret of the session tickets moves on, so that this copy of it gives away nothing of the past.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// How long the cores may take to say what counts against limits: nobody accepts meanwhile. Of one that is slower, the successor
/// knows nothing.
const LEDGERS_PATIENCE: Duration = Duration::from_millis(500);

/// To whom the sockets belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    Own,
    /// This process stops: its listeners may be shut down already.
    Stopping,
    /// A successor's.
    Given,
}

/// What the successor serves.
#[derive(Debug)]
pub struct Kept {
    /// By address, in the configuration's order.
    pub addresses: Arc<[bool]>,
    pub admin: bool,
    pub control: bool,
}

/// Shared by the thread that gives and the background core.
#[derive(Debug, Default)]
pub struct Giver {
    phase: AtomicU8,
    kept: OnceLock<Kept>,
    given: Notify,
    /// To the successor, while this process ends.
    pub link: Arc<LimitsLink>,
    /// For what counts against limits, if the successor takes it.
    limits: OnceLock<Sender<Limits>>,
}

/// What counts against limits.
#[derive(Debug)]
pub enum Limits {
    /// Of one core.
    Ledgers(Box<InParts<Ledger>>),
    /// How many requests may run here, by limit.
    Running(Vec<(u64, u32)>),
}

impl Giver {
    /// Waits until a successor serves.
    pub async fn given(&self) -> &Kept {
        loop {
            let given = self.given.notified();
            if let Some(kept) = self.kept() {
                return kept;
            }
            given.await;
        }
    }

    /// What a successor serves, once there is one.
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.get()
    }

    /// Whether the successor takes what counts against limits.
    pub fn takes_limits(&self) -> bool {
        self.limits.get().is_some()
    }

    /// Passes on what counts against limits.
    pub fn hand(&self, limits: Limits) {
        if let Some(sender) = self.limits.get() {
            let _ = sender.send(limits);
        }
    }

    /// From now on no successor gets anything. False: one has everything already.
    pub fn stop(&self) -> bool {
        self.change(Phase::Stopping)
    }

    fn change(&self, to: Phase) -> bool {
        self.phase.compare_exchange(Phase::Own as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn give(&self, kept: Kept) -> bool {
        let is_first = self.change(Phase::Given) && self.kept.set(kept).is_ok();
        if is_first {
            self.given.notify_one();
        }
        is_first
    }

    fn is_own(&self) -> bool {
        self.phase.load(Ordering::Acquire) == Phase::Own as u8
    }
}

/// Everything that passes over.
pub struct Parts {
    control: OwnedFd,
    path: PathBuf,
    sockets: Vec<Given>,
    addresses: usize,
    cores: usize,
    tickets: TicketSeed,
}

struct Given {
    row: Row,
    /// Its place, if it is a client's.
    address: Option<usize>,
    descriptor: OwnedFd,
}

/// The sockets of this process.
pub struct Sockets<'a> {
    pub snapshot: &'a Snapshot,
    pub listening: &'a [Listening],
    pub bound: &'a [Listen],
    pub admin: Option<(&'a Listener, &'a Listen)>,
    pub admin_owner: Owner,
}

impl Sockets<'_> {
    /// Errors: too many descriptors are open.
    pub fn to_give(&self, control: OwnedFd, path: &Path, tickets: TicketSeed) -> io::Result<Parts> {
        let mut sockets = Vec::new();
        let row = |purpose, configured: &Listen, bound: &Listen, owner| Row {
            purpose,
            configured: configured.to_string(),
            bound: bound.to_string(),
            owner,
            member: None,
        };
        for (place, ((configured, _), bound)) in self.snapshot.server.addresses().zip(self.bound).enumerate() {
            let own = self.listening.iter().flatten().filter(|socket| socket.address == place);
            // The cores share that of a Unix socket.
            let count = if matches!(bound, Listen::Unix(_)) { 1 } else { usize::MAX };
            for socket in own.take(count) {
                let row = Row { member: socket.member, ..row(Use::Client, configured, bound, socket.owner) };
                let descriptor = socket.fd.try_clone()?;
                sockets.push(Given { row, address: Some(place), descriptor });
            }
        }
        if let (Some((listener, bound)), Some(configured)) = (self.admin, &self.snapshot.admin.listen) {
            let descriptor = match listener {
                Listener::Tcp(listener) => listener.try_clone()?.into(),
                Listener::Unix(listener) => listener.try_clone()?.into(),
            };
            let row = row(Use::Admin, configured, bound, self.admin_owner);
            sockets.push(Given { row, address: None, descriptor });
        }
        let own = Listen::Unix(path.to_owned());
        let descriptor = control.try_clone()?;
        sockets.push(Given { row: row(Use::Control, &own, &own, Owner::Gateway), address: None, descriptor });
        let (addresses, cores) = (self.bound.len(), self.listening.len());
        Ok(Parts { control, path: path.to_owned(), sockets, addresses, cores, tickets })
    }
}

impl Giver {
    /// Starts to listen for a successor. Errors: no thread can be started.
    pub fn start(self: &Arc<Giver>, parts: Parts) -> io::Result<()> {
        if store::is_offered() {
            store::keep(parts.sockets.iter().map(|socket| (&socket.row, socket.descriptor.as_fd())));
        }
        let own = self.clone();
        thread::Builder::new().name("ringway-takeover".to_owned()).spawn(move || own.listen(parts)).map(drop)
    }

    fn listen(&self, mut parts: Parts) {
        let listener = socket2::SockRef::from(&parts.control).try_clone();
        let Ok(listener) =
            listener.and_then(|listener| listener.set_read_timeout(Some(FORGET_EVERY)).map(|()| listener))
        else {
            return;
        };
        loop {
            match listener.accept() {
                Ok((socket, _)) => match self.talk(socket.into(), &parts) {
                    Ok(()) => return,
                    Err(why) => warn!("a successor did not take over: {why}; this process goes on"),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return warn!("{}: no successor can take over any more: {error}", parts.path.display());
                }
            }
            parts.tickets.forget();
        }
    }

    /// Errors: nothing was given away.
    fn talk(&self, fd: OwnedFd, parts: &Parts) -> Result<(), String> {
        let cannot = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => "it ended before it was ready".to_owned(),
            io::ErrorKind::WouldBlock => "it was not ready in time".to_owned(),
            _ => error.to_string(),
        };
        let peer = socket_peercred(&fd).map_err(|error| cannot(error.into()))?;
        let connection = Arc::new(Connection::new(fd).map_err(cannot)?);
        let refuse = |why: &str| {
            let _ = connection.send(&Message::Refused { why: why.to_owned() }, None);
            Err(why.to_owned())
        };
        if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
            return refuse("another user's processes get no sockets");
        }
        let (takes_limits, form) = match connection.receive().map_err(cannot)?.0 {
            Message::Ask { version: VERSION, limits, packed, .. } => (limits, LedgerForm::of(packed)),
            Message::Ask { .. } => return refuse("this process speaks another version of the protocol"),
            _ => return refuse("that was no question"),
        };
        if !self.is_own() {
            return refuse("this process is stopping");
        }
        for Given { row, descriptor, .. } in &parts.sockets {
            connection.send(&Message::Socket(row.clone()), Some(descriptor.as_fd())).map_err(cannot)?;
        }
        connection.send(&Message::Tickets { seed: parts.tickets.to_bytes() }, None).map_err(cannot)?;
        connection.send(&Message::End, None).map_err(cannot)?;
        connection.be_patient(START_PATIENCE).map_err(cannot)?;
        let Message::Commit { kept } = connection.receive().map_err(cannot)?.0 else {
            return refuse("that was no answer");
        };
        let (sender, handed) = channel();
        if takes_limits {
            let _ = self.limits.set(sender);
        }
        self.link.begin(&connection);
        if !self.give(parts.kept(&kept)) {
            return refuse("this process is stopping");
        }
        let pid = peer.pid.as_raw_nonzero().get().unsigned_abs();
        // Before the successor says that it is ready: the service manager listens to the main process only.
        notify::succeeded_by(pid);
        info!("process {pid} has taken over");
        // What each core has counted, and what runs.
        let until_ms = now_ms() + LEDGERS_PATIENCE.as_millis() as u64;
        let awaited = if takes_limits { parts.cores + 1 } else { 0 };
        for _ in 0..awaited {
            let sent = match handed.recv_timeout(Duration::from_millis(until_ms.saturating_sub(now_ms()))) {
                Ok(Limits::Ledgers(handed)) => {
                    ledgers(*handed, form).try_for_each(|message| connection.send(&message, None))
                }
                Ok(Limits::Running(rows)) => connection.send(&running(rows), None),
                Err(_) => {
                    warn!("process {pid} does not know all that counts against limits: the cores took too long");
                    break;
                }
            };
            if sent.is_err() {
                break;
            }
        }
        // Whether it hears that or not, it is the only one that accepts from now on.
        if let Err(why) = connection.send(&Message::Done, None).map_err(cannot) {
            warn!("process {pid} has taken over, and is not heard of any more: {why}");
        }
        self.link.listen(Vec::new());
        Ok(())
    }
}

impl Parts {
    fn kept(&self, places: &[usize]) -> Kept {
        let mut addresses = vec![false; self.addresses];
        let (mut admin, mut control) = (false, false);
        for &place in places {
            let Some(socket) = self.sockets.get(place) else { continue };
            match socket.row.purpose {
                Use::Client => socket.address.iter().for_each(|address| addresses[*address] = true),
                Use::Admin => admin = true,
                Use::Control => control = true,
                Use::Unknown => {}
            }
        }
        Kept { addresses: addresses.into(), admin, control }
    }
}

/// Whether nobody listens at `path` any more.
pub fn is_stale(path: &Path) -> bool {
    let Ok(socket) = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::SEQPACKET, None) else { return false };
    let address = socket2::SockAddr::unix(path);
    address
        .and_then(|address| socket.connect(&address))
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
