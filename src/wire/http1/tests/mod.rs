//! Tests of the codec: what is refused and with which status, heads cut at every byte, round trips, golden bytes.

pub(in crate::wire) mod dice;
mod encode;
mod known;
mod request;
mod response;
mod round_trip;
