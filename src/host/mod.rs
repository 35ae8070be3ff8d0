//! The machine: its CPUs and which thread runs where, what of it is not as it should be, and changing that. Reads and writes
//! files of the kernel, which may block, so never on a core that serves; starts nothing.

pub mod doctor; // examines the host
pub mod install; // the files of the service
pub mod placement; // the plan on this host's topology
pub mod plan; // which CPUs do what
pub mod port; // who listens on an address
pub mod profile; // what a host should be like, from tuning/*.toml
pub mod report; // what the examination says, as text and JSON
pub mod sight; // the host as it is examined
pub mod steering; // which data core gets a new connection
pub mod tune; // changing it, and back

mod checks; // checks that are more than one value
mod list; // lists and masks of CPUs
mod nic; // network interfaces
mod root; // files below a prefix
mod rule; // what a setting should be
mod setting; // from a row to files on this host
mod topology; // cores, siblings, nodes

pub use root::Root;

#[cfg(test)]
mod tests;
