//! Until when the parts of an answer have to have come.

use shards::Fault;

use crate::config::snapshot::Backend;
use crate::dialect::facts::Form;
use crate::net::now_ms;

/// Until when what has to have come, on the core's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// The head of the answer.
    pub head_ms: u64,
    /// The first content.
    pub first_ms: u64,
    /// The same for all attempts at the model together.
    pub request_ms: u64,
    /// The end of a body that flows.
    pub stream_ms: u64,
    /// How long an answer that has begun may be silent.
    pub idle_ms: u64,
    /// How long a stream that flows may bring no content.
    pub content_ms: u64,
}

impl Deadlines {
    /// Of an attempt that begins now at `backend`, for a request that has been with this model since `since_ms`.
    pub fn begin(backend: &Backend, form: Form, since_ms: u64) -> Deadlines {
        let now_ms = now_ms();
        let request_ms = since_ms.saturating_add(backend.timeout_request_ms);
        let stream_ms = backend.timeout_stream_ms.map_or(u64::MAX, |ms| since_ms.saturating_add(ms));
        let until = |ms: u64| request_ms.min(stream_ms).min(now_ms.saturating_add(ms));
        let (head_ms, first_ms) = match form {
            // Its head comes with its body: one time bounds both.
            Form::NonStreaming => {
                let whole_ms = backend.timeout_attempt_ms.map_or(request_ms, until);
                (whole_ms, whole_ms)
            }
            Form::Streaming => (
                until(backend.timeout_head_ms.min(backend.timeout_first_token_ms)),
                until(backend.timeout_first_token_ms),
            ),
        };
        let (idle_ms, content_ms) = (backend.timeout_stream_idle_ms, backend.timeout_stream_content_ms);
        Deadlines { head_ms, first_ms, request_ms, stream_ms, idle_ms, content_ms }
    }

    /// All at the same time: for a connection that is opened ahead of need.
    pub fn until(at_ms: u64) -> Deadlines {
        let (idle_ms, content_ms) = (0, 0);
        Deadlines { head_ms: at_ms, first_ms: at_ms, request_ms: at_ms, stream_ms: at_ms, idle_ms, content_ms }
    }

    /// What a wait that ended too late means: `phase`, or that there is no time left at all.
    pub fn fault(&self, phase: Fault) -> Fault {
        if now_ms() >= self.request_ms.min(self.stream_ms) { Fault::Deadline } else { phase }
    }
}
