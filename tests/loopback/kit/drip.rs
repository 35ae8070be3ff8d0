//! A client that sends a little at a time, for as long as it may.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::GUARD;

/// Sends `first`, and then what `again` gives, step by step, until the gateway ends the connection; all that it said.
pub fn drip(address: SocketAddr, what: &str, first: &[u8], mut again: impl FnMut(usize) -> Vec<u8> + Send) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(first).unwrap();
    let mut dripping = stream.try_clone().unwrap();
    let mut said = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for step in 0.. {
                if dripping.write_all(&again(step)).is_err() {
                    return;
                }
                std::thread::park_timeout(Duration::from_millis(10));
            }
        });
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer) {
                Ok(read) if read > 0 => said.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("{what} drips for ever"),
                _ => break,
            }
        }
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    said
}
