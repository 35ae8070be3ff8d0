//! The notifier of a data core: an eventfd that the core reads through its io_uring.

use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::event::{EventfdFlags, eventfd};

use super::reactor::eventfd_readable;
use super::sys::EventFdCount;

/// The end that other cores notify.
pub struct EventFd(std::fs::File);

/// The end that the core waits on; created on the first wait.
#[derive(Default)]
pub struct EventFdReader(Option<EventFdCount>);

impl EventFd {
    /// Errors: out of descriptors.
    pub fn new() -> io::Result<EventFd> {
        Ok(EventFd(std::fs::File::from(eventfd(0, EventfdFlags::CLOEXEC)?)))
    }

    /// Wakes the waiting core.
    pub fn notify(&self) {
        // Adding one to an eventfd blocks only at 2^64 - 1.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }
}

impl EventFdReader {
    /// Waits until `notifier` was notified since the last wait.
    pub async fn wait(&mut self, notifier: &EventFd) {
        let count = *self.0.get_or_insert_with(EventFdCount::new);
        if eventfd_readable(notifier.0.as_fd(), count).await.is_err() {
            super::sleep_ms(10).await; // poll again soon rather than never
        }
    }
}
