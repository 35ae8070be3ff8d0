//! Peers that do not read, read late, or are gone.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::{
    LONG_MS, MUCH, Reactor, is_settled, joined, listener, on_core, open, open_narrow, part, read_all, unsent, until,
    with,
};
use crate::net::Socket;

/// Posts more than the peer takes.
async fn stall(socket: &mut Socket) {
    socket.post(&part(0, MUCH)).expect("nothing is on its way").unwrap();
    until("a send that falls short", || unsent() > 0).await;
}

#[test]
fn what_a_peer_has_no_room_for_leaves_when_it_reads() {
    on_core(async move {
        let (mut socket, peer) = open_narrow().await;
        stall(&mut socket).await;
        assert!(socket.post(b"x").is_none(), "it would overtake");
        assert!(!is_settled(&mut socket).await);
        let reader = read_all(peer, 700);
        socket.settle().await.unwrap();
        assert_eq!(unsent(), 0);
        assert!(is_settled(&mut socket).await);
        // The same again, but nothing waits for it: it is sent by itself.
        let mut sent = MUCH;
        for _ in 0..20 {
            until("room for a post", || socket.post(&part(sent, MUCH)).is_some()).await;
            sent += MUCH;
        }
        socket.settle().await.unwrap();
        drop(socket);
        let got = joined(reader).await;
        assert_eq!(got.len(), sent);
        assert!(got == part(0, sent));
    });
}

#[test]
fn a_peer_that_takes_nothing_is_cut_off() {
    on_core(async move {
        let (mut socket, peer) = open_narrow().await;
        socket.watch().shut_down_stuck(1, u64::MAX);
        socket.post(&part(0, MUCH)).unwrap().unwrap();
        socket.watch().clear(); // the rest is up to the reactor
        socket.settle().await.unwrap_err();
        socket.post(b"x").expect("an error").unwrap_err();
        socket.write(vec![b'x'; 2 * MUCH]).await.0.unwrap_err();
        socket.write_bytes(b"x".to_vec().into()).await.unwrap_err();
        socket.settle().await.unwrap_err();
        let got = joined(read_all(peer, MUCH)).await;
        assert!(got.len() < MUCH && got == part(0, got.len()), "it got a prefix");
    });
}

/// Accesses the one stalled socket.
fn stalled<R>(act: impl FnOnce(&mut super::super::Excess) -> R) -> R {
    let find = |reactor: &mut Reactor| {
        let slot = reactor.slots.iter_mut().find(|slot| !slot.unsent().is_empty());
        act(slot.expect("one stalls").excess())
    };
    with(find).unwrap()
}

#[test]
fn a_peer_that_takes_a_little_again_and_again_is_not_cut_off() {
    on_core(async move {
        let (mut socket, mut peer) = open_narrow().await;
        socket.watch().shut_down_stuck(LONG_MS * 60, u64::MAX);
        stall(&mut socket).await;
        // As if it had been silent forever: the next byte sent counts as progress.
        let (mut signs, mut got, mut step) = (0, Vec::new(), [0; 1000]);
        while unsent() > 0 {
            stalled(|excess| excess.moved_ms = 0);
            let before = unsent();
            peer.set_nonblocking(true).unwrap();
            until("room again", || {
                if unsent() == before
                    && let Ok(read) = peer.read(&mut step)
                {
                    got.extend_from_slice(&step[..read]);
                }
                unsent() < before
            })
            .await;
            if unsent() > 0 {
                assert_ne!(stalled(|excess| excess.moved_ms), 0);
                signs += 1;
            }
        }
        assert!(signs > 0, "all of it left at once");
        socket.settle().await.unwrap();
        drop(socket);
        peer.set_nonblocking(false).unwrap();
        got.extend(joined(read_all(peer, MUCH)).await);
        assert!(got == part(0, MUCH));
    });
}

#[test]
fn a_peer_that_takes_a_byte_now_and_then_has_an_end() {
    let excess = |moved_ms, unsent_ms| super::super::Excess { moved_ms, unsent_ms, ..Default::default() };
    assert_eq!(excess(1000, 1000).stalls_until_ms(30_000), 31_000, "nothing was taken");
    assert_eq!(excess(9000, 1000).stalls_until_ms(30_000), 39_000, "the last byte was a sign of life");
    assert_eq!(excess(99_000, 1000).stalls_until_ms(30_000), 47_000, "16 KiB at 1 KiB a second, and its patience");
    assert_eq!(excess(1000, 1000).stalls_until_ms(u64::MAX), u64::MAX);
}

/// The same with a writer that waits.
#[test]
fn progress_puts_the_end_off_but_not_beyond_the_whole_time() {
    on_core(async move {
        let (mut socket, mut peer) = open_narrow().await;
        socket.watch().shut_down_stuck(LONG_MS * 60, 1);
        let taker = std::thread::spawn(move || {
            let mut step = [0; 1000];
            while matches!(peer.read(&mut step), Ok(read) if read > 0) {
                std::thread::park_timeout(std::time::Duration::from_millis(5));
            }
        });
        // More than the peer can take before the deadline is noticed.
        socket.write(vec![b'x'; 64 << 20]).await.0.unwrap_err();
        drop(socket);
        joined(taker).await;
    });
}

#[test]
fn only_who_stalls_is_looked_at() {
    on_core(async move {
        let (mut socket, mut peer) = open_narrow().await;
        let mut got = vec![0; MUCH];
        for round in 0..100 {
            stall(&mut socket).await;
            let listed = with(|reactor| reactor.stalled.len()).unwrap();
            assert_eq!(listed, 1, "after {round} rounds");
            let reader = std::thread::spawn(move || {
                peer.read_exact(&mut got).unwrap();
                (peer, got)
            });
            socket.settle().await.unwrap();
            (peer, got) = joined(reader).await;
        }
        until("the list is empty", || with(|reactor| reactor.stalled.is_empty() && !reactor.stalled_ticking).unwrap())
            .await;
    });
}

fn reset(peer: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&peer, Some(std::time::Duration::ZERO)).unwrap();
}

#[test]
fn a_reset_shows_in_a_later_write_and_hides_nothing_that_came() {
    on_core(async move {
        for late in ["settle", "write", "write_bytes", "post"] {
            let (mut socket, mut peer) = open(&listener()).await;
            peer.write_all(b"before").unwrap();
            reset(peer);
            socket.post(b"lost").expect("nothing is on its way").unwrap();
            let result = match late {
                "settle" => socket.settle().await,
                "write" => socket.write(vec![b'x'; 2 * MUCH]).await.0,
                "write_bytes" => socket.write_bytes(vec![b'x'; 10].into()).await,
                _ => {
                    until("the failed send", || with(|reactor| reactor.posted.is_empty()).unwrap()).await;
                    socket.post(b"x").expect("an error")
                }
            };
            result.unwrap_err();
            assert!(!socket.is_quiet());
            super::expect(&mut socket, b"before").await;
            // The failed send may have consumed the socket error; then this is the end.
            assert!(!matches!(socket.read(Vec::with_capacity(10)).await.0, Ok(1..)));
        }
    });
}

#[test]
fn a_reset_ends_the_wait_of_who_has_no_room() {
    on_core(async move {
        let (mut socket, peer) = open_narrow().await;
        stall(&mut socket).await;
        reset(peer);
        socket.settle().await.unwrap_err();
        assert_eq!(unsent(), 0, "nobody will want it any more");
    });
}

#[test]
fn nothing_is_quiet_that_has_not_sent_everything() {
    on_core(async move {
        let (mut socket, mut peer) = open_narrow().await;
        socket.rest();
        assert!(socket.is_quiet());
        socket.post(&part(0, MUCH)).unwrap().unwrap();
        assert!(!socket.is_quiet(), "not even submitted");
        until("a send that falls short", || unsent() > 0).await;
        assert!(!socket.is_quiet(), "the peer has no room");
        let reader = std::thread::spawn(move || {
            peer.read_exact(&mut [0; MUCH]).unwrap();
            peer
        });
        socket.settle().await.unwrap();
        let _peer = joined(reader).await;
        assert!(socket.is_quiet());
        // A send that fails, with nothing to read.
        socket.finish_writing();
        socket.post(b"x").unwrap().unwrap();
        until("the failed send", || with(|reactor: &mut Reactor| reactor.posted.is_empty()).unwrap()).await;
        assert!(!socket.is_quiet(), "a send failed");
    });
}
