//! Edits of a request before it is forwarded: a few places are replaced, all other bytes stay as the client sent them.
//! Owned by the exchange; holds spans and borrowed text, never bytes of its own. Must never change anything else.

use crate::dialect::facts::{Others, RequestFacts, UsagePlace};
use crate::wire::Span;
use crate::wire::json::{json_string_len, write_json_string};

/// A model name and a usage option: no request needs more.
const EDITS: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Replacement<'a> {
    /// Written as a JSON string.
    Text(&'a str),
    /// The same without quotes and escapes.
    Plain(&'a str),
    /// Written verbatim.
    Raw(&'static [u8]),
}

impl Replacement<'_> {
    fn len(&self) -> usize {
        match self {
            Replacement::Text(text) => json_string_len(text),
            Replacement::Plain(text) => text.len(),
            Replacement::Raw(bytes) => bytes.len(),
        }
    }
}

/// Replacements in one body, in order of position.
#[derive(Clone, Copy, Debug)]
pub struct Edits<'a> {
    edits: [(Span, Replacement<'a>); EDITS],
    count: usize,
}

impl Default for Edits<'_> {
    fn default() -> Self {
        Edits::new()
    }
}

impl<'a> Edits<'a> {
    /// No edits: the body is written unchanged.
    pub fn new() -> Edits<'a> {
        Edits { edits: [(Span::default(), Replacement::Raw(b"")); EDITS], count: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Replaces the model name with `name`; no effect if the request has none. Once per request.
    pub fn rename_model(&mut self, facts: &RequestFacts, name: &'a str) {
        if let Some(model) = facts.model {
            // Including the quotes.
            let span = Span { start: model.span.start - 1, end: model.span.end + 1 };
            self.add(span, Replacement::Text(name));
        }
    }

    /// Replaces the model name in a form's field at `span` with `name`. Once per request.
    pub fn rename_field(&mut self, span: Span, name: &'a str) {
        self.add(span, Replacement::Plain(name));
    }

    /// Asks for a usage event at the end of the stream; no effect if the client did, or there is no stream. Once per
    /// request.
    pub fn ask_for_usage(&mut self, facts: &RequestFacts) {
        let at = |at: u32| Span { start: at, end: at };
        let (span, bytes): (Span, &'static [u8]) = match facts.usage_place {
            UsagePlace::Nowhere => return,
            UsagePlace::NewOptions(place) => (at(place), br#""stream_options":{"include_usage":true},"#),
            UsagePlace::NullOptions(span) => (span, br#"{"include_usage":true}"#),
            UsagePlace::NewMember { at: place, others: Others::None } => (at(place), br#""include_usage":true"#),
            UsagePlace::NewMember { at: place, others: Others::Some } => (at(place), br#""include_usage":true,"#),
            UsagePlace::Value(span) => (span, b"true"),
        };
        self.add(span, Replacement::Raw(bytes));
    }

    fn add(&mut self, span: Span, replacement: Replacement<'a>) {
        debug_assert!(self.count < EDITS, "more edits than a request needs");
        if self.count >= EDITS {
            return;
        }
        let mut place = self.count;
        while place > 0 && self.edits[place - 1].0.start > span.start {
            self.edits[place] = self.edits[place - 1];
            place -= 1;
        }
        self.edits[place] = (span, replacement);
        self.count += 1;
    }

    /// Length of `input` with the edits applied: the Content-Length to send.
    pub fn edited_len(&self, input: &[u8]) -> usize {
        let edits = &self.edits[..self.count];
        edits.iter().fold(input.len(), |len, (span, replacement)| len - span.len() + replacement.len())
    }

    /// Appends `input` with the edits applied. `input` must be the bytes the facts were read from.
    pub fn write(&self, input: &[u8], out: &mut Vec<u8>) {
        out.reserve(self.edited_len(input));
        let mut copied = 0;
        for (span, replacement) in &self.edits[..self.count] {
            out.extend_from_slice(Span::new(copied, span.start as usize).of(input));
            match replacement {
                Replacement::Text(text) => write_json_string(out, text),
                Replacement::Plain(text) => out.extend_from_slice(text.as_bytes()),
                Replacement::Raw(bytes) => out.extend_from_slice(bytes),
            }
            copied = span.end as usize;
        }
        out.extend_from_slice(Span::new(copied, input.len()).of(input));
    }
}
