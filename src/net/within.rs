//! Waits that end.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::sleep_ms;

/// `work`'s result, if it comes within `ms`.
pub async fn within<T>(work: impl Future<Output = T>, ms: u64) -> Option<T> {
    let (mut work, mut too_late) = (pin!(work), pin!(sleep_ms(ms)));
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => too_late.as_mut().poll(context).map(|()| None),
    })
    .await
}
