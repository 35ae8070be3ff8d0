//! A cache hit asks the allocator for nothing once its core has warmed up. The whole node runs in this process under an
//! allocator that counts what threads of data cores ask for while it is armed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use ringway::config::load::load;
use ringway::config::snapshot::Listen;
use ringway::cores::launch::{self, Begin, Source};

static ARMED: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

impl Counting {
    fn note(layout: Layout) {
        if ARMED.load(Ordering::Relaxed) && on_data_core() {
            COUNT.fetch_add(1, Ordering::Relaxed);
            // One look at where the first one comes from; what the look itself allocates is not counted.
            if ARMED.swap(false, Ordering::Relaxed) && std::env::var_os("WHERE").is_some() {
                eprintln!("{} bytes:\n{}", layout.size(), std::backtrace::Backtrace::force_capture());
            }
            ARMED.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether this thread is a data core's, by its name as the kernel has it: thread-locals may allocate.
#[allow(unsafe_code)] // see below
fn on_data_core() -> bool {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, with a NUL, to the place given.
    // WHY: the safe wrapper allocates, and this is called by the allocator.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name.starts_with(b"ringway-data-")
}

// SAFETY: every call goes to the system's allocator with the same arguments.
// WHY: counting allocations needs an allocator, and its trait is unsafe.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::note(layout);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Counting::note(layout);
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// Answers whole or as a stream, as it is asked.
fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(read) = stream.read(&mut buffer)
                    && read > 0
                {
                    seen.extend_from_slice(&buffer[..read]);
                    let text = String::from_utf8_lossy(&seen);
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head.split_once("content-length: ").unwrap().1.lines().next().unwrap();
                    if body.len() < length.parse().unwrap() {
                        continue;
                    }
                    let answer = if body.contains("\"stream\":true") { streamed() } else { whole() };
                    seen.clear();
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    address
}

fn whole() -> String {
    let body = format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}}}"#,
        "word ".repeat(300)
    );
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn streamed() -> String {
    let event = |choice: &str| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{choice}]}}\n\n"
        )
    };
    let mut body = event(r#"{"index":0,"delta":{"content":"word "},"finish_reason":null}"#).repeat(50);
    body += &event(r#"{"index":0,"delta":{},"finish_reason":"stop"}"#);
    body += "data: [DONE]\n\n";
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Starts a node in this process; it ends with the process.
fn node(cores: usize, log: &str, tenants: &str) -> SocketAddr {
    // A connection that goes to another core is a message with memory of its own.
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"off\"\n[log]\naccess = \"{log}\"\n[cores]\ndata = {cores}\nrebalance = false\n\
         [cache]\nmemory = \"64MiB\"\nttl = \"1h\"\n\
         [[backend]]\nname = \"b\"\nurl = \"http://{}\"\nconnections_min = 0\nhealth_interval = \"0s\"\n\
         [[model]]\nname = \"m\"\nbackends = [\"b\"]\n{tenants}",
        backend()
    );
    let snapshot = load(&text, Path::new("here"), &|_| None, &|_| Err(std::io::ErrorKind::NotFound.into()));
    let snapshot = snapshot.unwrap_or_else(|problems| panic!("{problems}"));
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let ready = |bound: &[Listen], _: Option<&Listen>| match &bound[0] {
            Listen::Tcp(address) => tell.send(*address).unwrap(),
            Listen::Unix(_) => unreachable!(),
        };
        launch::run(snapshot, Source::BuiltIn, Begin::Anew, ready)
    });
    told.recv_timeout(Duration::from_secs(30)).unwrap()
}

/// One connection that counts what its requests cost.
struct Client {
    stream: TcpStream,
    seen: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, seen: vec![0; 256 << 10] }
    }

    /// Sends `request` and reads its answer to the end; whether it was a hit.
    fn ask(&mut self, request: &[u8]) -> bool {
        self.stream.write_all(request).unwrap();
        let mut length = 0;
        loop {
            let read = self.stream.read(&mut self.seen[length..]).unwrap();
            assert!(read > 0, "the gateway closed");
            length += read;
            let seen = &self.seen[..length];
            let Some(head_end) = seen.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&seen[..head_end]).unwrap();
            let ended = match head.split_once("content-length: ") {
                Some((_, rest)) => seen.len() >= head_end + 4 + rest.lines().next().unwrap().parse::<usize>().unwrap(),
                None => seen.ends_with(b"\r\n0\r\n\r\n"),
            };
            if ended {
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                return head.contains("x-cache: HIT");
            }
        }
    }
}

fn request(what: &str, more: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"system","content":"Answer shortly."}},{{"role":"user","content":"{what}"}}],"temperature":0.5{more}}}"#
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer x\r\nContent-Type: application/json\r\n\
         Accept: */*\r\nUser-Agent: test\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Limits of the key `x` that are far away.
const LIMITED: &str = "[[tenant]]\nname = \"t\"\nrequests_per_minute = 1_000_000_000\ntokens_per_minute = 1_000_000_000_000\n\
    concurrent_requests = 1_000\nkeys = [\"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\"]\n";

const HITS: usize = 200;

/// How often they are counted. A core's housekeeping, once a second, may allocate: some windows see it, and not all.
const WINDOWS: usize = 20;

/// Asks `requests` in turn over `clients` until everything has been used, then counts over `HITS` hits, and again. The least
/// of these counts.
fn allocations(clients: &mut [Client], requests: &[Vec<u8>]) -> usize {
    for client in clients.iter_mut() {
        for _ in 0..20 {
            for request in requests {
                client.ask(request);
            }
        }
    }
    let mut window = || {
        COUNT.store(0, Ordering::SeqCst);
        ARMED.store(true, Ordering::SeqCst);
        for hit in 0..HITS {
            let place = hit % clients.len();
            assert!(clients[place].ask(&requests[hit / clients.len() % requests.len()]), "every one of them is a hit");
        }
        ARMED.store(false, Ordering::SeqCst);
        COUNT.load(Ordering::SeqCst)
    };
    (0..WINDOWS).map(|_| window()).min().unwrap_or(usize::MAX)
}

// One test: the counter is the process's, and so are the signals that a node listens to.
#[test]
fn hits_allocate_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access.log");
    let log = log.to_str().unwrap();
    for (cores, log, tenants) in
        [(1, "off", ""), (1, log, ""), (2, "off", ""), (1, "off", LIMITED), (2, "off", LIMITED)]
    {
        let address = node(cores, log, tenants);
        let mut clients: Vec<Client> = (0..4 * cores).map(|_| Client::connect(address)).collect();
        let wholes: Vec<Vec<u8>> = (0..8).map(|place| request(&format!("whole {place}"), "")).collect();
        let streams: Vec<Vec<u8>> =
            (0..8).map(|place| request(&format!("stream {place}"), ",\"stream\":true")).collect();
        // The counter counts.
        ARMED.store(true, Ordering::SeqCst);
        assert!(!clients[0].ask(&request("new", "")));
        ARMED.store(false, Ordering::SeqCst);
        assert!(COUNT.load(Ordering::SeqCst) > 0, "a miss asks for memory");
        for (what, requests) in [("whole", &wholes), ("streamed", &streams)] {
            let count = allocations(&mut clients, requests);
            println!(
                "{cores} data cores, log {log}, {} bytes of tenants: {count} allocations over {HITS} {what} hits",
                tenants.len()
            );
            assert_eq!(
                count, 0,
                "{HITS} {what} hits on {cores} data cores, log {log}, {tenants}; WHERE=1 shows the first"
            );
        }
    }
}
