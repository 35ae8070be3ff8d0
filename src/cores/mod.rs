//! The kinds of thread, and how they are started and stopped. Data cores handle requests completely; the I/O core does
//! their disk work; the background core handles signals. They share nothing and communicate by channels. In the
//! channels' order the data cores come first, then the I/O core, then the background core.

pub mod launch; // from a configuration to running threads, and back
pub mod notify; // notifications to the service manager
pub mod preflight; // what this host does not support of a configuration
pub mod secure; // TLS settings of the backends, from files

pub mod data; // the ring: accepting, and everything in `exchange`

pub mod supervise; // detects threads that end, panic or stall

mod background; // tokio: signals, the drain, health checks
mod io; // glommio: the access log, snapshots of the cache
mod kept; // what of the cache is kept for after a restart
mod listen; // listening sockets, a set per data core
pub mod origin; // where the configuration is found at the start
pub mod resolve; // backend names to addresses, before the cores start
mod second; // where the second level of the cache is
pub mod state; // the directory for what outlives a restart
mod steering; // which listener of a group gets a new connection
mod takeover; // listening sockets go to a new process
mod traces; // where spans go
