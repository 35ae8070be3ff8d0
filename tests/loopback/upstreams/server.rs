//! A backend that speaks HTTP/2 or HTTP/1.1, over TLS or in plain text, by other sockets than the gateway's, on a thread of
//! its own. The first word of a question says what becomes of it. Never waits for time to pass.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore};
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use crate::kit::{completion, done, finish, piece, usage};

/// What the server saw.
#[derive(Default)]
pub struct Seen {
    /// Connections that were accepted.
    pub accepted: usize,
    /// Those of plain HTTP/2 that have ended.
    pub ended: usize,
    /// Of those that shook hands: in what way.
    pub handshakes: Vec<HandshakeKind>,
    /// The number of the connection, the head and the question of each request.
    pub requests: Vec<(usize, http::request::Parts, String)>,
    /// Streams that are open now, and the most that were at a time on one connection.
    pub running: usize,
    pub most: usize,
    /// Why the gateway reset streams.
    pub resets: Vec<Reason>,
}

pub struct Server {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Seen>>,
    secure: Arc<Mutex<Option<Arc<ServerConfig>>>>,
    gate: Arc<Semaphore>,
    over: Arc<Notify>,
}

/// What a connection is to do next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Nothing,
    GoAway,
    Cut,
}

struct Connection {
    number: usize,
    wish: Cell<Wish>,
    wished: Notify,
    running: Cell<usize>,
    seen: Arc<Mutex<Seen>>,
    gate: Arc<Semaphore>,
    refused: Rc<RefCell<HashSet<String>>>,
}

impl Server {
    /// Plain HTTP/2 without `secure`; otherwise what ALPN agrees on. `streams_max` goes into its SETTINGS.
    pub fn start(secure: Option<Arc<ServerConfig>>, streams_max: u32) -> Server {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            secure: Arc::new(Mutex::new(secure)),
            gate: Arc::new(Semaphore::new(0)),
            over: Arc::default(),
        };
        let (seen, secure, gate, over) =
            (server.seen.clone(), server.secure.clone(), server.gate.clone(), server.over.clone());
        std::thread::spawn(move || {
            let accepting = async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let refused = Rc::default();
                while let Ok((socket, _)) = listener.accept().await {
                    let number = seen.lock().unwrap().accepted;
                    seen.lock().unwrap().accepted += 1;
                    let connection = Rc::new(Connection {
                        number,
                        wish: Cell::new(Wish::Nothing),
                        wished: Notify::new(),
                        running: Cell::new(0),
                        seen: seen.clone(),
                        gate: gate.clone(),
                        refused: Rc::clone(&refused),
                    });
                    let secure = secure.lock().unwrap().clone();
                    spawn_local(async move {
                        let Some(secure) = secure else {
                            connection.clone().http2(socket, streams_max).await;
                            connection.seen.lock().unwrap().ended += 1;
                            return;
                        };
                        let stream = match TlsAcceptor::from(secure).accept(socket).into_fallible().await {
                            Ok(stream) => stream,
                            // Closed with something unread, it would take its alert back.
                            Err((_, socket)) => return drain(socket).await,
                        };
                        let session = stream.get_ref().1;
                        connection.seen.lock().unwrap().handshakes.extend(session.handshake_kind());
                        match session.alpn_protocol() {
                            Some(b"h2") => connection.http2(stream, streams_max).await,
                            _ => connection.http1(stream).await,
                        }
                    });
                }
            };
            tokio::task::LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    () = accepting => {}
                    () = over.notified() => {}
                }
            });
        });
        server
    }

    /// Lets so many streams that are held go on.
    pub fn release(&self, streams: usize) {
        self.gate.add_permits(streams);
    }

    /// What connections from now on agree to.
    pub fn becomes(&self, secure: Arc<ServerConfig>) {
        *self.secure.lock().unwrap() = Some(secure);
    }

    pub fn running(&self) -> usize {
        self.seen.lock().unwrap().running
    }

    pub fn accepted(&self) -> usize {
        self.seen.lock().unwrap().accepted
    }

    pub fn ended(&self) -> usize {
        self.seen.lock().unwrap().ended
    }

    /// The connection of each request, in the order in which they came.
    pub fn connections(&self) -> Vec<usize> {
        self.seen.lock().unwrap().requests.iter().map(|(connection, ..)| *connection).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.notify_one();
    }
}

impl Connection {
    async fn http2(self: Rc<Connection>, io: impl AsyncRead + AsyncWrite + Unpin, streams_max: u32) {
        let handshake = h2::server::Builder::new().max_concurrent_streams(streams_max).handshake(io).await;
        let Ok(mut connection) = handshake else { return };
        loop {
            tokio::select! {
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) => {
                        let this = self.clone();
                        // The gateway is free to leave whenever it likes.
                        spawn_local(async move { this.stream(request, respond).await });
                    }
                    Some(Err(_)) | None => return,
                },
                () = self.wished.notified() => match self.wish.replace(Wish::Nothing) {
                    Wish::Nothing => {}
                    Wish::GoAway => connection.graceful_shutdown(),
                    Wish::Cut => return,
                },
            }
        }
    }

    async fn http1(self: Rc<Connection>, io: impl AsyncRead + AsyncWrite + Unpin) {
        let answer = service_fn(|request: Request<hyper::body::Incoming>| {
            let this = self.clone();
            async move {
                let (parts, body) = request.into_parts();
                let (what, streamed) = asked(&body.collect().await.map_or(Bytes::new(), |body| body.to_bytes()));
                this.seen.lock().unwrap().requests.push((this.number, parts, what.clone()));
                let [first, rest] = if streamed { events(&what) } else { whole(&what) };
                let kind = if streamed { "text/event-stream" } else { "application/json" };
                let response = Response::builder().header("content-type", kind);
                Ok::<_, Infallible>(response.body(Full::new(Bytes::from(first + &rest))).unwrap())
            }
        });
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), answer).await;
    }

    async fn stream(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Option<()> {
        let (parts, mut body) = request.into_parts();
        let mut read = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece.ok()?;
            body.flow_control().release_capacity(piece.len()).ok()?;
            read.extend_from_slice(&piece);
        }
        let (what, streamed) = asked(&read);
        self.seen.lock().unwrap().requests.push((self.number, parts, what.clone()));
        let _running = Running::new(self);
        let [first, rest] = if streamed { events(&what) } else { whole(&what) };
        let mut head = Response::new(());
        let kind = if streamed { "text/event-stream" } else { "application/json" };
        head.headers_mut().insert("content-type", kind.parse().unwrap());
        match what.split(' ').next().unwrap() {
            // The first time it is asked; it may be asked again.
            "refuse" if self.refused.borrow_mut().insert(what.clone()) => respond.send_reset(Reason::REFUSED_STREAM),
            "reset" => respond.send_reset(Reason::INTERNAL_ERROR),
            "cut" => self.wish(Wish::Cut),
            "break" => {
                let mut body = respond.send_response(head, false).ok()?;
                body.send_data(first.into(), false).ok()?;
                self.permitted(&mut body).await?;
                body.send_reset(Reason::INTERNAL_ERROR);
            }
            "short" => {
                head.headers_mut().insert("content-length", "10000".parse().unwrap());
                respond.send_response(head, false).ok()?.send_data((first + &rest).into(), true).ok()?;
            }
            "end" => respond.send_response(head, false).ok()?.send_data(first.into(), true).ok()?,
            "hold" => {
                let mut body = respond.send_response(head, false).ok()?;
                body.send_data(first.into(), false).ok()?;
                self.permitted(&mut body).await?;
                body.send_data(rest.into(), false).ok()?;
                body.send_trailers(HeaderMap::new()).ok()?;
            }
            word => {
                if word == "goaway" {
                    self.wish(Wish::GoAway);
                }
                let mut body = respond.send_response(head, false).ok()?;
                body.send_data((first + &rest).into(), true).ok()?;
            }
        }
        Some(())
    }

    /// Waits until the test lets one more stream go on; none if the gateway gave this one up.
    async fn permitted(&self, body: &mut SendStream<Bytes>) -> Option<()> {
        tokio::select! {
            permit = self.gate.acquire() => permit.ok().map(tokio::sync::SemaphorePermit::forget),
            reset = poll_fn(|context| body.poll_reset(context)) => {
                self.seen.lock().unwrap().resets.extend(reset.ok());
                None
            }
        }
    }

    fn wish(&self, wish: Wish) {
        self.wish.set(wish);
        self.wished.notify_one();
    }
}

struct Running<'a>(&'a Connection);

impl Running<'_> {
    fn new(connection: &Connection) -> Running<'_> {
        connection.running.set(connection.running.get() + 1);
        let mut seen = connection.seen.lock().unwrap();
        seen.running += 1;
        seen.most = seen.most.max(connection.running.get());
        Running(connection)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        self.0.seen.lock().unwrap().running -= 1;
    }
}

async fn drain(socket: tokio::net::TcpStream) {
    let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Write);
    while socket.readable().await.is_ok() {
        match socket.try_read(&mut [0; 4096]) {
            Ok(0) => return,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}

fn asked(body: &[u8]) -> (String, bool) {
    let asked: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let what = asked["messages"][0]["content"].as_str().unwrap_or("nothing").to_owned();
    (what, asked["stream"].as_bool() == Some(true))
}

/// A streamed answer that says `what` and a mark, up to its first piece and from there on.
fn events(what: &str) -> [String; 2] {
    [piece(what), piece("!") + &finish("stop") + &usage() + &done()]
}

/// The same as a whole, in two pieces.
fn whole(what: &str) -> [String; 2] {
    let mut answer = completion(&format!("{what}!"));
    let rest = answer.split_off(answer.len() / 2);
    [answer, rest]
}
