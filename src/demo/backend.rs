//! The embedded backend's listener: one accepting thread, one thread a connection, a bound on both.
//! Owns the list of open connections, so that stopping or switching off ends them at once. Never panics on what a peer
//! sends.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::connection;
use super::routes::Routes;

/// Most connections at a time. A demo is tried with some hundred clients; each costs a thread with a small stack.
const CONNECTIONS: usize = 1024;

/// Stack of a connection's thread in bytes. The deepest user is serde_json, which stops at 128 levels.
const STACK_BYTES: usize = 256 << 10;

/// Pause after an accept that failed, so that a lack of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Said to a connection above the bound; it is then closed.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
content-length: 112\r\nconnection: close\r\n\r\n\
{\"error\":{\"message\":\"The demo backend has no free connection.\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n";

/// A running backend. Dropping it stops the backend and waits for its accepting thread.
pub struct Handle {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<thread::JoinHandle<()>>,
}

/// What the accepting thread, the connections and the handle share.
struct Shared {
    stopping: AtomicBool,
    /// Switched off, it closes every connection that does not switch it on.
    off: AtomicBool,
    next: AtomicU64,
    open: Mutex<HashMap<u64, TcpStream>>,
    routes: Routes,
}

/// Starts the backend on `listener` (bind it to `127.0.0.1:0`) and returns at once.
///
/// # Errors
/// When the listener has no address or the operating system refuses a thread.
pub fn start(listener: TcpListener) -> io::Result<Handle> {
    let address = listener.local_addr()?;
    let shared = Arc::new(Shared {
        stopping: AtomicBool::new(false),
        off: AtomicBool::new(false),
        next: AtomicU64::new(0),
        open: Mutex::new(HashMap::new()),
        routes: Routes::default(),
    });
    let for_thread = Arc::clone(&shared);
    let accepting = thread::Builder::new().name("demo-accept".into()).spawn(move || accept(&listener, &for_thread))?;
    Ok(Handle { address, shared, accepting: Some(accepting) })
}

impl Handle {
    /// Where the backend listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests for an answer, embeddings included, that reached the backend so far; models and health don't count.
    pub fn calls(&self) -> u64 {
        self.shared.routes.calls()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // The accepting thread sits in accept(): a connection of our own makes it look at the flag.
        let _woken = TcpStream::connect(self.address);
        if let Some(thread) = self.accepting.take() {
            let _ended = thread.join();
        }
        for stream in self.shared.open().values() {
            let _already_closed = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        match accepted {
            Ok((stream, _)) => admit(stream, shared),
            // Out of descriptors, or the peer gave up in between: let others finish, then look again.
            Err(_) => thread::sleep(ACCEPT_PAUSE),
        }
    }
}

fn admit(mut stream: TcpStream, shared: &Arc<Shared>) {
    let Ok(for_list) = stream.try_clone() else { return };
    let number = shared.next.fetch_add(1, Ordering::Relaxed);
    {
        let mut open = shared.open();
        if open.len() >= CONNECTIONS {
            drop(open);
            let _refused = stream.write_all(FULL).and_then(|()| stream.shutdown(Shutdown::Write));
            return;
        }
        open.insert(number, for_list);
    }
    let for_thread = Arc::clone(shared);
    let started = thread::Builder::new().name("demo-connection".into()).stack_size(STACK_BYTES).spawn(move || {
        let _listed = Listed { number, shared: &for_thread };
        // An error here is the peer's leaving; there is nobody left to tell.
        let _left = connection::serve(stream, &for_thread.routes, &Switch { number, shared: &for_thread });
    });
    if started.is_err() {
        shared.open().remove(&number);
    }
}

/// Switches the backend of a connection off and on.
pub struct Switch<'a> {
    number: u64,
    shared: &'a Shared,
}

impl Switch<'_> {
    pub fn is_off(&self) -> bool {
        self.shared.off.load(Ordering::SeqCst)
    }

    /// Ends every connection but this one, as if the backend had died.
    pub fn off(&self) {
        self.shared.off.store(true, Ordering::SeqCst);
        for (_, stream) in self.shared.open().iter().filter(|(number, _)| **number != self.number) {
            let _already_closed = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn on(&self) {
        self.shared.off.store(false, Ordering::SeqCst);
    }
}

/// Takes a connection off the list when its thread ends, however it ends.
struct Listed<'a> {
    number: u64,
    shared: &'a Shared,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        if let Some(stream) = self.shared.open().remove(&self.number) {
            let _already_closed = stream.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FULL;

    #[test]
    fn the_refusal_counts_its_own_bytes() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
