//! What the background core does beside the signals: it looks whether backends live, where their names lead, and answers
//! operators.
//! Says what it found through a closure; knows nothing of cores, messages or exchanges.

pub mod admin; // health, metrics, state and drain, over HTTP
pub mod keep; // a task that goes on for ever, also after a panic

pub mod health; // from answers to news: how many in a row make a backend sick or well
pub mod names; // where a backend's name leads, looked up again when that runs out
pub mod probe; // one question to one backend

/// What was found out about a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The active check found it well after it had been sick for so long.
    Well { backend: usize, after_ms: u64 },
    /// The active check found it sick, and why.
    Sick { backend: usize, why: String },
    /// Its name leads to other addresses now.
    Addresses { backend: usize, addresses: std::sync::Arc<[crate::net::Dial]> },
    /// Something the operator should know.
    Said(String),
}
