//! Requests to the admin listener of a node that runs: one, on a connection of its own.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use super::Failure;

/// Longest wait for the node.
const LIMIT: Duration = Duration::from_secs(30);
/// Longest answer that is read.
const ANSWER_BYTES: u64 = 16 << 20;

/// Where the node is.
#[derive(Debug, Args)]
pub struct Node {
    /// The admin listener: http://host:port or unix:/path
    #[arg(long, value_name = "URL", env = "RINGWAY_ADMIN", default_value = "http://127.0.0.1:9901")]
    admin: String,
    /// Its token; better in the environment, where not every process of the machine sees it
    #[arg(long, value_name = "TOKEN", env = "RINGWAY_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<SecretString>,
}

impl Node {
    /// Sends a POST with a body of JSON, and returns the body of the answer. Errors: the node cannot be reached or refuses; its
    /// reason.
    pub fn post(&self, path: &str, body: &str) -> Result<String, Failure> {
        let failure = |error: io::Error| Failure::other(format!("cannot reach a node at {}: {error}", self.admin));
        let authority = match self.admin.strip_prefix("unix:") {
            Some(_) => "localhost",
            None => self.admin.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')).ok_or_else(|| {
                Failure::other(format!(
                    "{} is no address of an admin listener: http://host:port or unix:/path",
                    self.admin
                ))
            })?,
        };
        let token = match &self.token {
            Some(token) if token.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) => {
                format!("authorization: Bearer {}\r\n", token.expose_secret())
            }
            Some(_) => return Err(Failure::other("the token has characters that no header field can carry")),
            None => String::new(),
        };
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n{token}\r\n{body}",
            body.len()
        );
        let answer = match self.admin.strip_prefix("unix:") {
            Some(path) => UnixStream::connect(path).and_then(|stream| {
                stream.set_read_timeout(Some(LIMIT))?;
                exchange(stream, &request)
            }),
            None => connect(authority).and_then(|stream| {
                stream.set_read_timeout(Some(LIMIT))?;
                exchange(stream, &request)
            }),
        };
        let answer = answer.map_err(failure)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| failure(io::ErrorKind::InvalidData.into()))?;
        match head.split(' ').nth(1) {
            Some(status) if status.starts_with('2') => Ok(body.to_owned()),
            status => {
                let told = serde_json::from_str::<serde_json::Value>(body).ok();
                let told = told.as_ref().and_then(|told| told["error"]["message"].as_str()).unwrap_or(body.trim());
                Err(Failure::other(format!("the node refuses ({}): {told}", status.unwrap_or("no status"))))
            }
        }
    }
}

fn connect(authority: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, LIMIT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}
