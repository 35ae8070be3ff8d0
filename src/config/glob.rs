//! Patterns in which `*` matches any bytes, including none. No other character is special. Owns nothing.

/// Whether `pattern` matches all of `text`. The time is bounded by the product of their lengths.
pub(super) fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    // Where to resume after a mismatch: behind the last star, which then matches one more byte.
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(byte) if *byte == text[read] => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((behind, under)) = star else { return false };
                star = Some((behind, under + 1));
                (at, read) = (behind + 1, under + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_stands_for_any_bytes() {
        for (pattern, text, fit) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("ab", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("qwen-*", "qwen-", true),
            ("qwen-*", "qwen-7b", true),
            ("qwen-*", "my-qwen-7b", false),
            ("*-mini", "gpt-4o-mini", true),
            ("*-mini", "gpt-4o-mini-2024", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "acb", false),
            ("*ab", "aab", true),
            ("**a", "ba", true),
            ("a?", "ab", false),
            ("[a]", "a", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), text.as_bytes()), fit, "{pattern} {text}");
        }
    }
}
