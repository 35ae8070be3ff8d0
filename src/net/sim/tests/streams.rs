//! Polled operations of sockets, the stream over them, and the address race, on every network.

use std::future::poll_fn;
use std::io::IoSlice;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::net::{DialOptions, Duplex, FastOpen, dial_any};

#[test]
fn polled_reads_and_writes_lose_nothing_and_may_be_given_up() {
    each_seed(|world| {
        let left = async |mut socket: Socket| {
            let (sent, mut done) = (messages(3000), 0);
            while done < sent.len() {
                // Dropped once, and requested again.
                let (front, back) = sent[done..].split_at((sent.len() - done) / 2);
                let parts = [IoSlice::new(front), IoSlice::new(back)];
                match socket.write_now(&parts) {
                    Ok(count) => done += count,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
                if done < sent.len() {
                    done += poll_fn(|context| socket.poll_write(&sent[done..], context)).await.unwrap();
                }
            }
            Duplex::from(socket).finish_writing().await.unwrap();
        };
        let right = async |mut socket: Socket| {
            let mut got = Vec::new();
            loop {
                let mut take = |bytes: &[u8]| {
                    let taken = bytes.len().div_ceil(2);
                    got.extend_from_slice(&bytes[..taken]);
                    taken
                };
                let read = match socket.poll_take(&mut Context::from_waker(Waker::noop()), &mut take) {
                    Poll::Ready(read) => read,
                    Poll::Pending => poll_fn(|context| socket.poll_take(context, &mut take)).await,
                };
                if read.unwrap() == 0 {
                    break;
                }
            }
            assert_eq!(got, messages(3000));
        };
        pair(world, left, right);
    });
}

#[test]
fn a_plain_duplex_is_its_socket() {
    each_seed(|world| {
        let left = async |socket: Socket| {
            let mut duplex = Duplex::from(socket);
            duplex.write(messages(500)).await.0.unwrap();
            duplex.write_bytes(Bytes::from(messages(7))).await.unwrap();
            duplex.finish_writing().await.unwrap();
            let (read, buffer) = duplex.read(Vec::with_capacity(10)).await;
            assert_eq!((read.unwrap(), buffer.len()), (0, 0));
            assert!(!duplex.is_quiet());
        };
        let right = async |socket: Socket| {
            let mut duplex = Duplex::from(socket);
            let mut got = Vec::new();
            loop {
                got.reserve(50);
                let (read, back) = duplex.read(got).await;
                got = back;
                if read.unwrap() == 0 {
                    break;
                }
            }
            assert_eq!(got, [messages(500), messages(7)].concat());
        };
        pair(world, left, right);
    });
}

#[test]
fn the_first_address_to_answer_wins_and_the_others_are_closed() {
    const OPTIONS: DialOptions = DialOptions { timeout_ms: 3000, fast_open: FastOpen::On, stagger_ms: 250 };
    each_seed(|world| {
        let listener = Listener::bind(&address(4));
        world.spawn(Place::Core(0), async move {
            // One for each connection below; the winners are dropped there.
            for _ in 0..3 {
                drop(listener.accept().await.unwrap());
            }
        });
        let done = Rc::new(Cell::new(false));
        let told = done.clone();
        world.spawn(Place::Core(1), async move {
            set_reachability(&address(1), Reachability::BlackHole);
            set_reachability(&address(2), Reachability::Refuse);
            let [hole, refuses, good] = [1, 2, 4].map(address);
            let with = async |addresses: &[&Dial]| {
                let addresses: Vec<Dial> = addresses.iter().copied().cloned().collect();
                let began_ms = now_ms();
                let result = dial_any(&addresses, OPTIONS).await.map(drop);
                (result.map_err(|error| error.kind()), now_ms() - began_ms)
            };
            assert_eq!(with(&[&good, &hole]).await.0, Ok(()));
            let (result, ms) = with(&[&refuses, &good]).await;
            assert!(result.is_ok() && ms < 250, "a refusal lets the next one start at once: {ms}");
            let (result, ms) = with(&[&hole, &refuses, &good]).await;
            assert!(result.is_ok() && ms >= 250, "one that stalls has its time: {ms}");
            assert_eq!(with(&[&refuses, &refuses]).await.0, Err(io::ErrorKind::ConnectionRefused));
            let (result, ms) = with(&[&hole, &hole]).await;
            assert!(result == Err(io::ErrorKind::TimedOut) && ms >= 3000, "{result:?} after {ms}");
            told.set(true);
        });
        assert_eq!(world.run_until(60_000, || done.get()), Ended::Met);
    });
}
