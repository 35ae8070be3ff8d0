//! What the scripts are written with.

mod backend;
mod client;
mod drip;
pub mod frames;
mod gateway;
mod http2;
mod requests;

pub use backend::{Backend, Peer, Request};
pub use client::{Client, Ending, Response};
pub use drip::drip;
pub use gateway::{Gateway, Setup};
pub use http2::{Asked, Http2};
pub use requests::*;

use std::time::Duration;

/// No wait of a test is longer: what takes this long hangs.
pub const GUARD: Duration = Duration::from_secs(30);

/// Waits until `holds`, looking again and again; what never comes fails the test.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed() < GUARD, "it never came: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
