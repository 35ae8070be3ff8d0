//! Flow control both ways: a slow reader slows only its own backend, and an answer may overtake the request's body.

use super::peer::{DATA, END_STREAM};
use super::*;

const OK: &str = "HTTP/1.1 200 \r\n\r\n";

#[test]
fn an_answer_may_come_while_the_body_is_under_way() {
    run(async || {
        let (connection, mut peer, _) = open(Http2Settings::default(), &[]).await;
        let body = messages(300_000);
        let mut stream = connection.send(post(), body.clone()).unwrap();
        let id = peer.request().await;
        peer.ok(id).await;
        assert_eq!(read_once(&mut stream).await.unwrap(), OK);
        peer.data(0, id, b"so far: ").await;
        // The peer accepts the rest only now, and the answer is not read meanwhile.
        peer.window(0, 300_000).await;
        peer.window(id, 300_000).await;
        let mut got = Vec::new();
        loop {
            let frame = peer.next(DATA).await;
            got.extend_from_slice(&frame.payload);
            if frame.flags & END_STREAM != 0 {
                break;
            }
        }
        assert_eq!(got, body);
        peer.data(END_STREAM, id, b"all").await;
        assert_eq!(read_all(&mut stream, 4096).await, ("so far: all".into(), Ok(())));
    });
}

#[test]
fn a_peer_may_answer_in_full_and_take_no_more_of_the_body() {
    run(async || {
        let (connection, mut peer, _) = open(Http2Settings::default(), &[]).await;
        let mut stream = connection.send(post(), messages(1 << 20)).unwrap();
        let id = peer.request().await;
        peer.headers(0, id, &[(":status", b"413")]).await;
        peer.data(END_STREAM, id, b"too much").await;
        peer.reset(id, 0).await; // RFC 9113 8.1
        let expected = ("HTTP/1.1 413 \r\n\r\ntoo much".into(), Ok(()));
        assert_eq!(read_all(&mut stream, 4096).await, expected);
        // Unsent bytes of the body hold no window: another stream may use all of it.
        peer.window(0, 65_535).await;
        let mut stream = connection.send(post(), messages(60_000)).unwrap();
        let id = peer.request().await;
        let mut got = 0;
        while got < 60_000 {
            let frame = peer.next(DATA).await;
            if frame.stream == id {
                got += frame.payload.len();
            }
        }
        peer.ok(id).await;
        assert_eq!(read_once(&mut stream).await.unwrap(), OK);
    });
}

#[test]
fn who_does_not_read_holds_the_window_of_its_stream_alone() {
    run(async || {
        let settings = Http2Settings::default();
        let window = settings.stream_window_bytes as usize;
        let sent = Rc::new(Cell::new(0));
        let seen = sent.clone();
        // As much as allowed, on every stream.
        let pour = move |request: http::Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>| {
            let seen = seen.clone();
            async move {
                let total = if request.uri().path() == "/slow" { 4 * window } else { 2 * window };
                let mut send = respond.send_response(http::Response::new(()), false).unwrap();
                let mut left = total;
                while left > 0 {
                    send.reserve_capacity(left.min(16 << 10));
                    let Some(Ok(capacity)) = poll_fn(|context| send.poll_capacity(context)).await else { return };
                    let part = left.min(capacity);
                    left -= part;
                    if request.uri().path() == "/slow" {
                        seen.set(seen.get() + part);
                    }
                    send.send_data(messages(part), left == 0).unwrap();
                }
            }
        };
        let (connection, _) = served(settings, h2::server::Builder::new(), pour).await;
        let request = |path: &str| http::Request::get(format!("http://backend.test{path}")).body(()).unwrap();
        let mut slow = connection.send(request("/slow"), Bytes::new()).unwrap();
        assert_eq!(read_once(&mut slow).await.unwrap()[..OK.len()], *OK);
        // While it is not read, others complete, moving more than the windows hold at a time.
        for _ in 0..3 {
            let mut quick = connection.send(request("/quick"), Bytes::new()).unwrap();
            let (text, end) = read_all(&mut quick, 64 << 10).await;
            assert_eq!((text.len(), end), (OK.len() + 2 * window, Ok(())));
        }
        let first = sent.get();
        assert!(first <= window + (64 << 10), "sent {first} of a window of {window}");
        let (text, end) = read_all(&mut slow, 64 << 10).await;
        assert_eq!(end, Ok(()));
        assert_eq!(sent.get(), 4 * window);
        assert!(text.len() <= 4 * window && text.len() >= 3 * window);
    });
}

#[test]
fn the_window_opens_by_what_was_handed_over() {
    run(async || {
        let settings = Http2Settings::default();
        let (connection, mut peer, _) = open(settings, &[]).await;
        let mut stream = connection.send(get(), Bytes::new()).unwrap();
        let id = peer.request().await;
        peer.ok(id).await;
        let mut left = settings.stream_window_bytes;
        while left > 0 {
            let part = left.min(16 << 10);
            peer.data(0, id, &messages(part as usize)).await;
            left -= part;
        }
        // Half of it is read in small pieces: the peer may send that half again, and no more.
        let half = settings.stream_window_bytes as usize / 2;
        let mut got = 0;
        while got < OK.len() + half {
            let (result, _) = stream.read(Vec::with_capacity(1000)).await;
            got += result.unwrap();
        }
        let update = peer.next(peer::WINDOW).await;
        assert_eq!(update.stream, id);
        let opened = update.number() as usize;
        assert!(opened <= got - OK.len() && opened >= half - 1000, "{opened} opened for {got} read");
    });
}

#[test]
fn a_thousand_small_frames_unread_cut_off_nobody() {
    run(async || {
        let (connection, mut peer, ending) = open(Http2Settings::default(), &[]).await;
        let mut slow = connection.send(get(), Bytes::new()).unwrap();
        let mut other = connection.send(get(), Bytes::new()).unwrap();
        let slow_id = peer.request().await;
        let other_id = peer.request().await;
        peer.ok(slow_id).await;
        for _ in 0..60_000 {
            peer.data(0, slow_id, b"day").await;
        }
        peer.data(END_STREAM, slow_id, b"").await;
        peer.ok(other_id).await;
        peer.data(END_STREAM, other_id, b"fine").await;
        assert_eq!(read_all(&mut other, 4096).await, (format!("{OK}fine"), Ok(())));
        let (text, end) = read_all(&mut slow, 64 << 10).await;
        assert_eq!((text.len(), end), (OK.len() + 180_000, Ok(())));
        assert!(connection.is_open() && ending.get().is_none());
    });
}
