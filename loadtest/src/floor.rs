//! The cheapest HTTP server possible on this machine: a bare ring that tokenizes each head and sends a constant answer.
//! A baseline: any cost above it is the gateway's own. One thread; owns its connections. It looks nothing up and checks
//! nothing, and must never serve real traffic.

mod ring;

use std::collections::HashMap;
use std::error::Error;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use crate::message::request_head;
use ring::{Event, Ring};

const EXAMPLES: &str = "\
Examples:
  loadtest floor --listen 127.0.0.1:9100 --cpu 0
  wrk -t1 -c64 -d5 --latency http://127.0.0.1:9100/";
/// Most pipelined requests answered by one write.
const BATCH: usize = 64;

/// The cheapest possible HTTP server, as a baseline
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9100")]
    listen: SocketAddr,
    /// CPU to run on
    #[arg(long)]
    cpu: Option<usize>,
    /// Bytes of content in the answer
    #[arg(long, default_value_t = 128)]
    content: usize,
}

struct Connection {
    socket: TcpStream,
    /// The start of an incomplete request.
    partial: Vec<u8>,
}

/// Serves until it is killed; prints `listening URL` first.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if let Some(cpu) = arguments.cpu {
        let mut set = rustix::thread::CpuSet::new();
        if cpu >= rustix::thread::CpuSet::MAX_CPU {
            return Err(format!("there is no CPU {cpu}").into());
        }
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    let content = "x".repeat(arguments.content);
    let body = format!(
        r#"{{"id":"chatcmpl-0","object":"chat.completion","created":1,"model":"floor","choices":[{{"index":0,"message":{{"role":"assistant","content":"{content}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":10,"completion_tokens":16,"total_tokens":26}}}}"#
    );
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes();
    // Leaked, so that no write can outlive its bytes.
    let answers: &'static [u8] = answer.repeat(BATCH).leak();

    let listener = TcpListener::bind(arguments.listen)?;
    println!("listening http://{}", listener.local_addr()?);
    let mut ring = Ring::new()?;
    let mut connections: HashMap<RawFd, Connection> = HashMap::new();
    let mut events = Vec::new();
    ring.accept(&listener)?;
    loop {
        ring.wait(&mut events)?;
        for event in events.drain(..) {
            match event {
                Event::Accepted(socket) => {
                    socket.set_nodelay(true)?;
                    ring.receive(&socket)?;
                    connections.insert(socket.as_raw_fd(), Connection { socket, partial: Vec::new() });
                }
                Event::AcceptEnded => ring.accept(&listener)?,
                Event::Received { fd, buffer, continues } => {
                    let requests = match connections.get_mut(&fd) {
                        Some(connection) => requests(connection, ring.bytes(&buffer)),
                        None => Ok(0),
                    };
                    ring.give_back(buffer);
                    let Some(connection) = connections.get(&fd) else { continue };
                    match requests {
                        Ok(count) => {
                            let mut left = count;
                            while left > 0 {
                                let now = left.min(BATCH);
                                ring.send(&connection.socket, &answers[..answer.len() * now])?;
                                left -= now;
                            }
                            if !continues {
                                ring.receive(&connection.socket)?;
                            }
                        }
                        // Shutting the socket down ends its receive with 0 bytes, and that event removes the
                        // connection.
                        Err(_) => drop(connection.socket.shutdown(std::net::Shutdown::Both)),
                    }
                }
                Event::NoBuffer { fd } => {
                    if let Some(connection) = connections.get(&fd) {
                        ring.receive(&connection.socket)?;
                    }
                }
                Event::Closed { fd } => drop(connections.remove(&fd)),
                Event::Sent => {}
            }
        }
    }
}

/// Counts the complete requests in `bytes`, and keeps the rest.
fn requests(connection: &mut Connection, bytes: &[u8]) -> Result<usize, String> {
    let partial = &mut connection.partial;
    let all = if partial.is_empty() {
        bytes
    } else {
        partial.extend_from_slice(bytes);
        &partial[..]
    };
    let (mut at, mut count) = (0, 0);
    while at < all.len() {
        match request_head(&all[at..])? {
            Some(head) if all.len() - at >= head.length + head.body_bytes => at += head.length + head.body_bytes,
            _ => break,
        }
        count += 1;
    }
    if partial.is_empty() {
        partial.extend_from_slice(&bytes[at..]);
    } else {
        partial.drain(..at);
    }
    Ok(count)
}
