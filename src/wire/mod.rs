//! Bytes to values and back. No I/O, no clock, no panic on any input; every decoder has a fuzz target.
pub mod body;
pub mod http1;
pub mod json;
pub mod sse;
