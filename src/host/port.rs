//! Which program listens on an address, as far as /proc shows it. Reads only, and nothing but /proc.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The state of a listening socket in /proc/net/tcp (include/net/tcp_states.h).
const LISTENS: &str = "0A";

/// A program that listens on `address` and is neither one of ours nor systemd, which hands its sockets over: its name and
/// process. None if nobody does, or if it is not visible: other users' descriptors are shown to root alone.
pub fn other_listener(address: &SocketAddr) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let sockets: Vec<String> = tables.iter().flat_map(|table| inodes(table, address)).collect();
    if sockets.is_empty() || address.port() == 0 {
        return None;
    }
    let own = fs::read_to_string("/proc/self/comm").ok()?;
    let mut found = None;
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let path = process.path();
        if !holds(&path, &sockets) {
            continue;
        }
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name == own || name == "systemd\n" {
            return None;
        }
        found.get_or_insert_with(|| format!("{} (process {})", name.trim_end(), process.file_name().display()));
    }
    found
}

/// Whether a process has one of these sockets open.
fn holds(process: &Path, sockets: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    let mut links = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links.any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
}

/// The listening sockets of a table that take connections to `address`, as links to them are written.
fn inodes(table: &str, address: &SocketAddr) -> Vec<String> {
    let lines = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (host, port) = local.split_once(':')?;
        let is_port = u16::from_str_radix(port, 16) == Ok(address.port());
        let host = (*state == LISTENS && is_port).then(|| ip(host)).flatten()?;
        let takes = host.is_unspecified() || address.ip().is_unspecified() || host == address.ip();
        takes.then(|| format!("socket:[{inode}]"))
    });
    lines.collect()
}

/// An address as the kernel prints it: words of 32 bits in the order of the machine.
fn ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    if text.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let words = [word(0)?, word(8)?, word(16)?, word(24)?];
    let bytes: [u8; 16] = words.as_flattened().try_into().ok()?;
    Some(Ipv6Addr::from(bytes).into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_found_by_its_address() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let found = |address: &str| {
            let table = fs::read_to_string("/proc/net/tcp").unwrap();
            !inodes(&table, &address.parse().unwrap()).is_empty()
        };
        assert!(found(&address.to_string()) && found(&format!("0.0.0.0:{}", address.port())));
        assert!(!found(&format!("127.0.0.2:{}", address.port())));
        assert_eq!(other_listener(&address), None, "it is this program");
    }

    #[test]
    fn addresses_are_read_as_the_kernel_prints_them() {
        if cfg!(target_endian = "little") {
            assert_eq!(ip("0100007F"), Some("127.0.0.1".parse().unwrap()));
            assert_eq!(ip("00000000000000000000000001000000"), Some("::1".parse().unwrap()));
        }
        assert_eq!((ip(""), ip("0100007"), ip("x100007F")), (None, None, None));
    }
}
