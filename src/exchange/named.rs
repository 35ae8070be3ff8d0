//! Where a request names its model: in its JSON, in its form or in its query. Owns nothing; what is found are spans.

use super::client::ClientConnection;
use crate::dialect::facts::Text;
use crate::dialect::{RequestFault, check_model};
use crate::error::Failure;
use crate::wire::Span;
use crate::wire::multipart::{self, FormFault};
use crate::wire::percent::{self, Written};

/// Where the name stands. It is valid: see [`check_model`].
#[derive(Clone, Copy, Debug)]
pub enum Named {
    /// In its JSON.
    Member(Text),
    /// In its form: a span of the body.
    Field(Span),
    /// In its query: a span of the head's bytes.
    Query(Span),
}

impl Named {
    /// The name, as it stands or decoded into `scratch`.
    pub fn read<'a>(&self, head: &'a [u8], body: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
        match self {
            Named::Member(text) => text.read(body, scratch),
            Named::Field(span) => span.of(body),
            Named::Query(span) => {
                scratch.clear();
                scratch.extend(query_decoded(span.of(head)));
                scratch
            }
        }
    }
}

/// The boundary of the form that this Content-Type announces.
pub fn boundary(content_type: &[u8]) -> Result<Option<&[u8]>, Failure> {
    multipart::boundary(content_type).map_err(bad_form)
}

/// Where a form names it.
pub fn in_form(body: &[u8], boundary: &[u8]) -> Result<Option<Named>, Failure> {
    match multipart::field(body, boundary, "model").map_err(bad_form)? {
        None => Ok(None),
        Some(field) => as_field(body, field).map(Some),
    }
}

/// As the field of a form at this place.
pub fn as_field(body: &[u8], field: Span) -> Result<Named, Failure> {
    check_model(field.of(body)).map_err(bad_field)?;
    Ok(Named::Field(field))
}

pub fn bad_form(fault: FormFault) -> Failure {
    Failure::BadForm { why: fault.to_string() }
}

/// The one of two places that is taken. Errors: both are.
pub fn once(one: Option<Named>, other: Option<Named>) -> Result<Option<Named>, Failure> {
    if one.is_some() && other.is_some() {
        let why = "The request names a model in its query and another time in its body; name it once.".to_owned();
        return Err(Failure::BadField { why, param: "model" });
    }
    Ok(one.or(other))
}

/// Where the query names it.
pub fn in_query(client: &ClientConnection<'_>) -> Result<Option<Named>, Failure> {
    let path = client.head.path;
    let bytes = path.of(client.pending());
    let Some(mark) = memchr::memchr(b'?', bytes) else { return Ok(None) };
    let mut found = None;
    let mut start = mark + 1;
    for member in bytes[start..].split(|&byte| byte == b'&') {
        let end = start + member.len();
        let equals = memchr::memchr(b'=', member).unwrap_or(member.len());
        if query_decoded(&member[..equals]).eq(*b"model") {
            let from = (start + equals + 1).min(end);
            let span = Span::new(path.start as usize + from, path.start as usize + end);
            if found.replace(Named::Query(span)).is_some() {
                let why = "The query names a model twice.".to_owned();
                return Err(Failure::BadField { why, param: "model" });
            }
            check_model(&query_decoded(&bytes[from..end]).collect::<Vec<_>>()).map_err(bad_field)?;
        }
        start = end + 1;
    }
    Ok(found)
}

/// As forms spell a query: a plus is a space.
fn query_decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    percent::decoded(text).map(|decoded| if decoded == (b'+', Written::Plain) { b' ' } else { decoded.0 })
}

pub fn bad_field(fault: RequestFault) -> Failure {
    Failure::BadField { why: fault.to_string(), param: fault.param().unwrap_or("body") }
}
