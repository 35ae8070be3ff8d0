//! The header fields of a WebSocket's opening (RFC 6455 4), on their way between client and backend. Browsers cannot set a
//! field of their own: they put their key where the names of protocols are, and there it never goes upstream.

use crate::error::Failure;
use crate::exchange::client::ClientConnection;
use crate::wire::http1::{Fields, Framing, encode};

/// In front of a key among the names of protocols, as OpenAI's libraries write it.
const CREDENTIAL: &[u8] = b"openai-insecure-api-key.";
/// In front of the names of what belongs to the client's own account at OpenAI.
const ACCOUNT: [&[u8]; 2] = [b"openai-organization.", b"openai-project."];
const PROTOCOL: &str = "sec-websocket-protocol";

/// Refuses a head that opens no WebSocket whoever reads it.
pub fn check(client: &ClientConnection<'_>) -> Result<(), Failure> {
    let bad = |why: &str| Err(Failure::BadHead { status: 400, why: why.to_owned() });
    if !matches!(client.head.framing, Framing::Empty | Framing::Length(0)) {
        return bad("A request for a WebSocket has a body.");
    }
    let (fields, bytes) = (&client.head.fields, client.pending());
    if !fields.has_token(bytes, "connection", "upgrade") {
        return bad("A request for a WebSocket lacks Connection: Upgrade.");
    }
    let mut keys = fields.get_all(bytes, "sec-websocket-key");
    // RFC 6455 4.1: 16 bytes in base64.
    match (keys.next(), keys.next()) {
        (Some(key), None) if key.len() == 24 && key.ends_with(b"==") => Ok(()),
        _ => bad("A request for a WebSocket lacks a Sec-WebSocket-Key of 16 bytes."),
    }
}

/// The key among the names of protocols.
pub fn credential<'a>(fields: &'a Fields, bytes: &'a [u8]) -> Option<&'a [u8]> {
    protocols(fields, bytes).filter_map(|name| name.strip_prefix(CREDENTIAL)).find(|key| !key.is_empty())
}

/// Writes what the client asks for, for the backend.
pub fn write_asked(fields: &Fields, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
    for name in ["sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"] {
        fields.get_all(bytes, name).for_each(|value| encode::field(out, name, value));
    }
    let is_passed = |name: &&[u8]| !name.starts_with(CREDENTIAL) && !ACCOUNT.iter().any(|own| name.starts_with(own));
    let names: Vec<&[u8]> = protocols(fields, bytes).filter(is_passed).collect();
    if !names.is_empty() {
        encode::field(out, PROTOCOL, &names.join(&b", "[..]));
    }
}

/// Writes what the backend has agreed to, for the client.
pub fn write_agreed(fields: &Fields, bytes: &[u8], out: &mut Vec<u8>) {
    for name in ["sec-websocket-accept", "sec-websocket-extensions", PROTOCOL] {
        fields.get_all(bytes, name).for_each(|value| encode::field(out, name, value));
    }
}

/// Writes what the backend would agree to (RFC 6455 4.4).
pub fn write_refused(fields: &Fields, bytes: &[u8], out: &mut Vec<u8>) {
    fields.get_all(bytes, "sec-websocket-version").for_each(|value| encode::field(out, "sec-websocket-version", value));
}

fn protocols<'a>(fields: &'a Fields, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let values = fields.get_all(bytes, PROTOCOL);
    values.flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::{RequestHead, parse_request};

    fn asked(fields: &str) -> (Option<String>, String) {
        let bytes = format!("GET /v1/realtime HTTP/1.1\r\nHost: h\r\n{fields}\r\n").into_bytes();
        let mut head = RequestHead::default();
        parse_request(&bytes, &mut head).expect("a good head");
        let mut out = Vec::new();
        write_asked(&head.fields, &bytes, &mut out);
        let key = credential(&head.fields, &bytes).map(|key| String::from_utf8(key.to_vec()).unwrap());
        (key, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_key_among_the_protocols_is_found_and_stays_here() {
        let begin = "connection: upgrade\r\nupgrade: websocket\r\n";
        for fields in [
            "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.sk-1, openai-beta.realtime-v1\r\n",
            "Sec-WebSocket-Protocol: realtime\r\nSec-WebSocket-Protocol: ,openai-insecure-api-key.sk-1 ,\
             openai-project.p, openai-organization.o, openai-beta.realtime-v1\r\n",
        ] {
            let (key, out) = asked(fields);
            assert_eq!(key.as_deref(), Some("sk-1"), "{fields}");
            assert_eq!(out, format!("{begin}sec-websocket-protocol: realtime, openai-beta.realtime-v1\r\n"));
        }
        let (key, out) = asked("Sec-WebSocket-Protocol: openai-insecure-api-key., openai-insecure-api-key.b\r\n");
        assert_eq!((key.as_deref(), out.as_str()), (Some("b"), begin));
        assert_eq!(asked("Authorization: Bearer x\r\nCookie: a=b\r\n"), (None, begin.to_owned()));
    }
}
