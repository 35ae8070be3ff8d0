//! What the scripts are written with.

mod backend;
mod client;
mod gateway;
mod requests;

pub use backend::{Backend, Peer, Request};
pub use client::{Client, Ending, Response};
pub use gateway::{Gateway, Setup};
pub use requests::*;

use std::time::Duration;

/// No wait of a test is longer: what takes this long hangs.
pub const GUARD: Duration = Duration::from_secs(30);
