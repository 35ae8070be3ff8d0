//! What of a path could be read in two ways, and which path was probably meant. A backend, or a proxy in front of it, may
//! undo percent-codes, resolve dots and join slashes: what it would then serve was not looked at here.

use crate::error::Failure;
use crate::wire::percent::{self, Written};

/// How often percent-codes are undone to see what they hide; each proxy on the way may do it once.
const ROUNDS: usize = 3;

/// Paths of the API that clients ask for, without the identifiers behind some of them.
const KNOWN: &[&str] = &[
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/models",
    "/v1/responses",
    "/v1/messages",
    "/v1/moderations",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/images/variations",
    "/v1/videos",
    "/v1/files",
    "/v1/uploads",
    "/v1/batches",
    "/v1/fine_tuning/jobs",
    "/v1/vector_stores",
    "/v1/assistants",
    "/v1/threads",
    "/v1/conversations",
    "/v1/containers",
    "/v1/evals",
    "/v1/realtime",
    "/v1/rerank",
    "/v1/score",
];

/// Refuses a path (without its query) that a backend might read as another one.
pub fn check(path: &[u8]) -> Result<(), Failure> {
    if path.iter().fold(true, |plain, byte| plain & !matches!(byte, b'.' | b'%' | b'\\')) {
        return Ok(()); // nearly always
    }
    let refusal = |why: &str| Err(Failure::BadHead { status: 400, why: why.to_owned() });
    let mut text = path.to_vec();
    for round in 0..=ROUNDS {
        // RFC 3986 5.2.4: it would lead out of `/v1/`.
        if climbs(&text) {
            return refusal("The path has . or .. segments.");
        }
        let coded = || percent::decoded(&text).filter(|(_, written)| *written == Written::Coded);
        if coded().next().is_none() {
            return Ok(());
        }
        // Both spellings are one (RFC 3986 6.2.2.2), and no encoder writes them so.
        if coded().any(|(byte, _)| byte.is_ascii_alphanumeric()) {
            return refusal("The path has percent-codes of letters or digits; write letters and digits as they are.");
        }
        let decoded = percent::plain(&text);
        if round == 0 && (decoded.iter().any(u8::is_ascii_control) || std::str::from_utf8(&decoded).is_err()) {
            // Not UTF-8: among others, a dot or a slash in more bytes than it needs.
            return refusal("The path has percent-codes of control characters, or that are no UTF-8.");
        }
        text = decoded;
    }
    refusal("The path has percent-codes within percent-codes.")
}

/// Whether a segment is `.` or `..`, or is so for a reader that cuts off parameters, a query or white space.
fn climbs(text: &[u8]) -> bool {
    text.split(|&byte| matches!(byte, b'/' | b'\\')).any(|segment| {
        let end = segment.iter().position(|byte| matches!(byte, b';' | b'?' | b'#')).unwrap_or(segment.len());
        matches!(segment[..end].trim_ascii(), b"." | b"..")
    })
}

/// The path of the API that `path` misses by one slip: `/v1` left out or written twice, a slash too many, another case, or
/// one letter. None for paths of the API, and for those that resemble none.
pub fn near(path: &[u8]) -> Option<&'static str> {
    let is_below = |known: &str| path.strip_prefix(known.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'/'));
    let is_api = |known: &str| path == known.as_bytes() || is_below(known) && path.len() > known.len() + 1;
    if KNOWN.iter().any(|known| is_api(known)) {
        return None; // nearly always
    }
    let text = percent::plain(path).to_ascii_lowercase();
    let mut segments: Vec<&[u8]> = text.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty()).collect();
    while segments.first() == Some(&&b"v1"[..]) {
        segments.remove(0);
    }
    let meant = [&b"/v1/"[..], &segments.join(&b'/')].concat();
    let reaches =
        |known: &&&str| meant.strip_prefix(known.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
    let by_letter = |known: &&&str| is_one_letter_off(&meant, known.as_bytes());
    // Other gateways' prefixes, and Azure's /openai/deployments/NAME. Below /v1/ it may be a path of a backend's own.
    let by_end = |known: &&&str| !path.starts_with(b"/v1/") && ends_in(&text, &known.as_bytes()["/v1".len()..]);
    KNOWN.iter().find(reaches).or_else(|| KNOWN.iter().find(by_letter)).or_else(|| KNOWN.iter().find(by_end)).copied()
}

fn ends_in(text: &[u8], end: &[u8]) -> bool {
    text.strip_suffix(b"/").unwrap_or(text).ends_with(end)
}

/// Whether one message is missing, too many, another, or changes places with its neighbour.
fn is_one_letter_off(text: &[u8], known: &[u8]) -> bool {
    let front = text.iter().zip(known).take_while(|(one, other)| one == other).count();
    let (text, known) = (&text[front..], &known[front..]);
    match (text, known) {
        ([], [_]) | ([_], []) => true,
        ([a, b, text @ ..], [c, d, known @ ..]) if (a, b) == (d, c) && text == known => true,
        ([_, text @ ..], [_, known @ ..]) if text == known => true,
        ([_, text @ ..], known) if text == known => true,
        (text, [_, known @ ..]) => text == known,
        _ => false,
    }
}
