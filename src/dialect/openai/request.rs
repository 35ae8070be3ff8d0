//! The facts of a request, read from its tape. Only members the gateway acts on are checked; all others are left to the
//! backend. Must never accept a model name that a log or a backend could read differently.

use crate::dialect::facts::{Endpoint, Form, Others, RequestFacts, Sampling, Spelling, Text, UsageEvent, UsagePlace};
use crate::dialect::prompt::takes_prompts;
use crate::limits::MODEL_BYTES;
use crate::wire::json::{Kind, SHORT_NAME, Tape, Value, unescaped};

/// Members of a request's root that do not affect the answer. All others are part of the fingerprint.
pub const NOT_IN_KEY: &[&str] = &[
    // The form of the answer, not its content: one entry serves both forms.
    "stream",
    // Whether a stream ends in a usage event, and padding of its chunks. (Other stream options matter: see
    // `NOT_IN_KEY_BUT_OPTIONS`.)
    "stream_options",
    // Labels for the provider's abuse detection; models never see them. Tenants are separated by the cache scope
    // instead.
    "user",
    "safety_identifier",
    // A routing hint for the provider's prompt cache.
    "prompt_cache_key",
];

/// The same for requests whose `stream_options` have other members: some servers offer options that change every chunk.
const NOT_IN_KEY_BUT_OPTIONS: &[&str] = &["stream", "user", "safety_identifier", "prompt_cache_key"];

/// Why a request is refused before it reaches a backend: always the client's fault, always status 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    #[error("The request body must be a JSON object.")]
    RootNotObject,
    #[error("You must provide a model parameter.")]
    ModelMissing,
    #[error("Invalid type for 'model': expected a string.")]
    ModelNotString,
    #[error("Invalid 'model': must not be empty.")]
    ModelEmpty,
    #[error("Invalid 'model': longer than {MODEL_BYTES} bytes.")]
    ModelTooLong,
    #[error("Invalid 'model': contains characters that are not allowed in a model name.")]
    ModelCharacters,
    #[error("Ambiguous request: a member's name differs from 'model' or 'stream' only in case.")]
    AmbiguousName,
    #[error("Invalid type for 'stream': expected a boolean or null.")]
    StreamType,
    #[error("Invalid type for 'stream_options': expected an object or null.")]
    StreamOptionsType,
    #[error("Invalid type for 'stream_options.include_usage': expected a boolean or null.")]
    IncludeUsageType,
    #[error("Invalid type for 'user': expected a string or null.")]
    UserType,
}

impl RequestFault {
    /// The path of the member at fault; `None` if it is the body itself.
    pub fn param(self) -> Option<&'static str> {
        match self {
            RequestFault::RootNotObject | RequestFault::AmbiguousName => None,
            RequestFault::ModelMissing
            | RequestFault::ModelNotString
            | RequestFault::ModelEmpty
            | RequestFault::ModelTooLong
            | RequestFault::ModelCharacters => Some("model"),
            RequestFault::StreamType => Some("stream"),
            RequestFault::StreamOptionsType => Some("stream_options"),
            RequestFault::IncludeUsageType => Some("stream_options.include_usage"),
            RequestFault::UserType => Some("user"),
        }
    }
}

/// Reads what the gateway acts on from a request's body. `tape` is the body parsed by `json::parse`.
///
/// On `Messages`, `Responses` and `Other` endpoints the model is optional and only `model` and `stream` are checked.
pub fn request_facts(endpoint: Endpoint, input: &[u8], tape: &Tape) -> Result<RequestFacts, RequestFault> {
    let root = tape.root();
    if root.kind() != Kind::Object {
        return Err(RequestFault::RootNotObject);
    }
    let (mut model, mut stream, mut options, mut user, mut prompt) = (None, None, None, None, None);
    let (mut answer_tokens_max, mut answers, mut names_template) = (None, 1, false);
    let mut sampling = Sampling::Random;
    for member in root.members() {
        match member.short_name(input, &mut [0; SHORT_NAME]) {
            b"model" => model = Some(member.value),
            b"stream" => stream = Some(member.value),
            b"stream_options" => options = Some(member.value),
            b"user" => user = Some(member.value),
            b"temperature" if is_zero(member.value, input) => sampling = Sampling::Deterministic,
            b"seed" if !member.value.is_null() => sampling = Sampling::Deterministic,
            b"max_tokens" | b"max_completion_tokens" | b"max_output_tokens" => {
                answer_tokens_max = answer_tokens_max.max(member.value.as_u64(input));
            }
            b"n" => answers = member.value.as_u64(input).unwrap_or(1).max(1),
            b"prompt" if member.value.kind() == Kind::Object && takes_prompts(endpoint) => names_template = true,
            b"messages" | b"prompt" | b"input" => prompt = Some(member.value.span()),
            other if ["model", "stream"].iter().any(|name| other.eq_ignore_ascii_case(name.as_bytes())) => {
                // Some servers match names ignoring case and would see another model than the one checked.
                return Err(RequestFault::AmbiguousName);
            }
            _ => {}
        }
    }
    let known = !matches!(endpoint, Endpoint::Messages | Endpoint::Responses | Endpoint::Other | Endpoint::Models);
    let model = match model {
        Some(value) => Some(checked_model(value, input)?),
        None if known => return Err(RequestFault::ModelMissing),
        None => None,
    };
    let streamed = match stream {
        None => false,
        Some(value) if value.is_null() => false,
        Some(value) => value.as_bool().ok_or(RequestFault::StreamType)?,
    };
    let user = match user {
        Some(value) if value.kind() == Kind::String => text_of(value),
        Some(value) if known && !value.is_null() => return Err(RequestFault::UserType),
        _ => None,
    };
    let mut facts = RequestFacts {
        model,
        form: if streamed { Form::Streaming } else { Form::NonStreaming },
        usage_event: UsageEvent::NotAsked,
        user,
        prompt,
        sampling,
        answer_tokens_max,
        answers,
        names_template,
        is_stateful: false,
        not_in_key: NOT_IN_KEY,
        usage_place: UsagePlace::Nowhere,
        has_further_options: false,
    };
    if matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions) {
        stream_options(root, options, input, &mut facts)?;
    }
    Ok(facts)
}

fn stream_options(
    root: Value<'_>,
    options: Option<Value<'_>>,
    input: &[u8],
    facts: &mut RequestFacts,
) -> Result<(), RequestFault> {
    let place = match options {
        // The root is not empty here: it has a model.
        None => UsagePlace::NewOptions(root.span().start + 1),
        Some(options) if options.is_null() => UsagePlace::NullOptions(options.span()),
        Some(options) if options.kind() != Kind::Object => return Err(RequestFault::StreamOptionsType),
        Some(options) => {
            let mut place = UsagePlace::NewMember { at: options.span().start + 1, others: Others::None };
            for member in options.members() {
                if member.is_named(input, "include_usage") {
                    match member.value.as_bool() {
                        Some(true) => {
                            facts.usage_event = UsageEvent::Asked;
                            place = UsagePlace::Nowhere;
                        }
                        Some(false) => place = UsagePlace::Value(member.value.span()),
                        None if member.value.is_null() => place = UsagePlace::Value(member.value.span()),
                        None => return Err(RequestFault::IncludeUsageType),
                    }
                } else if !member.is_named(input, "include_obfuscation") {
                    facts.not_in_key = NOT_IN_KEY_BUT_OPTIONS;
                    facts.has_further_options = true;
                }
                if let UsagePlace::NewMember { others, .. } = &mut place {
                    *others = Others::Some;
                }
            }
            place
        }
    };
    match facts.form {
        Form::Streaming => facts.usage_place = place,
        // There is no usage event without a stream.
        Form::NonStreaming => facts.usage_event = UsageEvent::NotAsked,
    }
    Ok(())
}

/// Whether a number is zero, however it is spelled.
fn is_zero(value: Value<'_>, input: &[u8]) -> bool {
    let digits = |byte: &&u8| !matches!(byte, b'e' | b'E');
    value.kind() == Kind::Number
        && value.span().of(input).iter().take_while(digits).all(|byte| matches!(byte, b'-' | b'.' | b'0'))
}

fn text_of(value: Value<'_>) -> Option<Text> {
    let spelling = if value.has_escapes() { Spelling::Escaped } else { Spelling::Plain };
    value.inside().map(|span| Text { span, spelling })
}

fn checked_model(value: Value<'_>, input: &[u8]) -> Result<Text, RequestFault> {
    let model = text_of(value).ok_or(RequestFault::ModelNotString)?;
    let raw = model.span.of(input);
    match model.spelling {
        Spelling::Plain => check_model(raw)?,
        Spelling::Escaped => {
            // One byte more than the bound, to detect a longer name.
            let mut place = [0u8; MODEL_BYTES + 1];
            let mut len = 0;
            for (slot, byte) in place.iter_mut().zip(unescaped(raw)) {
                *slot = byte;
                len += 1;
            }
            check_model(&place[..len])?;
        }
    }
    Ok(model)
}

/// Refuses names that no model can have.
pub fn check_model(name: &[u8]) -> Result<(), RequestFault> {
    if name.is_empty() {
        return Err(RequestFault::ModelEmpty);
    }
    if name.len() > MODEL_BYTES {
        return Err(RequestFault::ModelTooLong);
    }
    if name.iter().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~')) {
        return Ok(()); // the common case
    }
    // Lone surrogates are not valid UTF-8.
    let name = std::str::from_utf8(name).map_err(|_| RequestFault::ModelCharacters)?;
    if name.chars().any(char::is_control) {
        return Err(RequestFault::ModelCharacters);
    }
    Ok(())
}
