//! The PROXY header in front of a connection: read to its last byte and no further, before TLS and HTTP.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;

use crate::net::{Socket, now_ms};
use crate::wire::proxy::{Header, header};

/// The client that the header names; `None` for a connection of the proxy's own. Errors: there is no header, or not in time.
pub async fn client(socket: &mut Socket, timeout_ms: u64) -> io::Result<Option<IpAddr>> {
    socket.watch().shut_down_at(now_ms().saturating_add(timeout_ms));
    let mut bytes = Vec::new();
    loop {
        let mut read = Ok(Header::Partial);
        let taken = poll_fn(|context| {
            socket.poll_take(context, |more| {
                let before = bytes.len();
                bytes.extend_from_slice(more);
                read = header(&bytes);
                match read {
                    // It was not complete without these.
                    Ok(Header::Complete { length, .. }) => length - before,
                    Ok(Header::Partial) | Err(_) => more.len(),
                }
            })
        })
        .await?;
        match read {
            _ if taken == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Header::Partial) => {}
            Ok(Header::Complete { client, .. }) => {
                socket.watch().clear();
                return Ok(client);
            }
            Err(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
