//! The rooms under fuzzing, taken from the gateway's own files.
//! Nothing of its own: a target finds `ringway::wire` here as it would in the gateway.

#[path = "../../src/dialect/mod.rs"]
pub mod dialect;
#[path = "../../src/limits.rs"]
pub mod limits;
#[path = "../../src/wire/mod.rs"]
pub mod wire;
