//! A scripted backend: each connection runs the script on a thread of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::GUARD;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub head: String,
    pub body: Vec<u8>,
}

impl Request {
    pub fn field(&self, name: &str) -> Option<&str> {
        super::client::field(&self.head, name)
    }

    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    /// Connections whose other end was seen to close or reset.
    left: Mutex<usize>,
    changed: Condvar,
    over: AtomicBool,
}

pub struct Backend {
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

impl Backend {
    /// Runs `script` for each connection.
    pub fn run(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let (all, script) = (seen.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if all.over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                stream.set_read_timeout(Some(GUARD)).unwrap();
                stream.set_nodelay(true).unwrap();
                let number = all.connections.fetch_add(1, Ordering::SeqCst);
                let mut peer = Peer { stream, number, rest: Vec::new(), seen: all.clone() };
                let script = script.clone();
                std::thread::spawn(move || script(&mut peer));
            }
        });
        Backend { address, seen }
    }

    /// Answers every request of every connection with what `answer` says.
    pub fn answering(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Backend {
        Backend::run(move |peer| {
            while let Some(request) = peer.request() {
                peer.write(answer(&request));
            }
        })
    }

    /// Closes on each request as long as it is `sick`, and answers in the form asked for otherwise.
    pub fn sickly(sick: &Arc<AtomicBool>) -> Backend {
        let sick = sick.clone();
        Backend::run(move |peer| {
            while let Some(request) = peer.request() {
                if sick.load(Ordering::SeqCst) {
                    return;
                }
                peer.write(super::echo(&request));
            }
        })
    }

    /// A port on which nobody listens.
    pub fn absent() -> Backend {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Backend { address, seen: Arc::default() }
    }

    /// Requests seen so far.
    pub fn count(&self) -> usize {
        self.seen.requests.lock().unwrap().len()
    }

    /// Whether `count` requests come before the backend has been silent for `patience`.
    pub fn sees(&self, count: usize, patience: Duration) -> bool {
        let requests = self.seen.requests.lock().unwrap();
        let waited = self.seen.changed.wait_timeout_while(requests, patience, |requests| requests.len() < count);
        waited.unwrap().0.len() >= count
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// Waits until `count` requests have come.
    pub fn await_requests(&self, count: usize) {
        let requests = self.seen.requests.lock().unwrap();
        let (requests, _) =
            self.seen.changed.wait_timeout_while(requests, GUARD, |requests| requests.len() < count).unwrap();
        assert!(requests.len() >= count, "{} of {count} requests came", requests.len());
    }

    /// Waits until the scripts have seen `count` connections end in [`Peer::await_close`].
    pub fn await_left(&self, count: usize) {
        let left = self.seen.left.lock().unwrap();
        let (left, _) = self.seen.changed.wait_timeout_while(left, GUARD, |left| *left < count).unwrap();
        assert!(*left >= count, "{} of {count} connections ended", *left);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.seen.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// One connection to the backend.
pub struct Peer {
    stream: TcpStream,
    /// How many connections came before.
    pub number: usize,
    rest: Vec<u8>,
    seen: Arc<Seen>,
}

impl Peer {
    /// Reads the next request, head and body; none at the end of the connection.
    pub fn request(&mut self) -> Option<Request> {
        let head_end = loop {
            if let Some(end) = self.rest.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.fill()?;
        };
        let head = String::from_utf8(self.rest[..head_end].to_vec()).unwrap();
        let length = super::client::field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        assert!(super::client::field(&head, "transfer-encoding").is_none(), "requests go upstream with their length");
        while self.rest.len() < head_end + length {
            self.fill()?;
        }
        let body = self.rest[head_end..head_end + length].to_vec();
        self.rest.drain(..head_end + length);
        let request = Request { head, body };
        self.seen.requests.lock().unwrap().push(request.clone());
        self.seen.changed.notify_all();
        Some(request)
    }

    fn fill(&mut self) -> Option<()> {
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(read) if read > 0 => self.rest.extend_from_slice(&buffer[..read]),
            _ => return None,
        }
        Some(())
    }

    /// What comes next, of whatever kind; none at the end.
    pub fn some(&mut self) -> Option<Vec<u8>> {
        if self.rest.is_empty() {
            self.fill()?;
        }
        Some(std::mem::take(&mut self.rest))
    }

    /// Writes; false once the gateway has gone.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// From now on a write that the gateway takes nothing of for so long fails.
    pub fn patience(&self, limit: std::time::Duration) {
        self.stream.set_write_timeout(Some(limit)).unwrap();
    }

    /// Waits until the gateway closes or resets this connection.
    pub fn await_close(&mut self) {
        let started = Instant::now();
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Ok(_) => {}
                Err(error) => panic!("the gateway holds the connection: {error} after {:?}", started.elapsed()),
            }
        }
        self.left();
    }

    /// Says that the gateway has gone.
    pub fn left(&self) {
        *self.seen.left.lock().unwrap() += 1;
        self.seen.changed.notify_all();
    }

    /// Ends our direction.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes with a reset.
    pub fn reset(&mut self) {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(std::time::Duration::ZERO)).unwrap();
    }
}
