//! A simulated world: the interface for tests, and the names of `net` for the code under test.

use std::future::{Future, poll_fn};
use std::panic::Location;
use std::rc::Rc;
use std::task::Poll;

use super::{
    Dial, NetworkFaults, Reachability, SocketId,
    executor::{Event, Inner, Task, current, world},
};

/// Unix time at which every world starts: a date in 2027.
const BEGIN_UNIX_MS: u64 = 1_800_000_000_000;

/// Where a task runs and a socket lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A data core of the gateway. It can be paused as a whole.
    Core(usize),
    /// Clients and backends.
    Outside,
}

/// Identifies a task of a world; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId(pub(super) u64);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The condition holds.
    Met,
    /// The given virtual time has passed.
    TimeOut,
    /// Nothing is runnable or in transit: nothing would ever happen again.
    Idle,
}

/// The simulated world of this thread, until it is dropped. At most one at a time.
pub struct World {
    inner: Rc<Inner>,
}

impl World {
    /// Creates a world in which every choice, its network included, follows from `seed`.
    pub fn new(seed: u64) -> World {
        World { inner: Inner::begin(seed) }
    }

    /// Starts a task at `place`.
    #[track_caller]
    pub fn spawn(&self, place: Place, task: impl Future<Output = ()> + 'static) -> TaskId {
        self.inner.spawn(place, Box::pin(task), Location::caller())
    }

    /// Runs `act` as code of `place`: what it spawns and opens belongs there.
    pub fn at<R>(&self, place: Place, act: impl FnOnce() -> R) -> R {
        let was = self.inner.enter(place);
        let result = act();
        self.inner.enter(was);
        result
    }

    /// Drops a task at its current await. False: it had ended.
    pub fn kill(&self, task: TaskId) -> bool {
        self.inner.kill(task)
    }

    /// Drops a task after `polls` polls in all.
    pub fn kill_after(&self, task: TaskId, polls: u64) {
        if let Some(task) = self.inner.tasks.borrow_mut().live.get_mut(&task.0) {
            task.last_poll = polls;
        }
    }

    pub fn is_live(&self, task: TaskId) -> bool {
        self.inner.tasks.borrow().live.contains_key(&task.0)
    }

    /// No task of `place` runs until it is resumed; events continue meanwhile.
    pub fn pause(&self, place: Place) {
        self.inner.tasks.borrow_mut().paused.insert(place);
    }

    pub fn resume(&self, place: Place) {
        self.inner.tasks.borrow_mut().paused.remove(&place);
    }

    /// Runs until `met` holds (checked after every step), for at most `limit_ms` of virtual time from now.
    pub fn run_until(&self, limit_ms: u64, mut met: impl FnMut() -> bool) -> Ended {
        let until_us = self.inner.now_us().saturating_add(limit_ms.saturating_mul(1000));
        loop {
            if met() {
                return Ended::Met;
            }
            if let Some(ended) = self.inner.step(until_us) {
                return if met() { Ended::Met } else { ended };
            }
        }
    }

    /// Runs for `ms` of virtual time, or less if nothing would ever happen again.
    pub fn run_ms(&self, ms: u64) -> Ended {
        self.run_until(ms, || false)
    }

    /// A number in `low..=high` from the world's generator.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        self.inner.between(low, high)
    }

    pub fn network(&self) -> NetworkFaults {
        self.inner.network.get()
    }

    /// Applies to connections made from now on.
    pub fn set_network(&self, network: NetworkFaults) {
        self.inner.network.set(network);
    }

    /// How `address` responds to connections from now on.
    pub fn set_reachability(&self, address: &Dial, reachability: Reachability) {
        self.inner.ends.borrow_mut().set_reachability(address, reachability);
    }

    /// Open sockets of `place`, without listeners.
    pub fn open_sockets(&self, place: Place) -> Vec<SocketId> {
        self.inner.ends.borrow().open_at(place)
    }

    /// How many sockets of `place` are open, or about to be, to `address`.
    pub fn open_to(&self, place: Place, address: &Dial) -> usize {
        self.inner.ends.borrow().open_to(place, address)
    }

    /// Where the live tasks of `place` were spawned in the source.
    pub fn live_tasks(&self, place: Place) -> Vec<&'static Location<'static>> {
        self.inner.tasks.borrow().live.values().filter(|task| task.place == place).map(|task| task.born).collect()
    }

    /// The live tasks of `place` that were spawned in the source file with this path or path suffix.
    pub fn tasks_born(&self, place: Place, file: &str) -> Vec<TaskId> {
        let tasks = self.inner.tasks.borrow();
        let born = |task: &Task| task.place == place && task.born.file().ends_with(file);
        tasks.live.iter().filter(|(_, task)| born(task)).map(|(&id, _)| TaskId(id)).collect()
    }

    /// How often a task was polled so far; none if it has ended.
    pub fn polls(&self, task: TaskId) -> Option<u64> {
        self.inner.tasks.borrow().live.get(&task.0).map(|task| task.polls)
    }

    /// A line for each end of a connection that is not fully closed, to debug what it waits for.
    pub fn describe_sockets(&self) -> String {
        self.inner.ends.borrow().describe()
    }

    /// Polls and time jumps so far.
    pub fn steps(&self) -> u64 {
        self.inner.steps.get()
    }

    /// A digest of the order in which tasks ran. Equal seeds give equal digests, unless something outside the world had
    /// an influence.
    pub fn trace(&self) -> u64 {
        self.inner.trace.get()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.inner.end();
    }
}

/// Microseconds of virtual time since the world began.
pub fn now_us() -> u64 {
    world().now_us()
}

/// Nobody waits in a simulation: cores are as busy as can be, and differ by their connections.
pub fn waited_us() -> u64 {
    0
}

/// Milliseconds since 1970-01-01 UTC in the world's time.
pub fn unix_ms() -> u64 {
    BEGIN_UNIX_MS + world().now_us() / 1000
}

/// As [`unix_ms`], in microseconds.
pub fn unix_us() -> u64 {
    BEGIN_UNIX_MS * 1000 + world().now_us()
}

/// The next 64 random bits for the code under test; the world's own choices are drawn separately.
pub fn random_u64() -> u64 {
    world().random_u64()
}

/// Starts a task at the place of the running one.
#[track_caller]
pub fn spawn_raw(task: impl Future<Output = ()> + 'static) {
    let world = world();
    world.spawn(world.place(), Box::pin(task), Location::caller());
}

/// Nothing to do: a world has little memory, and frees it when it ends.
pub fn give_memory_back() {}

/// Whether tasks can be started.
pub fn is_running() -> bool {
    current().is_some()
}

/// Starts a task at `place`, from inside the world.
#[track_caller]
pub fn spawn_at(place: Place, task: impl Future<Output = ()> + 'static) -> TaskId {
    world().spawn(place, Box::pin(task), Location::caller())
}

/// As [`World::kill`], from inside the world.
pub fn kill(task: TaskId) -> bool {
    world().kill(task)
}

/// As [`World::set_reachability`], from inside the world.
pub fn set_reachability(address: &Dial, reachability: Reachability) {
    world().ends.borrow_mut().set_reachability(address, reachability);
}

/// As [`World::between`], from inside the world.
pub fn between(low: u64, high: u64) -> u64 {
    world().between(low, high)
}

/// The place of the running task.
pub fn here() -> Place {
    world().place()
}

/// Sleeps in virtual time.
pub async fn sleep_ms(ms: u64) {
    sleep_us(ms.saturating_mul(1000)).await;
}

/// The same in microseconds.
pub async fn sleep_us(us: u64) {
    struct Alarm {
        at_us: u64,
        set: Option<(u64, u64)>,
    }
    impl Drop for Alarm {
        fn drop(&mut self) {
            if let (Some(set), Some(world)) = (self.set.take(), current()) {
                world.cancel(set);
            }
        }
    }
    let mut alarm = Alarm { at_us: now_us().saturating_add(us), set: None };
    poll_fn(|context| {
        let world = world();
        if let Some(set) = alarm.set.take() {
            world.cancel(set);
        }
        if world.now_us() >= alarm.at_us {
            return Poll::Ready(());
        }
        alarm.set = Some(world.schedule(alarm.at_us, Event::Wake(context.waker().clone())));
        Poll::Pending
    })
    .await;
}
