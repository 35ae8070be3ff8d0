//! The HTTP/2 connections to one backend, which several requests share. Owned by the core's state of that backend.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use shards::{ConnectionId, Fault, Millis, StreamBounds, Streams};

use crate::net::Dial;
use crate::net::http2;

/// The HTTP/2 connections to one backend, and who waits for a place on one.
pub struct SharedConnections {
    pub streams: RefCell<Streams<http2::Connection, Dial>>,
    waiting: RefCell<Vec<Waker>>,
    /// How many dials failed, and the last one's fault.
    pub(super) failed: Cell<(u32, Fault)>,
    kept: usize,
}

impl SharedConnections {
    /// `kept` connections are not closed for being idle.
    pub fn new(bounds: StreamBounds, addresses: Arc<[Dial]>, kept: usize) -> SharedConnections {
        let failed = Cell::new((0, Fault::Connect));
        SharedConnections {
            streams: RefCell::new(Streams::new(bounds, addresses)),
            waiting: RefCell::default(),
            failed,
            kept,
        }
    }

    pub(super) fn changed(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// A stream has ended.
    pub fn give_back(&self, id: ConnectionId, now: Millis) {
        self.streams.borrow_mut().give_back(id, now);
        self.changed();
    }

    /// Closes connections idle for too long. For a timer.
    pub fn reap(&self, now: Millis) {
        let mut closing = Vec::new();
        self.streams.borrow_mut().reap(now, self.kept, &mut closing);
        drop(closing);
    }

    /// Closes a connection that no stream is on. Whether there was one.
    pub fn close_one(&self) -> bool {
        let closing = self.streams.borrow_mut().close_idle();
        closing.is_some()
    }

    /// Closes every connection that no stream is on.
    pub fn close_idle(&self) {
        let mut closing = Vec::new();
        self.streams.borrow_mut().drain(&mut closing);
        drop(closing);
    }

    /// Connections and streams that are open.
    pub fn counts(&self) -> (u64, u64) {
        let streams = self.streams.borrow();
        (streams.connections() as u64, streams.streams().into())
    }

    /// Streams that are open, for a simulation that looks for what was left behind.
    #[cfg(sim)]
    pub fn open(&self) -> u32 {
        self.streams.borrow().streams()
    }

    /// Panics when a law of the streams is broken.
    #[cfg(sim)]
    pub fn check(&self) {
        self.streams.borrow().check();
    }

    pub(super) async fn change(&self) {
        let mut asked = false;
        poll_fn(|context| {
            if std::mem::replace(&mut asked, true) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
