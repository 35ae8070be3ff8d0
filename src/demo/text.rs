//! The words of an answer: what Ringway just did with the request, told to the person who sent it.
//! Pure: the same prompt and call number give the same text, whole or streamed.

use super::prompt::excerpt;

/// What happened on the way, one told at a time; which one depends on the prompt.
const TOLD: [&str; 4] = [
    "On the way here Ringway checked the head of your request byte by byte, walked its JSON once, and took a SHA-256 \
     fingerprint of every field that can change the answer. No answer with that fingerprint was at hand, so it chose a \
     backend and sent your bytes on as they were.",
    "One pinned core took your request and asked the core that owns its fingerprint whether the answer was known. It \
     was not, so your request leads a new flight: whoever asks the same thing while I speak reads along from the \
     first word, and I shall not even notice.",
    "When you ask for a stream, each of these words leaves me as an event of its own, and Ringway hands it to you the \
     moment it arrives. It keeps a copy on the side, and only once my last event says that the answer is complete \
     does that copy enter the cache.",
    "Your request came in through one ring of the kernel and left through the same ring on a connection that stays \
     open for the next one. Had you left in the middle, Ringway would have closed that connection, so that no backend \
     goes on talking to an empty room.",
];

/// The answer to `prompt`, as call number `number` of this backend.
pub fn answer(prompt: &str, number: u64) -> String {
    let prompt = prompt.trim();
    let opening = match prompt {
        "" => "You sent no words at all, which is a fine way to say hello.".to_owned(),
        words => format!("You asked: “{}”", excerpt(words)),
    };
    let told = TOLD[(hash(prompt.as_bytes()) % TOLD.len() as u64) as usize];
    format!(
        "{opening} I am the demo backend inside the ringway program, and yours is call number {number}. {told} Send the \
         very same request again: the number will still be {number}, for the answer will come out of Ringway's memory \
         without a call to me, and the response header will say x-cache: HIT. Change a single word, and I am asked \
         again."
    )
}

/// Splits `text` into tokens that give it back when joined: a word with the space before it.
pub fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(' ') {
        if at > start {
            tokens.push(&text[start..at]);
            start = at;
        }
    }
    if start < text.len() {
        tokens.push(&text[start..]);
    }
    tokens
}

/// FNV-1a, 64 bits: enough to choose a variant or seed a vector; it decides nothing that matters.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_join_to_the_text() {
        for text in ["", " ", "  two  spaces ", "one", "Grüße an “alle”", &answer("What is a ring?", 7)] {
            assert_eq!(tokens(text).concat(), text);
        }
    }

    #[test]
    fn the_answer_depends_on_prompt_and_number_alone() {
        assert_eq!(answer("a", 1), answer("a", 1));
        assert_ne!(answer("a", 1), answer("a", 2));
        assert_ne!(answer("a", 1), answer("b", 1));
        let long = "é".repeat(1000);
        assert!(answer(&long, 1).contains('…'));
    }
}
