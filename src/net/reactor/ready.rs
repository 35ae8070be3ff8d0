//! One-shot waits: for a descriptor to become readable or writable, for a notification, for a time.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::kernel::Kernel;
use super::{Ended, OF_READY, Reactor, SERIAL_MASK, end_dropped, tag, with};
use crate::net::sys::EventFdCount;

#[derive(Default)]
pub(super) struct Wait {
    serial: u32,
    result: Option<i32>,
    pub(super) waker: Option<Waker>,
}

/// Ready when the kernel reports readiness. Dropping it cancels the wait; the descriptor must be open until then.
pub struct Ready {
    /// None if the wait could not be queued.
    index: Option<u32>,
}

impl Reactor {
    fn begin_wait(&mut self, push: impl Fn(&mut Kernel, u64) -> bool) -> Option<u32> {
        let index = self.waits_free.pop().unwrap_or_else(|| {
            self.waits.push(Wait::default());
            self.waits.len() as u32 - 1
        });
        let tag = tag(OF_READY, self.waits[index as usize].serial, index);
        if !self.queue(|kernel| push(kernel, tag)) {
            self.waits_free.push(index);
            return None;
        }
        Some(index)
    }

    pub(super) fn became_ready(&mut self, index: u32, serial: u32, result: i32) {
        let Some(wait) = self.waits.get_mut(index as usize).filter(|wait| wait.serial == serial) else { return };
        wait.result = Some(result);
        if let Some(waker) = wait.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn end_wait(&mut self, index: u32) {
        let wait = &mut self.waits[index as usize];
        self.discarded.extend(wait.waker.take());
        let tag = tag(OF_READY, wait.serial, index);
        let waits = wait.result.is_none();
        *wait = Wait { serial: wait.serial.wrapping_add(1) & SERIAL_MASK, ..Wait::default() };
        self.waits_free.push(index);
        if waits {
            self.take_back(tag);
        }
    }
}

/// Waits until `descriptor` is ready for one of `events` or has an error.
pub fn ready(descriptor: BorrowedFd<'_>, events: PollFlags) -> Ready {
    ready_at(descriptor.as_raw_fd(), events)
}

pub(super) fn ready_at(descriptor: RawFd, events: PollFlags) -> Ready {
    let index = with(|reactor| reactor.begin_wait(|kernel, tag| kernel.push_poll(descriptor, events, tag)));
    Ready { index: index.ok().flatten() }
}

/// Waits until the eventfd `notifier` was written to, and resets it.
pub fn eventfd_readable(notifier: BorrowedFd<'_>, count: EventFdCount) -> Ready {
    let notifier = notifier.as_raw_fd();
    let index = with(|reactor| reactor.begin_wait(|kernel, tag| kernel.push_eventfd_read(notifier, count, tag)));
    Ready { index: index.ok().flatten() }
}

impl Future for Ready {
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(index) = self.index else { return Poll::Ready(Err(Errno::NOBUFS.into())) };
        let state = with(|reactor| {
            let wait = &mut reactor.waits[index as usize];
            match wait.result {
                Some(result) if result < 0 => Poll::Ready(Err(Errno::from_raw_os_error(-result).into())),
                Some(_) => Poll::Ready(Ok(())),
                None => {
                    reactor.discarded.extend(wait.waker.replace(context.waker().clone()));
                    Poll::Pending
                }
            }
        });
        state.unwrap_or_else(|error| Poll::Ready(Err(error)))
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if let Some(index) = self.index {
            end_dropped(Ended::Wait(index));
        }
    }
}

/// Removes the timer if its sleep is dropped.
struct Sleep(Option<(u64, u64)>);

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.0 {
            end_dropped(Ended::Sleep(key));
        }
    }
}

/// Sleeps until `us` of the clock of [`crate::net::now_us`], and to the end of the round in any case: a time that is over
/// lets other tasks run.
pub async fn sleep_until_us(us: u64) {
    let mut sleep = Sleep(None);
    poll_fn(|context| {
        let state = with(|reactor| {
            if let Some(key) = sleep.0 {
                // Wakes the last waker that polled: the future may have moved to another task.
                match reactor.timers.get_mut(&key) {
                    Some(waker) => {
                        reactor.discarded.push(std::mem::replace(waker, context.waker().clone()));
                        return Poll::Pending;
                    }
                    None => return Poll::Ready(()),
                }
            }
            reactor.timer_number += 1;
            let key = (us, reactor.timer_number);
            reactor.timers.insert(key, context.waker().clone());
            sleep.0 = Some(key);
            Poll::Pending
        });
        state.unwrap_or(Poll::Ready(()))
    })
    .await;
}
