//! The kind of an error body or error event, in the formats of OpenAI, of servers that speak its API, and of Anthropic.
//! Pure, over a tape; runs on errors only. It must never decide how an error is handled.

use super::event::is_full;
use crate::dialect::facts::{ErrorFacts, ErrorKind, ErrorShape};
use crate::limits::{ERROR_BODY_BYTES, ERROR_MESSAGE_BYTES};
use crate::wire::json::{Kind, Tape, Value, parse_unchecked_names};

/// The kind of error `body` reports; `None` if it is not JSON in a known error format, or exceeds
/// `limits::ERROR_BODY_BYTES`. `tape` is scratch. The caller takes the response status into account.
pub fn error_kind(body: &[u8], tape: &mut Tape) -> Option<ErrorKind> {
    if body.len() > ERROR_BODY_BYTES || parse_unchecked_names(body, tape).is_err() {
        return None;
    }
    kind_of(tape.root(), body)
}

/// The kind of error that a parsed body or event reports, if it has the format of one.
pub fn kind_of(root: Value<'_>, input: &[u8]) -> Option<ErrorKind> {
    // Google's servers wrap the object in an array.
    let root = root.elements().next().unwrap_or(root);
    let mut said = Said::default();
    let (mut error, mut announced) = (None, false);
    for member in root.members() {
        match member.name.plain(input) {
            Some(b"error") if !member.value.is_null() => error = Some(member.value),
            // OpenRouter: one choice failed.
            Some(b"choices") => {
                let in_choice = member.value.elements().find_map(|choice| choice.get(input, "error"));
                error = error.or(in_choice.filter(|error| is_error(*error, input)));
            }
            // The older format of vLLM, SGLang and Mistral has no inner object.
            Some(b"object") => announced |= member.value.plain(input) == Some(b"error"),
            // TGI, next to an `error` with the message.
            Some(b"error_type") => said.note(b"type", member.value, input),
            Some(b"type") if member.value.plain(input) == Some(b"error") => announced = true,
            _ => {}
        }
    }
    match error {
        Some(error) if error.kind() == Kind::Object => Some(said_by(error, input)),
        Some(error) => {
            said.note(b"message", error, input);
            Some(said.kind(input))
        }
        None if announced => Some(said_by(root, input)),
        None => None,
    }
}

/// Whether a member called `error` is an error: some servers write an empty one into every answer.
pub(super) fn is_error(error: Value<'_>, input: &[u8]) -> bool {
    match error.kind() {
        Kind::Null => false,
        Kind::Bool => error.as_bool() == Some(true),
        Kind::Number => error.as_u64(input) != Some(0),
        Kind::String | Kind::Object | Kind::Array => is_full(error, input),
    }
}

/// Members in which providers report an error in their own format: MiniMax, Cloudflare.
const OWN: [&[u8]; 2] = [b"base_resp", b"errors"];

/// Reads a body that is expected to be an error, in any fields.
pub fn error_facts(body: &[u8], tape: &mut Tape) -> ErrorFacts {
    if body.len() > ERROR_BODY_BYTES || parse_unchecked_names(body, tape).is_err() {
        return ErrorFacts { kind: ErrorKind::Unknown, status: None, shape: ErrorShape::Other };
    }
    error_of(tape.root(), body)
}

pub fn error_of(root: Value<'_>, input: &[u8]) -> ErrorFacts {
    let object = root.elements().next().unwrap_or(root);
    let mut facts = ErrorFacts { kind: ErrorKind::Unknown, status: None, shape: ErrorShape::Other };
    let error = object.get(input, "error").filter(|error| error.kind() == Kind::Object);
    let own = object.members().filter(|member| member.name.plain(input).is_some_and(|name| OWN.contains(&name)));
    // Innermost first: the innermost error is the model's.
    let inner = own.map(|member| member.value.elements().next().unwrap_or(member.value));
    for place in error.into_iter().chain(inner).chain([object]) {
        let status = place.members().filter(|member| member.name.plain(input).is_some_and(is_status));
        let named = status.filter_map(|member| status_of(member.value, input)).next();
        facts.status = facts.status.or(named);
        facts.kind = facts.kind.max(said_by(place, input));
    }
    facts.kind = kind_of(root, input).map_or(facts.kind, |kind| kind.max(facts.kind));
    if error.is_some_and(|error| error.get(input, "message").is_some_and(|text| is_full(text, input)))
        && root.kind() == Kind::Object
    {
        facts.shape = ErrorShape::Standard;
    }
    facts
}

fn is_status(name: &[u8]) -> bool {
    matches!(name, b"code" | b"status" | b"status_code" | b"http_code" | b"error_code")
}

/// An HTTP status, as a number or a string.
fn status_of(value: Value<'_>, input: &[u8]) -> Option<u16> {
    let number = value.as_u64(input).or_else(|| std::str::from_utf8(value.plain(input)?).ok()?.parse().ok())?;
    u16::try_from(number).ok().filter(|status| (400..600).contains(status))
}

/// The kind of error that this object describes, if it is an error.
pub(super) fn said_by(error: Value<'_>, input: &[u8]) -> ErrorKind {
    let mut said = Said::default();
    for member in error.members() {
        said.note(member.name.plain(input).unwrap_or_default(), member.value, input);
    }
    said.kind(input)
}

/// What was read from one error.
#[derive(Default)]
struct Said<'t> {
    /// The strongest kind that its names and numbers indicate.
    named: Option<ErrorKind>,
    message: Option<Value<'t>>,
}

impl<'t> Said<'t> {
    fn note(&mut self, member: &[u8], value: Value<'t>, input: &[u8]) {
        match member {
            // Google puts the name into `status`.
            b"type" | b"code" | b"status" | b"status_code" | b"error_code" => {
                let number = value.as_u64(input).and_then(by_status);
                let named = number.or_else(|| by_name(value.plain(input)?));
                self.named = self.named.max(named);
            }
            b"message" | b"status_msg" | b"error_msg" | b"error_message" | b"msg" | b"detail" => {
                self.message = self.message.or(Some(value).filter(|text| text.kind() == Kind::String));
            }
            _ => {}
        }
    }

    fn kind(&self, input: &[u8]) -> ErrorKind {
        let named = self.named.unwrap_or(ErrorKind::Unknown);
        // Names this specific take precedence: a message about a rate limit may mention tokens and context.
        if named > ErrorKind::Server {
            return named;
        }
        let Some(message) = self.message.and_then(Value::inside) else { return named };
        let message = message.of(input);
        let message = message[..message.len().min(ERROR_MESSAGE_BYTES)].to_ascii_lowercase();
        let says =
            |words: &[&str]| words.iter().any(|words| memchr::memmem::find(&message, words.as_bytes()).is_some());
        if says(&ABOUT_CONTEXT) {
            ErrorKind::ContextWindow
        } else if says(&ABOUT_MONEY) {
            ErrorKind::QuotaExhausted
        } else if named != ErrorKind::Client && says(&ABOUT_LOAD) {
            ErrorKind::Overloaded
        } else {
            named
        }
    }
}

/// Phrases for a prompt, or a prompt with the requested answer, that exceeds the context window. Matched without
/// unescaping, so no phrase contains a character that JSON writers tend to escape.
const ABOUT_CONTEXT: [&str; 16] = [
    "context length",                       // OpenAI, vLLM, SGLang, Ollama, Mistral
    "context size",                         // llama.cpp
    "context window",                       // OpenAI's newer endpoints
    "context limit",                        // Anthropic, prompt and answer together
    "prompt is too long",                   // Anthropic
    "prompt too long",                      // Ollama
    "maximum prompt length",                // xAI
    "maximum model length",                 // vLLM
    "input is too long",                    // Bedrock
    "input token count",                    // Google
    "too many tokens",                      // Cohere
    "too large to process",                 // llama.cpp, embeddings
    "max_tokens must be at least 1, got -", // vLLM: what is left for the answer is negative
    "`inputs` must have less than",         // TGI
    "`inputs` tokens + `max_new_tokens`",   // TGI
    "reduce the length of the",             // OpenAI and its likes
];

/// Phrases for an account without credit, where the name only says that the request is invalid.
const ABOUT_MONEY: [&str; 4] =
    ["credit balance is too low", "insufficient balance", "insufficient credit", "exceeded your current quota"];

/// Phrases for a server that is overloaded or still starting.
const ABOUT_LOAD: [&str; 3] = ["overloaded", "over capacity", "loading model"];

/// What a number in place of a name means: servers put the status there.
fn by_status(number: u64) -> Option<ErrorKind> {
    match number {
        402 => Some(ErrorKind::QuotaExhausted),
        429 => Some(ErrorKind::RateLimited),
        503 | 529 => Some(ErrorKind::Overloaded),
        400..=499 => Some(ErrorKind::Client),
        500..=599 => Some(ErrorKind::Server),
        _ => None,
    }
}

/// Longest name that is looked up.
const NAME_BYTES: usize = 48;

/// What a `type`, `code` or `status` means, in any spelling: `rate_limit_error`, `RateLimitError`, `RATE_LIMIT`.
fn by_name(name: &[u8]) -> Option<ErrorKind> {
    if name.len() > NAME_BYTES {
        return None;
    }
    let messages = name.iter().filter(|byte| byte.is_ascii_alphanumeric());
    let messages: Vec<u8> = messages.map(u8::to_ascii_lowercase).collect();
    let name = messages.strip_suffix(b"error").or(messages.strip_suffix(b"exception")).unwrap_or(&messages);
    Some(match name {
        b"contextlengthexceeded" | b"contextwindowexceeded" | b"exceedcontextsize" | b"stringabovemaxlength" => {
            ErrorKind::ContextWindow
        }
        b"insufficientquota"
        | b"quotaexceeded"
        | b"exceededcurrentquota"
        | b"billing"
        | b"billinghardlimitreached"
        | b"billingnotactive"
        | b"insufficientbalance"
        | b"insufficientcredits"
        | b"paymentrequired" => ErrorKind::QuotaExhausted,
        // OpenAI's types of a rate limit name what was counted.
        b"ratelimit" | b"ratelimited" | b"ratelimitexceeded" | b"ratelimitreached" | b"requests" | b"tokens"
        | b"toomanyrequests" | b"resourceexhausted" | b"throttling" => ErrorKind::RateLimited,
        b"overloaded"
        | b"serverisoverloaded"
        | b"serveroverloaded"
        | b"engineoverloaded"
        | b"modeloverloaded"
        | b"serviceunavailable"
        | b"unavailable"
        | b"capacityexceeded"
        | b"servicetiercapacityexceeded" => ErrorKind::Overloaded,
        b"server"
        | b"internalserver"
        | b"internal"
        | b"api"
        | b"timeout"
        | b"gatewaytimeout"
        | b"badgateway"
        | b"deadlineexceeded"
        | b"generation"
        | b"incompletegeneration" => ErrorKind::Server,
        b"invalidrequest"
        | b"badrequest"
        | b"validation"
        | b"unprocessableentity"
        | b"value"
        | b"invalidargument"
        | b"failedprecondition"
        | b"authentication"
        | b"unauthenticated"
        | b"unauthorized"
        | b"invalidapikey"
        | b"permission"
        | b"permissiondenied"
        | b"forbidden"
        | b"notfound"
        | b"modelnotfound"
        | b"notsupported"
        | b"requesttoolarge"
        | b"conflict"
        | b"contentfilter"
        | b"contentpolicyviolation" => ErrorKind::Client,
        // A status as a string.
        [b'4' | b'5', b'0'..=b'9', b'0'..=b'9'] => {
            return by_status(name.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')));
        }
        _ => return None,
    })
}
