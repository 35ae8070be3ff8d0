//! From the backend's answer to the client's. `upstream` reads a backend's answer up to its first
//! content and then into a flight's log, `live` reads it for one client, `stored`
//! writes what the cache had, `head` writes every response head.

mod blocks;
pub mod cors; // web pages
mod events;
mod head;
mod live;
mod passed;
mod source;
mod stored;
mod upstream;

pub use head::refuse;
pub use live::{Reader, Role, live};
pub use stored::{models, stored, text};
pub use upstream::{Captured, PendingResponse};

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    KeepAlive,
    Close,
}
