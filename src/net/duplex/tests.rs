//! Bytes through a duplex stream, plain and under TLS: large volumes both ways over small windows, clean and unclean
//! ends, idle checks, and garbage.

use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::tls::tests::server::{Authority, Reachability, Served, Valid, serve, serve_plain, set_up};
use crate::net::tls::tests::{LONG_MS, on_core, settings, shake};
use crate::net::tls::{TlsContext, TlsFault, TlsStream, connect};
use crate::net::{Dial, Duplex, dial, sleep_ms};

/// The random generator of one test, seeded by `SEED` or at random, which is printed.
struct Rng(u64);

impl Rng {
    fn new() -> Rng {
        let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| getrandom::u64().unwrap());
        println!("SEED={seed}");
        Rng(seed)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}

async fn plain(address: SocketAddr) -> Duplex {
    let socket = dial(&Dial::Tcp(address), LONG_MS).await.unwrap();
    socket.shrink();
    Duplex::from(socket)
}

/// A server and a context that trusts it.
fn trusted(reachability: &Reachability<'_>) -> (std::sync::Arc<rustls::ServerConfig>, TlsContext) {
    let authority = Authority::new("house");
    let server = set_up(&authority.sign("backend.test", Valid::Now), reachability);
    (server, TlsContext::new(&settings(authority.roots())).unwrap())
}

async fn stream(address: SocketAddr, context: &TlsContext) -> TlsStream {
    shake(address, context).await.unwrap().0
}

/// Writes `sent` and reads the same number of bytes back, concurrently and in odd sizes.
struct Echo<'a> {
    sent: &'a [u8],
    got: Vec<u8>,
    written: usize,
    rng: Rng,
}

impl Echo<'_> {
    fn poll(&mut self, duplex: &mut Duplex, context: &mut Context<'_>) -> Poll<()> {
        let mut duplex = Pin::new(duplex);
        loop {
            let mut moved = false;
            if self.written < self.sent.len() {
                let size = (1 + self.rng.below(40_000)).min(self.sent.len() - self.written);
                let part = &self.sent[self.written..self.written + size];
                let (front, back) = part.split_at(self.rng.below(size));
                let parts = [std::io::IoSlice::new(front), std::io::IoSlice::new(back)];
                if let Poll::Ready(count) = duplex.as_mut().poll_write_vectored(context, &parts) {
                    let count = count.unwrap();
                    assert!(count > 0 && count <= size);
                    (self.written, moved) = (self.written + count, true);
                }
            } else {
                // Whether or not this is ready, reading continues below.
                let _ = duplex.as_mut().poll_flush(context);
            }
            let mut space = vec![0; 1 + self.rng.below(20_000)];
            let mut buffer = ReadBuf::new(&mut space);
            if let Poll::Ready(result) = duplex.as_mut().poll_read(context, &mut buffer) {
                result.unwrap();
                assert!(!buffer.filled().is_empty(), "ended after {} of {}", self.got.len(), self.sent.len());
                self.got.extend_from_slice(buffer.filled());
                moved = true;
            }
            if self.got.len() == self.sent.len() {
                return Poll::Ready(());
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }
}

const MUCH: usize = 2_000_003;

async fn echo_both_ways(mut duplex: Duplex) {
    let mut rng = Rng::new();
    let sent = rng.bytes(MUCH);
    let mut echo = Echo { sent: &sent, got: Vec::new(), written: 0, rng };
    poll_fn(|context| echo.poll(&mut duplex, context)).await;
    assert!(echo.got == sent, "what came back differs");
}

/// Reads everything and then echoes it.
async fn echo_in_turn(mut duplex: Duplex) {
    let sent = Rng::new().bytes(MUCH);
    let (written, sent) = duplex.write(sent).await;
    written.unwrap();
    duplex.write_bytes(bytes::Bytes::from_static(b"end")).await.unwrap();
    let mut got = Vec::new();
    while got.len() < MUCH + 3 {
        let (read, buffer) = duplex.read(Vec::with_capacity(10_007)).await;
        assert!(read.unwrap() > 0);
        got.extend_from_slice(&buffer);
    }
    assert!(got[..MUCH] == sent && got[MUCH..] == *b"end");
}

fn answer_in_pieces(mut stream: impl Read + Write, total: usize) {
    let (mut space, mut done) = (vec![0; 7001], 0);
    while done < total {
        let count = stream.read(&mut space).unwrap();
        assert!(count > 0);
        stream.write_all(&space[..count]).unwrap();
        done += count;
    }
    stream.flush().unwrap();
}

fn answer_at_the_end(mut stream: impl Read + Write) {
    let mut all = vec![0; MUCH + 3];
    stream.read_exact(&mut all).unwrap();
    stream.write_all(&all).unwrap();
    stream.flush().unwrap();
}

#[test]
fn much_goes_both_ways_over_small_windows() {
    let (address, thread) = serve_plain(|socket| answer_in_pieces(socket, MUCH));
    on_core(async || echo_both_ways(plain(address).await).await);
    thread.join().unwrap();
    for version in [&TLS12, &TLS13] {
        let (server, context) = trusted(&Reachability { versions: &[version], ..Reachability::default() });
        let (address, thread) = serve(&server, |served| answer_in_pieces(served.stream(), MUCH));
        on_core(async || echo_both_ways(stream(address, &context).await.into()).await);
        thread.join().unwrap();
    }
}

#[test]
fn much_is_written_and_then_read_by_value() {
    let (address, thread) = serve_plain(answer_at_the_end);
    on_core(async || echo_in_turn(plain(address).await).await);
    thread.join().unwrap();
    let (server, context) = trusted(&Reachability::default());
    let (address, thread) = serve(&server, |served| answer_at_the_end(served.stream()));
    on_core(async || echo_in_turn(stream(address, &context).await.into()).await);
    thread.join().unwrap();
}

#[test]
fn records_arrive_cut_anywhere() {
    let (server, context) = trusted(&Reachability::default());
    let (address, thread) = serve(&server, |served| {
        served.shake_hands().unwrap();
        let mut wire = Vec::new();
        for part in [&b"one "[..], b"two ", b"three"] {
            served.session.writer().write_all(part).unwrap();
            served.session.write_tls(&mut wire).unwrap();
        }
        served.socket.set_nodelay(true).unwrap();
        for byte in wire {
            served.socket.write_all(&[byte]).unwrap();
        }
        assert!(served.end_is_announced());
    });
    on_core(async || {
        let mut duplex = Duplex::from(stream(address, &context).await);
        let mut got = Vec::new();
        while got.len() < 13 {
            let (read, buffer) = duplex.read(Vec::with_capacity(3)).await;
            assert!((1..=3).contains(&read.unwrap()));
            got.extend_from_slice(&buffer);
        }
        assert_eq!(got, b"one two three");
    });
    thread.join().unwrap();
}

#[test]
fn an_announced_end_is_an_end_and_another_is_a_truncation() {
    for announced in [true, false] {
        let (server, context) = trusted(&Reachability::default());
        let (address, thread) = serve(&server, move |served| {
            served.shake_hands().unwrap();
            served.say(b"body");
            if announced {
                served.announce_end();
            }
            served.socket.shutdown(std::net::Shutdown::Write).unwrap();
            // Half closed: what the client still sends arrives, and its end is announced.
            served.expect(b"thanks");
            assert!(served.end_is_announced());
        });
        on_core(async || {
            let mut duplex = Duplex::from(stream(address, &context).await);
            let (read, mut buffer) = duplex.read(Vec::with_capacity(100)).await;
            assert_eq!((read.unwrap(), &buffer[..]), (4, &b"body"[..]));
            for _ in 0..2 {
                let (read, back) = duplex.read(buffer).await;
                match read {
                    Ok(count) => assert!(announced && count == 0),
                    Err(error) => {
                        assert!(!announced && error.kind() == ErrorKind::UnexpectedEof, "{error}");
                        assert_eq!(TlsFault::of(&error), Some(&TlsFault::Truncated));
                    }
                }
                buffer = back;
            }
            assert!(!duplex.is_quiet(), "an ended connection is not for reuse");
            duplex.write(b"thanks".to_vec()).await.0.unwrap();
            duplex.finish_writing().await.unwrap();
            let (written, _) = duplex.write(b"more".to_vec()).await;
            assert_eq!(written.unwrap_err().kind(), ErrorKind::BrokenPipe);
        });
        thread.join().unwrap();
    }
}

#[test]
fn an_unclean_close_announces_nothing() {
    let (server, context) = trusted(&Reachability::default());
    let (address, thread) = serve(&server, |served| {
        // The reset may overtake the end of the handshake.
        assert!(served.shake_hands().is_err() || !served.end_is_announced());
    });
    on_core(async || Duplex::from(stream(address, &context).await).make_close_unclean());
    thread.join().unwrap();
}

/// Waits for `wanted`, without a deadline.
async fn until(mut wanted: impl FnMut() -> bool) {
    while !wanted() {
        sleep_ms(1).await;
    }
}

#[test]
fn tickets_are_no_noise_and_bytes_are() {
    let (server, context) = trusted(&Reachability { versions: &[&TLS13], ..Reachability::default() });
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let (address, thread) = serve(&server, move |served: &mut Served| {
        served.shake_hands().unwrap();
        told.recv().unwrap();
        // Half a record: it cannot be decrypted yet, but it is input.
        let mut wire = Vec::new();
        served.session.writer().write_all(b"unasked").unwrap();
        served.session.write_tls(&mut wire).unwrap();
        let (front, back) = wire.split_at(9);
        served.socket.write_all(front).unwrap();
        told.recv().unwrap();
        served.socket.write_all(back).unwrap();
        assert!(served.end_is_announced());
    });
    on_core(async || {
        let mut stream = stream(address, &context).await;
        until(|| {
            stream.is_quiet();
            stream.tickets() == 2
        })
        .await;
        until(|| stream.is_quiet()).await;
        assert!(stream.is_quiet());
        tell.send(()).unwrap();
        until(|| !stream.is_quiet()).await;
        assert!(!stream.is_quiet(), "half a record stays noise");
        tell.send(()).unwrap();
        let mut duplex = Duplex::from(stream);
        let (read, buffer) = duplex.read(Vec::with_capacity(2)).await;
        assert_eq!((read.unwrap(), &buffer[..]), (2, &b"un"[..]));
        assert!(!duplex.is_quiet(), "decrypted and unread");
        let (read, buffer) = duplex.read(Vec::with_capacity(100)).await;
        assert_eq!((read.unwrap(), &buffer[..]), (5, &b"asked"[..]));
        assert!(duplex.is_quiet());
    });
    thread.join().unwrap();
}

#[test]
fn a_closed_idle_connection_is_not_quiet() {
    for announced in [true, false] {
        let (server, context) = trusted(&Reachability::default());
        let (address, thread) = serve(&server, move |served| {
            served.shake_hands().unwrap();
            if announced {
                served.announce_end();
            } else {
                served.socket.shutdown(std::net::Shutdown::Write).unwrap();
            }
            served.end_is_announced()
        });
        on_core(async || {
            let mut duplex = Duplex::from(stream(address, &context).await);
            until(|| !duplex.is_quiet()).await;
            sleep_ms(1).await;
            assert!(!duplex.is_quiet());
        });
        thread.join().unwrap();
    }
}

#[test]
fn garbage_instead_of_tls_is_a_fault() {
    let (mut rng, (_, context)) = (Rng::new(), trusted(&Reachability::default()));
    for round in 0..60 {
        // Some of it looks like records.
        let mut garbage = rng.bytes(1 + round * 37);
        for at in (0..garbage.len().saturating_sub(5)).step_by(61) {
            garbage[at] = [20, 21, 22, 23][rng.below(4)];
            garbage[at + 1..at + 4].copy_from_slice(&[3, 3, 0]);
        }
        let (address, thread) = serve_plain(move |mut socket: TcpStream| {
            socket.write_all(&garbage).unwrap();
            let _ = socket.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut socket, &mut std::io::sink());
        });
        let fault = on_core(async || {
            let socket = dial(&Dial::Tcp(address), LONG_MS).await.unwrap();
            connect(socket, &context, LONG_MS).await.map(drop).unwrap_err()
        });
        assert!(!fault.to_string().is_empty());
        thread.join().unwrap();
    }
}

#[test]
fn a_spoiled_record_in_the_middle_is_a_fault_and_what_came_before_is_whole() {
    let (server, context) = trusted(&Reachability::default());
    let mut rng = Rng::new();
    let (place, other) = (rng.below(1000), 1 + rng.below(255) as u8);
    let (address, thread) = serve(&server, move |served| {
        served.shake_hands().unwrap();
        served.say(b"good");
        let mut wire = Vec::new();
        served.session.writer().write_all(&[b'x'; 1000]).unwrap();
        served.session.write_tls(&mut wire).unwrap();
        wire[5 + place] ^= other;
        served.socket.write_all(&wire).unwrap();
        let mut rest = Vec::new();
        served.stream().read_to_end(&mut rest).unwrap_err()
    });
    on_core(async || {
        let mut duplex = Duplex::from(stream(address, &context).await);
        let (read, buffer) = duplex.read(Vec::with_capacity(100)).await;
        assert_eq!((read.unwrap(), &buffer[..]), (4, &b"good"[..]));
        for _ in 0..2 {
            let (read, _) = duplex.read(Vec::with_capacity(100)).await;
            let error = read.unwrap_err();
            assert!(matches!(TlsFault::of(&error), Some(TlsFault::Protocol { .. })), "{error}");
        }
        let (written, _) = duplex.write(b"x".to_vec()).await;
        assert!(TlsFault::of(&written.unwrap_err()).is_some());
    });
    let said = thread.join().unwrap();
    assert!(said.to_string().contains("BadRecordMac"), "{said}");
}
