//! The fixed file table of the ring, for sockets that send often: with a plain descriptor the kernel looks the socket
//! up and counts a reference for each send. A socket without an entry sends by its descriptor.

use io_uring::IoUring;

use super::Reactor;
use crate::net::sys::Target;

/// Sizes of the table to try, largest first, as far as the limit of open files permits.
const ROOMS: [u32; 3] = [1 << 15, 1 << 12, 1 << 9];
/// An entry costs two system calls, so a socket gets one only after this many sends.
pub(super) const SENDS: u8 = 16;

/// How the ring refers to a socket: the number of sends by descriptor so far, or by an entry whose index is its slot's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Name(u8);

impl Name {
    pub(super) const NUMBER: Name = Name(u8::MAX);
    /// Never gets an entry.
    const UNNUMBERED: Name = Name(u8::MAX - 1);
}

/// Older kernels release a file only up to a second after its removal from the table, which would delay the close.
const FIRST_KERNEL: (u32, u32) = (6, 6);

/// Size of the fixed file table; 0 if the kernel is too old or refuses.
pub(super) fn fixed_files_max(ring: &IoUring) -> u32 {
    let release = rustix::system::uname();
    if version_of(release.release().to_bytes()).is_none_or(|version| version < FIRST_KERNEL) {
        return 0;
    }
    ROOMS.into_iter().find(|&room| ring.submitter().register_files_sparse(room).is_ok()).unwrap_or(0)
}

/// The first two numbers of a kernel release.
fn version_of(release: &[u8]) -> Option<(u32, u32)> {
    let mut numbers = std::str::from_utf8(release).ok()?.split(|message: char| !message.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

impl Reactor {
    /// How the next send of slot `index` refers to its socket.
    pub(super) fn target(&mut self, index: u32) -> Target {
        let slot = &mut self.slots[index as usize];
        let name = &mut slot.sending.name;
        match *name {
            Name::NUMBER | Name::UNNUMBERED => {}
            Name(sent) if sent < SENDS => *name = Name(sent + 1),
            Name(_) => {
                let has_room = index < self.kernel.fixed_files();
                let is_numbered = has_room && self.kernel.set_fixed_file(index, slot.socket);
                *name = if is_numbered { Name::NUMBER } else { Name::UNNUMBERED };
            }
        }
        if *name == Name::NUMBER { Target::Number(index) } else { Target::Descriptor(slot.socket) }
    }

    /// Removes a closing socket from the table, which would otherwise keep it open.
    pub(super) fn forget_number(&mut self, index: u32) {
        let name = &mut self.slots[index as usize].sending.name;
        if std::mem::take(name) == Name::NUMBER {
            let slot = &self.slots[index as usize];
            if !self.kernel.set_fixed_file(index, -1) {
                self.kernel.shut_down(slot.socket); // out of memory: it stays open, but is unusable
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::version_of;

    #[test]
    fn releases_are_read() {
        for (release, version) in [
            ("6.18.44-fc-v782", Some((6, 18))),
            ("6.1.0-18-amd64", Some((6, 1))),
            ("6.12+", Some((6, 12))),
            ("7.0", Some((7, 0))),
            ("6", None),
            ("", None),
            ("x6.1", None),
        ] {
            assert_eq!(version_of(release.as_bytes()), version, "{release}");
        }
    }
}
