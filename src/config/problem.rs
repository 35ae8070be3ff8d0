//! What is wrong with a configuration, each with its place and a remedy, all of it at once, in one text or in two.
//! Owned by one load. It never carries a secret, nor text that an environment variable put into a value.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, or the place in a store.
    pub path: Arc<Path>,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Dotted, such as `server.listen`; empty for the file as a whole.
    pub key: String,
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// Everything that is wrong with a configuration, sorted by place; never empty when it is returned as an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    /// Whether there may be more than are told.
    cut: bool,
}

impl Problems {
    /// A file that could not be read at all.
    pub(super) fn unreadable(path: &Path, what: String, remedy: &str) -> Problems {
        let (path, key, remedy) = (path.into(), String::new(), remedy.to_owned());
        Problems { list: vec![Problem { path, line: 1, column: 1, key, what, remedy }], cut: false }
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl fmt::Display for Problems {
    /// A line each: `file:line:column: key: what; remedy`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Problem { path, line, column, key, what, remedy } in &self.list {
            write!(out, "{}:{line}:{column}: ", path.display())?;
            if !key.is_empty() {
                write!(out, "{key}: ")?;
            }
            writeln!(out, "{what}; {remedy}")?;
        }
        if let Some(last) = self.list.last().filter(|_| self.cut) {
            writeln!(out, "{}: there may be more; {MOST} problems are told", last.path.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Most problems of one file that are told. Nobody reads more, and each costs a walk over the text.
const MOST: usize = 100;

/// A second text, whose places count from `start` on.
#[derive(Clone, Copy)]
pub(super) struct Second<'a> {
    pub path: &'a Path,
    pub text: &'a str,
    pub start: usize,
}

/// Collects problems by byte offset while a file is read.
pub(super) struct Report<'a> {
    text: &'a str,
    second: Option<Second<'a>>,
    found: Vec<(usize, Problem)>,
    /// Whether the text is broken TOML: then what seems absent may only be out of reach, and is not reported.
    pub broken: bool,
}

impl<'a> Report<'a> {
    pub fn new(text: &'a str, second: Option<Second<'a>>) -> Report<'a> {
        Report { text, second, found: Vec::new(), broken: false }
    }

    /// Something wrong at byte offset `at`. Beyond `MOST` it is dropped: the file stays refused.
    pub fn add(&mut self, at: usize, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        if self.found.len() >= MOST {
            return;
        }
        let (path, key) = (Arc::from(Path::new("")), printable(key));
        let problem = Problem { path, line: 0, column: 0, key, what: what.into(), remedy: remedy.into() };
        if !self.found.iter().rev().take_while(|(offset, _)| *offset == at).any(|(_, other)| *other == problem) {
            self.found.push((at, problem));
        }
    }

    /// Something that seems to be missing, or a name that seems to lead nowhere.
    pub fn add_absence(&mut self, at: usize, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        if !self.broken {
            self.add(at, key, what, remedy);
        }
    }

    pub fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    /// The line of a byte offset, from 1; 0 once nothing is told any more: finding it is a walk over the text.
    pub fn line(&self, at: usize) -> usize {
        if self.found.len() < MOST { self.place(at).0 } else { 0 }
    }

    /// The second text, where a byte offset stands in it.
    fn second(&self, at: usize) -> Option<Second<'a>> {
        self.second.filter(|second| at >= second.start)
    }

    fn place(&self, at: usize) -> (usize, usize) {
        let (text, at) = self.second(at).map_or((self.text, at), |second| (second.text, at - second.start));
        let bytes = text.as_bytes();
        let before = &bytes[..at.min(bytes.len())];
        let start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        // Continuation bytes of UTF-8 don't count; the offset may stand anywhere.
        let column = before[start..].iter().filter(|byte| *byte & 0xc0 != 0x80).count();
        (memchr::memchr_iter(b'\n', before).count() + 1, column + 1)
    }

    pub fn finish(mut self, path: &Path) -> Problems {
        // Stable: what was found first at one place comes first.
        self.found.sort_by_key(|(at, _)| *at);
        let mut list = Vec::with_capacity(self.found.len());
        let path: Arc<Path> = path.into();
        for (at, mut problem) in std::mem::take(&mut self.found) {
            problem.path = self.second(at).map_or_else(|| path.clone(), |second| second.path.into());
            (problem.line, problem.column) = self.place(at);
            list.push(problem);
        }
        let cut = list.len() >= MOST;
        Problems { list, cut }
    }
}

/// Longest text of the file that a message repeats, in characters.
const QUOTE_CHARS: usize = 60;

/// Text of the file for a message: without control characters (a terminal obeys some) and not endless.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == QUOTE_CHARS {
            out.push_str("...");
            break;
        }
        if character.is_control() { out.extend(character.escape_default()) } else { out.push(character) }
    }
    out
}

/// The word of `among` that was probably meant by `name`.
pub(super) fn nearest<'n>(name: &str, among: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    const LEAST: f64 = 0.8;
    let score = |word: &str| {
        // Jaro-Winkler of 0.8 keeps one or two slips in a short word and refuses another word, but it misses letters that
        // changed places in the shortest ones.
        let is_one_slip = word.len() > 2 && strsim::osa_distance(name, word) == 1;
        strsim::jaro_winkler(name, word).max(if is_one_slip { LEAST } else { 0.0 })
    };
    let scored = among.into_iter().map(|word| (score(word), word));
    scored.filter(|(score, _)| *score >= LEAST).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word)
}
