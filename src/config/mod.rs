//! Configuration: one row a key, every error at once with its place, an immutable snapshot for the cores.
pub mod bootstrap; // a node's own file, where the configuration is in a store
pub mod diff; // what differs between two snapshots
pub mod keys;
pub mod load;
pub mod pem; // certificates and keys that backends name, looked at from outside
pub mod problem;
pub mod sample;
pub mod schema; // for editors
pub mod snapshot;

mod check; // what needs more than one value
mod extra; // fields and members that requests to a backend have besides
mod foreign; // keys of other programs, and what was meant
mod glob; // patterns with *
mod moment; // dates and times
mod reader; // tables against their rows
mod section; // a table after it was read
mod shown; // what is in force, for the operator
mod tables; // the tables of a text, or of two
pub mod value; // text of one value to what it means

#[cfg(not(sim))]
pub(crate) use reader::expects;
