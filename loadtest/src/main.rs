//! The open-loop load generator. Not built yet.

fn main() {}
