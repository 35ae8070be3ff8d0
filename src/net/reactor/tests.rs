//! The reactor on a real ring with real sockets. Tests wait for events, never for a time.

use std::future::poll_fn;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::task::Poll;
use std::thread::JoinHandle;

use super::{Reactor, with};
use crate::net::{Dial, Socket, dial, runtime::run_data_core, sleep_ms};

mod chaos; // random programs against a fake kernel
mod closing; // closing sockets with posted bytes
mod crowd; // more than the buffers, entries or arena hold
mod order; // all ways of writing, mixed
mod stuck; // peers that do not read
mod turns; // cores that are never idle

const LONG_MS: u64 = 60_000;
/// As much as can be posted at a time; more than a shrunk socket and a narrow peer hold.
const MUCH: usize = 16 << 10;

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// The peers it accepts have small receive buffers.
fn narrow_listener() -> TcpListener {
    let listener = listener();
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 4 << 10).unwrap();
    listener
}

async fn open(listener: &TcpListener) -> (Socket, TcpStream) {
    let socket = dial(&Dial::Tcp(listener.local_addr().unwrap()), LONG_MS).await.unwrap();
    (socket, listener.accept().unwrap().0)
}

/// A socket whose peer takes less than [`MUCH`].
async fn open_narrow() -> (Socket, TcpStream) {
    let (socket, peer) = open(&narrow_listener()).await;
    socket.shrink();
    (socket, peer)
}

/// Bytes `at..at + length` of a stream whose every position differs: a loss, a repetition or a swap shows.
fn part(at: usize, length: usize) -> Vec<u8> {
    (at..at + length).map(|place| ((place as u32).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Reads to the end, `step` bytes at a time, on a thread of its own.
fn read_all(mut peer: TcpStream, step: usize) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let (mut all, mut buffer) = (Vec::new(), vec![0; step]);
        loop {
            match peer.read(&mut buffer) {
                Ok(0) => return all,
                Ok(read) => all.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("after {} bytes: {error}", all.len()),
            }
        }
    })
}

/// The result of a thread; this core keeps running meanwhile, and closes dropped sockets.
async fn joined<R>(thread: JoinHandle<R>) -> R {
    until("the end of a thread", || thread.is_finished()).await;
    thread.join().unwrap()
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

/// Runs rounds until `holds` does.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..LONG_MS {
        if holds() {
            return;
        }
        sleep_ms(1).await;
    }
    panic!("never happened: {what}");
}

/// Whether everything is in the kernel or has failed; does not wait.
async fn is_settled(socket: &mut Socket) -> bool {
    let mut settling = pin!(socket.settle());
    poll_fn(|context| Poll::Ready(settling.as_mut().poll(context).is_ready())).await
}

/// Posted bytes of all sockets that the kernel had no room for.
fn unsent() -> usize {
    let unsent = |reactor: &mut Reactor| reactor.slots.iter().map(|slot| slot.unsent().len()).sum();
    with(unsent).unwrap()
}

/// Runs `test` on a core of its own.
fn on_core<R>(test: impl Future<Output = R>) -> R {
    run_data_core(test).expect("a ring")
}
