//! What differs between LLM APIs: the facts the gateway needs of requests, events and answers, and how each API spells
//! them. Pure functions over bytes; no I/O, no clock. Must never change a byte it was not asked to change.
pub mod facts;
pub mod openai;
