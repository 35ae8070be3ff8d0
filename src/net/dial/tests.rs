//! The address race, with scripted attempts, and once with real sockets.

use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

use super::{Dial, DialOptions, FastOpen, dial_any, in_turns, race};
use crate::net::{runtime::run_data_core, sleep_ms};

/// Longer than any test.
const NEVER_MS: u64 = 600_000;

const OPTIONS: DialOptions = DialOptions { timeout_ms: NEVER_MS, fast_open: FastOpen::Off, stagger_ms: NEVER_MS };

fn to(address: &str) -> Dial {
    Dial::Tcp(address.parse().unwrap())
}

#[test]
fn families_take_turns_and_the_first_one_begins() {
    let [a, b, c, x, y] = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "[::1]:1", "[::2]:1"].map(to);
    let order = |addresses: &[&Dial]| {
        let addresses: Vec<Dial> = addresses.iter().copied().cloned().collect();
        in_turns(&addresses).into_iter().cloned().collect::<Vec<_>>()
    };
    assert_eq!(order(&[&a, &b, &c, &x, &y]), [&a, &x, &b, &y, &c].map(Clone::clone));
    assert_eq!(order(&[&x, &a, &b, &c, &y]), [&x, &a, &y, &b, &c].map(Clone::clone));
    assert_eq!(order(&[&a, &b]), [&a, &b].map(Clone::clone));
    assert_eq!(order(&[]), []);
}

/// What an attempt does.
#[derive(Clone, Copy)]
enum Fate {
    Fails(ErrorKind),
    Connects,
    Stalls,
}

/// Counts live attempts.
struct Alive(Rc<Cell<usize>>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The winner or the error, and which attempts were made, by port.
fn run(fates: &[Fate], stagger_ms: u64, deadline_ms: u64) -> (io::Result<u16>, Vec<u16>) {
    let addresses: Vec<Dial> = (0..fates.len()).map(|index| to(&format!("10.0.0.1:{index}"))).collect();
    let (tried, alive) = (RefCell::new(Vec::new()), Rc::new(Cell::new(0)));
    let attempt = |to: &Dial| {
        let Dial::Tcp(address) = to else { unreachable!() };
        let port = address.port();
        tried.borrow_mut().push(port);
        alive.set(alive.get() + 1);
        let (fate, alive) = (fates[usize::from(port)], Alive(alive.clone()));
        async move {
            let _alive = alive;
            match fate {
                Fate::Fails(kind) => ready(Err(kind.into())).await,
                Fate::Connects => ready(Ok(port)).await,
                Fate::Stalls => pending().await,
            }
        }
    };
    let result = run_data_core(race(addresses.iter().collect(), stagger_ms, deadline_ms, attempt)).unwrap();
    assert_eq!(alive.get(), 0, "losers are dropped");
    (result, tried.into_inner())
}

#[test]
fn the_next_one_starts_when_one_fails_or_the_time_is_up() {
    use Fate::{Connects, Fails, Stalls};
    let refused = Fails(ErrorKind::ConnectionRefused);

    let (won, tried) = run(&[Connects, Connects], NEVER_MS, u64::MAX);
    assert_eq!((won.unwrap(), &tried[..]), (0, &[0][..]));
    let (won, tried) = run(&[refused, refused, Connects], NEVER_MS, u64::MAX);
    assert_eq!((won.unwrap(), &tried[..]), (2, &[0, 1, 2][..]), "at once");
    let (won, tried) = run(&[Stalls, Stalls, refused, Connects, Connects], 1, u64::MAX);
    assert_eq!((won.unwrap(), &tried[..]), (3, &[0, 1, 2, 3][..]), "beside those that stall");

    let (won, _) = run(&[refused, Fails(ErrorKind::HostUnreachable)], NEVER_MS, u64::MAX);
    assert_eq!(won.unwrap_err().kind(), ErrorKind::HostUnreachable, "the last error");
    let (won, tried) = run(&[refused, Connects], NEVER_MS, 0);
    assert_eq!((won.unwrap_err().kind(), &tried[..]), (ErrorKind::ConnectionRefused, &[0][..]), "past the deadline");
    let (won, _) = run(&[], NEVER_MS, u64::MAX);
    assert_eq!(won.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn one_that_was_started_first_may_still_win() {
    let addresses = ["10.0.0.1:0", "10.0.0.1:1"].map(to);
    let both_run = Cell::new(false);
    let attempt = |to: &Dial| {
        let first = *to == addresses[0];
        let both_run = &both_run;
        async move {
            if !first {
                both_run.set(true);
                return pending().await;
            }
            while !both_run.get() {
                sleep_ms(1).await;
            }
            Ok(())
        }
    };
    run_data_core(race(addresses.iter().collect(), 2, u64::MAX, attempt)).unwrap().unwrap();
}

/// A port that refuses connections: bound, so that no one else gets it, and not listening.
fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

#[test]
fn real_sockets_skip_the_address_that_refuses() {
    let (_held, refusing) = refusing();
    for fast_open in [FastOpen::Off, FastOpen::On] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for _ in 0..3 {
                let (mut socket, _) = listener.accept().unwrap();
                let mut word = [0; 4];
                socket.read_exact(&mut word).unwrap();
                socket.write_all(&word).unwrap();
            }
        });
        let core = move || {
            run_data_core(async move {
                let addresses = [Dial::Tcp(refusing), Dial::Tcp(good)];
                // The race of refusing and accepting addresses, and the path of a single address.
                for choice in [&addresses[..], &addresses[1..], &[addresses[1].clone(), addresses[0].clone()]] {
                    let (mut socket, reached) = dial_any(choice, DialOptions { fast_open, ..OPTIONS }).await.unwrap();
                    assert_eq!(reached, addresses[1], "where it leads");
                    socket.write(b"ping".to_vec()).await.0.unwrap();
                    let (read, word) = socket.read(Vec::with_capacity(4)).await;
                    assert_eq!((read.unwrap(), &word[..]), (4, &b"ping"[..]));
                }
                let error = dial_any(&addresses[..1], OPTIONS).await.map(drop).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                let said = error.to_string();
                assert!(said.starts_with("over IPv4: ") && !said.contains("127.0.0.1"), "{said}");
            })
            .unwrap();
        };
        std::thread::spawn(core).join().unwrap();
        server.join().unwrap();
    }
}

/// Without it a backend whose packets are dropped holds its requests until their timeouts.
#[test]
fn the_kernel_ends_connections_whose_peer_is_silent() {
    use crate::limits::{PEER_ASKED_SECONDS, PEER_SILENT_MS};
    use rustix::net::sockopt;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Dial::Tcp(listener.local_addr().unwrap());
    let core = async move {
        let (socket, _) = dial_any(&[address], OPTIONS).await.unwrap();
        let fd = socket.fd();
        assert_eq!(sockopt::tcp_user_timeout(fd).unwrap(), PEER_SILENT_MS);
        assert!(sockopt::socket_keepalive(fd).unwrap());
        assert_eq!(sockopt::tcp_keepidle(fd).unwrap().as_millis(), u128::from(PEER_SILENT_MS));
        assert_eq!(sockopt::tcp_keepintvl(fd).unwrap().as_secs(), PEER_ASKED_SECONDS);
        assert_eq!(sockopt::tcp_keepcnt(fd).unwrap(), 3);
        drop(listener);
    };
    run_data_core(core).unwrap();
}
