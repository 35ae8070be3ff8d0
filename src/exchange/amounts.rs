//! From a request to the tokens that it is expected to use, for limits to reserve and for calls that tell of none.

use memchr::memmem::Finder;

use super::generation::Generation;
use super::quota::FILE_MARK;
use super::used::{Seen, UsageSource, Used};
use crate::config::snapshot::Price;
use crate::dialect::facts::{Endpoint, RequestFacts, TokenUsage};

/// What a request is expected to use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Amounts {
    /// Of its text.
    pub prompt_bytes: u64,
    /// In tokens, as is the answer.
    pub prompt: u64,
    pub answer: u64,
    /// Whether the client bounds the answer.
    pub is_bounded: bool,
}

impl Amounts {
    pub fn of(
        generation: &Generation,
        model: usize,
        endpoint: Endpoint,
        facts: Option<&RequestFacts>,
        body: &[u8],
    ) -> Amounts {
        let estimate = generation.upstreams.models[model].estimate.borrow();
        let (prompt_bytes, media) = facts
            .and_then(|facts| facts.prompt)
            .map_or((0, 0), |span| text_bytes(&generation.quota.files, span.of(body)));
        let prompt = estimate.prompt(prompt_bytes).saturating_add(media * MEDIA_TOKENS).max(1);
        let bound = facts.and_then(|facts| facts.answer_tokens_max);
        let answer = match endpoint {
            Endpoint::Embeddings | Endpoint::Models => 0,
            Endpoint::ChatCompletions
            | Endpoint::Completions
            | Endpoint::Messages
            | Endpoint::Responses
            | Endpoint::Other => match (bound, facts) {
                (_, None) => 0,
                (Some(most), Some(facts)) => most.saturating_mul(facts.answers),
                (None, Some(facts)) => estimate.answer().saturating_mul(facts.answers),
            },
        };
        Amounts { prompt_bytes, prompt, answer, is_bounded: bound.is_some() }
    }

    /// What a call for it has used.
    pub fn used(self, tokens: Option<TokenUsage>, seen: Seen, price: Price) -> Used {
        let most = if self.is_bounded { self.answer } else { u64::MAX };
        match tokens {
            Some(tokens) => Used::of(tokens, UsageSource::Reported, price),
            None => Used::of(seen.estimate(self.prompt, most), UsageSource::Estimated, price),
        }
    }
}

/// An image or a recording within a prompt: what providers take for one of usual size.
const MEDIA_TOKENS: u64 = 1_024;

/// How many bytes of a prompt's JSON are text, and how many files stand in it as base64.
fn text_bytes(mark: &Finder<'_>, prompt: &[u8]) -> (u64, u64) {
    let (mut rest, mut bytes, mut files) = (prompt, 0, 0);
    while let Some(at) = mark.find(rest) {
        let data = &rest[at + FILE_MARK.len()..];
        let end = memchr::memchr(b'"', data).unwrap_or(data.len());
        bytes += at as u64;
        files += 1;
        rest = &data[end..];
    }
    (bytes + rest.len() as u64, files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_a_prompt_are_no_text() {
        let mark = Finder::new(FILE_MARK);
        let text = br#"[{"content":"look"}]"#;
        assert_eq!(text_bytes(&mark, text), (20, 0));
        let image = format!(r#"[{{"url":"data:image/png;base64,{}"}},{{"url":"data:x;base64,"#, "A".repeat(5_000));
        assert_eq!(text_bytes(&mark, image.as_bytes()), (40, 2));
        assert_eq!(text_bytes(&mark, b""), (0, 0));
    }
}
