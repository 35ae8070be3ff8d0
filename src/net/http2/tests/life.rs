//! The life of a connection: what its pool is notified of, how it ends, and that it is idle when there is nothing to
//! do.

use super::peer::{END_STREAM, GOAWAY, MAX_CONCURRENT_STREAMS, PING};
use super::*;

const OK: &str = "HTTP/1.1 200 \r\n\r\n";

#[test]
fn the_peers_limit_is_known_from_the_start_and_followed() {
    run(async || {
        let (connection, mut peer, _) = open(Http2Settings::default(), &[(MAX_CONCURRENT_STREAMS, 2)]).await;
        assert_eq!(connection.streams_limit(), 2);
        let mut lookout = connection.lookout();
        let mut streams: Vec<Stream> = (0..3).map(|_| connection.send(get(), Bytes::new()).unwrap()).collect();
        assert_eq!((peer.request().await, peer.request().await), (1, 3));
        peer.settings(&[(MAX_CONCURRENT_STREAMS, 3)]).await;
        assert_eq!(lookout.news().await, News::StreamsLimit(3));
        // The third had to wait, and opens now.
        assert_eq!(peer.request().await, 5);
        for (stream, id) in streams.iter_mut().zip([1, 3, 5]) {
            peer.ok(id).await;
            peer.data(END_STREAM, id, b"").await;
            assert_eq!(read_all(stream, 4096).await, (OK.into(), Ok(())));
        }
        peer.settings(&[(MAX_CONCURRENT_STREAMS, 1000)]).await;
        assert_eq!(lookout.news().await, News::StreamsLimit(100));
    });
}

#[test]
fn a_stream_in_line_can_time_out() {
    run(async || {
        let (connection, mut peer, _) = open(Http2Settings::default(), &[(MAX_CONCURRENT_STREAMS, 1)]).await;
        let first = connection.send(get(), Bytes::new()).unwrap();
        let mut second = connection.send(post(), messages(10)).unwrap();
        assert_eq!(peer.request().await, 1);
        second.watch().shut_down_at(crate::net::now_ms() + 1);
        assert_eq!(read_once(&mut second).await, Err(io::ErrorKind::TimedOut));
        drop((second, first));
        assert_eq!(peer.next(peer::RESET).await.stream, 1);
        let mut third = connection.send(get(), Bytes::new()).unwrap();
        // The library opens the second and immediately resets it, so that no stream id is skipped.
        assert_eq!((peer.request().await, peer.next(peer::RESET).await.stream), (3, 3));
        let id = peer.request().await;
        assert_eq!(id, 5);
        peer.ok(id).await;
        assert_eq!(read_once(&mut third).await.unwrap(), OK);
    });
}

#[test]
fn after_goaway_old_streams_finish_and_younger_ones_are_refused() {
    run(async || {
        let (connection, mut peer, ending) = open(Http2Settings::default(), &[]).await;
        let mut lookout = connection.lookout();
        let mut streams: Vec<Stream> = (0..3).map(|_| connection.send(post(), messages(10)).unwrap()).collect();
        for id in [1, 3, 5] {
            assert_eq!(peer.request().await, id);
        }
        peer.ok(1).await;
        // A warning first (RFC 9113 6.8), which refuses nothing that was sent.
        peer.goaway(0x7fff_ffff).await;
        assert_eq!(lookout.news().await, News::Retiring);
        assert!(!connection.is_open());
        assert_eq!(connection.send(get(), Bytes::new()).err(), Some(Http2Fault::Refused));
        peer.goaway(3).await;
        assert_eq!(read_once(&mut streams[2]).await, Err(io::ErrorKind::ConnectionRefused));
        assert_eq!(streams[2].fault(), Some(Http2Fault::Refused));
        peer.ok(3).await;
        for (id, data) in [(1, "one"), (3, "three")] {
            peer.data(END_STREAM, id, data.as_bytes()).await;
        }
        assert_eq!(read_all(&mut streams[0], 4096).await, (format!("{OK}one"), Ok(())));
        assert_eq!(read_all(&mut streams[1], 4096).await, (format!("{OK}three"), Ok(())));
        // The connection ends with the last of them, even if handles remain.
        drop(streams);
        dead(&mut lookout).await;
        assert_eq!(ending.get(), Some(Ok(())));
        assert_eq!(connection.condition(), Condition::Dead);
        assert_eq!(connection.send(get(), Bytes::new()).err(), Some(Http2Fault::Refused));
    });
}

#[test]
fn a_transport_that_breaks_is_lost_and_not_a_clean_end() {
    run(async || {
        let (connection, mut peer, ending) = open(Http2Settings::default(), &[]).await;
        let mut lookout = connection.lookout();
        let mut begun = connection.send(get(), Bytes::new()).unwrap();
        let mut silent = connection.send(get(), Bytes::new()).unwrap();
        let id = peer.request().await;
        peer.request().await;
        peer.ok(id).await;
        peer.data(0, id, b"half").await;
        drop(peer);
        assert_eq!(read_all(&mut begun, 4096).await, (format!("{OK}half"), Err(io::ErrorKind::UnexpectedEof)));
        assert_eq!(begun.fault(), Some(Http2Fault::ConnectionLost));
        assert_eq!(read_once(&mut silent).await, Err(io::ErrorKind::UnexpectedEof));
        dead(&mut lookout).await;
        assert!(ending.get().is_some());
    });
}

#[test]
fn a_stream_that_survives_goaway_is_lost_with_the_transport_and_not_refused() {
    run(async || {
        let (connection, mut peer, _) = open(Http2Settings::default(), &[]).await;
        let mut stream = connection.send(post(), messages(10)).unwrap();
        peer.request().await;
        peer.goaway(1).await;
        drop(peer);
        assert_eq!(read_once(&mut stream).await, Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(stream.fault(), Some(Http2Fault::ConnectionLost));
    });
}

#[test]
fn the_last_handle_says_goodbye() {
    run(async || {
        let (connection, mut peer, ending) = open(Http2Settings::default(), &[]).await;
        let mut lookout = connection.lookout();
        let mut stream = connection.clone().send(get(), Bytes::new()).unwrap();
        let id = peer.request().await;
        drop(connection);
        // Not while a stream is open.
        peer.ok(id).await;
        peer.data(END_STREAM, id, b"last").await;
        assert_eq!(read_all(&mut stream, 4096).await, (format!("{OK}last"), Ok(())));
        drop(stream);
        let goodbye = peer.next(GOAWAY).await;
        assert_eq!(goodbye.payload, [0; 8]);
        assert_eq!(peer.frame().await, None);
        dead(&mut lookout).await;
        assert_eq!(ending.get(), Some(Ok(())));
    });
}

#[test]
fn a_peer_that_takes_no_goodbye_is_left() {
    run(async || {
        let settings = Http2Settings { close_timeout_ms: 20, ..Http2Settings::default() };
        let (connection, mut peer, ending) = open(settings, &[]).await;
        let mut lookout = connection.lookout();
        // More than the pipe holds, and nothing reads it.
        peer.window(0, 1 << 20).await;
        let stream = connection.send(post(), messages(60_000)).unwrap();
        let id = peer.request().await;
        peer.window(id, 1 << 20).await;
        let other = connection.send(post(), messages(60_000)).unwrap();
        peer.ok(id).await;
        drop((stream, other, connection));
        dead(&mut lookout).await;
        assert_eq!(ending.get(), Some(Ok(())));
        drop(peer);
    });
}

#[test]
fn a_peer_that_owes_answers_and_goes_silent_is_buried() {
    run(async || {
        let settings = Http2Settings { ping_after_ms: 20, ping_timeout_ms: 20, ..Http2Settings::default() };
        let (connection, mut peer, ending) = open(settings, &[]).await;
        let mut stream = connection.send(get(), Bytes::new()).unwrap();
        let id = peer.request().await;
        peer.ok(id).await;
        assert_eq!(read_once(&mut stream).await.unwrap(), OK);
        // It stays open, but sends nothing more.
        assert_eq!(read_once(&mut stream).await, Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(stream.fault(), Some(Http2Fault::ConnectionLost));
        assert_eq!((connection.condition(), ending.get()), (Condition::Dead, Some(Err(Http2Fault::ConnectionLost))));
        assert_eq!(peer.next(PING).await.flags, 0);
    });
}

/// Only virtual time, which stands still between events, lets a test distinguish immediate from later.
#[cfg(sim)]
#[test]
fn a_connection_that_rested_is_asked_with_its_first_request() {
    use crate::net::{now_ms, sleep_ms};
    run(async || {
        let (connection, mut peer, _) = open(Http2Settings::default(), &[]).await;
        drop(connection.send(get(), Bytes::new()).unwrap());
        peer.next(peer::RESET).await;
        sleep_ms(100_000).await;
        let asked_ms = now_ms();
        let mut stream = connection.send(get(), Bytes::new()).unwrap();
        peer.next(PING).await;
        assert!(now_ms() - asked_ms < 1000);
        assert_eq!(read_once(&mut stream).await, Err(io::ErrorKind::UnexpectedEof));
        assert!((9_000..12_000).contains(&(now_ms() - asked_ms)));
    });
}

#[test]
fn a_peer_that_thinks_long_and_answers_pings_lives() {
    run(async || {
        let settings = Http2Settings { ping_after_ms: 10, ping_timeout_ms: 60_000, ..Http2Settings::default() };
        let (connection, mut peer, ending) = open(settings, &[]).await;
        let mut stream = connection.send(get(), Bytes::new()).unwrap();
        let id = peer.request().await;
        for _ in 0..5 {
            let ping = peer.next(PING).await;
            peer.pong(&ping).await;
        }
        peer.ok(id).await;
        peer.data(END_STREAM, id, b"42").await;
        assert_eq!(read_all(&mut stream, 4096).await, (format!("{OK}42"), Ok(())));
        assert!(connection.is_open() && ending.get().is_none());
    });
}

#[test]
fn who_does_not_speak_http2_is_found_out_before_a_request_is_risked() {
    run(async || {
        let (ours, theirs) = pipe(PIPE_BYTES);
        let mut peer = Peer::new(theirs);
        peer.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
        let error = handshake(ours, Http2Settings::default()).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let (ours, theirs) = pipe(PIPE_BYTES);
        drop(theirs);
        assert!(handshake(ours, Http2Settings::default()).await.is_err());
    });
}

/// A driver that wakes itself would keep a core from polling its ring for completions.
#[test]
fn a_driver_rests_when_there_is_nothing_to_do() {
    run(async || {
        let (ours, theirs) = pipe(PIPE_BYTES);
        let mut peer = Peer::new(theirs);
        peer.settings(&[]).await;
        let (connection, mut driver) = handshake(ours, Http2Settings::default()).await.unwrap();
        peer.preface().await;
        let polls = Rc::new(Cell::new(0u32));
        let counted = polls.clone();
        spawn_raw(async move {
            let _ = poll_fn(|context| {
                counted.set(counted.get() + 1);
                Pin::new(&mut driver).poll(context)
            })
            .await;
        });
        for round in 0..10u32 {
            let mut stream = connection.send(post(), messages(1000)).unwrap();
            let id = peer.request().await;
            peer.ok(id).await;
            peer.data(END_STREAM, id, b"done").await;
            assert_eq!(read_all(&mut stream, 4096).await.1, Ok(()));
            drop(stream);
            crate::net::sleep_ms(30).await;
            // A few polls for each of request, head, data, window and end; a loop would have made thousands.
            assert!(polls.get() < 20 * (round + 1) + spurious(), "{} polls in {round} rounds", polls.get());
        }
        let before = polls.get();
        drop(connection);
        peer.next(GOAWAY).await;
        assert!(polls.get() <= before + 4 + spurious());
    });
}

/// Spurious polls, which a simulated world adds at random.
fn spurious() -> u32 {
    if cfg!(sim) { 200 } else { 0 }
}
