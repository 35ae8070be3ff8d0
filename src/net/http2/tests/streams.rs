//! Complete and broken answers: a truncated one never looks complete, and only unprocessed requests are reported as
//! refused.

use super::peer::{END_STREAM, RESET};
use super::*;

const OK: &str = "HTTP/1.1 200 \r\n\r\n";

async fn opened() -> (Connection, Peer, Ending) {
    open(Http2Settings::default(), &[]).await
}

#[test]
fn a_hundred_streams_share_a_connection() {
    run(async || {
        let echo = async |request: http::Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>| {
            let (parts, mut body) = request.into_parts();
            let head = http::Response::builder().header("x-path", parts.uri.path()).body(()).unwrap();
            let mut send = respond.send_response(head, false).unwrap();
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                send.send_data(data, false).unwrap();
            }
            send.send_data(Bytes::new(), true).unwrap();
        };
        let (connection, _) = served(Http2Settings::default(), h2::server::Builder::new(), echo).await;
        let mut streams: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
        for number in 0..100usize {
            let request = http::Request::post(format!("http://backend.test/{number}")).body(()).unwrap();
            let body = messages(number * 100);
            let mut stream = connection.send(request, body.clone()).unwrap();
            streams.push(Box::pin(async move {
                let (text, end) = read_all(&mut stream, 1000 + number).await;
                let expected = format!("HTTP/1.1 200 \r\nx-path: /{number}\r\n\r\n");
                assert_eq!(text, expected + std::str::from_utf8(&body).unwrap());
                assert_eq!(end, Ok(()));
            }));
        }
        assert_eq!(connection.streams_open(), 100);
        join(streams).await;
        assert_eq!(connection.streams_open(), 0);
    });
}

#[test]
fn an_answer_reads_the_same_through_any_buffer() {
    for buffer_bytes in [1, 7, 33, 4096] {
        run(move || async move {
            let (connection, mut peer, _) = opened().await;
            let mut stream = connection.send(get(), Bytes::new()).unwrap();
            let id = peer.request().await;
            peer.headers(0, id, &[(":status", b"103"), ("link", b"</a>")]).await;
            peer.headers(0, id, &[(":status", b"200"), ("content-length", b"5"), ("x-a", b"1"), ("x-a", b"2")]).await;
            peer.data(0, id, b"he").await;
            peer.data(0, id, b"").await;
            peer.data(0, id, b"llo").await;
            peer.headers(END_STREAM, id, &[("x-checksum", b"7")]).await;
            let (text, end) = read_all(&mut stream, buffer_bytes).await;
            let interim = "HTTP/1.1 103 \r\nlink: </a>\r\n\r\n";
            let head = "HTTP/1.1 200 \r\ncontent-length: 5\r\nx-a: 1\r\nx-a: 2\r\n\r\n";
            assert_eq!((text, end), (format!("{interim}{head}hello"), Ok(())));
            assert_eq!((read_once(&mut stream).await, stream.fault()), (Ok(String::new()), None));
        });
    }
}

#[test]
fn an_interim_head_does_not_wait_for_the_next() {
    run(async || {
        let (connection, mut peer, _) = opened().await;
        let mut stream = connection.send(get(), Bytes::new()).unwrap();
        let id = peer.request().await;
        peer.headers(0, id, &[(":status", b"102")]).await;
        assert_eq!(read_once(&mut stream).await.unwrap(), "HTTP/1.1 102 \r\n\r\n");
        peer.ok(id).await;
        assert_eq!(read_once(&mut stream).await.unwrap(), OK);
    });
}

#[test]
fn answers_without_a_body_end_at_their_head() {
    run(async || {
        let (connection, mut peer, _) = opened().await;
        let request = http::Request::head("https://backend.test/").body(()).unwrap();
        let mut stream = connection.send(request, Bytes::new()).unwrap();
        let id = peer.request().await;
        peer.headers(END_STREAM, id, &[(":status", b"200"), ("content-length", b"700")]).await;
        let expected = "HTTP/1.1 200 \r\ncontent-length: 700\r\n\r\n";
        assert_eq!(read_all(&mut stream, 4096).await, (expected.into(), Ok(())));
        let mut stream = connection.send(get(), Bytes::new()).unwrap();
        let id = peer.request().await;
        peer.headers(END_STREAM, id, &[(":status", b"304"), ("content-length", b"7")]).await;
        assert_eq!(read_all(&mut stream, 4096).await.1, Ok(()));
    });
}

#[test]
fn refused_means_not_looked_at() {
    run(async || {
        let (connection, mut peer, _) = opened().await;
        let mut stream = connection.send(get(), Bytes::new()).unwrap();
        let id = peer.request().await;
        peer.reset(id, 7).await;
        assert_eq!(read_once(&mut stream).await, Err(io::ErrorKind::ConnectionRefused));
        assert_eq!(stream.fault(), Some(Http2Fault::Refused));
        // Once it has responded, a refusal no longer proves anything.
        let mut stream = connection.send(get(), Bytes::new()).unwrap();
        let id = peer.request().await;
        peer.ok(id).await;
        peer.reset(id, 7).await;
        assert_eq!(read_all(&mut stream, 4096).await, (OK.into(), Err(io::ErrorKind::ConnectionReset)));
        assert_eq!(stream.fault(), Some(Http2Fault::Reset(7)));
        // The connection is still usable.
        let mut stream = connection.send(get(), Bytes::new()).unwrap();
        let id = peer.request().await;
        peer.ok(id).await;
        peer.data(END_STREAM, id, b"fine").await;
        assert_eq!(read_all(&mut stream, 4096).await, (format!("{OK}fine"), Ok(())));
    });
}

#[test]
fn a_reset_in_the_body_is_an_error_behind_what_came() {
    // Whatever the code, NO_ERROR and CANCEL too: the end of the answer was not announced.
    for code in [0, 2, 8, 11] {
        run(move || async move {
            let (connection, mut peer, _) = opened().await;
            let mut stream = connection.send(get(), Bytes::new()).unwrap();
            let id = peer.request().await;
            peer.ok(id).await;
            peer.data(0, id, b"half").await;
            peer.reset(id, code).await;
            let expected = (format!("{OK}half"), Err(io::ErrorKind::ConnectionReset));
            assert_eq!(read_all(&mut stream, 4096).await, expected);
            assert_eq!(stream.fault(), Some(Http2Fault::Reset(code)));
            assert_eq!(read_once(&mut stream).await, Err(io::ErrorKind::ConnectionReset));
        });
    }
}

#[test]
fn a_content_length_that_lies_is_an_error() {
    for (sent, flags) in [(&b"four"[..], END_STREAM), (b"and seven", 0), (b"and seven", END_STREAM)] {
        run(move || async move {
            let (connection, mut peer, _) = opened().await;
            let mut stream = connection.send(get(), Bytes::new()).unwrap();
            let id = peer.request().await;
            peer.headers(0, id, &[(":status", b"200"), ("content-length", b"5")]).await;
            peer.data(flags, id, sent).await;
            let (_, end) = read_all(&mut stream, 4096).await;
            assert_eq!(end, Err(io::ErrorKind::InvalidData));
            assert_eq!(stream.fault(), Some(Http2Fault::Protocol));
            assert!(connection.is_open());
        });
    }
    run(async || {
        let (connection, mut peer, _) = opened().await;
        let mut stream = connection.send(get(), Bytes::new()).unwrap();
        let id = peer.request().await;
        peer.headers(0, id, &[(":status", b"200"), ("content-length", b"5")]).await;
        peer.data(0, id, b"four").await;
        peer.headers(END_STREAM, id, &[("x-checksum", b"7")]).await; // trailers do not make it complete
        assert_eq!(read_all(&mut stream, 4096).await.1, Err(io::ErrorKind::InvalidData));
    });
}

#[test]
fn what_http_forbids_in_a_head_does_not_get_through() {
    let bad: [&[(&str, &[u8])]; 8] = [
        &[(":status", b"200"), ("x-a", b"1\r\nset-cookie: stolen")],
        &[(":status", b"200"), ("x-a", b"1\n")],
        &[(":status", b"200"), ("x-a", b"nul \0")],
        &[(":status", b"200"), ("x a", b"1")],
        &[(":status", b"200"), ("X-A", b"1")],
        &[(":status", b"200"), ("transfer-encoding", b"chunked")],
        &[(":status", b"200"), ("content-length", b"1"), ("content-length", b"2")],
        &[("x-a", b"no status")],
    ];
    for fields in bad {
        run(move || async move {
            let (connection, mut peer, _) = opened().await;
            let mut stream = connection.send(get(), Bytes::new()).unwrap();
            let id = peer.request().await;
            peer.headers(END_STREAM, id, fields).await;
            assert_eq!(read_all(&mut stream, 4096).await, (String::new(), Err(io::ErrorKind::InvalidData)));
            assert_eq!(stream.fault(), Some(Http2Fault::Protocol));
        });
    }
}

#[test]
fn a_head_above_the_bound_is_an_error_of_its_stream() {
    run(async || {
        let (connection, mut peer, _) = opened().await;
        let mut stream = connection.send(get(), Bytes::new()).unwrap();
        let id = peer.request().await;
        let mut fields: Vec<(&str, &[u8])> = vec![(":status", b"200")];
        // RFC 9113 6.5.2 adds 32 bytes per field. So they fit into one frame.
        fields.extend([("x-much", &b"v"[..]); limits::HEAD_BYTES / 39 + 1]);
        peer.headers(END_STREAM, id, &fields).await;
        assert_eq!(read_all(&mut stream, 4096).await, (String::new(), Err(io::ErrorKind::InvalidData)));
        assert!(connection.is_open());
    });
}

#[test]
fn dropping_a_stream_cancels_it_and_it_alone() {
    run(async || {
        let (connection, mut peer, _) = opened().await;
        let stream = connection.send(post(), messages(100_000)).unwrap();
        let mut other = connection.send(get(), Bytes::new()).unwrap();
        let id = peer.request().await;
        let other_id = peer.request().await;
        drop(stream);
        let reset = peer.next(RESET).await;
        assert_eq!((reset.stream, reset.number()), (id, 8));
        peer.ok(other_id).await;
        peer.data(END_STREAM, other_id, b"here").await;
        assert_eq!(read_all(&mut other, 4096).await, (format!("{OK}here"), Ok(())));
        drop(other);
        // A stream that ended is not reset: the next frame is the next request.
        let _last = connection.send(get(), Bytes::new()).unwrap();
        let frame = peer.frame().await.unwrap();
        assert_eq!((frame.kind, frame.stream), (peer::HEADERS, other_id + 2));
    });
}

#[test]
fn a_deadline_ends_the_wait_and_leaves_its_trip() {
    run(async || {
        let (connection, mut peer, _) = opened().await;
        let mut stream = connection.send(get(), Bytes::new()).unwrap();
        let id = peer.request().await;
        stream.watch().shut_down_at(crate::net::now_ms() + 1);
        assert_eq!(read_once(&mut stream).await, Err(io::ErrorKind::TimedOut));
        assert_eq!(stream.fault(), Some(Http2Fault::TimedOut));
        assert_eq!(stream.watch().take_interrupt(), Some(crate::net::watch::Interrupt::Deadline));
        assert_eq!(stream.watch().take_interrupt(), None);
        // As with a socket, a new deadline does not revive it.
        stream.watch().shut_down_at(u64::MAX);
        assert_eq!(read_once(&mut stream).await, Err(io::ErrorKind::TimedOut));
        drop(stream);
        let reset = peer.next(RESET).await;
        assert_eq!((reset.stream, reset.number()), (id, 8));
        assert!(connection.is_open());
    });
}

#[test]
fn an_alarm_ends_the_wait_in_the_body() {
    run(async || {
        let (connection, mut peer, _) = opened().await;
        let mut stream = connection.send(get(), Bytes::new()).unwrap();
        let id = peer.request().await;
        peer.ok(id).await;
        assert_eq!(read_once(&mut stream).await.unwrap(), OK);
        let alarm = stream.watch().alarm();
        spawn_raw(async move {
            // Noticed only by the reader, which is waiting for data then.
            peer.next(RESET).await;
        });
        spawn_raw(async move { alarm.interrupt() });
        assert_eq!(read_once(&mut stream).await, Err(io::ErrorKind::ConnectionAborted));
        assert_eq!(stream.fault(), Some(Http2Fault::Abandoned));
        assert_eq!(stream.watch().take_interrupt(), Some(crate::net::watch::Interrupt::Abandoned));
    });
}

#[test]
fn closing_everything_reaches_streams() {
    run(async || {
        let (connection, mut peer, _) = opened().await;
        let mut stream = connection.send(get(), Bytes::new()).unwrap();
        peer.request().await;
        stream.watch().guard(); // hang-ups are handled by the connection: no effect
        spawn_raw(async { crate::net::watch::close_all() });
        assert_eq!(read_once(&mut stream).await, Err(io::ErrorKind::ConnectionAborted));
        stream.watch().unguard();
    });
}

#[test]
fn a_request_that_http2_cannot_say_is_not_sent() {
    run(async || {
        let (connection, mut peer, _) = opened().await;
        let request = http::Request::get("http://backend.test/").header("connection", "close").body(()).unwrap();
        assert_eq!(connection.send(request, Bytes::new()).err(), Some(Http2Fault::Protocol));
        assert!(connection.is_open());
        let _stream = connection.send(get(), Bytes::new()).unwrap();
        peer.request().await;
    });
}
