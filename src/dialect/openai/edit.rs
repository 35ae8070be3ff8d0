//! Edits of a request before it is forwarded: a few places are replaced, all other bytes stay as the client sent them.
//! Owned by the exchange; holds spans and borrowed text, never bytes of its own. Must never change anything else.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::dialect::facts::{Others, RequestFacts, UsagePlace};
use crate::wire::Span;
use crate::wire::json::{json_string_len, write_json_string};

/// A model name and a usage option: more than these are members that a backend wants.
const EDITS: usize = 2;

#[derive(Clone, Debug)]
enum Replacement<'a> {
    /// Written as a JSON string.
    Text(Cow<'a, str>),
    /// The same without quotes and escapes.
    Plain(Cow<'a, str>),
    /// Written verbatim.
    Raw(&'a [u8]),
}

impl Replacement<'_> {
    fn len(&self) -> usize {
        match self {
            Replacement::Text(text) => json_string_len(text),
            Replacement::Plain(text) => text.len(),
            Replacement::Raw(bytes) => bytes.len(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Replacement::Text(text) => write_json_string(out, text),
            Replacement::Plain(text) => out.extend_from_slice(text.as_bytes()),
            Replacement::Raw(bytes) => out.extend_from_slice(bytes),
        }
    }
}

/// Replacements in one body, in order of position.
#[derive(Clone, Debug)]
pub struct Edits<'a> {
    edits: SmallVec<[(Span, Replacement<'a>); EDITS]>,
}

impl Default for Edits<'_> {
    fn default() -> Self {
        Edits::new()
    }
}

impl<'a> Edits<'a> {
    /// No edits: the body is written unchanged.
    pub fn new() -> Edits<'a> {
        Edits { edits: SmallVec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Replaces the model name with `name`; no effect if the request has none. Once per request.
    pub fn rename_model(&mut self, facts: &RequestFacts, name: impl Into<Cow<'a, str>>) {
        if let Some(model) = facts.model {
            // Including the quotes.
            let span = Span { start: model.span.start - 1, end: model.span.end + 1 };
            self.add(span, Replacement::Text(name.into()));
        }
    }

    /// Replaces the model name in a form's field at `span` with `name`. Once per request.
    pub fn rename_field(&mut self, span: Span, name: impl Into<Cow<'a, str>>) {
        self.add(span, Replacement::Plain(name.into()));
    }

    /// Puts `member` (a name, a value and a comma) in front of the members of the object that `body` is, which has some.
    pub fn add_member(&mut self, body: &[u8], member: &'a [u8]) {
        if let Some(place) = memchr::memchr(b'{', body) {
            let at = place as u32 + 1;
            self.add(Span { start: at, end: at }, Replacement::Raw(member));
        }
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

    /// Puts `bytes` in the place of `span`; behind what was put at the same place before.
    pub fn replace(&mut self, span: Span, bytes: &'a [u8]) {
        self.add(span, Replacement::Raw(bytes));
    }

    fn add(&mut self, span: Span, replacement: Replacement<'a>) {
        let place = self.edits.iter().rposition(|(other, _)| other.start <= span.start).map_or(0, |place| place + 1);
        self.edits.insert(place, (span, replacement));
    }

    /// Length of `input` with the edits applied: the Content-Length to send.
    pub fn edited_len(&self, input: &[u8]) -> usize {
        self.edits.iter().fold(input.len(), |len, (span, replacement)| len - span.len() + replacement.len())
    }

    /// Appends `input` with the edits applied. `input` must be the bytes the facts were read from.
    pub fn write(&self, input: &[u8], out: &mut Vec<u8>) {
        out.reserve(self.edited_len(input));
        let mut copied = 0;
        for (span, replacement) in &self.edits {
            out.extend_from_slice(Span::new(copied, span.start as usize).of(input));
            replacement.write(out);
            copied = span.end as usize;
        }
        out.extend_from_slice(Span::new(copied, input.len()).of(input));
    }

    /// The same in pieces, for a body of this length that is not to be copied.
    pub fn pieces(&self, length: usize) -> Vec<Piece> {
        let (mut pieces, mut copied) = (Vec::with_capacity(2 * self.edits.len() + 1), 0);
        for (span, replacement) in &self.edits {
            pieces.push(Piece::Kept(Span::new(copied, span.start as usize)));
            let mut written = Vec::with_capacity(replacement.len());
            replacement.write(&mut written);
            pieces.push(Piece::Written(written));
            copied = span.end as usize;
        }
        pieces.push(Piece::Kept(Span::new(copied, length)));
        pieces
    }
}

/// A piece of an edited body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As the client sent it.
    Kept(Span),
    Written(Vec<u8>),
}
