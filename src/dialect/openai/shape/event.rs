//! Content events: what they say is something, and that is all their facts are of it.

use super::{Hole, Pattern};
use crate::dialect::facts::{Endpoint, EventFacts, EventKind, UsageMembers};
use crate::wire::Span;
use crate::wire::json::{Tape, Value};

pub(super) struct EventShape {
    pattern: Pattern,
    facts: EventFacts,
    /// Where the usage member is, counted from the end or from the start, on the side that no hole moves.
    usage_from_end: bool,
}

/// The facts follow from the pattern.
impl PartialEq for EventShape {
    fn eq(&self, other: &EventShape) -> bool {
        self.pattern == other.pattern
    }
}

impl EventShape {
    /// The shape of an event of which `tape` is the tape; none of one that is anything but a piece of content.
    pub(super) fn of(endpoint: Endpoint, data: &[u8], tape: &Tape, facts: &EventFacts) -> Option<EventShape> {
        if facts.kind != EventKind::Content || facts.usage.is_some() || !facts.is_merely_content() {
            return None;
        }
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
        let (mut facts, mut usage_from_end) = (*facts, false);
        match &mut facts.usage_members {
            UsageMembers::None => {}
            UsageMembers::Null(usage) if usage.end <= first.start => {}
            UsageMembers::Null(usage) if usage.start >= last.end => {
                usage_from_end = true;
                *usage = from_other_end(*usage, data);
            }
            UsageMembers::Null(_) | UsageMembers::Some => return None,
        }
        Some(EventShape { pattern: Pattern::cut(endpoint, data, &spans), facts, usage_from_end })
    }

    /// The facts of `data`, if it has this shape.
    pub(super) fn fits(&self, endpoint: Endpoint, data: &[u8]) -> Option<EventFacts> {
        if !self.pattern.fits(endpoint, data, |_, _| {}) {
            return None;
        }
        let mut facts = self.facts;
        if let (UsageMembers::Null(usage), true) = (&mut facts.usage_members, self.usage_from_end) {
            *usage = from_other_end(*usage, data);
        }
        Some(facts)
    }
}

fn from_other_end(span: Span, data: &[u8]) -> Span {
    let length = data.len() as u32;
    Span { start: length - span.start, end: length - span.end }
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
