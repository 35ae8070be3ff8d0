//! The one way to start a task on a data core. A panic inside ends that task alone and is counted: without this, a panic
//! in any task unwinds the ring runtime and takes the core and every connection on it with it.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// How many tasks of a core have panicked.
#[derive(Clone, Default)]
pub struct Panics(Rc<Cell<u64>>);

impl Panics {
    pub fn count(&self) -> u64 {
        self.0.get()
    }

    /// Runs `act`; a panic inside is counted and goes no further.
    pub fn guard(&self, act: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(act)).is_err() {
            self.0.set(self.0.get() + 1);
        }
    }
}

pin_project! {
    // A struct of its own: an async block around the task would hold it twice, and every start copies it whole.
    struct Guarded<F> {
        #[pin]
        task: F,
        panics: Panics,
    }
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let guarded = self.project();
        match catch_unwind(AssertUnwindSafe(|| guarded.task.poll(context))) {
            Ok(state) => state,
            Err(_) => {
                guarded.panics.0.set(guarded.panics.0.get() + 1);
                Poll::Ready(())
            }
        }
    }
}

/// Starts `task` on this core. What it owns is dropped when it ends or panics.
// A simulation names the place where a task that was left behind was started.
#[cfg_attr(sim, track_caller)]
pub fn spawn(panics: &Panics, task: impl Future<Output = ()> + 'static) {
    super::spawn_raw(Guarded { task, panics: panics.clone() });
}
