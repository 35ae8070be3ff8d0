//! Errors of backends in the client's form. Members that the other API does not have are kept, so that what an error is about
//! can still be told by its code.

use serde_json::{Value, json};

use super::Direction;
use super::value::{Object, take, take_text};
use crate::dialect::anthropic;

/// Longest text of an error that is no JSON and shown all the same.
const TEXT_BYTES: usize = 1 << 10;

/// Whether an object that should be an answer is an error.
pub fn is_error(root: &Object) -> bool {
    let said = root.get("error").is_some_and(|error| match error {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(error) => !error.is_empty(),
        _ => true,
    });
    said || ["type", "object"].iter().any(|name| root.get(*name).is_some_and(|kind| kind == "error"))
}

/// A parsed error body, or event.
pub fn of_object(direction: Direction, status: u16, mut root: Object) -> Object {
    let request_id = take(&mut root, "request_id");
    let mut error = match take(&mut root, "error") {
        Some(Value::Object(error)) => error,
        Some(Value::String(message)) => {
            root.shift_remove("object");
            root.insert("message".to_owned(), message.into());
            root
        }
        // The error's members are the root's: vLLM's older form.
        _ => {
            root.shift_remove("object");
            if root.get("type").is_some_and(|kind| kind == "error") {
                root.shift_remove("type");
            }
            root
        }
    };
    let message = take_text(&mut error, "message").or_else(|| take_text(&mut error, "detail"));
    let message = message.unwrap_or_else(|| "The model's backend reported an error.".to_owned());
    let kind = take_text(&mut error, "type");
    let mut said = Object::new();
    match direction {
        Direction::ToOpenAi | Direction::ToTokenizer => {
            let known = kind.as_deref().filter(|kind| anthropic::is_error_type(kind));
            let kind = known.unwrap_or_else(|| anthropic::error_type(status_of(status, &error)));
            said.insert("type".to_owned(), kind.into());
            said.insert("message".to_owned(), message.into());
            error.retain(|_, value| !value.is_null());
            said.append(&mut error);
            let mut whole = Object::from_iter([("type".to_owned(), "error".into()), ("error".to_owned(), said.into())]);
            whole.extend(request_id.map(|id| ("request_id".to_owned(), id)));
            whole
        }
        Direction::ToAnthropic => {
            said.insert("message".to_owned(), message.into());
            said.insert("type".to_owned(), kind.unwrap_or_else(|| "server_error".to_owned()).into());
            for name in ["param", "code"] {
                said.insert(name.to_owned(), error.shift_remove(name).unwrap_or(Value::Null));
            }
            said.append(&mut error);
            Object::from_iter([("error".to_owned(), said.into())])
        }
    }
}

/// A body that is no JSON object.
pub fn of_text(direction: Direction, status: u16, body: &[u8]) -> Object {
    let text = String::from_utf8_lossy(&body[..body.len().min(TEXT_BYTES)]);
    let text = text.trim();
    let is_page = text.starts_with('<');
    let message = if text.is_empty() || is_page { json!(null) } else { json!(text) };
    let root = Object::from_iter([("error".to_owned(), json!({ "message": message }))]);
    of_object(direction, status, root)
}

/// The status that an error is about: its own, where the answer's says nothing.
fn status_of(status: u16, error: &Object) -> u16 {
    if status >= 400 {
        return status;
    }
    let named = ["code", "status"].iter().find_map(|name| error.get(*name)?.as_u64());
    named.and_then(|status| u16::try_from(status).ok()).filter(|status| (400..600).contains(status)).unwrap_or(500)
}
