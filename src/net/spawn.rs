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

#[cfg(all(test, not(sim)))]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::{Panics, spawn};
    use crate::net::runtime::run_data_core;
    use crate::net::sleep_ms;

    struct Told(Rc<RefCell<Vec<&'static str>>>);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.borrow_mut().push("dropped");
        }
    }

    #[test]
    fn a_panic_ends_its_task_alone_and_is_counted() {
        let panics = Panics::default();
        let told = Rc::new(RefCell::new(Vec::new()));
        let core = async {
            let owned = Told(told.clone());
            spawn(&panics, async move {
                let _owned = owned;
                sleep_ms(1).await;
                panic!("this one is meant");
            });
            let others = told.clone();
            spawn(&panics, async move {
                sleep_ms(5).await;
                others.borrow_mut().push("others go on");
            });
            while told.borrow().len() < 2 {
                sleep_ms(1).await;
            }
        };
        run_data_core(core).expect("a ring");
        assert_eq!(*told.borrow(), ["dropped", "others go on"]);
        panics.guard(|| panic!("and this one"));
        assert_eq!(panics.count(), 2);
    }
}
