//! `/v1/live`: server-sent events (WHATWG HTML, 9.2) for a bounded number of watchers. A watcher gets the points of the
//! last minutes, then the status and a point each second. One that reads slowly misses events: nothing is queued for it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Admin;
use super::live::Point;
use super::status::Status;
use crate::limits::ADMIN_WATCHERS;

/// A stream ends after this time, well before its connection does; the watcher opens another one.
const STREAM_LIMIT: Duration = Duration::from_secs(100);
/// Tenants in an event; /v1/status has all of them.
const TENANTS: usize = 50;

#[derive(Serialize)]
struct Update<'a> {
    status: Status,
    /// The newest, or at first all of the last minutes.
    points: Vec<&'a Point>,
}

type Step = Pin<Box<dyn Future<Output = Option<(Bytes, watch::Receiver<Bytes>)>>>>;

/// The body of a watcher's answer.
pub struct Events {
    /// The next event; none at the end.
    next: Option<Step>,
    until: Instant,
}

/// Waits for the newest event; none at the end of the stream.
async fn follow(mut updates: watch::Receiver<Bytes>, until: Instant) -> Option<(Bytes, watch::Receiver<Bytes>)> {
    timeout_at(until, updates.changed()).await.ok()?.ok()?;
    let event = updates.borrow_and_update().clone();
    Some((event, updates))
}

impl Admin {
    /// A stream of events; none if there are too many watchers.
    pub(super) fn watch(&self) -> Option<Events> {
        if self.updates.receiver_count() >= ADMIN_WATCHERS {
            return None;
        }
        self.live.borrow_mut().attend();
        let (first, updates) = (self.event(usize::MAX), self.updates.subscribe());
        let next: Step = Box::pin(async { Some((first, updates)) });
        Some(Events { next: Some(next), until: Instant::now() + STREAM_LIMIT })
    }

    pub(super) fn tell_watchers(&self) {
        if self.updates.receiver_count() > 0 {
            self.updates.send_replace(self.event(1));
        }
    }

    /// The status as it is now, and the last `points` points.
    fn event(&self, points: usize) -> Bytes {
        let mut status = self.status();
        status.tenants.sort_by(|a, b| b.requests_per_second.total_cmp(&a.requests_per_second));
        status.tenants.truncate(TENANTS);
        let live = self.live.borrow();
        let all: Vec<&Point> = live.points().collect();
        let points = all[all.len().saturating_sub(points)..].to_vec();
        // Numbers and strings only: serializing cannot fail. A browser that lost the stream tries again after a second.
        let data = serde_json::to_string(&Update { status, points }).unwrap_or_default();
        format!("retry: 1000\ndata: {data}\n\n").into()
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        let Poll::Ready(event) = next.as_mut().poll(context) else { return Poll::Pending };
        self.next = None;
        let Some((event, updates)) = event else { return Poll::Ready(None) };
        self.next = Some(Box::pin(follow(updates, self.until)));
        Poll::Ready(Some(Ok(Frame::data(event))))
    }
}
