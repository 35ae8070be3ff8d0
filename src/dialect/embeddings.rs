//! Batches of embeddings and of completions, in the API that has them.

use std::ops::Range;

use super::Dialect;
use super::facts::TokenUsage;
use super::openai::embeddings::{self as openai, Embeddings, Inputs};
use super::openai::prompts;
use crate::wire::Span;
use crate::wire::json::Tape;

impl Dialect {
    /// The inputs of a request for several embeddings, of at most `most`. `tape` is scratch and holds the body's tape afterwards.
    pub fn embedding_inputs(self, body: &[u8], tape: &mut Tape, most: usize) -> Option<Inputs> {
        match self {
            Dialect::OpenAi => openai::inputs(body, tape, most),
            Dialect::Responses | Dialect::Anthropic => None,
        }
    }

    /// The inputs of a request for one or several, of at most `most`; of one, its array is the input itself. `tape` is scratch.
    pub fn all_embedding_inputs(self, body: &[u8], tape: &mut Tape, most: usize) -> Option<Inputs> {
        match self {
            Dialect::OpenAi => openai::all_inputs(body, tape, most),
            Dialect::Responses | Dialect::Anthropic => None,
        }
    }

    /// The prompts of a request for completions that may go with others, of at most `most`; of one, its array is the prompt itself.
    /// `tape` is scratch.
    pub fn all_prompts(self, body: &[u8], tape: &mut Tape, most: usize) -> Option<Inputs> {
        match self {
            Dialect::OpenAi => prompts::prompts(body, tape, most),
            Dialect::Responses | Dialect::Anthropic => None,
        }
    }

    /// Each request's own completions out of those of all of their prompts, of these lengths. `tape` is scratch.
    pub fn completion_parts(
        self,
        answer: &[u8],
        ranges: &[Range<usize>],
        weights: &[u64],
        tape: &mut Tape,
    ) -> Option<Vec<(Vec<u8>, TokenUsage)>> {
        prompts::split(answer, ranges, weights, tape)
    }

    /// The request without the inputs that are known, as long as before.
    pub fn embedding_request(self, body: &[u8], inputs: &Inputs, is_known: impl Fn(usize) -> bool) -> Vec<u8> {
        openai::without(body, inputs, is_known)
    }

    /// The embeddings in a complete answer to `count` inputs. `tape` is scratch.
    pub fn embeddings(self, answer: &[u8], count: usize, tape: &mut Tape) -> Option<Embeddings> {
        openai::embeddings(answer, count, tape)
    }

    /// What of a batch's tokens each input has.
    pub fn token_shares(self, tokens: u64, weights: &[u64]) -> Vec<u64> {
        openai::shares(tokens, weights)
    }

    /// One embedding as it is kept.
    pub fn embedding_part(self, model: &[u8], embedding: &[u8]) -> Vec<u8> {
        openai::write_part(model, embedding)
    }

    /// The name of the model and the embedding, in one that was kept. `tape` is scratch.
    pub fn embedding_of_part(self, part: &[u8], tape: &mut Tape) -> Option<(Span, Span)> {
        openai::read_part(part, tape)
    }

    /// An answer of these embeddings.
    pub fn embedding_answer<'a>(
        self,
        model: &[u8],
        embeddings: impl Iterator<Item = &'a [u8]>,
        tokens: TokenUsage,
    ) -> Vec<u8> {
        openai::write(model, embeddings, tokens)
    }
}
