//! OpenAI's responses API: facts of its requests, events and answers. Its errors are those of OpenAI's other APIs
//! (`openai/write.rs`). Pure functions; must never take for stateless what has to do with anything that a provider keeps.

mod answer;
mod convert;
mod event;
mod request;

pub use answer::answer_facts;
pub use convert::{streamed_of, whole_of};
pub use event::event_facts;
pub use request::is_stateful;

/// Members of a request's root that do not affect the answer to it: its form alone. What labels there are (`user`, `metadata`,
/// `prompt_cache_key`) the answer repeats.
pub const NOT_IN_KEY: &[&str] = &["stream"];
