//! The descriptor store of the service manager (`sd_pid_notify_with_fds(3)`, `sd_listen_fds(3)`): it keeps the listening sockets,
//! with what waits in them, while the process is restarted or has crashed, and gives them to the next one. The same way it hands
//! over sockets of its own (socket activation), which it listens on before, between and after processes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::{SockRef, Type};
use tracing::{info, warn};

use super::{Owner, Row, Use};
use crate::config::snapshot::Listen;
use crate::cores::notify;
use crate::net::descriptors_from_the_start;

/// In whose environment systemd says how many descriptors it would keep (from version 254 on; a unit can say it for earlier ones).
const OFFERED: &str = "FDSTORE";

/// Whether sockets are kept.
pub fn is_offered() -> bool {
    notify::is_wanted() && std::env::var(OFFERED).is_ok_and(|count| count.parse::<u32>().is_ok_and(|count| count > 0))
}

/// What was kept for this process. To be called once, before any descriptor is opened.
pub fn kept() -> Vec<(Row, OwnedFd)> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Vec::new();
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let descriptors = descriptors_from_the_start(number("LISTEN_FDS").unwrap_or(0));
    names
        .split(':')
        .zip(descriptors)
        .filter_map(|(name, descriptor)| Some((row(name, descriptor.as_fd())?, descriptor)))
        .collect()
}

fn row(name: &str, descriptor: BorrowedFd<'_>) -> Option<Row> {
    let (purpose, owner) = match name.split_once('-') {
        Some(("client", _)) => (Use::Client, Owner::Gateway),
        Some(("admin", _)) => (Use::Admin, Owner::Gateway),
        _ => (Use::Client, Owner::Manager),
    };
    // Earlier releases wrote none, and take it for a part of the address.
    let member = name.strip_prefix("client-member").and_then(|rest| rest.split_once('-')?.0.parse().ok());
    let bound = match (address_of(descriptor), owner) {
        (Some(address), _) => address.to_string(),
        (None, Owner::Gateway) => return None,
        (None, Owner::Manager) => {
            warn!("the service manager passes {name}, which is no TCP or Unix socket that listens: it is not used");
            return None;
        }
    };
    if owner == Owner::Manager {
        info!("the service manager listens on {bound} ({name})");
    }
    // Port 0 is another one each time.
    Some(Row { purpose, configured: bound.clone(), bound, owner, member })
}

/// Where a socket listens that connections can be accepted from.
fn address_of(descriptor: BorrowedFd<'_>) -> Option<Listen> {
    let socket = SockRef::from(&descriptor);
    if !socket.is_listener().ok()? || socket.r#type().ok()? != Type::STREAM {
        return None;
    }
    let address = socket.local_addr().ok()?;
    match address.as_socket() {
        Some(address) => Some(Listen::Tcp(address)),
        None => address.as_pathname().map(|path| Listen::Unix(path.to_owned())),
    }
}

/// Names have no colons.
fn name(row: &Row) -> Option<String> {
    let purpose = match (row.purpose, row.member) {
        (Use::Client, Some(member)) => format!("client-member{member}"),
        (Use::Client, None) => "client".to_owned(),
        (Use::Admin, _) => "admin".to_owned(),
        (Use::Control | Use::Unknown, _) => return None,
    };
    Some(format!("{purpose}-{}", row.bound.replace(':', "_")))
}

/// Has sockets kept from now on. The service manager's own are with it anyway.
pub fn keep<'a>(sockets: impl Iterator<Item = (&'a Row, BorrowedFd<'a>)>) {
    for (row, descriptor) in sockets.filter(|(row, _)| row.owner == Owner::Gateway) {
        let Some(name) = name(row) else { continue };
        if let Err(error) = notify::store(&name, descriptor) {
            return warn!("the service manager does not keep the listening sockets: {error}");
        }
    }
}

/// Ends that for what is served no more.
pub fn forget<'a>(rows: impl Iterator<Item = &'a Row>) {
    rows.filter_map(name).for_each(|name| notify::forget(&name));
}
