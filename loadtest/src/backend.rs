//! A fast mock of an OpenAI-compatible model server. Its behaviour is selected by the model name alone. One thread;
//! owns its call counter.

mod behaviour;

use std::cell::Cell;
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::clock::unix_us;
use crate::message::request_head;
use behaviour::Behaviour;

const BEHAVIOUR: &str = "\
The model's name says how an answer behaves, in parts behind a name without a hyphen:
  mock-t20-n100-i10-b16-s200-c40
  t  milliseconds to the first byte         (0)
  n  chunks of a stream                     (16)
  i  milliseconds between chunks            (0)
  b  bytes of content a chunk; a whole answer has n times b (8)
  s  status; from 400 on an error body      (200)
  c  the connection is cut after so many chunks, or within a whole answer (never)
Each chunk carries the time it was written as `at_us`, in microseconds since 1970.
GET /count answers with the number of calls so far, POST /count sets it to 0.

Examples:
  loadtest backend --listen 127.0.0.1:9000
  curl -N 127.0.0.1:9000/v1/chat/completions -d '{\"model\":\"mock-n5-i200\",\"stream\":true}'";

/// A fast mock OpenAI backend
#[derive(clap::Args)]
#[command(after_help = BEHAVIOUR)]
pub struct Arguments {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
}

/// The fields of a request that the mock reads.
#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow, default)]
    model: std::borrow::Cow<'a, str>,
    #[serde(default)]
    stream: bool,
}

/// Serves until it is killed; prints `listening URL` first.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(arguments.listen).await?;
        println!("listening http://{}", listener.local_addr()?);
        let calls = Rc::new(Cell::new(0u64));
        loop {
            let Ok((socket, _)) = listener.accept().await else {
                // Out of descriptors, or a client that is gone: try again.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let calls = calls.clone();
            tokio::task::spawn_local(async move {
                // A client that leaves or sends invalid data loses its connection; the mock continues.
                let _ = serve(socket, &calls).await;
            });
        }
    })
}

async fn serve(mut socket: TcpStream, calls: &Cell<u64>) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut input, mut output) = (Vec::with_capacity(16 << 10), Vec::with_capacity(16 << 10));
    loop {
        let head = loop {
            match request_head(&input) {
                Ok(Some(head)) if input.len() >= head.length + head.body_bytes => break head,
                Ok(_) => {}
                Err(why) => return Err(std::io::Error::other(why)),
            }
            if socket.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        };
        let end = head.length + head.body_bytes;
        output.clear();
        match head.path.as_str() {
            "/count" => {
                if input.starts_with(b"POST") {
                    calls.set(0);
                }
                whole(&mut output, 200, calls.get().to_string().as_bytes());
            }
            "/v1/models" => whole(&mut output, 200, br#"{"object":"list","data":[]}"#),
            _ => {
                calls.set(calls.get() + 1);
                let asked = serde_json::from_slice::<Asked>(&input[head.length..end]);
                let Ok(asked) = asked else {
                    whole(&mut output, 400, br#"{"error":{"message":"not JSON","type":"invalid_request_error"}}"#);
                    socket.write_all(&output).await?;
                    return Ok(());
                };
                let behaviour = Behaviour::of(&asked.model);
                if behaviour.first_byte_ms > 0 {
                    // Not for 0: a timer tick would add a millisecond.
                    tokio::time::sleep(Duration::from_millis(behaviour.first_byte_ms)).await;
                }
                if behaviour.status >= 400 {
                    whole(&mut output, behaviour.status, br#"{"error":{"message":"as asked","type":"server_error"}}"#);
                } else if asked.stream {
                    stream(&mut socket, &mut output, &asked.model, &behaviour, calls.get()).await?;
                } else {
                    let body = behaviour.whole_body(&asked.model, calls.get());
                    whole(&mut output, behaviour.status, &body);
                    if behaviour.cut_after.is_some() {
                        output.truncate(output.len() - body.len() / 2);
                        socket.write_all(&output).await?;
                        return Ok(());
                    }
                }
            }
        }
        socket.write_all(&output).await?;
        input.drain(..end);
    }
}

/// Leaves the end of the stream in `output`. An error of kind `Other` is a requested truncation.
async fn stream(
    socket: &mut TcpStream,
    output: &mut Vec<u8>,
    model: &str,
    behaviour: &Behaviour,
    call: u64,
) -> std::io::Result<()> {
    output
        .extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
    let start = tokio::time::Instant::now();
    for number in 0..behaviour.chunks {
        if behaviour.cut_after == Some(number) {
            socket.write_all(output).await?;
            return Err(std::io::Error::other("cut as asked"));
        }
        if number > 0 && behaviour.gap_ms > 0 {
            socket.write_all(output).await?;
            output.clear();
            // Relative to the start, so that late timers do not add up.
            tokio::time::sleep_until(start + Duration::from_millis(behaviour.gap_ms * number)).await;
        }
        chunk(output, &behaviour.event(model, call, number, unix_us()));
    }
    chunk(output, &behaviour.last_event(model, call, unix_us()));
    output.extend_from_slice(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    Ok(())
}

fn chunk(output: &mut Vec<u8>, data: &str) {
    let framing = format!("{:x}\r\ndata: {data}\n\n\r\n", data.len() + "data: \n\n".len());
    output.extend_from_slice(framing.as_bytes());
}

fn whole(output: &mut Vec<u8>, status: u16, body: &[u8]) {
    let reason = if status < 400 { "OK" } else { "Error" };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    output.extend_from_slice(head.as_bytes());
    output.extend_from_slice(body);
}
