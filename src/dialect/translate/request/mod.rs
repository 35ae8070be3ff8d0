//! Requests, both ways, and why one is refused.

mod to_anthropic;
mod to_openai;

pub use to_anthropic::to_anthropic;
pub use to_openai::{to_openai, to_tokenizer};

use super::value::ValueFault;

/// Why a request cannot be said in the other API: always the request's own fault there, always an error of the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untranslatable {
    #[error("The request cannot be translated for this model's backend: {fault}.")]
    Json { fault: ValueFault },
    #[error("This model's backend speaks {api}'s API, which cannot do what '{param}' asks for here: {why}.")]
    Member { param: &'static str, api: &'static str, why: &'static str },
    #[error("Invalid '{param}': expected {expected}.")]
    Type { param: &'static str, expected: &'static str },
    #[error("This model's backend speaks {api}'s API, which has no such path.")]
    Path { api: &'static str },
    #[error(
        "This model's backend speaks OpenAI's API, which cannot count tokens. Read the usage of an answer; or, where the backend has \
         a tokenizer, the gateway's operator can set its `count_tokens`."
    )]
    Count,
}

impl Untranslatable {
    /// The member at fault.
    pub fn param(self) -> Option<&'static str> {
        match self {
            Untranslatable::Member { param, .. } | Untranslatable::Type { param, .. } => Some(param),
            Untranslatable::Json { .. } | Untranslatable::Path { .. } | Untranslatable::Count => None,
        }
    }

    /// The status of the answer.
    pub fn status(self) -> u16 {
        match self {
            // Clients then do without: the path is one that servers may lack.
            Untranslatable::Count => 404,
            Untranslatable::Json { .. } | Untranslatable::Path { .. } => 400,
            Untranslatable::Member { .. } | Untranslatable::Type { .. } => 400,
        }
    }
}
