//! The machine: which CPUs there are and which thread runs where. Reads files of the kernel, which may block, so never on
//! a core that serves; starts nothing.

pub mod plan; // which CPUs do what
