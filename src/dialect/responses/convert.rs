//! A streamed response as a whole one: its last event has it. The reverse is in `to_events`.

mod to_events;

pub use to_events::streamed_of;

use crate::wire::json::{Tape, parse_unchecked_names};
use crate::wire::sse::{EventData, Splitter};

/// The response in a complete stream of events; `None` if it is not there.
pub fn whole_of(events: &[u8]) -> Option<Vec<u8>> {
    let (mut splitter, mut last) = (Splitter::new(), None);
    while let Some(event) = splitter.next(events).ok()? {
        if event.data != EventData::Absent {
            last = Some(splitter.data(&event, events).to_vec());
        }
    }
    let (data, mut tape) = (last?, Tape::new());
    parse_unchecked_names(&data, &mut tape).ok()?;
    let root = tape.root();
    root.get(&data, "type").filter(|kind| kind.is_text(&data, "response.completed"))?;
    Some(root.get(&data, "response")?.span().of(&data).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_has_the_whole_response_byte_for_byte() {
        let first = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n";
        let end = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\": {\"id\" : \"r\",\"n\":1e0},\"sequence_number\":2}\n\n";
        let whole = whole_of(format!("{first}{end}").as_bytes()).unwrap();
        assert_eq!(String::from_utf8(whole).unwrap(), "{\"id\" : \"r\",\"n\":1e0}");
        for other in [first.to_owned(), format!("{end}{first}"), String::new(), end.replace("completed", "incomplete")]
        {
            assert_eq!(whole_of(other.as_bytes()), None, "{other}");
        }
    }
}
