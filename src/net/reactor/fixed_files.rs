//! The numbers by which the ring knows sockets that send often: by its descriptor the kernel would look a socket up, and
//! count who holds it, with each send. A socket without a number sends by its descriptor.

use io_uring::IoUring;

use super::Reactor;
use crate::net::sys::Target;

/// Most sockets that get a number, as far as the limit of open files permits.
const ROOMS: [u32; 3] = [1 << 15, 1 << 12, 1 << 9];
/// A number costs two calls: it is for those who sent so often.
pub(super) const SENDS: u8 = 16;

/// How a socket is named to the ring: how often it has sent by its descriptor, or that it has a number, its slot's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Name(u8);

impl Name {
    pub(super) const NUMBER: Name = Name(u8::MAX);
    /// It gets none.
    const UNNUMBERED: Name = Name(u8::MAX - 1);
}

/// Older kernels let go of a file up to a second after its number was taken from it: so long would a socket stay open.
const FIRST_KERNEL: (u32, u32) = (6, 6);

/// How many sockets of the ring can have a number; none where the kernel is old or refuses.
pub(super) fn fixed_files_max(ring: &IoUring) -> u32 {
    let release = rustix::system::uname();
    if version_of(release.release().to_bytes()).is_none_or(|version| version < FIRST_KERNEL) {
        return 0;
    }
    ROOMS.into_iter().find(|&room| ring.submitter().register_files_sparse(room).is_ok()).unwrap_or(0)
}

/// The first two numbers of a kernel's release.
fn version_of(release: &[u8]) -> Option<(u32, u32)> {
    let mut numbers = std::str::from_utf8(release).ok()?.split(|message: char| !message.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

impl Reactor {
    /// What the next send of `index` fixed_files its socket by.
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

    /// Takes its number from a socket that closes: the ring would keep it open.
    pub(super) fn forget_number(&mut self, index: u32) {
        let name = &mut self.slots[index as usize].sending.name;
        if std::mem::take(name) == Name::NUMBER {
            let slot = &self.slots[index as usize];
            if !self.kernel.set_fixed_file(index, -1) {
                self.kernel.shut_down(slot.socket); // out of memory: what stays open is at least of no use to anybody
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
