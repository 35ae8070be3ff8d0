//! From the backend's answer to the client's. `upstream` reads a backend's answer up to its first
//! content and then into a flight's log, `live` reads it for one client, `stored`
//! writes what the cache had, `head` writes every response head.

mod blocks;
pub mod cors; // web pages
mod events;
mod head;
mod live;
mod next;
mod passed;
mod source;
mod stored;
mod tail;
mod unwrapping;
mod upstream;

pub use head::{Delimited, refuse, write as write_head, write_own_fields};
pub use live::{Reader, Role, live};
pub use next::Next;
pub use passed::fields;
pub use stored::{models, preflight, stored, text};
pub use upstream::{Captured, PendingResponse};
