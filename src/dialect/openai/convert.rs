//! The two forms of an answer, each made from the other. Off the request path, so that it builds values.
//! Must never guess: what cannot be merged exactly gives `None`, and the entry serves its own form only.

use crate::dialect::facts::Endpoint;

/// A whole answer as events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streamed {
    /// `data: ...` events in a row, without usage and without the terminal event.
    pub events: Vec<u8>,
    /// The usage event, for clients that asked for it.
    pub usage_event: Option<Vec<u8>>,
}

/// The whole answer that a stream amounts to.
pub fn whole_of(endpoint: Endpoint, events: &[u8], usage: Option<&[u8]>) -> Option<Vec<u8>> {
    let _ = (endpoint, events, usage);
    None
}

/// The stream that a whole answer amounts to.
pub fn streamed_of(endpoint: Endpoint, whole: &[u8]) -> Option<Streamed> {
    let _ = (endpoint, whole);
    None
}
