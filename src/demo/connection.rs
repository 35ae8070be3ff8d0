//! One kept-alive connection: read a request, answer it, again. Owns the socket and what was read ahead.
//! Must never outlive a silent peer: reads and writes have time-outs.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::json;

use super::backend::Switch;
use super::reply::{Failure, Pace, Reply};
use super::request::{self, After, Method, RequestFault};
use super::routes::Routes;

/// How long an idle connection is kept: longer than the gateway keeps it, so that the gateway closes first.
const IDLE: Duration = Duration::from_secs(600);

/// How long a peer may take no byte of an answer.
const STALLED: Duration = Duration::from_secs(30);

/// Most bytes read and dropped after a refusal, and how long each read may take.
const LINGER_BYTES: u64 = 1 << 20;
const LINGER: Duration = Duration::from_secs(1);

/// Serves `stream` until either side is done with it.
///
/// # Errors
/// When the peer leaves in the middle of a request or an answer, or stays silent too long.
pub fn serve(mut stream: TcpStream, routes: &Routes, switch: &Switch<'_>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(STALLED))?;
    let mut buffer = Vec::new();
    loop {
        let request = match request::read(&mut stream, &mut buffer) {
            Ok(request) => request,
            Err(RequestFault::Closed) => return Ok(()),
            Err(RequestFault::Gone(error)) => return Err(error),
            Err(RequestFault::Refused { status, message }) => {
                let failure = Failure { status, message: message.into(), param: None, code: None };
                failure.reply().write(&mut stream, Method::Other, After::Close)?;
                return linger(&mut stream);
            }
        };
        let reply = match (request.method, request.path.as_str()) {
            (Method::Post, "/demo/off") => {
                switch.off();
                switched(switch)
            }
            (Method::Post, "/demo/on") => {
                switch.on();
                switched(switch)
            }
            _ if switch.is_off() => return Ok(()),
            _ => routes.answer(&request),
        };
        reply.write(&mut stream, request.method, request.after)?;
        if request.after == After::Close {
            return Ok(());
        }
    }
}

fn switched(switch: &Switch<'_>) -> Reply {
    Reply::Whole { status: 200, body: json!({ "off": switch.is_off() }), pace: Pace::Immediate }
}

/// Closes so that the refusal arrives: with unread bytes the kernel would reset the connection and drop the answer
/// (RFC 9112 9.6).
fn linger(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(LINGER))?;
    io::copy(&mut stream.take(LINGER_BYTES), &mut io::sink())?;
    Ok(())
}
