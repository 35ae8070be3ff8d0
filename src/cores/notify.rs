//! Notifications to the service manager (`sd_notify(3)`); without `NOTIFY_SOCKET` they do nothing. Each is a datagram
//! to a local socket that never waits for the manager: what it has no room for is lost, the next one comes soon.

use std::fmt::Write;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sd_notify::NotifyState;

/// How long a descriptor may wait for the service manager, before the node serves.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// Every core serves.
pub fn ready(line: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(line)]);
}

/// The configuration is being read again; ends with `ready`.
pub fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    states.extend(NotifyState::monotonic_usec_now().ok());
    tell(&states);
}

/// The process `pid`, one of the service's, is the main one from now on.
pub fn succeeded_by(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

/// The drain has begun.
pub fn stopping(line: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(line)]);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// Watchdog: every core has made progress since the last call.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Has the service manager keep a descriptor under this name. Waits until it has room, which it has unless it is stuck.
pub fn store(name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let Some(address) = address()? else { return Ok(()) };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(STORE_PATIENCE))?;
    socket.connect_addr(&address)?;
    let text = format!("FDSTORE=1\nFDNAME={name}\n");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(&socket, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Ends what `store` began, for all descriptors of the name.
pub fn forget(name: &str) {
    tell(&[NotifyState::Custom(&format!("FDSTOREREMOVE=1\nFDNAME={name}"))]);
}

/// Whether anybody is to be notified.
pub fn is_wanted() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

fn tell(states: &[NotifyState<'_>]) {
    // A failed notification does not affect serving.
    let _ = send(states);
}

/// Of the manager, if there is one.
fn address() -> io::Result<Option<SocketAddr>> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(None) };
    Ok(Some(match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    }))
}

/// `sd_notify::notify` would block a thread while the manager does not read.
fn send(states: &[NotifyState<'_>]) -> io::Result<()> {
    let Some(address) = address()? else { return Ok(()) };
    let mut text = String::new();
    for state in states {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{state}");
    }
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}
