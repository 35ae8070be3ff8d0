//! The bell of a data core: an eventfd that the core reads through its own ring.

use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::event::{EventfdFlags, eventfd};

use super::port::bell_rung;
use super::sys::BellRead;

/// The end that other cores strike.
pub struct RingBell(std::fs::File);

/// The end that the core waits at; made at the first wait.
#[derive(Default)]
pub struct Ear(Option<BellRead>);

impl RingBell {
    /// Errors: the kernel's, when out of descriptors.
    pub fn new() -> io::Result<RingBell> {
        Ok(RingBell(std::fs::File::from(eventfd(0, EventfdFlags::CLOEXEC)?)))
    }

    /// Makes the waiting core wake.
    pub fn strike(&self) {
        // Adding one to an eventfd blocks only at 2^64 - 1.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }
}

impl Ear {
    /// Waits until `bell` was struck since the last wait.
    pub async fn wait(&mut self, bell: &RingBell) {
        let count = *self.0.get_or_insert_with(BellRead::new);
        if bell_rung(bell.0.as_fd(), count).await.is_err() {
            super::sleep_ms(10).await; // look again soon rather than never
        }
    }
}
