//! Anthropic's API: facts of its events and answers, and its error formats. Appends to the caller's buffer; must never write a
//! byte of a message unescaped.

mod answer;
mod convert;
mod event;

pub use answer::answer_facts;
pub use convert::{streamed_of, whole_of};
pub use event::event_facts;

use super::facts::PublicError;
use crate::wire::json::write_json_string;

/// Appends `{"type":"error","error":{...},"request_id":...}`.
pub fn write_error(out: &mut Vec<u8>, error: &PublicError<'_>) {
    out.extend_from_slice(br#"{"type":"error","error":{"type":"#);
    write_json_string(out, error_type(error.status));
    out.extend_from_slice(br#","message":"#);
    write_json_string(out, error.message);
    out.extend_from_slice(br#"},"request_id":"#);
    write_json_string(out, error.request_id);
    out.push(b'}');
}

/// Appends the error as an event, for a stream that has begun.
pub fn write_error_event(out: &mut Vec<u8>, error: &PublicError<'_>) {
    out.extend_from_slice(b"event: error\ndata: ");
    write_error(out, error);
    out.extend_from_slice(b"\n\n");
}

/// Appends a page of models, with no other page behind it.
pub fn write_models<'a>(out: &mut Vec<u8>, names: impl Iterator<Item = &'a str>) {
    out.extend_from_slice(br#"{"data":["#);
    let (mut first, mut last) = (None, None);
    for name in names {
        if last.replace(name).is_some() {
            out.push(b',');
        }
        first.get_or_insert(name);
        write_model(out, name);
    }
    out.push(b']');
    for (member, name) in [(&br#","first_id":"#[..], first), (br#","last_id":"#, last)] {
        out.extend_from_slice(member);
        match name {
            Some(name) => write_json_string(out, name),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.extend_from_slice(br#","has_more":false}"#);
}

/// Appends a model. When it was released is not known: then the API says the epoch.
pub fn write_model(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(br#"{"type":"model","id":"#);
    write_json_string(out, name);
    out.extend_from_slice(br#","display_name":"#);
    write_json_string(out, name);
    out.extend_from_slice(br#","created_at":"1970-01-01T00:00:00Z"}"#);
}

/// The error type that Anthropic's API uses for a status.
pub fn error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// Whether it is one of them.
pub fn is_error_type(word: &str) -> bool {
    [400, 401, 402, 403, 404, 413, 429, 500, 503, 504].iter().any(|&status| error_type(status) == word)
}

/// Members of a message's root that do not affect the answer to it.
pub const NOT_IN_KEY: &[&str] = &[
    // Its form alone.
    "stream", // A label for the provider's abuse detection.
    "metadata",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_one_page() {
        let page = |names: &[&str]| -> serde_json::Value {
            let mut body = Vec::new();
            write_models(&mut body, names.iter().copied());
            serde_json::from_slice(&body).expect("JSON")
        };
        let model = |name| serde_json::json!({"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"});
        let empty = serde_json::json!({"data": [], "first_id": null, "last_id": null, "has_more": false});
        assert_eq!(page(&[]), empty);
        let two = serde_json::json!({
            "data": [model("a \"b\""), model("c/d")], "first_id": "a \"b\"", "last_id": "c/d", "has_more": false,
        });
        assert_eq!(page(&["a \"b\"", "c/d"]), two);
    }

    #[test]
    fn errors_have_the_shape_of_the_api() {
        for (status, kind) in [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (404, "not_found_error"),
            (408, "invalid_request_error"),
            (413, "request_too_large"),
            (429, "rate_limit_error"),
            (500, "api_error"),
            (502, "api_error"),
            (503, "overloaded_error"),
            (504, "timeout_error"),
        ] {
            let error = PublicError {
                status,
                message: "say \"please\"",
                kind: "server_error",
                code: Some("c"),
                param: None,
                request_id: "req-1",
            };
            let mut body = Vec::new();
            write_error(&mut body, &error);
            let value: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            let expected = serde_json::json!({
                "type": "error", "error": {"type": kind, "message": "say \"please\""}, "request_id": "req-1",
            });
            assert_eq!(value, expected);
            let mut event = Vec::new();
            write_error_event(&mut event, &error);
            assert_eq!(event, [b"event: error\ndata: ", &body[..], b"\n\n"].concat());
        }
    }
}
