//! Listening sockets: one per address and data core, so that the kernel distributes connections and cores share
//! nothing. A Unix socket cannot be bound twice: each core gets a duplicate of one.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tracing::warn;

use super::steering::Group;
use super::takeover::{Found, Inherited, Owner, Use, is_stale};
use crate::config::snapshot::{Admin, Choice, Listen, Server};
use crate::control::admin::Listener;
use crate::net;

/// Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// How often, and at which interval, a port that is taken is retried: the listeners of a killed process are closed some
/// milliseconds after it is gone, with its rings.
const TRIES: u32 = 10;
const BETWEEN_TRIES: Duration = Duration::from_millis(30);

/// What one data core listens on.
pub type Listening = Vec<ListeningSocket>;

/// One listening socket of one core.
pub struct ListeningSocket {
    pub fd: OwnedFd,
    pub is_tcp: bool,
    /// The place of its address, in the order of [`Server::addresses`].
    pub address: usize,
    /// Its place among `server.listeners`; `None` for an address of `server.listen`.
    pub listener: Option<usize>,
    pub owner: Owner,
    /// Its index in the group of the SO_REUSEPORT sockets of its address, where that is known.
    pub member: Option<u32>,
}

/// What clients connect to.
pub struct Bindings {
    /// By core.
    pub sets: Vec<Listening>,
    /// With the actual port for port 0.
    pub bound: Vec<Listen>,
    pub pending: Pending,
}

/// Bound, and not listening yet: nothing may wait in them while another process may have to go on alone.
pub struct Pending {
    sockets: Vec<Socket>,
    groups: Vec<Group>,
}

impl Pending {
    /// They are steered once all of them listen.
    pub fn steer(&mut self, groups: Vec<Group>) {
        self.groups = groups;
    }

    /// Errors: the usual cause.
    pub fn listen(&self) -> Result<(), String> {
        let listening = self.sockets.iter().try_for_each(|socket| socket.listen(BACKLOG));
        listening.map_err(|error| format!("cannot listen: {error}"))?;
        self.groups.iter().for_each(Group::steer);
        Ok(())
    }
}

/// Lets clients send their first bytes with the SYN, where the host permits it.
pub fn take_fast_open(sets: &[Listening]) {
    // Bit 2 is that of listeners.
    let permitted = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_fastopen").ok();
    if permitted.is_some_and(|bits| bits.trim().parse().is_ok_and(|bits: u64| bits & 2 == 0)) {
        warn!(
            "server.fast_open has no effect: set bit 2 of net.ipv4.tcp_fastopen, as ringway tune --profile base does"
        );
    }
    for socket in sets.iter().flatten().filter(|socket| socket.is_tcp) {
        if let Err(error) = net::take_fast_open(socket.fd.as_fd(), BACKLOG) {
            warn!("server.fast_open has no effect: {error}");
        }
    }
}

/// Binds every address for `cores` data cores; they come with their tables as [`Server::addresses`] gives them. What is
/// inherited is used as it is: none of an address's sockets may be closed, or what waits in it would be reset, so with fewer
/// cores than before some have several. Errors: the address and the usual cause.
pub fn bind<'a>(
    addresses: impl Iterator<Item = (&'a Listen, Option<usize>)>,
    cores: usize,
    inherited: &mut Inherited,
) -> Result<Bindings, String> {
    let mut sets: Vec<Listening> = (0..cores).map(|_| Vec::new()).collect();
    let (mut bound, mut pending) = (Vec::new(), Vec::new());
    for (place, (address, listener)) in addresses.enumerate() {
        let explain = |error: io::Error| explain(address, Server::address_key(listener), &error);
        let socket = |fd: OwnedFd, is_tcp: bool, owner, member| ListeningSocket {
            fd,
            is_tcp,
            address: place,
            listener,
            owner,
            member,
        };
        let tcp_socket = |fd: OwnedFd, member| socket(fd, true, Owner::Gateway, member);
        let unix_socket = |fd: OwnedFd| socket(fd, false, Owner::Gateway, None);
        match (address, inherited.sockets(Use::Client, address)) {
            // However many there are, every core accepts, and nothing of it is opened anew: what is opened here would be gone
            // while this process is.
            (_, Some(Found { sockets, bound: actual, owner: Owner::Manager, .. })) => {
                let is_tcp = matches!(actual, Listen::Tcp(_));
                for (set, fd) in sets.iter_mut().zip(sockets.iter().cycle()).skip(sockets.len()) {
                    set.push(socket(fd.try_clone().map_err(explain)?, is_tcp, Owner::Manager, None));
                }
                for (index, fd) in sockets.into_iter().enumerate() {
                    sets[index % cores].push(socket(fd, is_tcp, Owner::Manager, None));
                }
                bound.push(actual);
            }
            (Listen::Tcp(_), Some(Found { sockets, bound: Listen::Tcp(actual), is_in_order, .. })) => {
                let known = sockets.len();
                let member = |index: usize| is_in_order.then_some(index as u32);
                for (index, fd) in sockets.into_iter().enumerate() {
                    sets[index % cores].push(tcp_socket(fd, member(index)));
                }
                for (index, set) in sets.iter_mut().enumerate().skip(known) {
                    let socket = tcp(&actual).map_err(explain)?;
                    pending.push(socket.try_clone().map_err(explain)?);
                    set.push(tcp_socket(socket.into(), member(index)));
                }
                bound.push(Listen::Tcp(actual));
            }
            (Listen::Unix(_), Some(Found { sockets, .. })) => {
                let Some(socket) = sockets.into_iter().next() else { continue };
                for set in &mut sets {
                    set.push(unix_socket(socket.try_clone().map_err(explain)?));
                }
                bound.push(address.clone());
            }
            (Listen::Tcp(wanted), _) => {
                // Without SO_REUSEPORT first: with it, a second gateway of the same user would silently take a share of
                // the connections.
                refuse_if_taken(wanted, pause).map_err(explain)?;
                let mut actual = *wanted;
                for (index, set) in sets.iter_mut().enumerate() {
                    let socket = tcp(&actual).map_err(explain)?;
                    pending.push(socket.try_clone().map_err(explain)?);
                    if actual.port() == 0 {
                        let local = socket.local_addr().map_err(explain)?;
                        actual = local.as_socket().unwrap_or(actual);
                    }
                    set.push(tcp_socket(socket.into(), Some(index as u32)));
                }
                bound.push(Listen::Tcp(actual));
            }
            (Listen::Unix(path), _) => {
                let socket = unix(path).map_err(explain)?;
                for set in &mut sets {
                    set.push(unix_socket(socket.try_clone().map_err(explain)?.into()));
                }
                bound.push(address.clone());
            }
        }
    }
    Ok(Bindings { sets, bound, pending: Pending { sockets: pending, groups: Vec::new() } })
}

/// Binds the admin listener and returns its address. If the default address is taken and the user chose none, returns a
/// warning instead. Errors: the address and the usual cause.
pub fn bind_admin(admin: &Admin, inherited: &mut Inherited) -> Result<Bound, String> {
    let Some(address) = &admin.listen else { return Ok(Bound::None) };
    if let Some(Found { sockets, bound: actual, owner, .. }) = inherited.sockets(Use::Admin, address)
        && let Some(socket) = sockets.into_iter().next()
    {
        let listener = match address {
            Listen::Tcp(_) => Listener::Tcp(socket.into()),
            Listen::Unix(_) => Listener::Unix(socket.into()),
        };
        return Ok(Bound::At(listener, actual, owner));
    }
    let bound = match address {
        Listen::Tcp(wanted) => {
            let again = if admin.choice == Choice::Written { pause } else { || () };
            refuse_if_taken(wanted, again).and_then(|()| std::net::TcpListener::bind(wanted)).and_then(|listener| {
                let actual = listener.local_addr()?;
                Ok((Listener::Tcp(listener), Listen::Tcp(actual)))
            })
        }
        Listen::Unix(path) => unix(path).and_then(|listener| {
            // Any process that can open the socket can drain the node.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            Ok((Listener::Unix(listener), address.clone()))
        }),
    };
    match (bound, admin.choice) {
        (Ok((listener, address)), _) => Ok(Bound::At(listener, address, Owner::Gateway)),
        (Err(error), Choice::Default) => {
            Ok(Bound::Warning(format!("there is no admin listener: {}", explain(address, "admin.listen", &error))))
        }
        (Err(error), Choice::Written) => Err(explain(address, "admin.listen", &error)),
    }
}

/// Binds the socket by which a successor asks for the others. Errors: the path and the usual cause.
pub fn bind_control(path: &Path, inherited: &mut Inherited) -> Result<OwnedFd, String> {
    let address = Listen::Unix(path.to_owned());
    if let Some(Found { sockets, .. }) = inherited.sockets(Use::Control, &address)
        && let Some(socket) = sockets.into_iter().next()
    {
        return Ok(socket);
    }
    let bind = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET.cloexec(), None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        Ok(socket)
    };
    let bound = match bind() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match std::fs::symlink_metadata(path) {
            Ok(file) if !file.file_type().is_socket() => Err(no_socket()),
            // A dead process left it behind.
            Ok(_) if is_stale(path) => std::fs::remove_file(path).and_then(|()| bind()),
            _ => Err(error),
        },
        other => other,
    };
    bound
        .and_then(|socket| {
            // Any process that can open the socket can have the listeners.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            socket.listen(1)?;
            Ok(socket.into())
        })
        .map_err(|error: io::Error| explain(&address, "server.control_socket", &error))
}

/// See [`bind_admin`].
pub enum Bound {
    /// Disabled.
    None,
    Warning(String),
    At(Listener, Listen, Owner),
}

/// Why an address cannot be listened on, and what to do; `key` is the configuration key that has it.
pub fn explain(address: &Listen, key: &str, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there; stop it or choose another address",
        io::ErrorKind::PermissionDenied => "ports below 1024 and other users' directories need a capability",
        io::ErrorKind::AlreadyExists => "move it away or choose another path",
        io::ErrorKind::AddrNotAvailable => "this host does not have that address",
        _ => "check the address",
    };
    format!("{key}: cannot listen on {address}: {error}; {remedy}")
}

/// Whether this process has permission to listen there, even if the address is in use now: binds and closes a socket.
pub fn can_bind(address: &SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    match socket.bind(&SockAddr::from(*address)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
        other => other,
    }
}

#[expect(clippy::disallowed_methods, reason = "no core runs yet")]
fn pause() {
    thread::sleep(BETWEEN_TRIES);
}

fn refuse_if_taken(address: &SocketAddr, mut pause: impl FnMut()) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    for _ in 1..TRIES {
        match listen_alone(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => pause(),
            other => return other,
        }
    }
    listen_alone(address)
}

fn listen_alone(address: &SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(*address))?;
    // Binding is not enough: an idle listener with SO_REUSEADDR is detected only by listening.
    socket.listen(1)
}

/// Bound: it listens later.
fn tcp(address: &SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SockAddr::from(*address))?;
    Ok(socket)
}

fn no_socket() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there")
}

/// Replaces a socket file without a listener, which a dead process left behind. Any other file is not ours.
fn unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
                return Err(no_socket());
            }
            match std::os::unix::net::UnixStream::connect(path) {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?;
                    UnixListener::bind(path)
                }
                _ => Err(error),
            }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(listen: &[Listen], cores: usize) -> Result<Bindings, String> {
        bind(listen.iter().map(|address| (address, None)), cores, &mut Inherited::default())
    }

    #[test]
    fn no_file_is_lost_to_a_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("precious");
        let listen = [Listen::Unix(path.clone())];
        std::fs::write(&path, "kept").unwrap();
        let told = bound(&listen, 1).err().unwrap();
        assert!(told.contains("no socket is there; move it away"), "{told}");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(bound(&[Listen::Unix(link)], 1).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");

        // A file left behind by a dead process is replaced; one with a listener is not.
        std::fs::remove_file(&path).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        let held = bound(&listen, 2).unwrap();
        assert!(bound(&listen, 1).err().unwrap().contains("another process listens there"));
        drop(held);
    }

    #[test]
    fn a_port_that_is_taken_for_a_moment_is_waited_for() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = [Listen::Tcp(taken.local_addr().unwrap())];
        assert!(bound(&listen, 1).err().unwrap().contains("another process listens there"));
        let (address, mut taken) = (taken.local_addr().unwrap(), Some(taken));
        assert!(refuse_if_taken(&address, || drop(taken.take())).is_ok());
        assert!(taken.is_none(), "bound while the address was in use");
    }
}
