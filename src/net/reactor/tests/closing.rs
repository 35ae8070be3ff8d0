//! Closing sockets: posted bytes are sent before, to no other socket, and no state remains.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use super::{MUCH, joined, listener, on_core, open_narrow, part, read_all, unsent, until, with};
use crate::net::reactor::fixed_files::{Name, SENDS};
use crate::net::runtime::run_data_core;
use crate::net::{Hangup, Listener, Socket, hangups, spawn_raw};

/// Connections accepted without waiting, so that descriptors are reused at once.
struct Waiting {
    listener: Listener,
    address: SocketAddr,
}

impl Waiting {
    fn new(listener: TcpListener) -> Waiting {
        let address = listener.local_addr().unwrap();
        Waiting { listener: Listener::new(listener.into(), true).unwrap(), address }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// A peer with a small receive buffer.
    fn connect_narrow(&self) -> TcpStream {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        socket.connect(&self.address.into()).unwrap();
        socket.into()
    }

    fn accept(&self) -> Socket {
        self.listener.accept_now().expect("somebody waits")
    }
}

/// Enough for a descriptor to be reused, whatever other threads open meanwhile.
const ROUNDS: usize = 800;

fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

#[test]
fn what_was_posted_reaches_its_own_peer_and_no_other() {
    raise_limit();
    on_core(async move {
        let waiting = Waiting::new(listener());
        let (mut peers, mut numbers, mut again) = (Vec::new(), HashSet::new(), 0);
        // No pause in all of this: a descriptor is reused while the ring may still refer to the previous socket.
        for round in 0..ROUNDS {
            let left = waiting.connect();
            drop(waiting.accept());
            let peer = waiting.connect();
            // A socket that reuses one could get what was meant for the previous one.
            again += [&left, &peer].into_iter().filter(|socket| numbers.contains(&socket.as_raw_fd())).count();
            peers.push(peer);
            let mut socket = waiting.accept();
            if round % 8 == 0 {
                socket.rest(); // one that also receives
            }
            socket.post(format!("for number {round}").as_bytes()).expect("nothing is on its way").unwrap();
            let number = with(|reactor| reactor.slots[*reactor.posted.last().unwrap() as usize].socket).unwrap();
            again += usize::from(!numbers.insert(number));
        }
        assert!(again > 0, "no number came again");
        let reader = std::thread::spawn(move || {
            let read = |mut peer: TcpStream| {
                let mut got = String::new();
                peer.read_to_string(&mut got).map(|_| got)
            };
            peers.into_iter().map(read).collect::<Vec<_>>()
        });
        for (round, got) in joined(reader).await.into_iter().enumerate() {
            assert_eq!(got.unwrap(), format!("for number {round}"));
        }
    });
}

#[test]
fn what_sends_often_sends_to_its_own_peer_and_closes() {
    raise_limit();
    on_core(async move {
        let waiting = Waiting::new(listener());
        let text = |round: usize, part: usize| format!("part {part} for number {round}; ");
        let parts = usize::from(SENDS) + 3;
        let (mut peers, mut slots) = (Vec::new(), HashSet::new());
        for round in 0..ROUNDS / 8 {
            peers.push(waiting.connect());
            let mut socket = waiting.accept();
            if round % 2 == 0 {
                socket.rest(); // one that also receives
            }
            for part in 0..parts {
                socket.settle().await.unwrap();
                socket.post(text(round, part).as_bytes()).expect("nothing is on its way").unwrap();
            }
            let numbered = with(|reactor| {
                let slot = *reactor.posted.last().unwrap();
                (reactor.slots[slot as usize].sending.name == Name::NUMBER).then_some(slot)
            });
            slots.insert(numbered.unwrap().expect("it sent often enough for a number"));
        }
        assert!(slots.len() < peers.len() / 2, "no number came again");
        // Each peer reads until its socket closes.
        for (round, peer) in peers.into_iter().enumerate() {
            let expected: String = (0..parts).map(|part| text(round, part)).collect();
            assert_eq!(joined(read_all(peer, 4 << 10)).await, expected.as_bytes());
        }
        let forgotten = with(|reactor| reactor.slots.iter().all(|slot| slot.sending.name != Name::NUMBER));
        assert!(forgotten.unwrap());
    });
}

#[test]
fn a_ring_without_numbers_sends_by_descriptors() {
    on_core(async move {
        with(|reactor| reactor.kernel.refuse_fixed_files()).unwrap();
        let waiting = Waiting::new(listener());
        let peer = waiting.connect();
        let mut socket = waiting.accept();
        for _ in 0..2 * SENDS {
            socket.settle().await.unwrap();
            socket.post(b"a").expect("nothing is on its way").unwrap();
        }
        assert!(with(|reactor| reactor.slots.iter().all(|slot| slot.sending.name != Name::NUMBER)).unwrap());
        drop(socket);
        assert_eq!(joined(read_all(peer, 4 << 10)).await, vec![b'a'; 2 * usize::from(SENDS)]);
    });
}

#[test]
fn what_a_dropped_socket_would_receive_is_not_taken_from_the_next() {
    raise_limit();
    on_core(async move {
        let waiting = Waiting::new(listener());
        let mut kept = Vec::new();
        for round in 0..ROUNDS {
            kept.push((waiting.connect(), None));
            let socket = waiting.accept();
            socket.rest();
            if round % 4 == 0 {
                let mut peer = waiting.connect();
                peer.write_all(&round.to_le_bytes()).unwrap();
                kept.push((peer, Some((round, waiting.accept()))));
            }
        }
        for (_, socket) in &mut kept {
            if let Some((round, socket)) = socket {
                super::expect(socket, &round.to_le_bytes()).await;
            }
        }
    });
}

#[test]
fn sockets_dropped_with_unsent_bytes_leave_nothing() {
    on_core(async move {
        let waiting = Waiting::new(listener());
        let mut peers = Vec::new();
        for round in 0..1000 {
            peers.push(waiting.connect_narrow());
            let mut socket = waiting.accept();
            socket.shrink();
            socket.post(&part(0, MUCH)).expect("nothing is on its way").unwrap();
            let (listed, slots) = with(|reactor| (reactor.stalled.len(), reactor.slots.len())).unwrap();
            assert!(listed <= slots, "{listed} of {slots} are looked after");
            if round % 2 == 0 {
                until("a send that falls short", || unsent() > 0).await;
            }
        }
        until("its slots are free", || with(|reactor| reactor.free.len() == reactor.slots.len()).unwrap()).await;
        let (slots, unsent) = (with(|reactor| reactor.slots.len()).unwrap(), unsent());
        assert!(slots < 10, "{slots} slots");
        assert_eq!(unsent, 0);
        // A descriptor kept open somewhere would keep the connection open. Some of what was written is lost, and each
        // peer sees an error.
        let numbers: Vec<i32> = peers.iter().map(AsRawFd::as_raw_fd).collect();
        until("every peer sees a reset", || {
            let mut found = Vec::new();
            hangups(&numbers, &mut found);
            found.len() == peers.len() && found.iter().all(|(_, how)| *how == Hangup::Full)
        })
        .await;
        until("nobody is looked after", || with(|reactor| reactor.stalled.is_empty()).unwrap()).await;
    });
}

#[test]
fn a_ring_that_ends_takes_its_sockets_along() {
    let ends = async {
        let (mut posted, little) = super::open(&listener()).await;
        posted.post(b"little").unwrap().unwrap();
        let (mut stalls, much) = open_narrow().await;
        // Owned by a task that no longer runs: both close after the ring has ended, and only then one is found to be
        // stalled.
        stalls.post(&part(0, MUCH)).unwrap().unwrap();
        spawn_raw(async move {
            std::future::pending::<()>().await;
            drop((posted, stalls));
        });
        (little, much)
    };
    let peers = run_data_core(ends).expect("a ring");
    assert_eq!(read_all(peers.0, 10).join().unwrap(), b"little");
    drop(peers.1);
}
