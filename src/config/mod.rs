//! Configuration: one row a key, every error at once with its place, an immutable snapshot for the cores.
pub mod keys;
pub mod load;
pub mod snapshot;
