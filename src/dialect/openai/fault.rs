//! What a server says when it fails: the body of an error answer, or an error event of a stream, of OpenAI and of the
//! servers that speak its dialect, each with a shape of its own. Reads a tape and builds nothing.
//! Must never take an answer for an error: it is asked about what is one already.

use crate::wire::json::{Kind, Tape, Value, parse_unchecked_names};

/// What a failure means for another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is longer than the model takes.
    ContextWindow,
    RateLimited,
    /// The account's money or quota is spent: waiting does not help.
    QuotaExhausted,
    Overloaded,
    /// The server's own failure.
    Server,
    /// The request is wrong.
    Client,
    /// An error, of no kind that is known.
    Unknown,
}

/// Most bytes of a message that are looked at: a server may put a whole prompt into it.
const MESSAGE_BYTES: usize = 2048;

/// The kind of error that `body` says, or `None` if it has no shape that is known. `tape` is scratch.
///
/// Shapes: `{"error":{"message","type","code"}}` (OpenAI, llama.cpp, vLLM, SGLang, and Anthropic with a `type` beside
/// it), the same members without the outer object (older vLLM: `{"object":"error","message",...}`), and
/// `{"error":"...","error_type":"..."}` (TGI).
pub fn error_kind(body: &[u8], tape: &mut Tape) -> Option<ErrorKind> {
    parse_unchecked_names(body, tape).ok()?;
    let root = tape.root();
    if root.kind() != Kind::Object {
        return None;
    }
    let mut error = None;
    let mut says = Says::default();
    for member in root.members() {
        match member.name.plain(body) {
            Some(b"error") if member.value.kind() == Kind::Object => error = Some(member.value),
            Some(b"error" | b"detail") if member.value.kind() == Kind::String => {
                says.message = member.value.plain(body)
            }
            Some(name) => says.note(name, member.value, body),
            None => {}
        }
    }
    if let Some(error) = error {
        says = Says::default();
        for member in error.members() {
            if let Some(name) = member.name.plain(body) {
                says.note(name, member.value, body);
            }
        }
        return Some(says.kind());
    }
    says.is_error().then(|| says.kind())
}

/// The members by which servers tell errors apart.
#[derive(Default)]
struct Says<'a> {
    message: Option<&'a [u8]>,
    class: Option<&'a [u8]>,
    code: Option<&'a [u8]>,
    status: Option<u64>,
    object: Option<&'a [u8]>,
}

impl<'a> Says<'a> {
    fn note(&mut self, name: &[u8], value: Value<'a>, body: &'a [u8]) {
        // A message with escapes is read as it is spelled: the words that are looked for have none.
        let text = || value.inside().map(|span| span.of(body));
        match name {
            b"message" => self.message = text(),
            b"type" | b"error_type" => self.class = text(),
            b"object" => self.object = text(),
            b"code" | b"status" => match value.as_u64(body) {
                Some(status) => self.status = Some(status),
                None => self.code = text().or(self.code),
            },
            _ => {}
        }
    }

    fn is_error(&self) -> bool {
        self.object == Some(b"error") || (self.message.is_some() && (self.class.is_some() || self.status.is_some()))
    }

    fn kind(&self) -> ErrorKind {
        let is = |words: &[&str]| {
            words.iter().any(|word| self.class == Some(word.as_bytes()) || self.code == Some(word.as_bytes()))
        };
        if is(&["context_length_exceeded", "exceed_context_size_error", "string_above_max_length"])
            || self.tells_of_length()
        {
            return ErrorKind::ContextWindow;
        }
        if is(&["insufficient_quota", "billing_hard_limit_reached", "billing_error"]) {
            return ErrorKind::QuotaExhausted;
        }
        if is(&["rate_limit_error", "rate_limit_exceeded", "tokens", "requests", "RateLimitError"]) {
            return ErrorKind::RateLimited;
        }
        if is(&["overloaded_error", "overloaded", "unavailable_error", "server_overloaded", "service_unavailable"]) {
            return ErrorKind::Overloaded;
        }
        if is(&["server_error", "api_error", "internal_error", "InternalServerError", "timeout_error", "generation"]) {
            return ErrorKind::Server;
        }
        if is(&[
            "invalid_request_error",
            "BadRequestError",
            "NotFoundError",
            "authentication_error",
            "permission_error",
        ]) {
            return ErrorKind::Client;
        }
        match self.status {
            Some(429) => ErrorKind::RateLimited,
            Some(503 | 529) => ErrorKind::Overloaded,
            Some(500..600) => ErrorKind::Server,
            Some(400..500) => ErrorKind::Client,
            _ => ErrorKind::Unknown,
        }
    }

    /// Servers without a code of their own say it in a sentence.
    fn tells_of_length(&self) -> bool {
        const PHRASES: [&str; 7] = [
            "maximum context length",
            "context length exceeded",
            "exceeds the available context",
            "prompt is too long",
            "longer than the model's context length",
            "exceeds the context window",
            "exceed context limit",
        ];
        let Some(message) = self.message else { return false };
        let message = message[..message.len().min(MESSAGE_BYTES)].to_ascii_lowercase();
        PHRASES.iter().any(|phrase| memchr::memmem::find(&message, phrase.as_bytes()).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(body: &str) -> Option<ErrorKind> {
        error_kind(body.as_bytes(), &mut Tape::default())
    }

    #[test]
    fn shapes_of_servers() {
        use ErrorKind::*;
        let cases = [
            (
                r#"{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
                ContextWindow,
            ),
            (
                r#"{"error":{"message":"Rate limit reached","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
                RateLimited,
            ),
            (
                r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
                QuotaExhausted,
            ),
            (
                r#"{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}"#,
                Server,
            ),
            (
                r#"{"error":{"code":400,"message":"request (5000 tokens) exceeds the available context size (4096 tokens)","type":"exceed_context_size_error","n_prompt_tokens":5000,"n_ctx":4096}}"#,
                ContextWindow,
            ),
            (r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#, Overloaded),
            (
                r#"{"object":"error","message":"This model's maximum context length is 2048 tokens. However, you requested 3000 tokens","type":"BadRequestError","param":null,"code":400}"#,
                ContextWindow,
            ),
            (
                r#"{"object":"error","message":"The model `x` does not exist.","type":"NotFoundError","param":null,"code":404}"#,
                Client,
            ),
            (r#"{"error":{"message":"oops","type":"BadRequestError","param":null,"code":400}}"#, Client),
            (
                r#"{"error":{"message":"The input (9000 tokens) is longer than the model's context length (8192 tokens).","code":400}}"#,
                ContextWindow,
            ),
            (r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Overloaded),
            (
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
                ContextWindow,
            ),
            (r#"{"error":"Model is overloaded","error_type":"overloaded"}"#, Overloaded),
            (r#"{"error":{"message":"CUDA out of memory","code":500}}"#, Server),
            (r#"{"error":{}}"#, Unknown),
        ];
        for (body, expected) in cases {
            assert_eq!(kind(body), Some(expected), "{body}");
        }
    }

    #[test]
    fn what_is_no_error_is_none() {
        let answer =
            r#"{"id":"x","object":"chat.completion","choices":[{"message":{"content":"maximum context length"}}]}"#;
        for body in ["", "<html>", "[]", "7", "{}", answer, r#"{"error":null}"#, r#"{"message":"hello"}"#] {
            assert_eq!(kind(body), None, "{body}");
        }
    }

    #[test]
    fn a_long_message_is_looked_at_as_far_as_it_matters() {
        let body = format!(r#"{{"error":{{"message":"{}maximum context length","code":400}}}}"#, "x".repeat(1 << 20));
        assert_eq!(kind(&body), Some(ErrorKind::Client));
    }
}
