//! The one way to start a task on a data core. A panic inside ends that task alone and is counted: without this, a panic
//! in any task unwinds the ring runtime and takes the core and every connection on it with it.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

/// How many tasks of a core have panicked.
#[derive(Clone, Default)]
pub struct Panics(Rc<Cell<u64>>);

impl Panics {
    pub fn count(&self) -> u64 {
        self.0.get()
    }
}

/// Starts `task` on this core. What it owns is dropped when it ends or panics.
pub fn spawn(panics: &Panics, task: impl Future<Output = ()> + 'static) {
    let panics = panics.clone();
    super::spawn_raw(async move {
        let mut task = pin!(task);
        poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context))) {
            Ok(state) => state,
            Err(_) => {
                panics.0.set(panics.0.get() + 1);
                Poll::Ready(())
            }
        })
        .await;
    });
}
