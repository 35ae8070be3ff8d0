//! Whether an answer is what its client may get: its own, whole, in the form asked for, or honestly not.

use crate::client::{Asked, ProbeRequest, Version};
use crate::ledger::{Ledger, Marked, Outcome, Worth};
use crate::message::{Ended, Head};
use crate::prompt::{Form, read_events, read_whole, words};

/// What an answer is worth to the one who asked. Panics where it breaks a law.
pub fn judge(ledger: &Ledger, asked: &Asked, head: &Head, body: &[u8], ended: Ended, version: Version) -> Outcome {
    let Asked { id, wish, .. } = asked;
    let shown = String::from_utf8_lossy(&body[body.len().saturating_sub(400)..]).into_owned();
    let context = || ledger.look(|book| format!("{id} {:?}\n{head:?}\n{ended:?}\n...{shown}", book.requests[id]));
    // A head that never came whole had no id.
    if head.status() != 408 {
        assert_eq!(head.field("x-request-id"), Some(id.as_str()), "the request id comes back: {}", context());
    }
    assert_eq!(head.field("server"), None, "{}", context());
    if let Ended::ByClose = ended {
        assert!(version == Version::Http10, "close-delimited to an HTTP/1.1 client: {}", context());
    }
    // A process that is killed closes its connections: what ends with its connection may then be a part.
    let killed = matches!(ended, Ended::ByClose)
        && ledger.look(|book| book.ends.iter().any(|(_, at_ms)| *at_ms >= book.requests[id].asked_ms));
    let broken = killed || matches!(ended, Ended::Broken(_));
    let may_be_gone = wish.probe_request != ProbeRequest::Stranger && ledger.look(|book| book.generations.len() > 1);
    if wish.probe_request != ProbeRequest::Prompt && head.status() == 401 && may_be_gone && !broken {
        // Whether the tenant is gone is judged when all is over.
        return Outcome::Error { status: 401, code: "invalid_api_key".to_owned() };
    }
    if wish.probe_request != ProbeRequest::Prompt {
        return run_probe_request(asked, head, body, broken)
            .unwrap_or_else(|| panic!("an probe_request: {}", context()));
    }
    let cache = head.field("x-cache");
    let stale = head.field("cache-status").is_some_and(|status| status.contains("stale-if-error"));
    let marked = if stale { Marked::Stale } else { Marked::Fresh };
    if head.status() != 200 {
        if broken {
            return Outcome::Cut;
        }
        let error = read_whole(body)
            .and_then(|found| found.error)
            .unwrap_or_else(|| panic!("an error without words: {}", context()));
        let code = error["code"].as_str().unwrap_or("none").to_owned();
        return Outcome::Error { status: head.status(), code };
    }
    let kind = if wish.form == Form::NonStreaming { "application/json" } else { "text/event-stream" };
    assert_eq!(head.field("content-type"), Some(kind), "the form is as asked for: {}", context());
    let right: String = words(wish.prompt).concat();
    let found = match wish.form {
        Form::NonStreaming if broken => return Outcome::Cut,
        Form::NonStreaming => match read_whole(body) {
            Some(found) => found,
            None => {
                return broken_by_backend(ledger, asked, body, cache, marked)
                    .unwrap_or_else(|| panic!("no JSON: {}", context()));
            }
        },
        Form::Streaming { .. } => read_events(body),
    };
    if let Some(call) = found.call {
        ledger.look(|book| book.check_source(id, call, cache, marked));
        ledger.see(id, call);
    }
    assert!(right.starts_with(&found.content), "the text is another one's: {}", context());
    let worth = found.call.map_or(Worth::Unfinished, |call| ledger.look(|book| book.calls[call].worth));
    if let Some(error) = &found.error {
        let own = found.call.is_some_and(|call| {
            ledger.look(|book| {
                book.calls[call].act.starts_with("ErrorEvent") || book.calls[call].act.starts_with("FirstError")
            })
        });
        assert!(broken || own, "an error event and a clean end: {}", context());
        return Outcome::ErrorEvent { code: error["code"].as_str().unwrap_or("none").to_owned() };
    }
    if broken {
        return Outcome::Cut;
    }
    assert!(found.done, "a clean end without [DONE]: {}", context());
    let call = found.call.unwrap_or_else(|| panic!("an answer from nowhere: {}", context()));
    match wish.form {
        Form::Streaming { usage } => assert_eq!(found.usage.is_some(), usage, "usage as asked for: {}", context()),
        Form::NonStreaming => assert!(found.usage.is_some(), "usage: {}", context()),
    }
    // Whoever asked the backend, for itself or for all.
    if wish.form == (Form::Streaming { usage: false }) {
        // Whoever asked and leads may have a null in each chunk, and those who follow see it: it says nothing.
        assert!(!String::from_utf8_lossy(body).contains("\"usage\":{"), "a trace of hidden usage: {}", context());
    }
    if found.content == right && found.finish.as_deref() == Some("stop") {
        return Outcome::Answer { call };
    }
    assert_eq!(worth, Worth::Short, "a truncated answer that looks complete: {}", context());
    Outcome::Relayed { call }
}

/// A body that the backend itself had broken: which call it was, from its first bytes.
fn broken_by_backend(
    ledger: &Ledger,
    asked: &Asked,
    body: &[u8],
    cache: Option<&str>,
    marked: Marked,
) -> Option<Outcome> {
    let text = String::from_utf8_lossy(body);
    let digits: String = text.split("\"id\":\"call-").nth(1)?.chars().take_while(char::is_ascii_digit).collect();
    let call: usize = digits.parse().ok()?;
    ledger.look(|book| book.check_source(&asked.id, call, cache, marked));
    let worth = ledger.look(|book| book.calls[call].worth);
    (worth == Worth::Broken).then_some(Outcome::Relayed { call })
}

/// What anything but a prompt gets; none if it is not what it should.
fn run_probe_request(asked: &Asked, head: &Head, body: &[u8], broken: bool) -> Option<Outcome> {
    let text = String::from_utf8_lossy(body);
    let (status, word) = match asked.wish.probe_request {
        ProbeRequest::Health => (200, "ok\n"),
        ProbeRequest::Models | ProbeRequest::Prompt => (200, "\"id\":\"m\""),
        ProbeRequest::BadJson => (400, "\"bad_json\""),
        ProbeRequest::Stranger => (401, "\"invalid_api_key\""),
        ProbeRequest::UnknownModel => (404, "\"model_not_found\""),
        ProbeRequest::WrongMethod => (405, "\"method_not_allowed\""),
    };
    if broken {
        return Some(Outcome::Cut);
    }
    if head.status() == 408 {
        return Some(Outcome::Error { status: 408, code: "late".to_owned() });
    }
    (head.status() == status && text.contains(word)).then_some(Outcome::ProbeRequest)
}
