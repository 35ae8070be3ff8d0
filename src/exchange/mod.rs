//! One request and its answer. `run` holds the sequence of the steps, each other file one step, in the order below;
//! the files above the steps hold what they share. A step takes what the step before proved and gives what the next
//! one needs, so that leaving one out does not compile. No file imports one that imports it, over however many others.

mod broken; // why there is no answer
mod epochs; // since when copies of other cores' entries are out of date
mod notes; // what a call tells of its attempts
mod pace; // how slowly a client may move bytes
mod pipe; // a body that is never whole in memory
mod request_id; // the correlation id of a request
mod slices; // turns between the slices of long work
mod tags; // the scopes that an answer belongs to
mod trace; // which trace a request belongs to
mod urgency; // how urgent a request is where it waits
mod variant; // fingerprints beside a request's own

pub mod entry; // a stored answer
mod parts; // what other cores are asked about stored embeddings
pub mod purge_numbers; // the numbers that Redis gave to purges
pub mod purges; // what was purged, and when

mod answer; // an answer on its way through a flight
pub mod balance; // which core gives connections to which
pub mod board; // what the cores of a node publish for each other
mod body; // the bytes of a body apart from its head
pub mod buffers; // memory that goes from request to request
mod failed_attempt; // why an attempt failed
pub mod flight; // one upstream call that any number of exchanges read
pub mod kept; // what crosses cores of the cache's snapshots
mod memory; // what bodies of requests take
pub mod message; // what crosses cores
pub mod moved; // a connection on its way to another core
pub mod quota; // what this core has of the limits of tenants
mod scratch; // memory that requests use in turn
pub mod second; // answers in Redis, shared by nodes
mod static_headers; // what all requests to a backend say
mod used; // what an upstream call has used
pub mod value; // a stored answer as bytes
mod window; // requests for embeddings that go upstream together

pub mod core; // what one data core owns

pub mod generation; // one core under one configuration

mod attempt_span; // the span of an attempt
pub mod client; // one client connection and its buffers
mod converted; // answers in other formats than JSON
mod exchange_span; // the span of an exchange
mod feeding; // a body that flows -> the pipe to its call
mod meter; // what the metrics get of attempts and calls
mod owner; // what the owner of a fingerprint does
mod upstream_request; // a request as the upstream side needs it
mod weed; // drops what was purged

mod ahead; // requests that came behind the one in hand
pub mod connection; // the requests of one connection

mod run; // the sequence of the client's side

mod websocket; // a WebSocket between a client and a backend

mod call; // the sequence of the backend's side

mod batch; // several embeddings -> those that are not known
mod combine; // requests for embeddings -> one, and back

mod hedge; // an attempt, and a second one beside it if it is slow

mod attempt; // one attempt: lease, send, and relay up to the first content

pub mod accept; // bytes -> head
mod admit; // tenant + request -> admission
mod amounts; // request -> the tokens that it may use
mod authenticate; // head -> principal
mod decode; // compressed body, or one in another format -> body in JSON
mod endpoint; // method + path -> route
mod fingerprint; // request -> fingerprint
pub mod home; // what cores ask of limits whose home this one is
mod left; // the record of an exchange that left its call
mod lookup; // fingerprint -> hit, or a subscriber in a flight
mod named; // request -> where its model is named
mod parse; // head -> request
mod prompt; // a prompt template -> what it stands for
mod record; // everything -> one line of the log and the counters
mod relay; // answer -> client
mod send; // lease -> answer
pub mod snapshot; // answers for after a restart
pub mod spend; // request -> permit, from the limits of its tenant
mod store; // capture -> cache
mod translation; // request + backend -> the request in the backend's API
mod understand; // body -> request, admission, fingerprint
mod upload; // head -> a body that flows

pub mod deliver; // what a core does with a message
pub mod tick; // what it does once a second
