//! The kinds of thread and how they are started and stopped. Data cores do everything of a request; the I/O core touches
//! the disk for them; the background core has the signals. They share nothing and talk by mail.
//! In the mail the data cores come first, then the I/O core, then the background core.

pub mod launch; // from a configuration to running threads, and back
pub mod notify; // what the service manager is told
pub mod preflight; // what this host cannot do of a configuration
pub mod secure; // TLS settings of the backends, from files

pub mod data; // the ring: accept, and everything in `exchange`

pub mod supervise; // threads that end, panic or make no progress

mod background; // tokio: signals, the drain
mod io; // glommio: the access log
mod listen; // listening sockets, a set a data core
mod resolve; // backend names to addresses, before the cores start
