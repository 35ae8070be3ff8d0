//! Several servers of Redis: where a cluster says that keys are, and who has them.

mod slot_map; // slots, redirections, the reply to CLUSTER SLOTS
mod topology; // which server has a key

pub use self::slot_map::{Kind, Redirection, SLOTS, SlotRange, slot, slots};
pub use self::topology::{Master, Topology};
