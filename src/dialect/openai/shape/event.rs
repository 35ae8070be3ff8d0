//! Content events: their facts only depend on whether there is content.

use super::{Pattern, Slot};
use crate::dialect::facts::{Endpoint, EventFacts, EventKind, UsageMembers};
use crate::wire::Span;
use crate::wire::json::{Tape, Value};

pub(super) struct EventTemplate {
    pattern: Pattern,
    facts: EventFacts,
    /// The offset of the usage member from the start or the end, on the side that no slot shifts.
    usage_from_end: bool,
}

/// The facts follow from the pattern.
impl PartialEq for EventTemplate {
    fn eq(&self, other: &EventTemplate) -> bool {
        self.pattern == other.pattern
    }
}

impl EventTemplate {
    /// The template of an event with this tape; `None` for anything but a content event.
    pub(super) fn of(endpoint: Endpoint, data: &[u8], tape: &Tape, facts: &EventFacts) -> Option<EventTemplate> {
        if facts.kind != EventKind::Content || facts.usage.is_some() || !facts.is_merely_content() {
            return None;
        }
        // The span of each slot in the data, in order.
        let mut spans: Vec<(Span, Slot)> = Vec::new();
        for member in tape.root().members() {
            match member.name.plain(data) {
                None | Some(b"usage" | b"error" | b"object" | b"type") => {}
                Some(b"choices") => member.value.elements().for_each(|choice| texts_of(choice, data, &mut spans)),
                // The id, the time, the model, and whatever a provider adds.
                Some(_) if member.value.as_u64(data).is_some() => spans.push((member.value.span(), Slot::Digits)),
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
        Some(EventTemplate { pattern: Pattern::cut(endpoint, data, &spans), facts, usage_from_end })
    }

    /// The facts of `data` if it matches.
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

/// The inside of a non-empty string.
fn text(value: Value<'_>) -> Option<(Span, Slot)> {
    value.inside().filter(|inside| !inside.is_empty()).map(|inside| (inside, Slot::Text))
}

/// The texts of a choice: only whether they are empty matters.
fn texts_of(choice: Value<'_>, data: &[u8], spans: &mut Vec<(Span, Slot)>) {
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
