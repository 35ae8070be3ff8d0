//! Observability: metrics and the access log. Each block has one writer, its core, and is read in place; nothing here
//! waits.
pub mod counters; // a core's numbers
pub mod histogram; // histograms
pub mod log; // the lines of the access log
pub mod metrics; // every metric, one row each
pub mod process; // process statistics of the kernel
pub mod scrape; // the sum of all cores as Prometheus text
pub mod series; // requests by endpoint, model, tenant and status
pub mod snapshots; // what became of snapshots of the cache
pub mod spans; // spans of sampled requests
pub mod told; // log messages about the process, on standard error
