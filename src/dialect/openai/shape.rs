//! The shapes of content events seen lately. Most events of a stream differ from the one before in one or two strings, on
//! which their facts do not depend: such an event is compared with what is known, which takes a fraction of reading it.
//! Must never tell other facts than [`named_event_facts`] does, and gives no opinion on anything it has not seen.

use super::event::named_event_facts;
use crate::dialect::facts::{Endpoint, EventFacts, EventKind};
use crate::wire::Span;
use crate::wire::json::{Tape, Value};

/// Shapes kept at a time: as many as models stream at once on a core, mostly.
const SHAPES: usize = 8;
/// Longer events are not learnt.
const SHAPE_BYTES: usize = 4 << 10;
/// Most events that are let pass before one is learnt again, where what was learnt is never of use.
const PATIENCE: u32 = 256;
/// Longer numbers are read.
const DIGITS: usize = 19;

/// Shapes of one core.
#[derive(Default)]
pub struct Shapes {
    known: Vec<Shape>,
    /// The one that fitted last.
    last: usize,
    /// The one that makes way for the next.
    oldest: usize,
    /// Events that are let pass before one is learnt, and how many of these are still to come.
    patience: u32,
    passing: u32,
}

/// An event cut at the values on which its facts do not depend.
struct Shape {
    endpoint: Endpoint,
    /// Everything between the holes, and where in it each hole is.
    literal: Vec<u8>,
    holes: Vec<(usize, Hole)>,
    facts: EventFacts,
    /// Where the usage member is, counted from the end or from the start, on the side that no hole moves.
    usage_from_end: bool,
    was_of_use: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hole {
    /// The inside of a string without escapes that is not empty.
    Text,
    /// A whole number of a few digits.
    Digits,
}

impl Shapes {
    /// As [`named_event_facts`]. `tape` is scratch; what it holds afterwards is not said.
    pub fn event_facts(&mut self, endpoint: Endpoint, name: &[u8], data: &[u8], tape: &mut Tape) -> EventFacts {
        if !name.is_empty() || data.len() > SHAPE_BYTES {
            return named_event_facts(endpoint, name, data, tape);
        }
        let order = std::iter::once(self.last).chain((0..self.known.len()).filter(|&index| index != self.last));
        for index in order {
            if let Some(shape) = self.known.get_mut(index)
                && let Some(facts) = shape.fits(endpoint, data)
            {
                if !std::mem::replace(&mut shape.was_of_use, true) {
                    self.patience = 0;
                }
                self.last = index;
                return facts;
            }
        }
        let facts = named_event_facts(endpoint, name, data, tape);
        self.learn(endpoint, data, tape, &facts);
        facts
    }

    fn learn(&mut self, endpoint: Endpoint, data: &[u8], tape: &Tape, facts: &EventFacts) {
        if self.passing > 0 {
            self.passing -= 1;
            return;
        }
        let Some(shape) = Shape::of(endpoint, data, tape, facts) else { return };
        if self.known.iter().any(|known| known.is_like(&shape)) {
            return; // known, but for an escape in a string
        }
        if self.known.len() < SHAPES {
            self.known.push(shape);
            return;
        }
        // Where each event has a shape of its own, as parts of tool calls have, it is not worth while to learn each.
        if !self.known[self.oldest].was_of_use {
            self.patience = (self.patience * 2).clamp(1, PATIENCE);
            self.passing = self.patience;
        }
        self.known[self.oldest] = shape;
        self.oldest = (self.oldest + 1) % SHAPES;
    }
}

impl Shape {
    /// The shape of an event of which `tape` is the tape; none of one that is anything but a piece of content.
    fn of(endpoint: Endpoint, data: &[u8], tape: &Tape, facts: &EventFacts) -> Option<Shape> {
        if facts.kind != EventKind::Content || facts.usage.is_some() || !facts.is_merely_content() {
            return None;
        }
        let mut shape = Shape {
            endpoint,
            literal: Vec::with_capacity(data.len()),
            holes: Vec::new(),
            facts: *facts,
            usage_from_end: false,
            was_of_use: false,
        };
        // Where each hole is in the data, in order.
        let mut spans: Vec<(Span, Hole)> = Vec::new();
        for member in tape.root().members() {
            match member.name.plain(data) {
                None | Some(b"usage" | b"error" | b"object" | b"type") => {}
                Some(b"choices") => member.value.elements().for_each(|choice| texts_of(choice, data, &mut spans)),
                // The id, the time, the model, and whatever a provider adds.
                Some(_) if member.value.as_u64(data).is_some() => spans.push((member.value.span(), Hole::Digits)),
                Some(_) => spans.extend(text(member.value)),
            }
        }
        let (first, last) = (spans.first()?.0, spans.last()?.0);
        match &mut shape.facts.usage_member {
            None => {}
            Some(usage) if usage.end <= first.start => {}
            Some(usage) if usage.start >= last.end => {
                shape.usage_from_end = true;
                let length = data.len() as u32;
                *usage = Span { start: length - usage.start, end: length - usage.end };
            }
            Some(_) => return None,
        }
        let mut at = 0;
        for (span, hole) in spans {
            shape.literal.extend_from_slice(&data[at..span.start as usize]);
            shape.holes.push((shape.literal.len(), hole));
            at = span.end as usize;
        }
        shape.literal.extend_from_slice(&data[at..]);
        Some(shape)
    }

    fn is_like(&self, other: &Shape) -> bool {
        self.endpoint == other.endpoint && self.holes == other.holes && self.literal == other.literal
    }

    /// The facts of `data`, if it has this shape.
    fn fits(&self, endpoint: Endpoint, data: &[u8]) -> Option<EventFacts> {
        if self.endpoint != endpoint {
            return None;
        }
        let (mut rest, mut at) = (data, 0);
        for &(until, hole) in &self.holes {
            rest = rest.strip_prefix(&self.literal[at..until])?;
            at = until;
            rest = &rest[hole.length(rest)?..];
        }
        if rest != &self.literal[at..] {
            return None;
        }
        let mut facts = self.facts;
        if let (Some(usage), true) = (&mut facts.usage_member, self.usage_from_end) {
            let length = data.len() as u32;
            *usage = Span { start: length - usage.start, end: length - usage.end };
        }
        Some(facts)
    }
}

impl Hole {
    /// How many bytes of `rest` fill it; none if what stands there has to be read.
    fn length(self, rest: &[u8]) -> Option<usize> {
        match self {
            Hole::Text => {
                let mut bits = 0;
                let length = rest.iter().position(|&byte| {
                    bits |= byte;
                    byte < b' ' || byte == b'"' || byte == b'\\'
                })?;
                let is_plain = length > 0 && rest[length] == b'"';
                (is_plain && (bits.is_ascii() || std::str::from_utf8(&rest[..length]).is_ok())).then_some(length)
            }
            Hole::Digits => {
                let length = rest.iter().position(|byte| !byte.is_ascii_digit())?;
                ((1..=DIGITS).contains(&length) && rest[0] != b'0').then_some(length)
            }
        }
    }
}

/// The inside of a string that is not empty.
fn text(value: Value<'_>) -> Option<(Span, Hole)> {
    value.inside().filter(|inside| !inside.is_empty()).map(|inside| (inside, Hole::Text))
}

/// What a choice says: of that it matters only that it is something.
fn texts_of(choice: Value<'_>, data: &[u8], spans: &mut Vec<(Span, Hole)>) {
    for member in choice.members() {
        match member.name.plain(data) {
            Some(b"text") => spans.extend(text(member.value)),
            Some(b"delta") => {
                let said = member.value.members().filter(|delta| delta.name.plain(data) != Some(b"role"));
                spans.extend(said.filter_map(|delta| text(delta.value)));
            }
            _ => {}
        }
    }
}
