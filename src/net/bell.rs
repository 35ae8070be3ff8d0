//! The bell of a data core: an eventfd that the core reads through its own ring.

use std::io::{self, Write};

use rustix::event::{EventfdFlags, eventfd};

/// The end that other cores strike.
pub struct RingBell(std::fs::File);

/// The end that the core waits at; made at the first wait, on the core's own ring.
#[derive(Default)]
pub struct Ear(Option<(monoio::fs::File, Vec<u8>)>);

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
        if self.0.is_none() {
            let file = bell.0.try_clone().and_then(monoio::fs::File::from_std);
            self.0 = file.ok().map(|file| (file, Vec::with_capacity(8)));
        }
        match self.0.take() {
            Some((file, buffer)) => {
                let (_, buffer) = file.read_at(buffer, 0).await;
                self.0 = Some((file, buffer));
            }
            // Out of descriptors: look again soon rather than never.
            None => super::sleep_ms(10).await,
        }
    }
}
