//! A new process takes over from a running one: it gets the listening sockets, with the connections that wait in them, and the
//! secret of the session tickets, over a Unix socket that the running process has open for this. Until the new one says that
//! all its threads are ready, nothing has changed. What is spoken is JSON, but for what counts against limits, and stays the same
//! from release to release.

mod give; // the running process
mod limits_link;
mod program; // the program file, when another one has its name
mod store; // the service manager, between two processes
mod take; // the new process // limits, while both run

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use prost::Message as _;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};

pub use self::give::{Giver, Limits, Sockets, is_stale};
pub use self::limits_link::{Clients, Elsewhere, LimitsEvent, LimitsLink, leave_room};
use self::limits_link::{LedgerRow, LimitsMessage, PackedLedgers};
pub use self::program::{Program, Upgrade};
pub use self::store::is_offered;
pub use self::take::{Found, Inherited};
use crate::config::snapshot::Server;

/// Of what is spoken here. Later releases add fields and messages that earlier ones ignore.
const VERSION: u32 = 1;
/// What a message begins with that is no JSON.
const PACKED: u8 = 0;
/// Longest message.
const MESSAGE_BYTES: usize = 64 << 10;
/// How long either side waits for the other's next message, except for the successor's start.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a successor may take to start: more than its own supervision grants.
const START_PATIENCE: Duration = Duration::from_secs(90);

/// Where a process can be asked for its sockets: as configured, or in the directory that the service manager made.
pub fn control_path(server: &Server) -> Option<PathBuf> {
    server.control_socket.clone().or_else(|| {
        let directories = std::env::var_os("RUNTIME_DIRECTORY")?;
        let first = directories.to_str()?.split(':').next().filter(|first| !first.is_empty())?;
        Some(PathBuf::from(first).join("control.sock"))
    })
}

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    Client,
    Admin,
    Control,
    /// Of a later release.
    #[serde(other)]
    Unknown,
}

/// A listening socket that passes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub purpose: Use,
    /// As configured; port 0 stays 0.
    pub configured: String,
    /// With the actual port.
    pub bound: String,
    #[serde(default)]
    pub owner: Owner,
    /// Its index in the group of the SO_REUSEPORT sockets of its address; unknown of those of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<u32>,
}

/// Who a listening socket belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// This process, or one that took over from it.
    #[default]
    Gateway,
    /// The service manager, which goes on listening when no process is there: shut down by nobody here.
    Manager,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
enum Message {
    /// Successor: give me your sockets.
    Ask {
        version: u32,
        program: String,
        /// Whether it takes what counts against limits.
        #[serde(default)]
        limits: bool,
        /// Whether it understands `Packed`.
        #[serde(default)]
        packed: bool,
    },
    /// With the descriptor.
    Socket(Row),
    Tickets {
        seed: Vec<u8>,
    },
    /// That was all.
    End,
    /// Successor: every thread is ready. The places of the sockets that it serves, in the order in which they came.
    Commit {
        kept: Vec<usize>,
    },
    /// What counts against limits, before `Done`.
    Ledgers {
        rows: Vec<LedgerRow>,
    },
    /// The same, as protobuf behind a byte that no JSON begins with.
    #[serde(skip)]
    Packed(PackedLedgers),
    /// They are yours.
    Done,
    /// Either side, until the older one has ended.
    Limits {
        #[serde(rename = "said")]
        message: LimitsMessage,
    },
    Refused {
        why: String,
    },
    #[serde(other)]
    Unknown,
}

/// One side of the conversation.
#[derive(Debug)]
struct Connection(OwnedFd);

impl Connection {
    fn new(fd: OwnedFd) -> io::Result<Connection> {
        let connection = Connection(fd);
        connection.be_patient(PATIENCE)?;
        Ok(connection)
    }

    fn be_patient(&self, patience: Duration) -> io::Result<()> {
        let socket = socket2::SockRef::from(&self.0);
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(PATIENCE))
    }

    fn send(&self, message: &Message, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.send_with(message, descriptor, SendFlags::NOSIGNAL)
    }

    /// Sends if there is room for it. Errors: there is none, or nobody listens.
    fn offer(&self, message: &Message) -> io::Result<()> {
        self.send_with(message, None, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    fn send_with(&self, message: &Message, descriptor: Option<BorrowedFd<'_>>, flags: SendFlags) -> io::Result<()> {
        let bytes = Zeroizing::new(match message {
            Message::Packed(ledgers) => [&[PACKED][..], &ledgers.encode_to_vec()].concat(),
            spoken => serde_json::to_vec(spoken)?,
        });
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.as_slice();
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        sendmsg(self.0.as_fd(), &[IoSlice::new(&bytes)], &mut control, flags)?;
        Ok(())
    }

    /// The next message and its descriptor. Errors: the other side is gone or silent, or says what cannot be understood.
    fn receive(&self) -> io::Result<(Message, Option<OwnedFd>)> {
        let mut bytes = Zeroizing::new(vec![0; MESSAGE_BYTES]);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            recvmsg(self.0.as_fd(), &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?
        };
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut descriptor = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                descriptor = descriptors.last();
            }
        }
        let message = match bytes[..received.bytes] {
            [PACKED, ref ledgers @ ..] => Message::Packed(PackedLedgers::decode(ledgers)?),
            ref spoken => serde_json::from_slice(spoken)?,
        };
        Ok((message, descriptor))
    }
}
