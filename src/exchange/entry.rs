//! A stored answer, and which of them a request can use.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use shards::{Fit, Millis};

use super::tags::Tags;
use crate::dialect::Dialect;
use crate::dialect::facts::{Endpoint, Form, TokenUsage};

/// Where a stored answer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// In the memory of this node.
    First,
    /// In Redis.
    Second,
    /// In the memory of this node, input by input.
    Inputs,
}

/// A stored answer. Always of status 200 and complete.
#[derive(Debug)]
pub struct Entry {
    pub endpoint: Endpoint,
    /// What `body` is: JSON, or the events of a stream without the usage event and without `[DONE]`.
    pub form: Form,
    /// Parameters and all, as the backend said it.
    pub content_type: Cow<'static, [u8]>,
    pub body: Bytes,
    /// A stream's usage event, whole, for clients that ask for it.
    pub usage_event: Option<Bytes>,
    pub tokens: Option<TokenUsage>,
    /// When it was stored, on the monotonic clock all cores share; another node may have done so before that began.
    pub stored_ms: i64,
    pub ttl_ms: u64,
    /// To what it belongs, and how many purges there had been when its call began: see `purges`.
    pub tags: Tags,
    pub born: u64,
}

impl Entry {
    /// Heap bytes without the answer itself: the entry and its counts in an `Arc`, and what `Bytes` keep to be shared.
    pub const HEAD_BYTES: usize = size_of::<Entry>() + 2 * size_of::<usize>() + 3 * size_of::<usize>();

    /// Heap bytes, for the cache's budget.
    pub fn size_bytes(&self) -> u64 {
        (Entry::HEAD_BYTES + self.body.len() + self.usage_event.as_ref().map_or(0, Bytes::len)) as u64
    }

    /// How long ago it was stored.
    pub fn age_ms(&self, now: Millis) -> u64 {
        u64::try_from((now.0 as i64).saturating_sub(self.stored_ms)).unwrap_or(0)
    }

    /// How long it may still serve.
    pub fn left_ms(&self, now: Millis) -> u64 {
        self.ttl_ms.saturating_sub(self.age_ms(now))
    }

    /// The same answer in the other form, if it can be said exactly, and with its usage.
    pub fn in_form(&self, form: Form) -> Option<Entry> {
        let (body, usage_event) = match (self.form, form) {
            (Form::NonStreaming, Form::NonStreaming) | (Form::Streaming, Form::Streaming) => {
                (self.body.clone(), self.usage_event.clone())
            }
            (Form::NonStreaming, Form::Streaming) => {
                let streamed = Dialect::of_endpoint(self.endpoint).streamed_of(self.endpoint, &self.body)?;
                (Bytes::from(streamed.events), streamed.usage_event.map(Bytes::from))
            }
            (Form::Streaming, Form::NonStreaming) => {
                // Where the backend did not tell its usage in a stream, asked for the whole answer it may.
                self.tokens?;
                let dialect = Dialect::of_endpoint(self.endpoint);
                let whole = dialect.whole_of(self.endpoint, &self.body, self.usage_event.as_deref())?;
                (Bytes::from(whole), None)
            }
        };
        let content_type = match form {
            _ if form == self.form => self.content_type.clone(),
            Form::NonStreaming => Cow::Borrowed(&b"application/json"[..]),
            Form::Streaming => Cow::Borrowed(&b"text/event-stream"[..]),
        };
        Some(Entry { endpoint: self.endpoint, form, content_type, body, usage_event, ..*self })
    }
}

/// Which answers a request can use.
#[derive(Clone, Copy, Debug)]
pub struct Acceptable {
    pub form: Form,
    /// RFC 9111 5.2.1.1.
    pub max_age_ms: Option<u64>,
    pub tags: Tags,
}

impl Acceptable {
    pub fn is_young_enough(&self, entry: &Entry, now: Millis) -> bool {
        self.max_age_ms.is_none_or(|most_ms| entry.age_ms(now) <= most_ms)
    }
}

/// Whether an answer that is kept serves, in the form asked for if it can be converted.
pub fn fit(entry: Arc<Entry>, acceptable: Acceptable, now: Millis) -> (Arc<Entry>, Fit) {
    if !acceptable.is_young_enough(&entry, now) {
        return (entry, Fit::TooOld);
    }
    if entry.form == acceptable.form {
        return (entry, Fit::Usable);
    }
    match entry.in_form(acceptable.form) {
        Some(converted) => (Arc::new(converted), Fit::Usable),
        None => (entry, Fit::OtherForm),
    }
}

#[cfg(test)]
mod tests {
    use shards::Cache;

    use super::*;

    #[test]
    fn what_an_entry_takes_is_documented() {
        let bytes = Cache::<Arc<Entry>>::OVERHEAD_BYTES + Entry::HEAD_BYTES as u64;
        let said = format!("An answer takes {bytes} bytes besides its own");
        assert!(include_str!("../../docs/cache.md").contains(&said), "docs/cache.md does not say: {said}");
    }
}
