//! How many tokens a request will take, before anyone has counted them. Owned by one core, one per model. Learns from the usage
//! that backends report; a client can move it within bounds only.

/// Learnt sizes, in 1/1024.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// Bytes of JSON of a prompt per token.
    bytes: u64,
    /// Tokens of an answer whose request sets no bound.
    answer: u64,
}

const ONE: u64 = 1024;
/// English text with its JSON around it; the bounds are those of base64 and of long runs of spaces.
const BYTES: u64 = 4 * ONE;
const BYTES_LEAST: u64 = ONE;
const BYTES_MOST: u64 = 8 * ONE;
/// Assumed of an answer while none has come.
const ANSWER: u64 = 512 * ONE;
/// A sample moves what is known by 1/16 of the difference.
const PULL: u64 = 16;
/// What is shorter says more of the JSON around the text than of the text.
const SAMPLE_BYTES: u64 = 64;

impl Estimate {
    pub const fn new() -> Self {
        Self { bytes: BYTES, answer: ANSWER }
    }

    /// Tokens of a prompt of so many bytes of JSON.
    pub fn prompt(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(ONE).div_ceil(self.bytes)
    }

    /// Tokens of an answer to a request that sets no bound.
    pub fn answer(&self) -> u64 {
        self.answer.div_ceil(ONE)
    }

    /// A prompt of so many bytes was counted.
    pub fn note_prompt(&mut self, bytes: u64, tokens: u64) {
        if bytes >= SAMPLE_BYTES && tokens > 0 {
            let sample = (bytes.saturating_mul(ONE) / tokens).clamp(BYTES_LEAST, BYTES_MOST);
            self.bytes = pulled(self.bytes, sample);
        }
    }

    /// An answer was counted.
    pub fn note_answer(&mut self, tokens: u64) {
        self.answer = pulled(self.answer, tokens.saturating_mul(ONE));
    }
}

impl Default for Estimate {
    fn default() -> Self {
        Self::new()
    }
}

const fn pulled(known: u64, sample: u64) -> u64 {
    if sample >= known {
        known.saturating_add((sample - known) / PULL)
    } else {
        known - (known - sample).div_ceil(PULL)
    }
}
