//! Tests of the codec: what is refused and with which status, heads cut at every byte, round trips, golden bytes.

mod encode;
mod known;
mod request;
mod response;
pub(in crate::wire) mod rng;
mod round_trip;
