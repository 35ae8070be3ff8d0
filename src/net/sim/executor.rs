//! Tasks, cores, clock and random numbers of a simulated world. Every choice is drawn from the world's generator, so a
//! seed replays all of it. Time moves only when a task was polled or when nothing is runnable; then it jumps to the
//! next event.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use super::{
    Ended, NetworkFaults, Place, TaskId,
    ends::{EndKey, Ends},
};
use crate::net::watch::{self, Shelf};

pub(super) struct Task {
    pub(super) place: Place,
    /// None while it is polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    flag: Arc<Flag>,
    pub(super) polls: u64,
    /// Dropped after this many polls.
    pub(super) last_poll: u64,
    pub(super) born: &'static Location<'static>,
}

/// The data of a waker. A world has one thread, so a wake finds its world by the thread.
struct Flag {
    id: u64,
    world_serial: u64,
    queued: AtomicBool,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed)
            && let Some(world) = current().filter(|world| world.serial == self.world_serial)
        {
            world.woken.borrow_mut().push(self.id);
        }
    }
}

pub(super) enum Event {
    Wake(Waker),
    /// The next parcel in transit to this end arrives.
    Arrive(EndKey),
    /// A connection request arrives at its address.
    Knock(EndKey),
    /// The reply to it arrives.
    Opened(EndKey),
}

#[derive(Default)]
pub(super) struct Tasks {
    pub(super) live: BTreeMap<u64, Task>,
    born: u64,
    ready: Vec<u64>,
    pub(super) paused: BTreeSet<Place>,
}

pub(super) struct Inner {
    pub(super) serial: u64,
    now_us: Cell<u64>,
    pub(super) steps: Cell<u64>,
    pub(super) trace: Cell<u64>,
    rng: Cell<u64>,
    test_rng: Cell<u64>,
    place: Cell<Place>,
    woken: RefCell<Vec<u64>>,
    pub(super) tasks: RefCell<Tasks>,
    events: RefCell<BTreeMap<(u64, u64), Event>>,
    event_serial: Cell<u64>,
    pub(super) ends: RefCell<Ends>,
    pub(super) network: Cell<NetworkFaults>,
    shelves: RefCell<BTreeMap<Place, Shelf>>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Inner>>> = const { RefCell::new(None) };
    static SERIAL: Cell<u64> = const { Cell::new(0) };
}

/// The world of this thread, if there is one.
pub(super) fn current() -> Option<Rc<Inner>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

pub(super) fn world() -> Rc<Inner> {
    current().expect("code of a simulation runs inside a World")
}

fn splitmix(state: &Cell<u64>) -> u64 {
    let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    state.set(next);
    let mut z = next;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Inner {
    /// Creates the world of this thread, and chooses its network.
    pub(super) fn begin(seed: u64) -> Rc<Inner> {
        let serial = SERIAL.replace(SERIAL.get() + 1) + 1;
        let inner = Rc::new(Inner {
            serial,
            now_us: Cell::new(0),
            steps: Cell::new(0),
            trace: Cell::new(seed),
            rng: Cell::new(seed.wrapping_mul(0xa076_1d64_78bd_642f)),
            test_rng: Cell::new(!seed),
            place: Cell::new(Place::Outside),
            woken: RefCell::default(),
            tasks: RefCell::default(),
            events: RefCell::default(),
            event_serial: Cell::new(0),
            ends: RefCell::default(),
            network: Cell::new(NetworkFaults::CALM),
            shelves: RefCell::default(),
        });
        inner.network.set(NetworkFaults::choose(&inner));
        let before = CURRENT.replace(Some(inner.clone()));
        assert!(before.is_none(), "one world a thread at a time");
        inner
    }

    /// Drops all tasks and sockets, and then the world.
    pub(super) fn end(&self) {
        // Drops may spawn, wake and close, so the world stays in place until everything is gone.
        loop {
            let task = self.tasks.borrow_mut().live.pop_first();
            let Some((_, task)) = task else { break };
            self.drop_at(task.place, task.future);
        }
        drop(self.events.take());
        self.enter(Place::Outside);
        watch::swap(&mut Shelf::default());
        drop(self.shelves.take());
        CURRENT.set(None);
    }

    pub(super) fn now_us(&self) -> u64 {
        self.now_us.get()
    }

    pub(super) fn place(&self) -> Place {
        self.place.get()
    }

    /// A number in `low..=high` from the world's generator.
    pub(super) fn between(&self, low: u64, high: u64) -> u64 {
        debug_assert!(low <= high);
        low + ((u128::from(splitmix(&self.rng)) * (u128::from(high - low) + 1)) >> 64) as u64
    }

    /// True once in `n`; never if `n` is 0.
    pub(super) fn one_in(&self, n: u64) -> bool {
        n > 0 && self.between(1, n) == 1
    }

    pub(super) fn schedule(&self, at_us: u64, event: Event) -> (u64, u64) {
        let serial = self.event_serial.get();
        self.event_serial.set(serial + 1);
        self.events.borrow_mut().insert((at_us, serial), event);
        (at_us, serial)
    }

    /// Cancels a scheduled event; no effect if it has happened.
    pub(super) fn cancel(&self, scheduled: (u64, u64)) {
        self.events.borrow_mut().remove(&scheduled);
    }

    /// A random number for the code under test.
    pub(super) fn random_u64(&self) -> u64 {
        splitmix(&self.test_rng)
    }

    /// Makes `place` the current one and returns the previous one. Each place has its own registry of watches.
    pub(super) fn enter(&self, place: Place) -> Place {
        let was = self.place.replace(place);
        if was != place {
            let mut shelves = self.shelves.borrow_mut();
            watch::swap(shelves.entry(was).or_default());
            watch::swap(shelves.entry(place).or_default());
        }
        was
    }

    pub(super) fn spawn(
        &self,
        place: Place,
        future: Pin<Box<dyn Future<Output = ()>>>,
        born: &'static Location<'static>,
    ) -> TaskId {
        let mut tasks = self.tasks.borrow_mut();
        tasks.born += 1;
        let id = tasks.born;
        let flag = Arc::new(Flag { id, world_serial: self.serial, queued: AtomicBool::new(true) });
        tasks.live.insert(id, Task { place, future: Some(future), flag, polls: 0, last_poll: u64::MAX, born });
        tasks.ready.push(id);
        TaskId(id)
    }

    /// Drops a task at its current await; one that is being polled, as soon as it yields.
    pub(super) fn kill(&self, id: TaskId) -> bool {
        let task = {
            let mut tasks = self.tasks.borrow_mut();
            match tasks.live.get_mut(&id.0) {
                None => return false,
                Some(task) if task.future.is_none() => {
                    task.last_poll = 0;
                    return true;
                }
                Some(_) => tasks.live.remove(&id.0),
            }
        };
        if let Some(task) = task {
            self.drop_at(task.place, task.future);
        }
        true
    }

    fn drop_at<T>(&self, place: Place, what: T) {
        let was = self.enter(place);
        drop(what);
        self.enter(was);
    }

    fn fire_due(&self) {
        loop {
            let event = {
                let mut events = self.events.borrow_mut();
                match events.first_entry() {
                    Some(entry) if entry.key().0 <= self.now_us() => entry.remove(),
                    _ => return,
                }
            };
            match event {
                Event::Wake(waker) => waker.wake(),
                Event::Arrive(end) => self.ends.borrow_mut().arrive(self, end),
                Event::Knock(end) => self.ends.borrow_mut().knock(self, end),
                Event::Opened(end) => self.ends.borrow_mut().opened(end),
            }
        }
    }

    /// Chooses the task to poll next, if any is runnable.
    fn choose(&self) -> Option<u64> {
        let mut tasks = self.tasks.borrow_mut();
        tasks.ready.append(&mut self.woken.borrow_mut());
        let Tasks { live, ready, paused, .. } = &mut *tasks;
        ready.retain(|id| live.contains_key(id));
        let may_run = |id: &u64| paused.is_empty() || live.get(id).is_some_and(|task| !paused.contains(&task.place));
        let runnable = ready.iter().filter(|id| may_run(id)).count();
        if runnable == 0 {
            return None;
        }
        if self.one_in(self.network.get().spurious_poll_one_in) {
            // Tasks must tolerate spurious polls.
            let candidates: Vec<u64> = live.keys().copied().filter(|id| may_run(id)).collect();
            return Some(candidates[self.between(0, candidates.len() as u64 - 1) as usize]);
        }
        let nth = self.between(0, runnable as u64 - 1) as usize;
        let position = ready.iter().enumerate().filter(|(_, id)| may_run(id)).nth(nth)?.0;
        Some(ready.swap_remove(position))
    }

    fn poll(&self, id: u64) {
        let Some((place, mut future, flag)) = ({
            let mut tasks = self.tasks.borrow_mut();
            tasks.live.get_mut(&id).and_then(|task| {
                task.polls += 1;
                task.future.take().map(|future| (task.place, future, task.flag.clone()))
            })
        }) else {
            return;
        };
        // A spurious poll leaves the task in the queue, so its flag stays set.
        if !self.tasks.borrow().ready.contains(&id) {
            flag.queued.store(false, Ordering::Relaxed);
        }
        let waker = Waker::from(flag);
        let was = self.enter(place);
        let done = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let over = {
            let mut tasks = self.tasks.borrow_mut();
            match tasks.live.get_mut(&id) {
                Some(task) if !done && task.polls < task.last_poll => {
                    task.future = Some(future);
                    None
                }
                _ => tasks.live.remove(&id).map(|_| future),
            }
        };
        drop(over);
        self.enter(was);
        let trace = (self.trace.get() ^ id ^ (self.now_us() << 20)).wrapping_mul(0x0000_0100_0000_01b3);
        self.trace.set(trace.rotate_left(23));
    }

    /// Polls one task, or else advances time to the next event. False: there is neither, up to `until_us`.
    pub(super) fn step(&self, until_us: u64) -> Option<Ended> {
        self.steps.set(self.steps.get() + 1);
        self.fire_due();
        if let Some(id) = self.choose() {
            self.poll(id);
            self.now_us.set(self.now_us() + self.between(0, self.network.get().poll_cost_us));
            return (self.now_us() > until_us).then_some(Ended::TimeOut);
        }
        let next = self.events.borrow().first_key_value().map(|(&(at_us, _), _)| at_us);
        match next {
            Some(at_us) if at_us <= until_us => {
                self.now_us.set(at_us.max(self.now_us()));
                None
            }
            Some(_) => {
                self.now_us.set(until_us);
                Some(Ended::TimeOut)
            }
            None => Some(Ended::Idle),
        }
    }
}
