//! JSON values of a translation: bounded parsing that keeps the order of members and the spelling of numbers, and short ways
//! to take values apart.

use serde_json::{Map, Value};

use crate::limits::TRANSLATED_VALUES;

pub type Object = Map<String, Value>;

/// Why bytes are not translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueFault {
    #[error("it has more values than this gateway translates")]
    TooMany,
    #[error("it is nested too deeply, or not a JSON object")]
    Unreadable,
}

/// Reads an object.
pub fn object(bytes: &[u8]) -> Result<Object, ValueFault> {
    // Each value but the root stands behind one of these.
    if memchr::memchr3_iter(b',', b'[', b'{', bytes).take(TRANSLATED_VALUES + 1).count() > TRANSLATED_VALUES {
        return Err(ValueFault::TooMany);
    }
    // The parser marks numbers internally with a member of this name.
    if memchr::memmem::find(bytes, b"$serde_json::private::").is_some() {
        return Err(ValueFault::Unreadable);
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(ValueFault::Unreadable),
    }
}

pub fn bytes(object: &Object) -> Vec<u8> {
    // Values that were parsed, or made of strings and numbers, can always be written.
    serde_json::to_vec(object).unwrap_or_default()
}

/// Takes a member out; a null is none.
pub fn take(object: &mut Object, name: &str) -> Option<Value> {
    object.shift_remove(name).filter(|value| !value.is_null())
}

/// Takes a member out that is a non-empty string.
pub fn take_text(object: &mut Object, name: &str) -> Option<String> {
    match object.shift_remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// Takes a list out; anything else is an empty one.
pub fn take_list(object: &mut Object, name: &str) -> Vec<Value> {
    match object.shift_remove(name) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

/// Takes an object out; anything else is an empty one.
pub fn take_object(object: &mut Object, name: &str) -> Object {
    match object.shift_remove(name) {
        Some(Value::Object(inner)) => inner,
        _ => Object::new(),
    }
}

/// Adds what is left of a root to its translation, which has the first word on what it has itself.
pub fn keep_rest(out: &mut Object, rest: Object) {
    for (name, value) in rest {
        out.entry(name).or_insert(value);
    }
}

/// A member that is a string.
pub fn text<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

/// A member that is a count.
pub fn count(object: &Object, name: &str) -> Option<u64> {
    object.get(name)?.as_u64()
}

/// The arguments of a call as an object. What models write is not always one: that is kept as text in an object.
pub fn arguments(text: &str) -> Value {
    if text.trim().is_empty() {
        return Value::Object(Object::new());
    }
    match object(text.as_bytes()) {
        Ok(arguments) => Value::Object(arguments),
        Err(_) => Value::Object(Object::from_iter([("raw_arguments".to_owned(), text.into())])),
    }
}

/// The other way: an object as the text that OpenAI's API has.
pub fn arguments_text(input: &Value) -> String {
    match input {
        Value::Object(input) => match (input.len(), input.get("raw_arguments")) {
            (1, Some(Value::String(raw))) => raw.clone(),
            _ => String::from_utf8(bytes(input)).unwrap_or_default(),
        },
        Value::Null => "{}".to_owned(),
        other => other.to_string(),
    }
}

/// The id of a call. Anthropic's API takes letters, digits, `_` and `-` only.
pub fn call_id(id: &str) -> String {
    id.chars().map(|char| if char.is_ascii_alphanumeric() || matches!(char, '_' | '-') { char } else { '_' }).collect()
}
