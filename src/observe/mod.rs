//! What is observed: counters and the access log. Plain values of one core; nothing here is shared or waits.
pub mod counters; // a core's numbers
pub mod log; // the access log's lines
