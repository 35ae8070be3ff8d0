//! What is observed: numbers, and the access log. Each block has one writer, its core, and is read in place; nothing here
//! waits for anybody.
pub mod counters; // a core's numbers
pub mod histogram; // how often which value came
pub mod log; // the access log's lines
pub mod metrics; // every metric, one row each
pub mod process; // what the kernel says of the process
pub mod scrape; // all cores' numbers as Prometheus text
pub mod series; // requests by endpoint, model, tenant and status
pub mod told; // messages about the process, on standard error
