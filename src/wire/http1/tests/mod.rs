//! Tests of the codec: refusals and their status, heads split at every byte, round trips, golden bytes.

mod encode;
mod known;
mod request;
mod response;
pub(in crate::wire) mod rng;
mod round_trip;
