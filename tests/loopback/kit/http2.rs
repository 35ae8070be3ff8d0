//! A client that speaks HTTP/2 by the h2 crate, over other sockets than the gateway's. What it gets has the form of
//! HTTP/1.1's answers, so that both can be compared.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::{Ending, GUARD, Response};

pub struct Http2 {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A request whose answer is awaited.
pub struct Asked {
    pub response: ResponseFuture,
    pub upload: SendStream<Bytes>,
}

/// An answer whose body is being read.
pub struct Reading {
    pub response: Response,
    body: RecvStream,
}

fn guarded<T>(runtime: &Runtime, what: impl Future<Output = T>) -> T {
    runtime.block_on(async { tokio::time::timeout(GUARD, what).await.expect("it never came") })
}

impl Http2 {
    /// With prior knowledge.
    pub fn connect(address: SocketAddr) -> Http2 {
        Http2::connect_with(address, |_| ())
    }

    /// As `connect`, with other settings.
    pub fn connect_with(address: SocketAddr, set: impl FnOnce(&mut h2::client::Builder)) -> Http2 {
        let runtime = runtime();
        let mut builder = h2::client::Builder::new();
        set(&mut builder);
        let (requests, connection) = guarded(&runtime, async {
            let stream = TcpStream::connect(address).await.unwrap();
            let (requests, connection) = builder.handshake(stream).await.unwrap();
            (requests, tokio::spawn(connection))
        });
        Http2 { runtime, requests, connection }
    }

    /// By ALPN over TLS. Errors: what else was agreed on.
    pub fn connect_tls(
        address: SocketAddr,
        config: &Arc<rustls::ClientConfig>,
        name: &str,
    ) -> Result<Http2, Option<Vec<u8>>> {
        let runtime = runtime();
        let mut config = rustls::ClientConfig::clone(config);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let (requests, connection) = guarded(&runtime, async {
            let stream = TcpStream::connect(address).await.unwrap();
            let stream = connector.connect(name, stream).await.unwrap();
            let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            if agreed.as_deref() != Some(b"h2") {
                return Err(agreed);
            }
            let (requests, connection) = h2::client::handshake(stream).await.unwrap();
            Ok((requests, tokio::spawn(connection)))
        })?;
        Ok(Http2 { runtime, requests, connection })
    }

    /// Sends a request that is written as for HTTP/1.1.
    pub fn send(&mut self, request: impl AsRef<[u8]>) -> Asked {
        let text = request.as_ref();
        let end = text.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let (head, body) = (std::str::from_utf8(&text[..end]).unwrap(), &text[end + 4..]);
        let mut lines = head.lines();
        let mut words = lines.next().unwrap().split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let mut builder = Request::builder().method(method).uri(format!("http://gateway{path}"));
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            if !name.eq_ignore_ascii_case("host") {
                builder = builder.header(name, value.trim());
            }
        }
        let body = Bytes::copy_from_slice(body);
        let mut asked = self.open(builder.body(()).unwrap(), body.is_empty());
        if !body.is_empty() {
            asked.upload.send_data(body, true).unwrap();
        }
        asked
    }

    /// Opens a stream.
    pub fn open(&mut self, request: Request<()>, is_all: bool) -> Asked {
        let requests = &mut self.requests;
        let (response, upload) = guarded(&self.runtime, async {
            std::future::poll_fn(|context| requests.poll_ready(context)).await.unwrap();
            requests.send_request(request, is_all).unwrap()
        });
        Asked { response, upload }
    }

    /// Whether the gateway takes further requests on this connection.
    pub fn is_open(&mut self) -> bool {
        let requests = &mut self.requests;
        guarded(&self.runtime, std::future::poll_fn(|context| requests.poll_ready(context))).is_ok()
    }

    /// Asks for a WebSocket (RFC 8441), once the gateway has said that it has such.
    pub fn websocket(&mut self, target: &str, fields: &[(&str, &str)]) -> Asked {
        while !self.requests.is_extended_connect_protocol_enabled() {
            self.drive();
        }
        let mut builder = Request::builder().method("CONNECT").uri(format!("http://gateway{target}"));
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let request = builder.extension(h2::ext::Protocol::from_static("websocket")).body(()).unwrap();
        self.open(request, false)
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        let asked = self.send(request);
        self.response(asked)
    }

    /// The head of an answer. Errors: the stream was reset, or the connection ended.
    pub fn head(&mut self, asked: Asked) -> Result<Reading, h2::Error> {
        self.head_of(asked.response)
    }

    /// As `head`, where the sending side is kept.
    pub fn head_of(&mut self, response: ResponseFuture) -> Result<Reading, h2::Error> {
        let (parts, body) = guarded(&self.runtime, response)?.into_parts();
        let head = head(parts.status, &parts.headers);
        let response = Response { status: parts.status.as_u16(), head, body: Vec::new(), ending: Ending::Whole };
        Ok(Reading { response, body })
    }

    /// Reads one DATA frame; false at the end. Errors: the stream was reset.
    pub fn read(&mut self, reading: &mut Reading) -> Result<bool, h2::Error> {
        let data = guarded(&self.runtime, reading.body.data());
        match data.transpose()? {
            None => Ok(false),
            Some(bytes) => {
                reading.body.flow_control().release_capacity(bytes.len()).unwrap();
                reading.response.body.extend_from_slice(&bytes);
                Ok(true)
            }
        }
    }

    /// As `read`, without giving the window back.
    pub fn read_without_window(&mut self, reading: &mut Reading) -> Result<bool, h2::Error> {
        match guarded(&self.runtime, reading.body.data()).transpose()? {
            None => Ok(false),
            Some(bytes) => {
                reading.response.body.extend_from_slice(&bytes);
                Ok(true)
            }
        }
    }

    #[track_caller]
    pub fn response(&mut self, asked: Asked) -> Response {
        let mut reading = self.head(asked).unwrap();
        loop {
            match self.read(&mut reading) {
                Ok(true) => {}
                Ok(false) => return reading.response,
                Err(_) => {
                    reading.response.ending = Ending::Reset;
                    return reading.response;
                }
            }
        }
    }

    /// Lets the connection move on for a moment.
    pub fn drive(&mut self) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
    }

    /// Waits until the gateway has ended the connection; its reason if it gave one.
    pub fn ended(self) -> Option<Reason> {
        let Http2 { runtime, requests, connection } = self;
        drop(requests);
        guarded(&runtime, connection).unwrap().err().and_then(|error| error.reason())
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn head(status: StatusCode, fields: &HeaderMap) -> String {
    let mut head = format!("HTTP/2 {}\r\n", status.as_u16());
    for (name, value) in fields {
        head += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    head + "\r\n"
}
