//! What differs between LLM APIs: a closed enum of dialects, the facts of a request and of an answer, and OpenAI.
pub mod facts;
pub mod openai;
