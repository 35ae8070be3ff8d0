//! What one core keeps of each backend and model, and the steps that need nothing else of a request: which backend, a
//! permit, a connection. Knows nothing of clients, caches and flights; `exchange` asks.

pub mod permits; // caps of the node, lent to its cores

pub mod node; // one configuration as all cores share it

mod lately; // what failed lately at a backend
pub mod shared; // the connections of HTTP/2 to a backend

pub mod backend; // what a core keeps of each backend
pub mod model; // what a core keeps of each model

pub mod message; // what crosses cores

pub mod upstreams; // all of it, under one configuration

pub mod deadlines; // until when the parts of an answer have to have come
pub mod outcome; // what a fault says of the backend

pub mod queue; // waiting for a permit
pub mod route; // model -> plan

pub mod suspects; // whose fault a 500 is

pub mod connect; // new connections, and those that are shared
pub mod lease; // plan -> connection

pub mod deliver; // what a core does with a message
