//! All ways of writing, mixed, to fast and slow readers: everything arrives, once and in order.

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};

use bytes::Bytes;

use super::{joined, listener, narrow_listener, on_core, open, part, read_all, sleep_ms};
use crate::net::{Dial, Duplex, FastOpen, Socket, dial_with};

#[derive(Clone, Copy, PartialEq)]
enum Peer {
    Fast,
    /// Reads a little at a time, from small buffers.
    Slow,
}

/// Lengths and ways, in rotation; the counts are coprime.
const LENGTHS: [usize; 11] = [1, 300, 7, 16 << 10, 20, 4000, (16 << 10) + 1, 9, 40_000, 16_000, 2];
const WAYS: usize = 5;

async fn write(socket: &mut Socket, way: usize, bytes: &[u8]) {
    let mut done = 0;
    match way {
        0 => match socket.post(bytes) {
            Some(posted) => return posted.unwrap(),
            None => return socket.write(bytes.to_vec()).await.0.unwrap(),
        },
        1 => return socket.write(bytes.to_vec()).await.0.unwrap(),
        2 => return socket.write_bytes(Bytes::copy_from_slice(bytes)).await.unwrap(),
        // What these do not accept is written below.
        3 => match socket.write_now(&[IoSlice::new(bytes)]) {
            Ok(count) => done = count,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        },
        _ => {}
    }
    while done < bytes.len() {
        done += poll_fn(|context| socket.poll_write(&bytes[done..], context)).await.unwrap();
    }
}

fn whatever_is_written(peer: Peer, writes: usize) {
    on_core(async move {
        let listener = if peer == Peer::Slow { narrow_listener() } else { listener() };
        let (mut socket, stream) = open(&listener).await;
        if peer == Peer::Slow {
            socket.shrink();
        }
        let reader = read_all(stream, if peer == Peer::Slow { 500 } else { 64 << 10 });
        let mut at = 0;
        for number in 0..writes {
            let length = LENGTHS[number % LENGTHS.len()];
            // Small writes in a row without a pause, so that several fall into one round. Each way follows each other
            // one.
            let way = number.wrapping_mul(2_654_435_761) / 256 % WAYS;
            write(&mut socket, way, &part(at, length)).await;
            at += length;
            if number % 7 == 0 {
                sleep_ms(1).await;
            }
        }
        socket.settle().await.unwrap();
        drop(socket);
        let got = joined(reader).await;
        assert_eq!(got.len(), at);
        assert!(got == part(0, at), "out of order");
    });
}

#[test]
fn whatever_is_written_arrives_in_order() {
    whatever_is_written(Peer::Fast, 4000);
}

#[test]
fn whatever_is_written_to_a_slow_peer_arrives_in_order() {
    whatever_is_written(Peer::Slow, 110);
}

#[test]
fn posts_of_many_rounds_arrive_in_order() {
    on_core(async move {
        let (mut socket, stream) = open(&listener()).await;
        let reader = read_all(stream, 64 << 10);
        let mut at = 0;
        for number in 0..3000 {
            let bytes = part(at, LENGTHS[number % LENGTHS.len()].min(16 << 10));
            match socket.post(&bytes) {
                Some(posted) => {
                    posted.unwrap();
                    at += bytes.len();
                }
                None => socket.settle().await.unwrap(), // a send is pending: this waits for it
            }
        }
        drop(socket);
        assert!(joined(reader).await == part(0, at));
    });
}

#[test]
fn the_end_of_the_direction_comes_behind_what_was_written() {
    on_core(async move {
        let (socket, stream) = open(&listener()).await;
        let reader = read_all(stream, 64 << 10);
        let mut duplex = Duplex::from(socket);
        duplex.write(part(0, 100)).await.0.unwrap();
        duplex.finish_writing().await.unwrap();
        assert!(joined(reader).await == part(0, 100));
    });
}

#[test]
fn the_first_bytes_of_a_fast_open_are_waited_for() {
    on_core(async move {
        let listener = listener();
        let to = Dial::Tcp(listener.local_addr().unwrap());
        let mut socket = dial_with(&to, super::LONG_MS, FastOpen::On).await.unwrap();
        // Retries do not help: the caller must go on to `write`.
        assert!(socket.post(b"1").is_none());
        assert!(socket.post(b"1").is_none());
        assert!(super::with(|reactor| reactor.posted.is_empty()).unwrap());
        socket.write(b"1".to_vec()).await.0.unwrap();
        assert!(super::with(|reactor| reactor.posted.is_empty()).unwrap(), "the first write was posted");
        let reader = read_all(listener.accept().unwrap().0, 10);
        socket.post(b"2").expect("not the first any more").unwrap();
        drop(socket);
        assert_eq!(joined(reader).await, b"12");
    });
}
