//! A client's connection before its first request or between two, on its way from one core to another.

use std::net::IpAddr;

use bytes::Bytes;
use shards::CoreId;

use crate::net::transport::DetachedTransport;

/// Whoever drops it closes the connection.
pub struct MovedConnection {
    pub transport: DetachedTransport,
    /// Who is at the other end.
    pub address: Option<IpAddr>,
    pub certificate: Option<Box<[[u8; 32]]>>,
    pub spoken: Spoken,
    /// What counts it among the connections of clients while it lives.
    pub counted: Option<Box<dyn Send>>,
    /// The core that gives it, where it counts as open until it is taken.
    pub from: CoreId,
}

/// What is spoken on a connection.
pub enum Spoken {
    Http1,
    /// Nothing yet, but for these bytes, which were read.
    Http2(Bytes),
}
