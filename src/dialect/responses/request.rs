//! Whether a request is nothing but a question: one that refers to what a provider keeps, makes it keep something, or lets it act
//! outside has an answer of its own.

use crate::wire::json::{Kind, Tape, Value};

/// Whether the answer may depend on, or change, anything besides the request. `tape` is the parsed body.
pub fn is_stateful(body: &[u8], tape: &Tape) -> bool {
    let mut is_kept = true; // unless it says otherwise
    for member in tape.root().members() {
        let value = member.value;
        let stateful = match member.name.plain(body) {
            Some(b"store") => {
                is_kept = value.as_bool() != Some(false);
                false
            }
            // An earlier answer, a conversation, a prompt whose text the provider has.
            Some(b"previous_response_id" | b"conversation" | b"prompt") => !value.is_null(),
            // The answer is fetched later.
            Some(b"background") => !value.is_null() && value.as_bool() != Some(false),
            Some(b"tools") => !value.elements().all(|tool| is_clients(tool, body)),
            Some(b"input") => value.elements().any(|item| refers(item, body)),
            Some(_) => false,
            // A name with escapes could be any of these.
            None => true,
        };
        if stateful {
            return true;
        }
    }
    is_kept
}

/// Whether a tool is one that the client runs; others search, run programs, or ask servers.
fn is_clients(tool: Value<'_>, body: &[u8]) -> bool {
    let kind = tool.get(body, "type").and_then(|kind| kind.plain(body));
    matches!(kind, Some(b"function" | b"custom"))
}

/// Whether an item of the input stands for one that the provider has, or is none that is known to be whole.
fn refers(item: Value<'_>, body: &[u8]) -> bool {
    if item.kind() != Kind::Object {
        return true;
    }
    match item.get(body, "type").map(|kind| kind.plain(body)) {
        None => item.get(body, "role").is_none(), // a message, or an item that is named by its id alone
        Some(Some(b"message" | b"reasoning" | b"function_call" | b"function_call_output")) => false,
        Some(Some(b"custom_tool_call" | b"custom_tool_call_output")) => false,
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;

    fn stateful(body: &str) -> bool {
        let mut tape = Tape::new();
        json::parse(body.as_bytes(), &mut tape).unwrap();
        is_stateful(body.as_bytes(), &tape)
    }

    #[test]
    fn a_question_that_nothing_is_kept_of_is_stateless() {
        for body in [
            r#"{"model":"m","input":"a","store":false}"#,
            r#"{"store":false,"input":[],"previous_response_id":null,"background":false,"conversation":null}"#,
            r#"{"store":false,"input":[{"role":"user","content":"a"},{"type":"function_call_output","call_id":"c","output":"o"}]}"#,
            r#"{"store":false,"input":[{"type":"reasoning","encrypted_content":"x"}],"tools":[{"type":"function"},{"type":"custom"}]}"#,
        ] {
            assert!(!stateful(body), "{body}");
        }
    }

    #[test]
    fn what_the_provider_keeps_or_does_makes_an_answer_its_clients_own() {
        for body in [
            r#"{"model":"m","input":"a"}"#,
            r#"{"input":"a","store":true}"#,
            r#"{"input":"a","store":null}"#,
            r#"{"input":"a","store":false,"previous_response_id":"resp_1"}"#,
            r#"{"input":"a","store":false,"conversation":{"id":"c"}}"#,
            r#"{"input":"a","store":false,"prompt":{"id":"p"}}"#,
            r#"{"input":"a","store":false,"background":true}"#,
            r#"{"input":"a","store":false,"background":1}"#,
            r#"{"input":"a","store":false,"tools":[{"type":"web_search"}]}"#,
            r#"{"input":"a","store":false,"tools":[{"type":"function"},{"type":"mcp"}]}"#,
            r#"{"input":"a","store":false,"tools":[7]}"#,
            r#"{"input":[{"type":"item_reference","id":"i"}],"store":false}"#,
            r#"{"input":[{"id":"i"}],"store":false}"#,
            r#"{"input":[{"type":"new"}],"store":false}"#,
            r#"{"input":["a"],"store":false}"#,
            r#"{"input":"a","store":false,"previous_response\u005fid":"resp_1"}"#,
        ] {
            assert!(stateful(body), "{body}");
        }
    }
}
