//! A raw client with a reader of its own, so that the gateway's codec is not its own witness.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::GUARD;

/// How a connection, or the body of an answer, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Whole: by its length, its last chunk, or an orderly close where the close delimits.
    Whole,
    /// An orderly close in the middle.
    Cut,
    /// A reset.
    Reset,
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    pub ending: Ending,
}

impl Response {
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// `x-cache`.
    pub fn cache(&self) -> &str {
        self.field("x-cache").unwrap_or("none")
    }

    /// `error.code` of an error body.
    pub fn code(&self) -> String {
        let value: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        value["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Asserts the status, showing the rest if it is another one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{}{}", self.head, String::from_utf8_lossy(&self.body));
        assert_eq!(self.ending, Ending::Whole, "{}{}", self.head, String::from_utf8_lossy(&self.body));
        self
    }
}

/// The value of the first field called `name`.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

pub struct Client {
    stream: Stream,
    rest: Vec<u8>,
    /// Most bytes read at once.
    step: usize,
    /// Before each read.
    pause: Option<Duration>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &stream.sock,
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl From<TcpStream> for Client {
    fn from(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(GUARD)).unwrap();
        Client { stream: Stream::Plain(stream), rest: Vec::new(), step: usize::MAX, pause: None }
    }
}

impl Client {
    /// As `connect`, and a whole handshake. Errors: the gateway's alert, or that it closed.
    pub fn connect_tls(address: SocketAddr, config: &Arc<rustls::ClientConfig>, name: &str) -> std::io::Result<Client> {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.set_write_timeout(Some(GUARD)).unwrap();
        stream.set_nodelay(true).unwrap();
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut session = rustls::ClientConnection::new(config.clone(), name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        let stream = Stream::Tls(Box::new(rustls::StreamOwned::new(session, stream)));
        Ok(Client { stream, rest: Vec::new(), step: usize::MAX, pause: None })
    }

    /// TLS on a connection on which something was said in plain text.
    pub fn secured(self, config: &Arc<rustls::ClientConfig>, name: &str) -> Client {
        let Stream::Plain(mut stream) = self.stream else { panic!("TLS already") };
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut session = rustls::ClientConnection::new(config.clone(), name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut stream).unwrap();
        }
        let stream = Stream::Tls(Box::new(rustls::StreamOwned::new(session, stream)));
        Client { stream, rest: self.rest, step: self.step, pause: self.pause }
    }

    /// The session under TLS.
    pub fn session(&self) -> &rustls::ClientConnection {
        match &self.stream {
            Stream::Plain(_) => panic!("plain text"),
            Stream::Tls(stream) => &stream.conn,
        }
    }

    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_write_timeout(Some(GUARD)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.into()
    }

    /// As `connect`, with a receive buffer so small that the gateway soon feels a client that does not read.
    pub fn connect_narrow(address: SocketAddr) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        socket.connect(&address.into()).unwrap();
        TcpStream::from(socket).into()
    }

    /// As `connect_narrow`, and in segments so small that the gateway's own buffer stays small too.
    pub fn connect_tiny(address: SocketAddr) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        socket.set_tcp_mss(536).unwrap();
        socket.connect(&address.into()).unwrap();
        TcpStream::from(socket).into()
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// As `send`, to a gateway that may have closed already. Whether all was taken.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// From now on a write that the gateway takes nothing of for so long fails.
    pub fn guard_writes(&self, limit: Duration) {
        self.stream.socket().set_write_timeout(Some(limit)).unwrap();
    }

    /// Another writer of the same connection in plain text.
    pub fn beside(&self) -> Client {
        self.stream.socket().try_clone().unwrap().into()
    }

    /// The next bytes, so many.
    #[track_caller]
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.rest.len() < count {
            if let Err(ending) = self.fill() {
                panic!("{ending:?} behind {} of {count} bytes", self.rest.len());
            }
        }
        self.rest.drain(..count).collect()
    }

    pub fn finish(&self) {
        self.stream.socket().shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with a reset.
    pub fn reset(self) {
        rustix::net::sockopt::set_socket_linger(self.stream.socket(), Some(std::time::Duration::ZERO)).unwrap();
    }

    /// Reads more; how the connection ended if it did.
    fn fill(&mut self) -> Result<(), Ending> {
        let mut buffer = [0; 64 << 10];
        if let Some(pause) = self.pause {
            std::thread::park_timeout(pause);
        }
        let step = self.step.min(buffer.len());
        match self.stream.read(&mut buffer[..step]) {
            Ok(0) => Err(Ending::Cut),
            Ok(read) => {
                self.rest.extend_from_slice(&buffer[..read]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(Ending::Reset),
            // Under TLS: without close_notify.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(Ending::Reset),
            Err(error) => {
                panic!("nothing came: {error}; so far {:?}", String::from_utf8_lossy(&self.rest))
            }
        }
    }

    fn until(&mut self, mark: &[u8]) -> Result<Vec<u8>, Ending> {
        loop {
            if let Some(at) = self.rest.windows(mark.len()).position(|window| window == mark) {
                return Ok(self.rest.drain(..at + mark.len()).collect());
            }
            self.fill()?;
        }
    }

    /// The next head, without its body.
    #[track_caller]
    pub fn head(&mut self) -> Response {
        let head = match self.until(b"\r\n\r\n") {
            Ok(head) => String::from_utf8(head).unwrap(),
            Err(ending) => panic!("no head but {ending:?}, and {:?}", String::from_utf8_lossy(&self.rest)),
        };
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Response { status, head, body: Vec::new(), ending: Ending::Whole }
    }

    /// The next chunk of a chunked body; empty for the last one.
    pub fn chunk(&mut self) -> Result<Vec<u8>, Ending> {
        let line = self.until(b"\r\n")?;
        let digits = std::str::from_utf8(&line).unwrap().trim();
        let length = usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("no chunk size: {digits:?}"));
        while self.rest.len() < length + 2 {
            self.fill()?;
        }
        let data = self.rest.drain(..length).collect();
        assert_eq!(self.rest.drain(..2).collect::<Vec<_>>(), b"\r\n");
        Ok(data)
    }

    /// The next answer, with its body; interim ones are passed over.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        let mut response = self.head();
        while response.status < 200 {
            response = self.head();
        }
        self.body(&mut response);
        response
    }

    /// As `response`. Errors: there is none, but what TLS says instead.
    pub fn try_response(&mut self) -> std::io::Result<Response> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            read => {
                self.rest.extend_from_slice(&buffer[..read]);
                Ok(self.response())
            }
        }
    }

    /// As `response`, for a HEAD request.
    #[track_caller]
    pub fn bodiless(&mut self) -> Response {
        self.head()
    }

    /// Reads the body of `response`.
    pub fn body(&mut self, response: &mut Response) {
        if matches!(response.status, 204 | 304) {
            return;
        }
        if response.field("transfer-encoding") == Some("chunked") {
            loop {
                match self.chunk() {
                    Ok(data) if data.is_empty() => return,
                    Ok(data) => response.body.extend_from_slice(&data),
                    Err(ending) => return response.ending = ending,
                }
            }
        }
        let length: Option<usize> = response.field("content-length").map(|length| length.parse().unwrap());
        while length.is_none_or(|length| self.rest.len() < length) {
            match self.fill() {
                Ok(()) => {}
                Err(Ending::Cut) if length.is_none() => break,
                Err(ending) => {
                    response.ending = ending;
                    break;
                }
            }
        }
        let length = length.unwrap_or(usize::MAX).min(self.rest.len());
        response.body = self.rest.drain(..length).collect();
    }

    /// Waits for `text`, and leaves it for later.
    pub fn reads(&mut self, text: &str) -> bool {
        while !self.rest.windows(text.len()).any(|window| window == text.as_bytes()) {
            if self.fill().is_err() {
                return false;
            }
        }
        true
    }

    /// Whether the rest of what comes is `count` answers with `body`, and nothing of them is missing.
    pub fn ends_behind(&mut self, count: usize, body: &str) -> bool {
        while self.fill().is_ok() {}
        self.rest.windows(body.len()).filter(|window| *window == body.as_bytes()).count() == count
    }

    /// Reads at most `bytes` at once from now on.
    pub fn step(&mut self, bytes: usize) {
        self.step = bytes;
    }

    /// Lets so much time pass before each read from now on.
    pub fn pause(&mut self, pause: Duration) {
        self.pause = Some(pause);
    }

    /// Asserts that the gateway has closed, or is closing, without a further byte.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        match self.fill() {
            Err(_) => {}
            Ok(()) => panic!("still speaking: {:?}", String::from_utf8_lossy(&self.rest)),
        }
    }
}
