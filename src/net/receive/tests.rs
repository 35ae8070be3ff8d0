//! More messages at a time than there are buffers in use: each arrives whole, and more buffers are used from then on.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use super::{BUFFERS, BUFFERS_STEP, with};
use crate::net::runtime::run_data_core;
use crate::net::{Dial, Socket, dial};

const SOCKETS: usize = 4 * BUFFERS_STEP as usize;
const LONG_MS: u64 = 60_000;

fn message(number: usize, round: usize) -> Vec<u8> {
    format!("message {round} for number {number}, ").repeat(1 + number % 40).into_bytes()
}

async fn open(listener: &TcpListener) -> (Socket, TcpStream) {
    let socket = dial(&Dial::Tcp(listener.local_addr().unwrap()), LONG_MS).await.unwrap();
    (socket, listener.accept().unwrap().0)
}

async fn expect(socket: &mut Socket, expected: &[u8]) {
    let mut got = Vec::with_capacity(expected.len());
    while got.len() < expected.len() {
        let (result, buffer) = socket.read(got).await;
        got = buffer;
        assert_ne!(result.unwrap(), 0, "the end came early");
    }
    assert_eq!(got, expected);
}

#[test]
fn more_messages_than_buffers_arrive_whole() {
    let core = async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut pairs = Vec::new();
        for _ in 0..SOCKETS {
            let (socket, peer) = open(&listener).await;
            socket.rest(); // received from now on, whoever reads it when
            pairs.push((socket, peer));
        }
        assert_eq!(with(|hub| hub.buffers.used()).unwrap(), usize::from(BUFFERS_STEP));
        for round in 0..20 {
            // All at once, before this thread looks at any of them.
            for (number, (_, peer)) in pairs.iter_mut().enumerate() {
                peer.write_all(&message(number, round)).unwrap();
            }
            for (number, (socket, _)) in pairs.iter_mut().enumerate() {
                expect(socket, &message(number, round)).await;
            }
        }
        let (used, held) = with(|hub| (hub.buffers.used(), hub.held)).unwrap();
        assert!(used > usize::from(BUFFERS_STEP) && used <= usize::from(BUFFERS), "{used} in use");
        assert_eq!(held, 0, "all that was read is free again");
    };
    run_data_core(core).expect("a ring");
}
