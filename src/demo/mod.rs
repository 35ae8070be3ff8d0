//! What stands behind `ringway demo`: a small OpenAI-compatible backend inside the program, and its configuration.
//! Plain threads and blocking sockets: it must work without the gateway's runtimes and never share their cores' state.
//! It is a stand-in for a model server, not part of the request path; its bounds are its own.

// A server of its own on threads of its own: locks, pauses and the wall clock are in order here.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod backend; // listener, bounded threads, stop

pub mod configuration; // the gateway's configuration for the demo, and the commands to try

mod connection; // one kept-alive connection

mod request; // bytes to a request

mod reply; // a reply to bytes, paced

mod routes; // path to endpoint, models, counting of calls

mod prompt; // what a body asks for

mod chat; // /v1/chat/completions

mod completions; // /v1/completions

mod embeddings; // /v1/embeddings

mod tools; // tool calls from a schema

mod text; // the words of an answer

#[cfg(test)]
mod tests;
