//! What the gateway needs to know about a request, an event and an answer, in any API. Plain values with spans into the
//! bytes they were read from; owned by the caller. They must never contain a copy of what a client sent.

mod verdict; // what is stored, and why not

pub use verdict::{NotStored, StreamVerdict};

use crate::wire::Span;
use crate::wire::json::{JsonFaultKind, append_unescaped};

/// The public endpoints that the gateway handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    ChatCompletions,
    Completions,
    Embeddings,
    /// Anthropic's.
    Messages,
    Responses,
    Models,
    /// Forwarded to the model's backend, never cached.
    Other,
}

impl Endpoint {
    /// Every endpoint, in the order of its discriminants.
    pub const ALL: [Endpoint; 7] = [
        Endpoint::ChatCompletions,
        Endpoint::Completions,
        Endpoint::Embeddings,
        Endpoint::Messages,
        Endpoint::Responses,
        Endpoint::Models,
        Endpoint::Other,
    ];

    /// The endpoint of a request path; a query is ignored. `/v1/models/NAME` is `Models` too.
    pub fn from_path(path: &[u8]) -> Endpoint {
        match path {
            b"/v1/chat/completions" => Endpoint::ChatCompletions,
            b"/v1/completions" => Endpoint::Completions,
            b"/v1/embeddings" => Endpoint::Embeddings,
            b"/v1/messages" => Endpoint::Messages,
            b"/v1/responses" => Endpoint::Responses,
            b"/v1/models" => Endpoint::Models,
            other if other.starts_with(b"/v1/models/") => Endpoint::Models,
            other => match without_query(other) {
                bare if bare.len() < other.len() => Endpoint::from_path(bare),
                _ => Endpoint::Other,
            },
        }
    }

    /// The path for clients and backends; `None` for `Other`, which keeps the request's path.
    pub fn path(self) -> Option<&'static str> {
        match self {
            Endpoint::ChatCompletions => Some("/v1/chat/completions"),
            Endpoint::Completions => Some("/v1/completions"),
            Endpoint::Embeddings => Some("/v1/embeddings"),
            Endpoint::Messages => Some("/v1/messages"),
            Endpoint::Responses => Some("/v1/responses"),
            Endpoint::Models => Some("/v1/models"),
            Endpoint::Other => None,
        }
    }

    /// A lower-case word for logs, metrics and fingerprints.
    pub fn label(self) -> &'static str {
        match self {
            Endpoint::ChatCompletions => "chat_completions",
            Endpoint::Completions => "completions",
            Endpoint::Embeddings => "embeddings",
            Endpoint::Messages => "messages",
            Endpoint::Responses => "responses",
            Endpoint::Models => "models",
            Endpoint::Other => "other",
        }
    }
}

/// The model name in a `/v1/models/NAME` path, still percent-encoded.
pub fn model_in_path(path: &[u8]) -> Option<&[u8]> {
    without_query(path).strip_prefix(b"/v1/models/").filter(|name| !name.is_empty())
}

fn without_query(path: &[u8]) -> &[u8] {
    &path[..memchr::memchr(b'?', path).unwrap_or(path.len())]
}

/// The text of a JSON string in some input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    /// The bytes between the quotes.
    pub span: Span,
    /// Whether they contain escapes, so that `span` is not the text itself.
    pub spelling: Spelling,
}

/// Whether a string's bytes are its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    Plain,
    Escaped,
}

impl Text {
    /// The text, borrowed from `input` or decoded into `scratch`.
    pub fn read<'a>(&self, input: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
        match self.spelling {
            Spelling::Plain => self.span.of(input),
            Spelling::Escaped => {
                scratch.clear();
                append_unescaped(self.span.of(input), scratch);
                scratch
            }
        }
    }
}

/// Which form of answer the client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// One JSON body.
    NonStreaming,
    /// Server-sent events.
    Streaming,
}

/// Whether the client asked for a usage event in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageEvent {
    Asked,
    NotAsked,
}

/// The parts of a request that the gateway acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// `Some` for the endpoints that require it; UTF-8, not empty, no control characters, at most `MODEL_BYTES`.
    pub model: Option<Text>,
    pub form: Form,
    pub usage_event: UsageEvent,
    pub user: Option<Text>,
    /// The span of the prompt: `messages`, `prompt` or `input`.
    pub prompt: Option<Span>,
    pub sampling: Sampling,
    /// The most tokens that the answer may have, and how many answers are asked for.
    pub answer_tokens_max: Option<u64>,
    pub answers: u64,
    /// Whether it names a prompt template (see `dialect::prompt`), where its endpoint has a place for one.
    pub names_template: bool,
    /// Whether the answer has to do with what a provider keeps, so that it serves nobody else.
    pub is_stateful: bool,
    /// Members of the root that do not affect the answer to this request; `json::canonical` skips them.
    pub not_in_key: &'static [&'static str],
    pub(super) usage_place: UsagePlace,
    /// The stream options have members other than the known ones.
    pub(super) has_further_options: bool,
}

/// Whether a model that is asked the same again is meant to answer the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// Temperature 0, or a seed.
    Deterministic,
    Random,
}

impl RequestFacts {
    /// Whether the client may have asked for usage in every chunk, which some servers offer as an option of their own.
    pub fn may_want_usage_in_chunks(&self) -> bool {
        self.usage_event == UsageEvent::Asked && self.has_further_options
    }

    /// These facts with every offset mapped by `to`, for a body with the same structure.
    pub(super) fn moved(&self, to: impl Fn(u32) -> u32) -> RequestFacts {
        let span = |span: Span| Span { start: to(span.start), end: to(span.end) };
        let text = |text: Text| Text { span: span(text.span), ..text };
        RequestFacts {
            model: self.model.map(text),
            user: self.user.map(text),
            prompt: self.prompt.map(span),
            usage_place: match self.usage_place {
                UsagePlace::Nowhere => UsagePlace::Nowhere,
                UsagePlace::NewOptions(at) => UsagePlace::NewOptions(to(at)),
                UsagePlace::NullOptions(options) => UsagePlace::NullOptions(span(options)),
                UsagePlace::NewMember { at, others } => UsagePlace::NewMember { at: to(at), others },
                UsagePlace::Value(value) => UsagePlace::Value(span(value)),
            },
            ..*self
        }
    }
}

/// Where to insert `include_usage` to ask for usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsagePlace {
    /// Asked for already, or not applicable.
    Nowhere,
    /// No options: insert a new first member of the root here, before other members.
    NewOptions(u32),
    /// Options are null: the span of that null.
    NullOptions(Span),
    /// Options without the member: insert a new first member here.
    NewMember { at: u32, others: Others },
    /// The member's value, which is false or null.
    Value(Span),
}

/// Whether an object has members, so that a new one needs a comma.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    None,
    Some,
}

/// Token counts as reported by the backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUsage {
    pub prompt: u64,
    pub completion: u64,
    pub total: u64,
    /// Of the prompt, what the backend had in its own cache.
    pub cached: u64,
    /// Of the rest of the prompt, what the backend wrote into its cache.
    pub cache_written: u64,
    /// Of the completion, what was thought and not said.
    pub reasoning: u64,
}

impl TokenUsage {
    /// These counts, which come after `before` in one stream: Anthropic's API says some at its beginning alone.
    pub fn after(self, before: TokenUsage) -> TokenUsage {
        if self.prompt > 0 {
            return self;
        }
        let counted = TokenUsage::counted(Some(before.prompt), Some(self.completion), None);
        counted.with_parts(Parts { reasoning: self.reasoning, ..before.parts() })
    }

    /// From the reported counts; a missing total is the sum.
    pub fn counted(prompt: Option<u64>, completion: Option<u64>, total: Option<u64>) -> TokenUsage {
        let (prompt, completion) = (prompt.unwrap_or(0), completion.unwrap_or(0));
        let total = total.unwrap_or(prompt.saturating_add(completion));
        TokenUsage { prompt, completion, total, ..TokenUsage::default() }
    }

    /// The parts that were reported besides; no part is larger than its whole.
    pub fn with_parts(self, parts: Parts) -> TokenUsage {
        let cached = parts.cached.min(self.prompt);
        let cache_written = parts.cache_written.min(self.prompt - cached);
        TokenUsage { cached, cache_written, reasoning: parts.reasoning.min(self.completion), ..self }
    }

    pub fn parts(self) -> Parts {
        Parts { cached: self.cached, cache_written: self.cache_written, reasoning: self.reasoning }
    }
}

/// Parts of the counts of a [`TokenUsage`]; 0 where nothing is reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    pub cached: u64,
    pub cache_written: u64,
    pub reasoning: u64,
}

/// The role of one event of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Carries part of the answer; it may finish a choice as well.
    Content,
    /// Carries no content: a role, empty strings, no choices.
    Empty,
    /// Finishes a choice and carries no content.
    Finish,
    /// Usage without a choice.
    UsageOnly,
    /// `[DONE]`.
    Done,
    /// The backend reports a failure inside the stream.
    Error,
    /// A truncated object or `[DONE]`: data was lost, and the stream must not appear complete.
    Cut,
    /// Unknown: not JSON, or a format of its own.
    Other,
}

/// Whether an event is part of an answer: before the first that is, a stream can be restarted elsewhere without the
/// client noticing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Substance {
    /// Content, or the end of a choice.
    Content,
    /// Nothing yet: a role, empty strings, usage. Also `[DONE]`, which alone is no answer.
    Preamble,
    /// Not part of an answer, in an unknown format: a provider's own message, or an error in its own fields. The events
    /// that follow show which. The kind is that of the error, if it is one.
    Unknown(ErrorKind),
    /// The event is truncated.
    Cut,
    /// The backend failed.
    Error(ErrorKind),
}

/// What a backend's error is about, as far as its body shows. Weakest to strongest: where parts of an error disagree,
/// the stronger kind applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// An error of unknown kind.
    Unknown,
    /// The request: malformed, not allowed, or for something that does not exist.
    Client,
    /// The backend itself.
    Server,
    /// The backend is overloaded or still starting.
    Overloaded,
    /// Too many requests or tokens for a time.
    RateLimited,
    /// Out of credit or quota; waiting does not help.
    QuotaExhausted,
    /// The prompt, or the prompt with the requested answer, exceeds the model's context window.
    ContextWindow,
}

impl ErrorKind {
    /// A lower-case word for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            ErrorKind::Unknown => "unknown",
            ErrorKind::Client => "client",
            ErrorKind::Server => "server",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::RateLimited => "rate_limited",
            ErrorKind::QuotaExhausted => "quota_exhausted",
            ErrorKind::ContextWindow => "context_window",
        }
    }
}

/// An error in the body of an answer whose status does not indicate one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorFacts {
    pub kind: ErrorKind,
    /// The status given in the body.
    pub status: Option<u16>,
    pub shape: ErrorShape,
}

/// Whether clients can parse an error as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorShape {
    /// An `error` object with a message, as in the API.
    Standard,
    /// The provider's own format.
    Other,
}

/// Where an event has usage that only some clients should see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageMembers {
    None,
    /// One null `usage` member of the root, with one adjoining comma. Points into the event's data.
    Null(Span),
    /// In the root, in a choice or in a provider's own member.
    Some,
}

/// The facts of one event of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventFacts {
    pub kind: EventKind,
    pub substance: Substance,
    /// Usage, if the event has it; a later one replaces an earlier one.
    pub usage: Option<TokenUsage>,
    pub usage_members: UsageMembers,
    /// One bit per choice, by its index: choices that the event mentions, adds content to, and ends.
    pub(super) choices: u128,
    pub(super) said: u128,
    pub(super) ended: u128,
    /// Why the answer may not be stored, judging by this event alone.
    pub(super) not_stored: Option<NotStored>,
}

impl EventFacts {
    /// Of an event that has this substance, and nothing else so far.
    pub(super) fn of(substance: Substance) -> EventFacts {
        EventFacts {
            kind: EventKind::Other,
            substance,
            usage: None,
            usage_members: UsageMembers::None,
            choices: 0,
            said: 0,
            ended: 0,
            not_stored: None,
        }
    }

    /// Of an event that says its type, in data that is no JSON: cut off, or of another protocol.
    pub(super) fn of_unreadable(data: &[u8], fault: JsonFaultKind) -> EventFacts {
        let is_cut = data.trim_ascii().starts_with(b"{") && fault == JsonFaultKind::UnexpectedEnd;
        match is_cut {
            true => EventFacts { kind: EventKind::Cut, ..EventFacts::of(Substance::Cut) },
            false => EventFacts::of(Substance::Unknown(ErrorKind::Unknown)),
        }
    }

    /// It is an error.
    pub(super) fn note_error(&mut self, kind: ErrorKind) {
        self.kind = EventKind::Error;
        self.substance = Substance::Error(kind);
        self.not_stored = Some(NotStored::Error);
    }

    /// It is of these choices, and has something of the model's if `is_there`.
    pub(super) fn note_content(&mut self, is_there: bool, choices: u128) {
        self.kind = EventKind::Empty;
        if is_there {
            self.kind = EventKind::Content;
            self.substance = Substance::Content;
            (self.choices, self.said) = (choices, choices);
        }
    }

    /// Whether it neither ends a choice nor prevents storing the answer.
    pub(super) fn is_merely_content(&self) -> bool {
        self.substance == Substance::Content && self.ended == 0 && self.not_stored.is_none()
    }
}

/// The facts of a complete, non-streaming answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerFacts {
    pub usage: Option<TokenUsage>,
    /// Whether it is an answer at all. `Preamble`: it is empty.
    pub substance: Substance,
    pub stored: Result<(), NotStored>,
}

/// The error reported to a client, in the format of any API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicError<'a> {
    /// The HTTP status: some APIs derive their error type from it.
    pub status: u16,
    /// One sentence the client can act on.
    pub message: &'a str,
    /// The API's error type, such as `invalid_request_error`.
    pub kind: &'a str,
    /// A stable code, such as `model_not_found`.
    pub code: Option<&'a str>,
    /// The request member at fault.
    pub param: Option<&'a str>,
    /// The exchange's id in the log; empty if there is none.
    pub request_id: &'a str,
}
