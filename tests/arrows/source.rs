//! Rust source as the checks see it: comments and literals blanked, paths from the crate's root spelled out.
//! A small lexer, not a parser: it knows where code is, and that is all the checks need.

/// `text` with every comment, string and character literal turned into spaces; lines and columns stay.
pub fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => find(bytes, at, b"\n"),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if !follows_word(bytes, at) => raw_string_end(bytes, at),
            b'\'' => char_end(bytes, at),
            _ => at,
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    let found = bytes[from..].windows(what.len()).position(|window| window == what);
    found.map_or(bytes.len(), |offset| from + offset)
}

fn block_comment_end(bytes: &[u8], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of `r"..."` or `r#"..."#`; `from` itself if it is something else that begins with an r.
fn raw_string_end(bytes: &[u8], from: usize) -> usize {
    let hashes = bytes[from + 1..].iter().take_while(|byte| **byte == b'#').count();
    let quote = from + 1 + hashes;
    if bytes.get(quote) != Some(&b'"') {
        return from;
    }
    let mut closing = vec![b'"'];
    closing.resize(1 + hashes, b'#');
    (find(bytes, quote + 1, &closing) + closing.len()).min(bytes.len())
}

/// The end of a character literal; `from` itself if the quote begins a lifetime.
fn char_end(bytes: &[u8], from: usize) -> usize {
    match bytes.get(from + 1) {
        Some(b'\\') => (find(bytes, from + 3, b"'") + 1).min(bytes.len()),
        Some(first) => {
            let length = match first {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            };
            if bytes.get(from + 1 + length) == Some(&b'\'') { from + 2 + length } else { from }
        }
        None => from,
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Whether the letter at `at` continues a word. A prefix such as the b of `br"..."` is not one for this purpose.
fn follows_word(bytes: &[u8], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|place| bytes[place]);
    match before(1) {
        Some(b'b' | b'c') => before(2).is_some_and(is_word),
        Some(byte) => is_word(byte),
        None => false,
    }
}

/// Each whole word of `code` with its line, counted from 1.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(line, text)| {
        let words = text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
        words.filter(|word| !word.is_empty()).map(move |word| (line + 1, word))
    })
}

/// Every path of `code` that begins at the crate's root: the line and the two segments after `crate`. A group such as
/// `crate::{net, wire::{Span, sse}}` gives one path a branch; a missing second segment is empty.
pub fn root_paths(code: &str) -> Vec<(usize, [String; 2])> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate") {
        let inside_word = code[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        if let Some(rest) = code[at + "crate".len()..].trim_start().strip_prefix("::").filter(|_| !inside_word) {
            let line = code[..at].matches('\n').count() + 1;
            for first in branches(rest) {
                let after = first.1.trim_start().strip_prefix("::");
                let seconds = after.map_or_else(Vec::new, branches);
                if seconds.is_empty() {
                    paths.push((line, [first.0.clone(), String::new()]));
                }
                paths.extend(seconds.into_iter().map(|second| (line, [first.0.clone(), second.0])));
            }
        }
    }
    paths
}

/// The next segment of a path with the text behind it; one for each branch of a group.
pub fn branches(text: &str) -> Vec<(String, &str)> {
    let text = text.trim_start();
    let Some(inside) = text.strip_prefix('{') else {
        let end = text.find(|letter: char| !(letter.is_alphanumeric() || letter == '_')).unwrap_or(text.len());
        return if end == 0 { Vec::new() } else { vec![(text[..end].to_owned(), &text[end..])] };
    };
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, letter) in inside.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.extend(branches(&inside[start..at]));
                start = at + 1;
                if letter == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}
