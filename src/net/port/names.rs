//! The numbers by which the ring knows sockets that send often: by its descriptor the kernel would look a socket up, and
//! count who holds it, with each send. A socket without a number sends by its descriptor.

use io_uring::IoUring;

use super::Hub;
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

/// How many sockets of the ring can have a number; none where the kernel refuses.
pub(super) fn make_room(ring: &IoUring) -> u32 {
    ROOMS.into_iter().find(|&room| ring.submitter().register_files_sparse(room).is_ok()).unwrap_or(0)
}

impl Hub {
    /// What the next send of `index` names its socket by.
    pub(super) fn target(&mut self, index: u32) -> Target {
        let slot = &mut self.slots[index as usize];
        let name = &mut slot.sending.name;
        match *name {
            Name::NUMBER | Name::UNNUMBERED => {}
            Name(sent) if sent < SENDS => *name = Name(sent + 1),
            Name(_) => {
                let has_room = index < self.names;
                let is_numbered =
                    has_room && self.ring.submitter().register_files_update(index, &[slot.socket]).is_ok();
                *name = if is_numbered { Name::NUMBER } else { Name::UNNUMBERED };
            }
        }
        if *name == Name::NUMBER { Target::Number(index) } else { Target::Descriptor(slot.socket) }
    }

    /// Takes its number from a socket that closes: the ring would keep it open.
    pub(super) fn forget_number(&mut self, index: u32) {
        let name = &mut self.slots[index as usize].sending.name;
        if std::mem::take(name) == Name::NUMBER {
            let forgotten = self.ring.submitter().register_files_update(index, &[-1]);
            debug_assert!(forgotten.is_ok(), "{forgotten:?}");
        }
    }
}
