//! The answer of a backend on its way through a flight: how it begins and how it ends.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use shards::CoreId;

use super::entry::Entry;
use crate::config::snapshot::Price;
use crate::dialect::facts::{Form, NotStored, TokenUsage};
use crate::error::Failure;
use crate::observe::spans::Link;

/// The head of an answer, as far as it goes to clients.
#[derive(Clone, Debug)]
pub struct AnswerHead {
    pub status: u16,
    /// The backend it came from.
    pub backend: Arc<str>,
    /// What the log holds: the events of a stream without usage event and `[DONE]`, or the body as it came.
    pub form: Form,
    pub content_type: Cow<'static, [u8]>,
    /// Of the body, if the backend said it.
    pub length: Option<u64>,
    /// Further header lines that clients may see, each with its line end.
    pub fields: Vec<u8>,
    /// The fallback that answered in place of the model.
    pub served: Option<Arc<str>>,
    /// Of the model that answered.
    pub price: Price,
    /// How much of the time up to here was spent waiting, not working.
    pub waited_us: u64,
    /// The span of the exchange that began the call, if it is recorded.
    pub leader: Option<Box<Link>>,
}

/// How a flight ended.
#[derive(Clone, Debug)]
pub enum End {
    /// The answer is complete; with the usage event of a stream, if the backend sent one.
    Complete {
        reuse: Reuse,
        /// Why the cache does not keep it.
        not_stored: Option<NotStored>,
        usage_event: Option<Bytes>,
        tokens: Option<TokenUsage>,
    },
    /// Every backend failed, and there is an expired answer that may serve in that case (RFC 5861 4), to those who take one.
    Stale(Arc<Entry>, Failure),
    Failed(Failure),
}

/// Whom a complete answer serves beside those who get it in the form in which it came.
#[derive(Clone, Debug)]
pub enum Reuse {
    /// Whoever asks later, too: it is stored.
    Kept(Arc<Entry>),
    /// Followers that asked for the other form, if it can be converted exactly.
    Converted,
    AsItCame,
}

/// The flight that feeds a copy on another core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub leader: CoreId,
    pub number: u64,
}
