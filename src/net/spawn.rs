//! The ways to start a task on a data core. A panic inside ends that task alone and is counted: without this, a panic
//! in any task unwinds the ring runtime and takes the core and every connection on it with it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
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

/// Places in memory for tasks of one kind, which begin with an `A` and are kept for the next: a task of its own would take
/// new memory each time, by then cold.
pub struct Berths<A> {
    free: RefCell<Vec<Berth<A>>>,
    panics: Panics,
}

type Berth<A> = Pin<Box<dyn Reused<A>>>;

/// Most places that are kept.
const BERTHS_MAX: usize = 64;

impl<A: 'static> Berths<A> {
    pub fn new(panics: Panics) -> Berths<A> {
        Berths { free: RefCell::default(), panics }
    }

    /// Takes the task aboard that `make` makes of `argument`: always the same `make`, for a place holds what it was made
    /// for. It starts when it is first polled, or let go of.
    pub fn board<F>(&self, make: impl Fn(A) -> F + 'static, argument: A) -> Passenger<A>
    where
        F: Future<Output = ()> + 'static,
    {
        let free = self.free.borrow_mut().pop();
        let mut berth =
            free.unwrap_or_else(|| Box::pin(Place { make, panics: self.panics.clone(), running: None::<F> }));
        berth.as_mut().begin(argument);
        Passenger { berth: Some(berth) }
    }
}

/// A task that runs as a part of the task that owns this, which spares the runtime a task and the wakings between the two.
/// Let go of before its end, it runs on as a task of its own. A panic inside ends it alone and is counted.
pub struct Passenger<A: 'static> {
    /// Until the task has ended.
    berth: Option<Berth<A>>,
}

impl<A> Passenger<A> {
    /// Goes on with the task. Ready when it has ended; its place is then free for the next of `berths`.
    pub fn poll(&mut self, berths: &Berths<A>, context: &mut Context<'_>) -> Poll<()> {
        let Some(berth) = &mut self.berth else { return Poll::Ready(()) };
        let state = berth.as_mut().poll(context);
        if state.is_ready() {
            let mut free = berths.free.borrow_mut();
            if free.len() < BERTHS_MAX {
                free.extend(self.berth.take());
            }
            self.berth = None;
        }
        state
    }
}

impl<A> Drop for Passenger<A> {
    fn drop(&mut self) {
        if let Some(mut berth) = self.berth.take().filter(|_| super::is_running()) {
            super::spawn_raw(poll_fn(move |context| berth.as_mut().poll(context)));
        }
    }
}

trait Reused<A> {
    fn begin(self: Pin<&mut Self>, argument: A);
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()>;
}

pin_project! {
    struct Place<M, F> {
        make: M,
        panics: Panics,
        #[pin]
        running: Option<F>,
    }
}

impl<A, M: Fn(A) -> F, F: Future<Output = ()>> Reused<A> for Place<M, F> {
    fn begin(self: Pin<&mut Self>, argument: A) {
        let mut place = self.project();
        place.running.set(Some((place.make)(argument)));
    }

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut place = self.project();
        let Some(running) = place.running.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        match catch_unwind(AssertUnwindSafe(|| running.poll(context))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(_) => place.panics.0.set(place.panics.0.get() + 1),
        }
        place.running.set(None);
        Poll::Ready(())
    }
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
