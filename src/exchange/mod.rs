//! One request and its answer. `run` holds the sequence of the steps, each other file one step, in the order below;
//! the files above the steps hold what they share. A step takes what the step before proved and gives what the next
//! one needs, so that leaving one out does not compile.

pub mod board; // what the cores of a node publish for each other
pub mod core; // what one data core owns
mod epochs; // since when copies of other cores' entries are out of date

pub mod generation; // one core under one configuration

pub mod client; // one client connection and its buffers
pub mod flight; // one upstream call that any number of exchanges read
mod memory; // what bodies of requests take
pub mod messages; // what crosses cores, and what a core does with it
mod meter; // what the metrics get
mod pace; // how slowly a client may move bytes
pub mod purges; // what was purged, and when
pub mod quota; // what tenants may spend
mod upstream_request; // a request as the upstream side needs it

pub mod run; // the sequence of the client's side

mod call; // the sequence of the backend's side

mod attempt; // one attempt: lease, send, and relay up to the first content

mod accept; // bytes -> head
mod admit; // tenant + request -> permit
mod authenticate; // head -> principal
mod decode; // compressed body -> body
mod endpoint; // method + path -> route
mod fingerprint; // request -> fingerprint
mod lookup; // fingerprint -> hit, or a subscriber in a flight
mod named; // request -> where its model is named
mod parse; // head -> request
mod record; // everything -> one line of the log and the counters
mod relay; // answer -> client
pub mod second; // answers in Redis, shared by nodes
mod send; // lease -> answer
pub mod snapshot; // answers for after a restart
mod store; // capture -> cache
pub mod value; // a stored answer as bytes
