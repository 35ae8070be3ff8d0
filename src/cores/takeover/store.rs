//! The descriptor store of the service manager (`sd_pid_notify_with_fds(3)`, `sd_listen_fds(3)`): it keeps the listening sockets,
//! with what waits in them, while the process is restarted or has crashed, and gives them to the next one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::SockRef;
use tracing::warn;

use super::{Row, Use};
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
    let purpose = match name.split_once('-')?.0 {
        "client" => Use::Client,
        "admin" => Use::Admin,
        _ => return None,
    };
    let address = SockRef::from(&descriptor).local_addr().ok()?;
    let bound = match (address.as_socket(), address.as_pathname()) {
        (Some(address), _) => Listen::Tcp(address).to_string(),
        (None, Some(path)) => Listen::Unix(path.to_owned()).to_string(),
        (None, None) => return None,
    };
    // Port 0 is another one each time.
    Some(Row { purpose, configured: bound.clone(), bound })
}

/// Names have no colons.
fn name(row: &Row) -> Option<String> {
    let purpose = match row.purpose {
        Use::Client => "client",
        Use::Admin => "admin",
        Use::Control | Use::Unknown => return None,
    };
    Some(format!("{purpose}-{}", row.bound.replace(':', "_")))
}

/// Has sockets kept from now on.
pub fn keep<'a>(sockets: impl Iterator<Item = (&'a Row, BorrowedFd<'a>)>) {
    for (row, descriptor) in sockets {
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
