//! RFC 9113 by raw frames: each rule that a server must enforce, what breaks it, and what comes back. Where the library is
//! more lenient than the RFC, or stricter, the row says so and why that does no harm.

use std::io::Write;
use std::net::TcpStream;

use super::kit::frames::Seen::{Fine, Goaway, Reset, Status};
use super::kit::frames::*;
use super::kit::*;

struct Row {
    /// The section and what it says.
    rule: &'static str,
    bytes: Vec<u8>,
    expected: Seen,
    /// Why that is not what the RFC says.
    why: Option<&'static str>,
}

/// RFC 9113 5.4.1 lets a server end the connection for what is a stream's error; of the code, the library knows one word for
/// whatever it cannot read.
const ONE_CODE: &str =
    "a frame or field block that cannot be read is PROTOCOL_ERROR to the library, whatever is wrong with it";
/// The same.
const CONNECTION: &str = "the library ends the connection where the stream's end would do";

fn row(rule: &'static str, bytes: impl Into<Vec<u8>>, expected: Seen) -> Row {
    Row { rule, bytes: bytes.into(), expected, why: None }
}

/// What comes is another thing than the RFC says.
fn other(rule: &'static str, bytes: impl Into<Vec<u8>>, comes: Seen, said: Seen, why: &'static str) -> Row {
    assert_ne!(comes, said, "{rule} is held as the RFC says");
    Row { rule, bytes: bytes.into(), expected: comes, why: Some(why) }
}

#[track_caller]
fn check(rows: Vec<Row>) {
    let gateway = Setup::bare().start();
    let mut wrong = Vec::new();
    for Row { rule, bytes, expected, why } in rows {
        let (seen, _) = send(gateway.address, &bytes);
        if seen != expected {
            wrong.push(format!(
                "{rule}: {seen:?}, not {expected:?}{}",
                why.map_or(String::new(), |why| format!(" ({why})"))
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The node is as before.
    gateway.ask("GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").expect(200);
}

#[test]
fn frames_and_streams() {
    let large = |kind, stream| frame(kind, 0, stream, vec![0; 16_385]);
    check(vec![
        row("3.4 the first frame is SETTINGS", b"".to_vec(), Fine),
        row("4.1 the reserved bit is ignored", frame(HEADERS, ALL, 1 | 1 << 31, head()), Fine),
        row("4.1 an unknown frame is ignored", frame(0xfa, 0xff, 1, b"anything"), Fine),
        row("4.1 unknown flags are ignored", frame(HEADERS, ALL | 0xd2 & !(PADDED | PRIORITIZED), 1, head()), Fine),
        row("4.2 DATA above the largest frame", [open(1), large(DATA, 1)].concat(), Goaway(FRAME_SIZE)),
        row("4.2 HEADERS above the largest frame", large(HEADERS, 1), Goaway(FRAME_SIZE)),
        row("4.2 an unknown frame above the largest", large(0xfa, 0), Goaway(FRAME_SIZE)),
        row(
            "4.3 another frame within a field block",
            [frame(HEADERS, 1, 1, head()), frame(PING, 0, 0, [0; 8])].concat(),
            Goaway(PROTOCOL),
        ),
        row(
            "4.3 another stream's HEADERS within it",
            [frame(HEADERS, 1, 1, head()), get(3)].concat(),
            Goaway(PROTOCOL),
        ),
        row(
            "4.3 another stream's CONTINUATION",
            [frame(HEADERS, 1, 1, head()), frame(CONTINUATION, 4, 3, b"")].concat(),
            Goaway(PROTOCOL),
        ),
        row(
            "4.3 a field block in pieces",
            [frame(HEADERS, 1, 1, &head()[..9]), frame(CONTINUATION, 4, 1, &head()[9..])].concat(),
            Fine,
        ),
        row("5.1 idle: DATA", frame(DATA, 0, 1, b"x"), Goaway(PROTOCOL)),
        row("5.1 idle: RST_STREAM", frame(RST_STREAM, 0, 1, [0; 4]), Goaway(PROTOCOL)),
        row("5.1 idle: WINDOW_UPDATE", window(1, 1), Goaway(PROTOCOL)),
        row("5.1 idle: PRIORITY is allowed", frame(PRIORITY, 0, 5, [0, 0, 0, 0, 1]), Fine),
        other(
            "5.1 half closed: DATA",
            [get(1), frame(DATA, 0, 1, b"x")].concat(),
            Goaway(PROTOCOL),
            Reset(STREAM_CLOSED),
            CONNECTION,
        ),
        other(
            "5.1 half closed: HEADERS",
            [get(1), get(1)].concat(),
            Goaway(PROTOCOL),
            Reset(STREAM_CLOSED),
            CONNECTION,
        ),
        row("5.1 half closed: WINDOW_UPDATE is allowed", [get(1), window(1, 9)].concat(), Fine),
        row(
            "5.1 closed by RST_STREAM: DATA",
            [open(1), frame(RST_STREAM, 0, 1, [0, 0, 0, 8]), frame(DATA, 0, 1, b"x")].concat(),
            Reset(STREAM_CLOSED),
        ),
        other(
            "5.1 closed by RST_STREAM: HEADERS",
            [open(1), frame(RST_STREAM, 0, 1, [0, 0, 0, 8]), get(1)].concat(),
            Goaway(PROTOCOL),
            Goaway(STREAM_CLOSED),
            ONE_CODE,
        ),
        row(
            "5.1 closed: PRIORITY is allowed",
            [open(1), frame(RST_STREAM, 0, 1, [0, 0, 0, 8]), frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1])].concat(),
            Fine,
        ),
        row("5.1.1 an even stream", get(2), Goaway(PROTOCOL)),
        row("5.1.1 a stream below one that was opened", [get(5), get(3)].concat(), Goaway(PROTOCOL)),
        row(
            "5.1.2 more streams than allowed",
            (0..129).flat_map(|number| open(2 * number + 1)).collect::<Vec<_>>(),
            Reset(REFUSED),
        ),
        row("5.3.1 a stream that depends on itself", frame(PRIORITY, 0, 1, [0, 0, 0, 1, 1]), Reset(PROTOCOL)),
        row(
            "5.5 an unknown frame within a field block",
            [frame(HEADERS, 1, 1, head()), frame(0xfa, 0, 1, b"")].concat(),
            Goaway(PROTOCOL),
        ),
    ]);
}

#[test]
fn each_kind_of_frame() {
    check(vec![
        row("6.1 DATA on stream 0", frame(DATA, 0, 0, b"x"), Goaway(PROTOCOL)),
        row("6.1 padding as long as its DATA", [open(1), frame(DATA, PADDED, 1, [2, 0])].concat(), Goaway(PROTOCOL)),
        row("6.1 padding of no DATA", [open(1), frame(DATA, PADDED, 1, b"")].concat(), Goaway(PROTOCOL)),
        row("6.1 padding within its DATA", [open(1), frame(DATA, PADDED, 1, [1, b'{', 0])].concat(), Fine),
        row("6.2 HEADERS on stream 0", frame(HEADERS, ALL, 0, head()), Goaway(PROTOCOL)),
        row(
            "6.2 padding longer than its HEADERS",
            frame(HEADERS, ALL | PADDED, 1, [&[200][..], &head()].concat()),
            Goaway(PROTOCOL),
        ),
        row(
            "6.2 padding and priority",
            frame(HEADERS, ALL | PADDED | PRIORITIZED, 1, [&[2, 0, 0, 0, 0, 1][..], &head(), &[0; 2]].concat()),
            Fine,
        ),
        other(
            "6.2 a priority that is not there",
            frame(HEADERS, ALL | PRIORITIZED, 1, [0; 3]),
            Goaway(PROTOCOL),
            Goaway(FRAME_SIZE),
            ONE_CODE,
        ),
        row(
            "6.2 HEADERS that depend on themselves",
            frame(HEADERS, ALL | PRIORITIZED, 1, [&[0, 0, 0, 1, 1][..], &head()].concat()),
            Reset(PROTOCOL),
        ),
        row("6.3 PRIORITY on stream 0", frame(PRIORITY, 0, 0, [0; 5]), Goaway(PROTOCOL)),
        other(
            "6.3 PRIORITY of 4 bytes",
            [open(1), frame(PRIORITY, 0, 1, [0; 4])].concat(),
            Goaway(PROTOCOL),
            Reset(FRAME_SIZE),
            ONE_CODE,
        ),
        row("6.4 RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, [0; 4]), Goaway(PROTOCOL)),
        other(
            "6.4 RST_STREAM of 3 bytes",
            [open(1), frame(RST_STREAM, 0, 1, [0; 3])].concat(),
            Goaway(PROTOCOL),
            Goaway(FRAME_SIZE),
            ONE_CODE,
        ),
        row("6.5 SETTINGS on a stream", frame(SETTINGS, 0, 1, b""), Goaway(PROTOCOL)),
        other("6.5 SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, [0; 5]), Goaway(PROTOCOL), Goaway(FRAME_SIZE), ONE_CODE),
        other(
            "6.5 an acknowledgement with settings",
            frame(SETTINGS, ACK, 0, [0; 6]),
            Goaway(PROTOCOL),
            Goaway(FRAME_SIZE),
            ONE_CODE,
        ),
        row("6.5.2 ENABLE_PUSH of 2", setting(2, 2), Goaway(PROTOCOL)),
        other(
            "6.5.2 INITIAL_WINDOW_SIZE above 2^31 - 1",
            setting(4, 1 << 31),
            Goaway(PROTOCOL),
            Goaway(FLOW_CONTROL),
            ONE_CODE,
        ),
        row("6.5.2 MAX_FRAME_SIZE below 2^14", setting(5, 16_383), Goaway(PROTOCOL)),
        row("6.5.2 MAX_FRAME_SIZE above 2^24 - 1", setting(5, 1 << 24), Goaway(PROTOCOL)),
        row("6.5.2 an unknown setting is ignored", setting(0xfafa, u32::MAX), Fine),
        row("6.5.2 no window and no table", [setting(4, 0), setting(1, 0), get(1)].concat(), Fine),
        row("8441 3 ENABLE_CONNECT_PROTOCOL of 2", setting(8, 2), Goaway(PROTOCOL)),
        row(
            "6.6 PUSH_PROMISE of a client",
            [open(1), frame(PUSH_PROMISE, 4, 1, [&[0, 0, 0, 2][..], &head()].concat())].concat(),
            Goaway(PROTOCOL),
        ),
        row("6.7 PING on a stream", frame(PING, 0, 1, [0; 8]), Goaway(PROTOCOL)),
        other("6.7 PING of 7 bytes", frame(PING, 0, 0, [0; 7]), Goaway(PROTOCOL), Goaway(FRAME_SIZE), ONE_CODE),
        row("6.7 an acknowledgement that nobody waits for", frame(PING, ACK, 0, [7; 8]), Fine),
        row("6.8 GOAWAY on a stream", frame(GOAWAY, 0, 1, [0; 8]), Goaway(PROTOCOL)),
        other("6.8 GOAWAY of 7 bytes", frame(GOAWAY, 0, 0, [0; 7]), Goaway(PROTOCOL), Goaway(FRAME_SIZE), ONE_CODE),
        row("6.9 WINDOW_UPDATE of 0 on the connection", window(0, 0), Goaway(PROTOCOL)),
        other(
            "6.9 WINDOW_UPDATE of 0 on a stream",
            [open(1), window(1, 0)].concat(),
            Goaway(PROTOCOL),
            Reset(PROTOCOL),
            CONNECTION,
        ),
        other(
            "6.9 WINDOW_UPDATE of 3 bytes",
            frame(WINDOW_UPDATE, 0, 0, [0; 3]),
            Goaway(PROTOCOL),
            Goaway(FRAME_SIZE),
            ONE_CODE,
        ),
        row("6.9.1 a window of the connection that overflows", window(0, (1 << 31) - 1), Goaway(FLOW_CONTROL)),
        row(
            "6.9.1 a window of a stream that overflows",
            [open(1), window(1, (1 << 31) - 1)].concat(),
            Reset(FLOW_CONTROL),
        ),
        row(
            "6.9.2 a new first window that makes one overflow",
            [open(1), window(1, 1 << 30), setting(4, (1 << 31) - 1)].concat(),
            Goaway(FLOW_CONTROL),
        ),
        row("6.10 CONTINUATION without HEADERS", frame(CONTINUATION, 4, 1, head()), Goaway(PROTOCOL)),
        row(
            "6.10 CONTINUATION on stream 0",
            [frame(HEADERS, 1, 1, head()), frame(CONTINUATION, 4, 0, b"")].concat(),
            Goaway(PROTOCOL),
        ),
        row(
            "6.10 CONTINUATION behind a whole field block",
            [get(1), frame(CONTINUATION, 4, 1, b"")].concat(),
            Goaway(PROTOCOL),
        ),
    ]);
}

#[test]
fn field_blocks() {
    let block = |bytes: &[u8]| frame(HEADERS, ALL, 1, bytes);
    check(vec![
        other("7541 2.3.3 index 0", block(&[0x80]), Goaway(PROTOCOL), Goaway(COMPRESSION), ONE_CODE),
        other(
            "7541 2.3.3 an index beyond the tables",
            block(&[0xff, 0x20]),
            Goaway(PROTOCOL),
            Goaway(COMPRESSION),
            ONE_CODE,
        ),
        other(
            "7541 5.1 an integer that overflows",
            block(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            Goaway(PROTOCOL),
            Goaway(COMPRESSION),
            ONE_CODE,
        ),
        other(
            "7541 5.2 a string that is cut",
            block(&[0x00, 0x05, b'a']),
            Goaway(PROTOCOL),
            Goaway(COMPRESSION),
            ONE_CODE,
        ),
        other(
            "7541 5.2 Huffman codes with EOS",
            block(&[0x00, 0x01, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]),
            Goaway(PROTOCOL),
            Goaway(COMPRESSION),
            ONE_CODE,
        ),
        other(
            "7541 5.2 padding of 8 bits",
            block(&[&head()[..], &[0x00, 0x01, b'a', 0x82, 0x1f, 0xff]].concat()),
            Goaway(PROTOCOL),
            Goaway(COMPRESSION),
            ONE_CODE,
        ),
        other(
            "7541 5.2 padding of zeros",
            block(&[&head()[..], &[0x00, 0x01, b'a', 0x81, 0x18]].concat()),
            Goaway(PROTOCOL),
            Goaway(COMPRESSION),
            ONE_CODE,
        ),
        other(
            "7541 6.3 a table above the limit",
            block(&[&[0x3f, 0xe2, 0x1f][..], &head()].concat()),
            Goaway(PROTOCOL),
            Goaway(COMPRESSION),
            ONE_CODE,
        ),
        other(
            "7541 4.2 a new size behind a field",
            block(&[&head()[..], &[0x20]].concat()),
            Goaway(PROTOCOL),
            Goaway(COMPRESSION),
            ONE_CODE,
        ),
        row("7541 4.2 a new size before all fields", block(&[&[0x20][..], &head()].concat()), Fine),
    ]);
}

#[test]
fn requests() {
    let post = |length: &str| {
        let own = [(":method", "POST"), (":scheme", "http"), (":path", "/v1/chat/completions"), (":authority", "g")];
        frame(HEADERS, END_HEADERS, 1, [fields(&own), field("content-length", length)].concat())
    };
    let only = |all: &[(&str, &str)]| frame(HEADERS, ALL, 1, fields(all));
    let (method, scheme, path, authority) =
        ((":method", "GET"), (":scheme", "http"), (":path", "/livez"), (":authority", "g"));
    check(vec![
        row("8.1 a request", get(1), Fine),
        row(
            "8.1 trailers that do not end the stream",
            [open(1), frame(HEADERS, END_HEADERS, 1, field("x", "y"))].concat(),
            Reset(PROTOCOL),
        ),
        other(
            "8.1 trailers with a pseudo-header",
            [open(1), frame(HEADERS, ALL, 1, field(":path", "/"))].concat(),
            Status(400),
            Reset(PROTOCOL),
            "trailers are dropped unread: the request without them is answered",
        ),
        row("8.1.1 less DATA than its length", [post("5"), frame(DATA, 1, 1, b"x")].concat(), Reset(PROTOCOL)),
        row("8.1.1 more DATA than its length", [post("1"), frame(DATA, 0, 1, b"xy")].concat(), Reset(PROTOCOL)),
        row("8.1.1 no DATA where there is a length", malformed(&[("content-length", "5")]), Reset(PROTOCOL)),
        row("8.1.1 a length that is none", malformed(&[("content-length", "x")]), Reset(PROTOCOL)),
        other("8.2 a name in upper case", malformed(&[("X-A", "b")]), Goaway(PROTOCOL), Reset(PROTOCOL), CONNECTION),
        other("8.2.1 a name with a space", malformed(&[("x a", "b")]), Goaway(PROTOCOL), Reset(PROTOCOL), CONNECTION),
        other("8.2.1 a name with a colon", malformed(&[("x:a", "b")]), Goaway(PROTOCOL), Reset(PROTOCOL), CONNECTION),
        other("8.2.1 an empty name", malformed(&[("", "b")]), Goaway(PROTOCOL), Reset(PROTOCOL), CONNECTION),
        other(
            "8.2.1 a value with a line feed",
            malformed(&[("x", "a\nb")]),
            Goaway(PROTOCOL),
            Reset(PROTOCOL),
            CONNECTION,
        ),
        other(
            "8.2.1 a value with a carriage return",
            malformed(&[("x", "a\rb")]),
            Goaway(PROTOCOL),
            Reset(PROTOCOL),
            CONNECTION,
        ),
        other("8.2.1 a value with a null", malformed(&[("x", "a\0b")]), Goaway(PROTOCOL), Reset(PROTOCOL), CONNECTION),
        other(
            "8.2.1 a value with white space around it",
            malformed(&[("x", " a")]),
            Fine,
            Reset(PROTOCOL),
            "it is taken off, as HTTP/1.1 has it",
        ),
        row("8.2.2 Connection", malformed(&[("connection", "close")]), Reset(PROTOCOL)),
        row("8.2.2 Keep-Alive", malformed(&[("keep-alive", "timeout=5")]), Reset(PROTOCOL)),
        row("8.2.2 Proxy-Connection", malformed(&[("proxy-connection", "close")]), Reset(PROTOCOL)),
        row("8.2.2 Transfer-Encoding", malformed(&[("transfer-encoding", "chunked")]), Reset(PROTOCOL)),
        row("8.2.2 Upgrade", malformed(&[("upgrade", "websocket")]), Reset(PROTOCOL)),
        row("8.2.2 TE of anything but trailers", malformed(&[("te", "gzip")]), Reset(PROTOCOL)),
        row("8.2.2 TE of trailers", malformed(&[("te", "trailers")]), Fine),
        row("8.2.3 cookies in crumbs", malformed(&[("cookie", "a=b"), ("cookie", "c=d")]), Fine),
        row(
            "8.3 a pseudo-header behind a field",
            only(&[method, scheme, ("x", "y"), path, authority]),
            Reset(PROTOCOL),
        ),
        other(
            "8.3 an unknown pseudo-header",
            only(&[method, scheme, path, authority, (":x", "y")]),
            Goaway(PROTOCOL),
            Reset(PROTOCOL),
            CONNECTION,
        ),
        row(
            "8.3 a pseudo-header of answers",
            only(&[method, scheme, path, authority, (":status", "200")]),
            Reset(PROTOCOL),
        ),
        row("8.3 a pseudo-header twice", only(&[method, scheme, path, path, authority]), Reset(PROTOCOL)),
        row("8.3.1 no method", only(&[scheme, path, authority]), Reset(PROTOCOL)),
        row("8.3.1 no scheme", only(&[method, path, authority]), Reset(PROTOCOL)),
        row("8.3.1 no path", only(&[method, scheme, authority]), Reset(PROTOCOL)),
        row("8.3.1 an empty path", only(&[method, scheme, (":path", ""), authority]), Reset(PROTOCOL)),
        row("8.3.1 a path without a slash", only(&[method, scheme, (":path", "livez"), authority]), Reset(PROTOCOL)),
        other(
            "8.3.1 neither authority nor host",
            only(&[method, scheme, path]),
            Status(400),
            Reset(PROTOCOL),
            "the same, as an answer that says why",
        ),
        row("8.3.1 a host in the place of the authority", only(&[method, scheme, path, ("host", "g")]), Fine),
        other(
            "8.3.1 a host that is not the authority",
            malformed(&[("host", "other")]),
            Fine,
            Reset(PROTOCOL),
            "the authority counts, and the host goes nowhere",
        ),
        other(
            "8.3.1 an authority with a user",
            only(&[method, scheme, path, (":authority", "user@g")]),
            Status(400),
            Reset(PROTOCOL),
            "the same, as an answer that says why",
        ),
        row("8.5 CONNECT with a path", only(&[(":method", "CONNECT"), scheme, path, authority]), Reset(PROTOCOL)),
        row(
            "8441 4 a protocol without CONNECT",
            only(&[method, scheme, path, authority, (":protocol", "websocket")]),
            Reset(PROTOCOL),
        ),
        row(
            "8441 4 a protocol without a path",
            only(&[(":method", "CONNECT"), authority, (":protocol", "websocket")]),
            Reset(PROTOCOL),
        ),
        row(
            "10.5.1 a head that is too large",
            {
                let value = "v".repeat(16_000);
                let block = head_with("GET", &[("a", &value), ("b", &value), ("c", &value)]);
                let mut out = frame(HEADERS, END_STREAM, 1, &block[..16_000]);
                let rest: Vec<&[u8]> = block[16_000..].chunks(16_000).collect();
                for (place, part) in rest.iter().enumerate() {
                    out.extend(frame(CONTINUATION, if place + 1 == rest.len() { END_HEADERS } else { 0 }, 1, part));
                }
                out
            },
            Status(OTHER),
        ),
        row(
            "10.5.1 fields that are said in a byte each",
            {
                // Into the table, and then a thousand times from there: 4 MB of 5 kB. Harmless, and ended for it.
                let mut name = vec![0x40, 1, b'x'];
                integer(4_000, &mut name);
                name.extend(vec![b'v'; 4_000]);
                frame(HEADERS, ALL, 1, [head(), name, vec![0xbe; 1_000]].concat())
            },
            Goaway(CALM),
        ),
        row(
            "10.5 more resets than any client needs",
            (0..2_000)
                .flat_map(|number| [get(2 * number + 1), frame(RST_STREAM, 0, 2 * number + 1, [0, 0, 0, 8])].concat())
                .collect::<Vec<_>>(),
            Goaway(CALM),
        ),
        row(
            "10.5 CONTINUATION without an end",
            {
                let mut out = frame(HEADERS, END_STREAM, 1, head());
                (0..10_000).for_each(|_| out.extend(frame(CONTINUATION, 0, 1, field("a", "b"))));
                out
            },
            Goaway(CALM),
        ),
        row("10.5 empty DATA without an end", [open(1), frame(DATA, 0, 1, b"").repeat(100_000)].concat(), Goaway(CALM)),
    ]);
}

#[test]
fn what_has_to_be_answered_is() {
    let gateway = Setup::bare().start();
    let (seen, frames) = send(gateway.address, &[frame(PING, 0, 0, b"pingpong"), setting(3, 7)].concat());
    assert_eq!(seen, Fine);
    assert_eq!(frames[0].0, SETTINGS, "3.4: the server's own come first");
    let pongs = frames.iter().filter(|frame| (frame.0, frame.1, &frame.3[..]) == (PING, ACK, b"pingpong")).count();
    let acks = frames.iter().filter(|frame| (frame.0, frame.1, frame.3.len()) == (SETTINGS, ACK, 0)).count();
    assert_eq!((pongs, acks), (1, 2));
}

#[test]
fn windows_are_given_back_for_what_is_read_and_hold_where_nothing_is() {
    // 6.9: what was read of a body is given back, or a large one would stall.
    let gateway = Setup::bare().start();
    let data = |count: usize| frame(DATA, 0, 1, vec![b' '; 16_384]).repeat(count);
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).unwrap();
    // The windows are as large as the gateway says once it has said so.
    assert_eq!(next(&mut stream).map(|frame| frame.0), Some(SETTINGS));
    stream.write_all(&[frame(SETTINGS, ACK, 0, b""), open(1), data(12)].concat()).unwrap();
    loop {
        let (kind, _, id, payload) = next(&mut stream).expect("the window of the stream");
        assert!(!matches!(kind, GOAWAY | RST_STREAM), "{kind} {payload:?}");
        if (kind, id) == (WINDOW_UPDATE, 1) {
            break;
        }
    }
    // A WebSocket whose backend has not agreed is not read.
    let backend = Backend::run(|peer| {
        peer.request();
        peer.await_close();
    });
    let gateway = Setup::with(&backend).start();
    let websocket = fields(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/v1/realtime?model=m"),
        (":authority", "g"),
    ]);
    let bytes = [frame(HEADERS, END_HEADERS, 1, websocket), data(17)].concat();
    let (seen, _) = send(gateway.address, &bytes);
    assert!(matches!(seen, Goaway(FLOW_CONTROL) | Reset(FLOW_CONTROL)), "6.9.1: {seen:?}");
}

#[test]
fn a_head_that_is_begun_has_to_end_in_time() {
    // RFC 9113 6.10: nothing else can come before its end, so it is held to the time of a head, not to that of an idle connection.
    let backend = Backend::run(|peer| {
        peer.request();
        peer.await_close();
    });
    let gateway = Setup::with(&backend).server("timeout_head = \"300ms\"").start();
    let whole = get(1);
    let unfinished: [(&str, Vec<u8>); 5] = [
        ("no CONTINUATION", frame(HEADERS, 1, 1, head())),
        ("half a frame", whole[..whole.len() - 1].to_vec()),
        (
            "half a CONTINUATION",
            [&frame(HEADERS, 1, 1, head())[..], &frame(CONTINUATION, 4, 1, [0; 20])[..15]].concat(),
        ),
        ("behind a whole one", [get(1), frame(HEADERS, 1, 3, head())].concat()),
        (
            "beside a stream that waits",
            [
                frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    fields(&[(":method", "POST"), (":scheme", "http"), (":path", CHAT), (":authority", "g")]),
                ),
                frame(DATA, END_STREAM, 1, question("waits")),
                frame(HEADERS, 1, 3, head()),
            ]
            .concat(),
        ),
    ];
    for (what, bytes) in unfinished {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream
            .write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b""), &frame(SETTINGS, ACK, 0, b""), &bytes].concat())
            .unwrap();
        let frames: Vec<Frame> = std::iter::from_fn(|| next(&mut stream)).collect();
        let last = frames.iter().rfind(|(kind, ..)| *kind == GOAWAY).unwrap_or_else(|| panic!("{what}: {frames:?}"));
        assert_eq!(last.3[4..8], 11_u32.to_be_bytes(), "{what}: ENHANCE_YOUR_CALM");
    }
    backend.await_left(1);
    // One that is slow and ends in time is served.
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b""), &frame(SETTINGS, ACK, 0, b"")].concat()).unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in [frame(HEADERS, 1, 1, head()), frame(CONTINUATION, END_HEADERS, 1, b"")].concat() {
        stream.write_all(&[byte]).unwrap();
    }
    let answered = std::iter::from_fn(|| next(&mut stream)).find(|(kind, ..)| *kind == HEADERS);
    assert_eq!(answered.map(|(_, _, id, payload)| (id, status(&payload))), Some((1, 200)));
}
