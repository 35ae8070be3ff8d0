//! More than there are buffers in use, entries in the ring, or bytes in the arena.

use std::io::Write;
use std::net::TcpStream;

use super::super::kernel::{BUFFERS, BUFFERS_STEP, RING_ENTRIES, SEND_ARENA_BYTES};
use super::super::with;
use super::{MUCH, expect, joined, listener, on_core, open, part, read_all};
use crate::net::Socket;

fn message(number: usize, round: usize) -> Vec<u8> {
    format!("message {round} for number {number}, ").repeat(1 + number % 40).into_bytes()
}

#[test]
fn more_messages_than_buffers_arrive_whole() {
    const SOCKETS: usize = 4 * BUFFERS_STEP as usize;
    on_core(async move {
        let listener = listener();
        let mut pairs = Vec::new();
        for _ in 0..SOCKETS {
            let (socket, peer) = open(&listener).await;
            socket.rest(); // received from now on, before the first read
            pairs.push((socket, peer));
        }
        assert_eq!(with(|reactor| reactor.kernel.buffers_used()).unwrap(), usize::from(BUFFERS_STEP));
        for round in 0..20 {
            // All at once, before this thread reads any of them.
            for (number, (_, peer)) in pairs.iter_mut().enumerate() {
                peer.write_all(&message(number, round)).unwrap();
            }
            for (number, (socket, _)) in pairs.iter_mut().enumerate() {
                expect(socket, &message(number, round)).await;
            }
        }
        let (used, held) = with(|reactor| (reactor.kernel.buffers_used(), reactor.held)).unwrap();
        assert!(used > usize::from(BUFFERS_STEP) && used <= usize::from(BUFFERS), "{used} in use");
        assert_eq!(held, 0, "all that was read is free again");
    });
}

/// Posts `length` bytes on each of `count` sockets, `rounds` times, without a pause.
async fn post_on_all(count: usize, rounds: usize, length: usize) {
    let listener = listener();
    let mut pairs: Vec<(Socket, TcpStream)> = Vec::new();
    for _ in 0..count {
        pairs.push(open(&listener).await);
    }
    for round in 0..rounds {
        for (number, (socket, _)) in pairs.iter_mut().enumerate() {
            let bytes = part(number * rounds + round * length, length);
            socket.post(&bytes).expect("nothing is on its way").unwrap();
        }
        for (socket, _) in &mut pairs {
            socket.settle().await.unwrap();
        }
    }
    for (number, (socket, peer)) in pairs.into_iter().enumerate() {
        drop(socket);
        let expected: Vec<u8> = (0..rounds).flat_map(|round| part(number * rounds + round * length, length)).collect();
        assert!(joined(read_all(peer, 64 << 10)).await == expected, "number {number}");
    }
}

#[test]
fn more_posts_than_the_ring_has_entries_arrive() {
    on_core(post_on_all(RING_ENTRIES as usize + 200, 3, 10));
}

#[test]
fn more_posts_than_the_tray_has_bytes_arrive() {
    on_core(post_on_all(3 * SEND_ARENA_BYTES / MUCH + 5, 3, MUCH));
}
