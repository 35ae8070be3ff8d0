//! OpenAI's API: facts of requests, events and answers, edits of requests, error bodies, and conversion between the two
//! forms of an answer. Everything on the request path works on spans; only `convert` builds values, off that path. It
//! must never change or drop a byte it does not understand.

pub mod answer;
pub mod convert;
pub mod edit;
pub mod embeddings;
pub mod event;
pub mod fault;
pub mod identity;
pub mod prompts;
pub mod request;
pub mod shape;
pub mod usage;
pub mod write;

pub use answer::{answer_facts, levels, parsed_answer_facts, unreadable};
pub use convert::{Streamed, object_of, streamed_of, whole_of};
pub use edit::{Edits, Piece};
#[cfg(test)]
pub use event::event_facts;
pub use event::named_event_facts;
pub use fault::{error_facts, error_kind, error_of, kind_of};
#[cfg(test)]
pub use request::NOT_IN_KEY;
pub use request::{RequestFault, check_model, request_facts};
pub use shape::{Reading, Shapes};
pub use usage::{usage_event, usage_of, without_usage};
pub use write::{write_error, write_error_event, write_model, write_models, write_response_error_event};

/// The data of the event that ends a stream.
pub const DONE: &[u8] = b"[DONE]";

#[cfg(test)]
mod tests;
