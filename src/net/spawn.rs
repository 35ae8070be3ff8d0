//! Starts tasks on a data core. A panic in a task ends only that task and is counted; otherwise it would unwind the
//! runtime and end the core with all of its connections.

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
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

    /// Runs `act`; a panic is caught and counted.
    pub fn guard(&self, act: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(act)).is_err() {
            self.0.set(self.0.get() + 1);
        }
    }

    /// Runs `task` to its end; false if it panicked, which is counted.
    pub async fn outlives(&self, task: impl Future<Output = ()>) -> bool {
        let mut task = pin!(task);
        poll_fn(|context| {
            let mut polled = None;
            self.guard(|| polled = Some(task.as_mut().poll(context)));
            match polled {
                Some(state) => state.map(|()| true),
                None => Poll::Ready(false),
            }
        })
        .await
    }
}

pin_project! {
    // A hand-written future: an async block around the task would store it twice, and spawning copies all of it.
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
// In a simulation, a leaked task is reported with the place that started it.
#[cfg_attr(sim, track_caller)]
pub fn spawn(panics: &Panics, task: impl Future<Output = ()> + 'static) {
    super::spawn_raw(Guarded { task, panics: panics.clone() });
}

/// Delay before a permanent task that panicked is restarted.
const RESTART_MS: u64 = 1000;

/// Starts a task that others rely on for the life of the core: if it panics, that is counted and it is restarted after
/// a delay. It may end by itself.
#[cfg_attr(sim, track_caller)]
pub fn spawn_lasting<F: Future<Output = ()>>(panics: &Panics, make: impl Fn() -> F + 'static) {
    let panics = panics.clone();
    super::spawn_raw(async move {
        while !panics.outlives(make()).await {
            super::sleep_ms(RESTART_MS).await;
        }
    });
}

/// A pool of memory for tasks that are made by the same functions again and again. Allocating each task anew would use
/// cold memory.
pub struct TaskPool {
    /// A list of free places for each function.
    free: RefCell<Vec<(TypeId, Box<dyn Any>)>>,
    panics: Panics,
}

/// Most free places of a kind that are kept.
const TASK_PLACES_MAX: usize = 64;

impl TaskPool {
    pub fn new(panics: Panics) -> TaskPool {
        TaskPool { free: RefCell::default(), panics }
    }

    /// Makes the task `make(argument)` inline. It starts when it is first polled, or dropped.
    pub fn start<A, M, F>(&self, make: M, argument: A) -> InlineTask
    where
        A: 'static,
        M: Fn(A) -> F + 'static,
        F: Future<Output = ()> + 'static,
    {
        let mut place = self.places::<M, F, _>(Vec::pop).unwrap_or_else(|| {
            Box::pin(Place { panics: self.panics.clone(), running: None::<F>, made_by: PhantomData::<M> })
        });
        place.as_mut().project().running.set(Some(make(argument)));
        InlineTask { place: Some(place) }
    }

    /// Shows `look` the free places for tasks that an `M` makes.
    fn places<M: 'static, F: 'static, R>(&self, look: impl FnOnce(&mut Vec<Pin<Box<Place<M, F>>>>) -> R) -> R {
        let mut free = self.free.borrow_mut();
        let kind = TypeId::of::<M>();
        let at = free.iter().position(|(of, _)| *of == kind).unwrap_or_else(|| {
            free.push((kind, Box::new(Vec::<Pin<Box<Place<M, F>>>>::new())));
            free.len() - 1
        });
        match free[at].1.downcast_mut() {
            Some(places) => look(places),
            None => look(&mut Vec::new()), // a function makes futures of one type
        }
    }
}

/// A child task that its owner polls, which saves a task in the runtime and the wake-ups between the two. Dropped
/// before its end, it is detached and runs on as its own task. A panic ends only the child and is counted.
pub struct InlineTask {
    /// Until the task has ended.
    place: Option<Pin<Box<dyn Reused>>>,
}

impl InlineTask {
    /// Polls the task. When it is ready, its place returns to `pool`.
    pub fn poll(&mut self, pool: &TaskPool, context: &mut Context<'_>) -> Poll<()> {
        let Some(place) = &mut self.place else { return Poll::Ready(()) };
        let state = place.as_mut().poll(context);
        if state.is_ready() {
            self.place.take().into_iter().for_each(|place| place.give_back(pool));
        }
        state
    }

    /// As dropping it; in a simulation the task is then one of the caller's, not a call to a backend.
    #[cfg_attr(sim, track_caller)]
    pub fn detach(mut self) {
        self.let_go();
    }

    #[cfg_attr(sim, track_caller)]
    fn let_go(&mut self) {
        if let Some(mut place) = self.place.take().filter(|_| super::is_running()) {
            super::spawn_raw(poll_fn(move |context| place.as_mut().poll(context)));
        }
    }
}

impl Drop for InlineTask {
    fn drop(&mut self) {
        self.let_go();
    }
}

trait Reused {
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()>;
    fn give_back(self: Pin<Box<Self>>, pool: &TaskPool);
}

pin_project! {
    struct Place<M, F> {
        panics: Panics,
        #[pin]
        running: Option<F>,
        made_by: PhantomData<M>,
    }
}

impl<M: 'static, F: Future<Output = ()> + 'static> Reused for Place<M, F> {
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

    fn give_back(self: Pin<Box<Self>>, pool: &TaskPool) {
        pool.places::<M, F, _>(|places| {
            if places.len() < TASK_PLACES_MAX {
                places.push(self);
            }
        });
    }
}

#[cfg(all(test, not(sim)))]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use std::future::poll_fn;

    use super::{InlineTask, Panics, TASK_PLACES_MAX, TaskPool, spawn};
    use crate::net::runtime::run_data_core;
    use crate::net::sleep_ms;

    type Log = Rc<RefCell<Vec<String>>>;

    /// Free places for `interrupt`.
    fn kept(pool: &TaskPool) -> usize {
        fn count<A, M: Fn(A) -> F + 'static, F: 'static>(pool: &TaskPool, _: M) -> usize {
            pool.places::<M, F, _>(|places| places.len())
        }
        count(pool, interrupt)
    }

    /// Logs its start, waits `wait_ms`, and logs its end, unless its name is `panics`.
    async fn interrupt((wait_ms, name, log): (u64, &'static str, Log)) {
        log.borrow_mut().push(format!("{name} begins"));
        if wait_ms > 0 {
            sleep_ms(wait_ms).await;
        }
        assert_ne!(name, "panics", "intended");
        log.borrow_mut().push(format!("{name} ends"));
    }

    async fn to_its_end(task: &mut InlineTask, pool: &TaskPool) {
        poll_fn(|context| task.poll(pool, context)).await;
    }

    #[test]
    fn a_passenger_runs_in_its_owner_and_by_itself_once_it_is_let_go() {
        let (log, panics) = (Log::default(), Panics::default());
        let pool = TaskPool::new(panics.clone());
        let core = async {
            to_its_end(&mut pool.start(interrupt, (1, "one", log.clone())), &pool).await;
            to_its_end(&mut pool.start(interrupt, (0, "panics", log.clone())), &pool).await;
            assert_eq!(kept(&pool), 1, "both tasks used the same slot");
            // Never polled, and in the middle of its wait: both continue detached.
            drop(pool.start(interrupt, (0, "two", log.clone())));
            let mut three = pool.start(interrupt, (1, "three", log.clone()));
            poll_fn(|context| {
                assert!(three.poll(&pool, context).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
            drop(three);
            while log.borrow().len() < 7 {
                sleep_ms(1).await;
            }
        };
        run_data_core(core).expect("a ring");
        let told = log.borrow().join(", ");
        assert!(told.starts_with("one begins, one ends, panics begins, three begins, two begins, two ends"), "{told}");
        assert!(told.ends_with("three ends"), "{told}");
        assert_eq!(panics.count(), 1);
    }

    #[test]
    fn what_is_left_when_the_ring_ends_does_not_start() {
        let log = Log::default();
        let pool = TaskPool::new(Panics::default());
        let left = run_data_core(async { pool.start(interrupt, (0, "late", log.clone())) }).expect("a ring");
        drop(left);
        assert!(log.borrow().is_empty());
    }

    #[test]
    fn only_so_many_places_are_kept() {
        let log = Log::default();
        let pool = TaskPool::new(Panics::default());
        let core = async {
            let started = (0..TASK_PLACES_MAX + 9).map(|_| pool.start(interrupt, (0, "one", log.clone())));
            for mut task in started.collect::<Vec<_>>() {
                to_its_end(&mut task, &pool).await;
            }
        };
        run_data_core(core).expect("a ring");
        assert_eq!(kept(&pool), TASK_PLACES_MAX);
    }

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
