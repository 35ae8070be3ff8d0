//! The real program over real sockets: backends and clients are scripts of plain threads in this process.
//! Nothing here sleeps: a test waits for bytes or events, and every read has a guard against hanging, no more.

mod kit; // the gateway's process, scripted backends, raw clients

mod cache; // hits, directives, what is kept and what is not
mod connections; // reuse, stale connections, failures and time-outs of backends
mod faults; // malformed requests, each with its status and a closed connection
mod http; // keep-alive, pipelining, framings, half close
mod streams; // event by event, broken streams, clients that leave
mod tenants; // credentials, scopes, what goes upstream and what does not
