//! What these machines must not contain: floats (money and fairness are counted), clocks, random sources, threads,
//! sockets. The compiler excludes `std` and `unsafe`, but not these.

use std::fs;
use std::path::{Path, PathBuf};

/// A banned word and the reason. `core::time::Duration` is one: time is `Millis` here.
const BANNED: [(&str, &str); 6] = [
    ("f32", "no floats"),
    ("f64", "no floats"),
    ("std::", "no clock, thread or socket"),
    ("Duration", "time is Millis, passed in"),
    ("RandomState", "tables are hashed by the fingerprint"),
    ("DefaultHashBuilder", "tables are hashed by the fingerprint"),
];

#[test]
fn sources_keep_to_the_house_rules() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(sources.len() > 8, "the sources are found");
    for path in sources {
        let text = fs::read_to_string(&path).expect("a source can be read");
        let name = path.display();
        let head = text.lines().take_while(|line| line.starts_with("//!")).count();
        let is_tests = path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests");
        assert!(is_tests || (1..=5).contains(&head), "{name} opens with {head} `//!` lines, not 1 to 5");
        assert!(text.lines().count() <= 500, "{name} is longer than 500 lines");
        // Tests at the end of a file may use all of these except floats.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (word, reason) in BANNED {
            let searched = if reason == "no floats" { &text } else { code };
            let allowed = is_tests && reason != "no floats";
            assert!(allowed || !contains_word(searched, word), "{name} contains {word}: {reason}");
        }
    }
}

fn contains_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory can be read");
    let paths = entries.map(|entry| entry.expect("the directory can be read").path());
    paths.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}
