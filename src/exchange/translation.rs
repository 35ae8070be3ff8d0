//! A request for a backend that speaks another API than its client, and what has to be done to the answer. Must never run
//! where both speak the same.

use shards::Fault;

use super::generation::Generation;
use super::memory::Reserved;
use super::upstream_request::UpstreamRequest;
use crate::config::snapshot::{Api, CountTokens};
use crate::dialect::Dialect;
use crate::dialect::facts::{Endpoint, RequestFacts};
use crate::dialect::translate::{Direction, Settings, Untranslatable, ValueFault};
use crate::limits::SCRATCH_BYTES;
use crate::wire::http1::Method;
use crate::wire::json;

/// A request in the API of one backend.
pub struct Translated {
    pub direction: Direction,
    pub body: Vec<u8>,
    /// Of `body`.
    pub facts: RequestFacts,
    /// Given back with this.
    _memory: Reserved,
}

/// `upstream` as the backend of this index has to get it; `None` if as it came. Errors: it cannot be said there, and why is in
/// [`UpstreamRequest::untranslatable`].
pub fn of(
    generation: &Generation,
    upstream: &UpstreamRequest,
    backend: usize,
) -> Result<Option<Box<Translated>>, Fault> {
    let backend = &generation.snapshot.backends[backend];
    let direction = match (backend.api, upstream.endpoint) {
        (Api::Any, _) => return Ok(None), // nearly always
        (Api::OpenAi, Endpoint::Messages) => Direction::ToOpenAi,
        (Api::Anthropic, Endpoint::ChatCompletions) => Direction::ToAnthropic,
        (api, endpoint) => {
            let path = upstream.head.path.of(upstream.head_bytes());
            match (is_count(api, upstream, path), backend.count_tokens) {
                (true, CountTokens::Vllm) => Direction::ToTokenizer,
                (true, CountTokens::Off) => return Err(refuse(upstream, Untranslatable::Count)),
                (false, _) => match lacks(api, endpoint, path) {
                    Some(api) => return Err(refuse(upstream, Untranslatable::Path { api })),
                    None => return Ok(None),
                },
            }
        }
    };
    let settings = Settings { answer_tokens: backend.max_tokens_default };
    // Another body of about the same size.
    let mut memory = upstream.memory_beside();
    memory.grow_to(upstream.body().len()).map_err(|_| Fault::QueueFull)?;
    let body = direction.request(upstream.body(), settings).map_err(|why| refuse(upstream, why))?;
    let tape = &mut generation.memory.scratch.borrow_mut().tape;
    let facts = json::parse(&body, tape).ok().and_then(|()| {
        let endpoint = direction.endpoint();
        Dialect::of_endpoint(endpoint).request_facts(endpoint, &body, tape).ok()
    });
    tape.shrink(SCRATCH_BYTES);
    let facts = facts.ok_or_else(|| refuse(upstream, Untranslatable::Json { fault: ValueFault::Unreadable }))?;
    Ok(Some(Box::new(Translated { direction, body, facts, _memory: memory })))
}

fn refuse(upstream: &UpstreamRequest, why: Untranslatable) -> Fault {
    upstream.untranslatable.set(Some(why));
    Fault::Untranslatable
}

/// Whether the tokens of a message are to be counted, by an API that has no such path.
fn is_count(api: Api, upstream: &UpstreamRequest, path: &[u8]) -> bool {
    let path = path.split(|&byte| byte == b'?').next().unwrap_or(path);
    api == Api::OpenAi && upstream.head.method == Method::Post && path == b"/v1/messages/count_tokens"
}

/// The name of the API, if it has no path like this one, and requests for it are not translated.
fn lacks(api: Api, endpoint: Endpoint, path: &[u8]) -> Option<&'static str> {
    match (api, endpoint, Dialect::of_path(path)) {
        (Api::OpenAi, Endpoint::Other, Dialect::Anthropic) => Some("OpenAI"),
        (Api::Anthropic, Endpoint::Completions | Endpoint::Embeddings | Endpoint::Responses, _) => Some("Anthropic"),
        (Api::Anthropic, Endpoint::Other, Dialect::Responses) => Some("Anthropic"),
        _ => None,
    }
}
