//! Finds a field of a multipart form (RFC 7578, RFC 2046 5.1) without copying: a span of the body. No state. Refuses a
//! form that servers could parse differently: they might find another field than the one that was checked.

mod pieces; // forms that are never here whole

pub use pieces::FormReader;

use memchr::memmem;

use super::{Span, percent};

/// Longest boundary. RFC 2046 5.1.1.
const BOUNDARY_BYTES: usize = 70;

/// Faults of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormFault {
    #[error("The Content-Type of the form has no usable boundary.")]
    Boundary,
    #[error("The form has no closing boundary.")]
    NoEnd,
    #[error("The form has a boundary that is not a line of its own, ended by CR LF.")]
    Delimiter,
    #[error("A part of the form has no head with one `Content-Disposition: form-data; name=\"...\"`.")]
    Head,
    #[error("The form has a field more than once.")]
    Twice,
    #[error("The form has a field whose name or content can be read in two ways.")]
    Ambiguous,
    #[error("The form has its field `model` too far behind: put it in front of the files.")]
    Late,
}

/// The boundary in a Content-Type; `None` if it is not a form's.
pub fn boundary(content_type: &[u8]) -> Result<Option<&[u8]>, FormFault> {
    let end = content_type.iter().position(|&byte| byte == b';').unwrap_or(content_type.len());
    if !content_type[..end].trim_ascii().eq_ignore_ascii_case(b"multipart/form-data") {
        return Ok(None);
    }
    let mut boundary = None;
    let mut rest = &content_type[end..];
    while let Some(parameter) = parameter(&mut rest).ok_or(FormFault::Boundary)? {
        if parameter.name.eq_ignore_ascii_case(b"boundary") {
            if boundary.replace(parameter.value).is_some() {
                return Err(FormFault::Boundary);
            }
        } else if parameter.name.len() > 8 && parameter.name[..9].eq_ignore_ascii_case(b"boundary*") {
            return Err(FormFault::Boundary); // RFC 2231 encoding, which few parsers support
        }
    }
    let boundary: &[u8] = boundary.ok_or(FormFault::Boundary)?;
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte);
    let is_usable =
        (1..=BOUNDARY_BYTES).contains(&boundary.len()) && boundary.iter().all(known) && boundary.last() != Some(&b' ');
    if is_usable { Ok(Some(boundary)) } else { Err(FormFault::Boundary) }
}

/// The span of the content of the field `name` in `body`, in whichever part it is. Errors: see [`FormFault`]; the whole
/// form is checked.
pub fn field(body: &[u8], boundary: &[u8], name: &str) -> Result<Option<Span>, FormFault> {
    let marker = [b"--", boundary].concat();
    let finder = memmem::Finder::new(&marker);
    let (mut at, mut part, mut closed, mut found) = (0, None, false, None);
    while let Some(offset) = finder.find(&body[at..]) {
        let start = at + offset;
        let is_line = start == 0 || matches!(body[start - 1], b'\r' | b'\n');
        if !is_line {
            at = start + 1;
            continue;
        }
        // RFC 2046 5.1.1: a delimiter must start a line, whatever follows it. Lenient parsers accept bare line feeds,
        // too.
        if closed || start > 0 && !body[..start].ends_with(b"\r\n") {
            return Err(FormFault::Delimiter);
        }
        let rest = &body[start + marker.len()..];
        let closing = rest.starts_with(b"--");
        let rest = if closing { &rest[2..] } else { rest };
        let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let rest = &rest[padding..];
        if !(rest.starts_with(b"\r\n") || closing && rest.is_empty()) {
            return Err(FormFault::Delimiter);
        }
        if let Some(begin) = part.take() {
            // The preceding line end belongs to the boundary.
            let end = start.checked_sub(2).filter(|&end| end >= begin).ok_or(FormFault::Head)?;
            if let Some(content) = content_of(&body[begin..end], name)? {
                let span = Span::new(begin + content, end);
                if found.replace(span).is_some() {
                    return Err(FormFault::Twice);
                }
            }
        }
        at = body.len() - rest.len();
        closed = closing;
        if !closing {
            at += 2;
            part = Some(at);
        }
    }
    if closed { Ok(found) } else { Err(FormFault::NoEnd) }
}

/// The offset of the content in `part`, if it is the field `wanted`.
fn content_of(part: &[u8], wanted: &str) -> Result<Option<usize>, FormFault> {
    let length = memmem::find(part, b"\r\n\r\n").ok_or(FormFault::Head)?;
    Ok(is_field(&part[..length], wanted)?.then_some(length + 4))
}

/// Whether the part with this head is the field `wanted`.
fn is_field(head: &[u8], wanted: &str) -> Result<bool, FormFault> {
    let head = Head::read(head)?;
    let name = head.name;
    if name != wanted.as_bytes() {
        // The same name in another case or escaped: browsers use percent-encoding, mail programs backslashes.
        let plain: Vec<u8> = name.iter().copied().filter(|&byte| byte != b'\\').collect();
        let is_like = |text: &[u8]| text.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes());
        return match is_like(&plain) || name.contains(&b'%') && is_like(&percent::plain(name)) {
            true => Err(FormFault::Ambiguous),
            false => Ok(false),
        };
    }
    // A file is not a field, and parsers disagree about content transfer encodings.
    if head.is_file || head.is_coded { Err(FormFault::Ambiguous) } else { Ok(true) }
}

/// The head of one part.
struct Head<'a> {
    name: &'a [u8],
    is_file: bool,
    is_coded: bool,
}

impl<'a> Head<'a> {
    fn read(head: &'a [u8]) -> Result<Head<'a>, FormFault> {
        let (mut disposition, mut is_coded) = (None, false);
        let mut rest = head;
        loop {
            let end = memmem::find(rest, b"\r\n").unwrap_or(rest.len());
            let line = &rest[..end];
            let colon = line.iter().position(|&byte| byte == b':').ok_or(FormFault::Head)?;
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            let is_token = !name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic());
            // Bare line ends, and folded lines.
            if !is_token || line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                return Err(FormFault::Head);
            }
            if name.eq_ignore_ascii_case(b"content-disposition") && disposition.replace(value).is_some() {
                return Err(FormFault::Head);
            }
            if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
                let plain = [&b"7bit"[..], b"8bit", b"binary"];
                is_coded |= !plain.iter().any(|coding| value.eq_ignore_ascii_case(coding));
            }
            match rest.get(end + 2..) {
                Some(further) => rest = further,
                None => break,
            }
        }
        let disposition = disposition.ok_or(FormFault::Head)?;
        let end = disposition.iter().position(|&byte| byte == b';').unwrap_or(disposition.len());
        if !disposition[..end].trim_ascii().eq_ignore_ascii_case(b"form-data") {
            return Err(FormFault::Head);
        }
        let (mut name, mut is_file) = (None, false);
        let mut rest = &disposition[end..];
        while let Some(parameter) = parameter(&mut rest).ok_or(FormFault::Head)? {
            let is = |known: &[u8]| parameter.name.eq_ignore_ascii_case(known);
            // RFC 7578 4.2: `name*` is not allowed.
            if is(b"name*") || is(b"name") && name.replace(parameter.value).is_some() {
                return Err(FormFault::Head);
            }
            is_file |= is(b"filename") || is(b"filename*");
        }
        Ok(Head { name: name.ok_or(FormFault::Head)?, is_file, is_coded })
    }
}

struct Parameter<'a> {
    name: &'a [u8],
    /// The text between the quotes, or up to the next semicolon.
    value: &'a [u8],
}

/// Takes the next `; name=value` off `rest`. `Some(None)` at its end, `None` if it is malformed.
fn parameter<'a>(rest: &mut &'a [u8]) -> Option<Option<Parameter<'a>>> {
    let text = loop {
        let text = rest.trim_ascii_start();
        match text {
            [] => return Some(None),
            [b';', further @ ..] => match further.trim_ascii_start() {
                [] => return Some(None),
                [b';', ..] => *rest = further,
                _ => break further.trim_ascii_start(),
            },
            _ => return None,
        }
    };
    let equals = text.iter().position(|&byte| byte == b'=')?;
    let (name, value) = (&text[..equals], &text[equals + 1..]);
    if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_graphic() && !b"\";".contains(byte)) {
        return None;
    }
    let (value, further) = match value {
        [b'"', quoted @ ..] => {
            let mut end = 0;
            while *quoted.get(end)? != b'"' {
                end += if quoted[end] == b'\\' { 2 } else { 1 };
            }
            (&quoted[..end], &quoted[end + 1..])
        }
        _ => {
            let end = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
            let plain = value[..end].trim_ascii_end();
            if plain.contains(&b'"') {
                return None;
            }
            (plain, &value[end..])
        }
    };
    *rest = further;
    Some(Some(Parameter { name, value }))
}

#[cfg(test)]
mod tests;
