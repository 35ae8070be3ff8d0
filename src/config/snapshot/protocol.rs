//! What is spoken to a backend: the version of HTTP, and the LLM API.

use strum::{EnumString, VariantNames};

/// What is spoken to a backend, or with clients of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Protocol {
    /// What ALPN agrees on; HTTP/1.1 in plain text.
    Auto,
    Http1,
    /// By ALPN, or by prior knowledge in plain text.
    Http2,
}

/// The LLM API that a backend speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Api {
    /// Whatever clients speak: nothing is translated.
    Any,
    OpenAi,
    Anthropic,
}

/// How a backend of OpenAI's API counts the tokens of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum CountTokens {
    Off,
    /// By vLLM's `/tokenize`.
    Vllm,
}
