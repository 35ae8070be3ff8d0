//! Translation between OpenAI's chat completions and Anthropic's messages: requests, answers, streams and errors, each both
//! ways. Pure, over whole values; what is kept, dropped and refused is the table of docs/translation.md. Must never make a
//! truncated answer look complete.

mod answer;
mod error;
mod request;
mod stream;
#[cfg(test)]
mod tests;
mod value;

pub use request::Untranslatable;
pub use stream::{Stream, StreamFault};
pub use value::ValueFault;

use crate::dialect::facts::Endpoint;

/// Between which APIs, and which way the request goes; its answer goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The client speaks Anthropic's API, the backend OpenAI's.
    ToOpenAi,
    /// The client speaks OpenAI's API, the backend Anthropic's.
    ToAnthropic,
    /// The client asks Anthropic's API for the tokens of a message, the backend is vLLM.
    ToTokenizer,
}

/// What a translation needs besides the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `max_tokens` of a request to Anthropic's API, which requires it, where the client says nothing.
    pub answer_tokens: u64,
}

impl Direction {
    /// What the backend is asked, by the members of the request.
    pub fn endpoint(self) -> Endpoint {
        match self {
            Direction::ToOpenAi | Direction::ToTokenizer => Endpoint::ChatCompletions,
            Direction::ToAnthropic => Endpoint::Messages,
        }
    }

    /// Where it is asked.
    pub fn path(self) -> &'static str {
        match self {
            Direction::ToOpenAi => "/v1/chat/completions",
            Direction::ToAnthropic => "/v1/messages",
            Direction::ToTokenizer => "/tokenize",
        }
    }

    /// Whether the answer is one of an endpoint whose answers are looked into.
    pub fn is_known(self) -> bool {
        self != Direction::ToTokenizer
    }

    /// The request as the backend's API has it. `body` is a JSON object without duplicate names.
    pub fn request(self, body: &[u8], settings: Settings) -> Result<Vec<u8>, Untranslatable> {
        let root = value::object(body).map_err(|fault| Untranslatable::Json { fault })?;
        let translated = match self {
            Direction::ToOpenAi => request::to_openai(root)?,
            Direction::ToAnthropic => request::to_anthropic(root, settings)?,
            Direction::ToTokenizer => request::to_tokenizer(root)?,
        };
        Ok(value::bytes(&translated))
    }

    /// A whole answer of status 200 as the client's API has it; `None` if it is no answer of the backend's API. An error in
    /// place of an answer becomes one in the client's form. `created` is in seconds since 1970.
    pub fn answer(self, body: &[u8], created: u64) -> Option<Vec<u8>> {
        let root = value::object(body).ok()?;
        let translated = match self {
            _ if error::is_error(&root) => error::of_object(self, 200, root),
            Direction::ToOpenAi => answer::to_anthropic(root)?,
            Direction::ToAnthropic => answer::to_openai(root, created)?,
            Direction::ToTokenizer => answer::counted(&root)?,
        };
        Some(value::bytes(&translated))
    }

    /// The body of an error as the client's API has it, whatever it was.
    pub fn error(self, status: u16, body: &[u8]) -> Vec<u8> {
        match value::object(body) {
            Ok(root) => value::bytes(&error::of_object(self, status, root)),
            Err(_) => value::bytes(&error::of_text(self, status, body)),
        }
    }
}
