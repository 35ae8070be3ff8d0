//! The differences between LLM APIs: facts of requests, events and answers, and how each API writes them. Pure
//! functions over bytes; no I/O, no clock. Must never change a byte it was not asked to change. Other rooms see the
//! closed enum [`Dialect`] and plain facts, never the module of one API.

mod anthropic;
mod embeddings;
pub mod facts;
mod openai;
pub mod prompt;
mod responses;
pub mod translate;

use facts::{AnswerFacts, Endpoint, ErrorFacts, ErrorKind, EventFacts, PublicError, RequestFacts};
pub use openai::embeddings::{Embeddings, Input, Inputs};
pub use openai::identity::Identity;
pub use openai::{Edits, Piece, Reading, RequestFault, Shapes, Streamed, check_model};

use crate::wire::json::{JsonFault, Tape};

/// The API of a client or a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's chat completions, completions and embeddings, and every path without an API of its own here.
    OpenAi,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Anthropic,
}

impl Dialect {
    /// The API of a request path. A query is ignored.
    pub fn of_path(path: &[u8]) -> Dialect {
        let path = path.split(|&byte| byte == b'?').next().unwrap_or(path);
        let is_below = |api: &[u8]| path.strip_prefix(api).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
        if is_below(b"/v1/messages") || is_below(b"/v1/complete") {
            Dialect::Anthropic
        } else if is_below(b"/v1/responses") {
            Dialect::Responses
        } else {
            Dialect::OpenAi
        }
    }

    /// The API of an endpoint.
    pub fn of_endpoint(endpoint: Endpoint) -> Dialect {
        match endpoint {
            Endpoint::Messages => Dialect::Anthropic,
            Endpoint::Responses => Dialect::Responses,
            Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => Dialect::OpenAi,
            Endpoint::Models | Endpoint::Other => Dialect::OpenAi,
        }
    }

    /// Appends the body of an error response.
    pub fn write_error(self, out: &mut Vec<u8>, error: &PublicError<'_>) {
        match self {
            Dialect::OpenAi | Dialect::Responses => openai::write_error(out, error),
            Dialect::Anthropic => anthropic::write_error(out, error),
        }
    }

    /// Appends the event that ends an incomplete stream. Nothing follows it. `before` is the stream's last part, with whole
    /// events: where events are numbered, this one has the next number.
    pub fn write_error_event(self, out: &mut Vec<u8>, error: &PublicError<'_>, before: &[u8]) {
        match self {
            Dialect::OpenAi => openai::write_error_event(out, error),
            Dialect::Responses => openai::write_response_error_event(out, error, before),
            Dialect::Anthropic => anthropic::write_error_event(out, error),
        }
    }

    /// The data of the event that ends a complete stream; `None` if the last event of the answer itself ends it.
    pub fn terminal(self) -> Option<&'static [u8]> {
        match self {
            Dialect::OpenAi => Some(openai::DONE),
            Dialect::Responses | Dialect::Anthropic => None,
        }
    }

    /// Reads what the gateway acts on from a request's body. `tape` is the parsed body.
    pub fn request_facts(self, endpoint: Endpoint, body: &[u8], tape: &Tape) -> Result<RequestFacts, RequestFault> {
        let mut facts = openai::request_facts(endpoint, body, tape)?;
        match self {
            Dialect::OpenAi => {}
            Dialect::Responses => {
                facts.not_in_key = responses::NOT_IN_KEY;
                facts.is_stateful = responses::is_stateful(body, tape);
            }
            Dialect::Anthropic => facts.not_in_key = anthropic::NOT_IN_KEY,
        }
        Ok(facts)
    }

    /// Reads one event of a stream. `tape` is scratch and holds the data's tape afterwards.
    pub fn event_facts(self, endpoint: Endpoint, name: &[u8], data: &[u8], tape: &mut Tape) -> EventFacts {
        match self {
            Dialect::OpenAi => openai::named_event_facts(endpoint, name, data, tape),
            Dialect::Responses => responses::event_facts(name, data, tape),
            Dialect::Anthropic => anthropic::event_facts(name, data, tape),
        }
    }

    /// Reads a complete, non-streaming answer. `tape` is scratch and holds the answer's outline afterwards.
    pub fn answer_facts(self, endpoint: Endpoint, body: &[u8], tape: &mut Tape) -> AnswerFacts {
        match self {
            Dialect::OpenAi => openai::answer_facts(endpoint, body, tape),
            Dialect::Responses => responses::answer_facts(body, tape),
            Dialect::Anthropic => anthropic::answer_facts(body, tape),
        }
    }

    /// The same in slices: how many levels of its outline are needed, and what they say once they were `parsed`.
    pub fn answer_levels(self, endpoint: Endpoint) -> usize {
        match self {
            Dialect::OpenAi | Dialect::Responses | Dialect::Anthropic => openai::levels(endpoint),
        }
    }

    /// See `answer_levels`.
    pub fn parsed_answer_facts(
        self,
        endpoint: Endpoint,
        body: &[u8],
        tape: &mut Tape,
        parsed: Result<(), JsonFault>,
    ) -> AnswerFacts {
        match self {
            Dialect::OpenAi | Dialect::Responses | Dialect::Anthropic => {
                openai::parsed_answer_facts(endpoint, body, tape, parsed)
            }
        }
    }

    /// What a whole answer says of itself, in either form.
    pub fn identity(self, answer: &[u8]) -> Identity {
        match self {
            Dialect::OpenAi | Dialect::Responses | Dialect::Anthropic => openai::identity::identity(answer),
        }
    }

    /// The kind of error that a body reports, if it has the format of one. The formats of all APIs are recognized,
    /// since backends use each other's.
    pub fn error_kind(self, body: &[u8], tape: &mut Tape) -> Option<ErrorKind> {
        match self {
            Dialect::OpenAi | Dialect::Responses | Dialect::Anthropic => openai::error_kind(body, tape),
        }
    }

    /// Reads a body that is expected to be an error, in the API's format or a provider's own.
    pub fn error_facts(self, body: &[u8], tape: &mut Tape) -> ErrorFacts {
        match self {
            Dialect::OpenAi | Dialect::Responses | Dialect::Anthropic => openai::error_facts(body, tape),
        }
    }

    /// Appends a chunk without its usage; `tape` is the parsed chunk.
    pub fn without_usage(self, data: &[u8], tape: &Tape, out: &mut Vec<u8>) {
        match self {
            Dialect::OpenAi | Dialect::Responses | Dialect::Anthropic => openai::without_usage(data, tape, out),
        }
    }

    /// Appends the data of a usage event with the usage of a chunk, for clients that asked for it; nothing if it has
    /// none. `tape` is the parsed chunk.
    pub fn usage_event(self, data: &[u8], tape: &Tape, out: &mut Vec<u8>) {
        match self {
            Dialect::OpenAi => openai::usage_event(data, tape, out),
            // Usage is part of their events.
            Dialect::Responses | Dialect::Anthropic => {}
        }
    }

    /// Converts a non-streaming answer to events; `None` if that cannot be done exactly.
    pub fn streamed_of(self, endpoint: Endpoint, whole: &[u8]) -> Option<Streamed> {
        match self {
            Dialect::OpenAi => openai::streamed_of(endpoint, whole),
            Dialect::Anthropic => anthropic::streamed_of(whole),
            Dialect::Responses => responses::streamed_of(whole),
        }
    }

    /// Converts events to a non-streaming answer; `None` if that cannot be done exactly.
    pub fn whole_of(self, endpoint: Endpoint, events: &[u8], usage: Option<&[u8]>) -> Option<Vec<u8>> {
        match self {
            Dialect::OpenAi => openai::whole_of(endpoint, events, usage),
            Dialect::Responses => responses::whole_of(events),
            Dialect::Anthropic => anthropic::whole_of(events),
        }
    }

    /// Appends the response body of `GET /v1/models`: all of them, on one page, with no time at which they were made.
    pub fn write_models<'a>(self, out: &mut Vec<u8>, names: impl Iterator<Item = &'a str>) {
        match self {
            Dialect::OpenAi | Dialect::Responses => openai::write_models(out, names, 0),
            Dialect::Anthropic => anthropic::write_models(out, names),
        }
    }

    /// Appends the response body of `GET /v1/models/NAME`.
    pub fn write_model(self, out: &mut Vec<u8>, name: &str) {
        match self {
            Dialect::OpenAi | Dialect::Responses => openai::write_model(out, name, 0),
            Dialect::Anthropic => anthropic::write_model(out, name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Dialect;

    #[test]
    fn a_path_belongs_to_one_api() {
        for (path, dialect) in [
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/messages?beta=true", Dialect::Anthropic),
            ("/v1/messages/count_tokens", Dialect::Anthropic),
            ("/v1/complete", Dialect::Anthropic),
            ("/v1/completions", Dialect::OpenAi),
            ("/v1/messagesx", Dialect::OpenAi),
            ("/v1/responses", Dialect::Responses),
            ("/v1/responses/resp_1/input_items", Dialect::Responses),
            ("/v1/chat/completions", Dialect::OpenAi),
            ("/v1/files/messages", Dialect::OpenAi),
            ("/healthz", Dialect::OpenAi),
            ("", Dialect::OpenAi),
        ] {
            assert_eq!(Dialect::of_path(path.as_bytes()), dialect, "{path}");
        }
    }
}
