//! Deadlines and hang-ups of sockets, or of streams within them, that tasks wait on; a registry per core.
//!
//! No task ever races a socket operation against a timer, because dropping such an operation loses bytes. A task waits
//! on its socket alone; a ticker finds overdue or closed ones and ends the wait, by shutting the socket down,
//! cancelling an idle read, or waking the task. Setting a deadline is a store, cheap enough for cache hits.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Waker;

use super::{Cancel, Hangup, Panics, SocketId, hangups, has_input, now_ms, shutdown_both, sleep_ms, spawn_lasting};

/// How often guarded sockets are polled for hang-ups: a client that left is detected within two ticks.
const HANGUP_TICK_MS: u64 = 10;
/// The hang-up ticker ends after so many ticks without a guarded socket.
const HANGUP_TICKS_IDLE: u32 = 100;
/// How often deadlines are checked, and therefore how late they may be: timeouts here are seconds.
const DEADLINE_TICK_MS: u64 = 100;
/// Most sockets polled for hang-ups in one tick, which bounds the cost with ten thousand streams; the rest follow in
/// the next ticks. A client that leaves while its stream flows is detected by the next write anyway.
const HANGUPS_A_TICK: usize = 128;

/// Why a wait was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The deadline passed.
    Deadline,
    /// The peer has shut down its sending direction; it may still be reading. Reported once.
    HalfClosed,
    /// The connection is gone.
    Gone,
    /// Another task of this core called [`Alarm::interrupt`].
    Abandoned,
}

enum Then {
    Nothing,
    ShutDown,
    /// As `ShutDown`, but progress extends the deadline by `patience_ms`, up to `until_ms`.
    ShutDownStuck {
        patience_ms: u64,
        until_ms: u64,
    },
    CloseIdle,
    Cancel(Rc<RefCell<Cancel>>, Wait),
    Wake,
}

/// What a cancellable read waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The next request: [`close_idle`] cancels it too.
    ForRequest,
    /// The rest of a request that has begun.
    ForRest,
}

struct Slot {
    /// None if the watched stream shares its socket with others.
    socket: Option<SocketId>,
    serial: u64,
    deadline_ms: u64,
    then: Then,
    /// Index in `Registry::guarded`.
    guarded: Option<usize>,
    half_closed: bool,
    interrupt: Option<Interrupt>,
    /// Why it was shut down. Unlike the interrupt it is permanent, as the shutdown is.
    down: Option<Interrupt>,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Registry {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    serial: u64,
    live: usize,
    guarded: Vec<usize>,
    cursor: usize,
    deadlines_ticking: bool,
    hangups_ticking: bool,
    asked: Vec<SocketId>,
    asked_slots: Vec<usize>,
    found: Vec<(usize, Hangup)>,
}

thread_local! {
    static REGISTRY: RefCell<Registry> = RefCell::default();
}

/// The watch of one socket or stream; removed from the registry when dropped.
pub struct Watch {
    index: usize,
}

/// Refers to a watch from another task of the same core; does nothing once the watch is gone.
#[derive(Clone, Copy, Debug)]
pub struct Alarm {
    index: usize,
    serial: u64,
}

impl Watch {
    pub(super) fn new(socket: SocketId) -> Watch {
        Watch::enter(Some(socket))
    }

    /// A watch of something without its own socket, such as a stream of a shared connection: instead of shutting down a
    /// socket, it wakes the task that polls [`Watch::poll_down`]. Hang-ups are handled by the connection.
    pub fn detached() -> Watch {
        Watch::enter(None)
    }

    fn enter(socket: Option<SocketId>) -> Watch {
        REGISTRY.with_borrow_mut(|registry| {
            registry.serial += 1;
            registry.live += 1;
            let slot = Slot {
                socket,
                serial: registry.serial,
                deadline_ms: u64::MAX,
                then: Then::Nothing,
                guarded: None,
                half_closed: false,
                interrupt: None,
                down: None,
                waker: None,
            };
            let index = match registry.free.pop() {
                Some(index) => {
                    registry.slots[index] = Some(slot);
                    index
                }
                None => {
                    registry.slots.push(Some(slot));
                    registry.slots.len() - 1
                }
            };
            if !registry.deadlines_ticking {
                registry.deadlines_ticking = true;
                spawn_lasting(&Panics::default(), tick_deadlines);
            }
            Watch { index }
        })
    }

    fn with<R>(&self, act: impl FnOnce(&mut Slot) -> R) -> R {
        REGISTRY.with_borrow_mut(|registry| {
            // Only the watch's own drop frees its slot.
            act(registry.slots[self.index].as_mut().expect("a live watch has a slot"))
        })
    }

    /// Shuts the socket down at `at_ms`; pending and later operations then end.
    pub fn shut_down_at(&self, at_ms: u64) {
        self.with(|slot| slot.arm(at_ms, Then::ShutDown));
    }

    /// As `shut_down_at`, unless there is an interrupt: then takes it and sets no deadline. Returns whether there was
    /// none.
    pub fn go_on_until(&self, at_ms: u64) -> bool {
        self.with(|slot| {
            let goes_on = slot.interrupt.take().is_none();
            if goes_on {
                (slot.deadline_ms, slot.then) = (at_ms, Then::ShutDown);
            }
            goes_on
        })
    }

    /// Shuts the socket down after `patience_ms` without write progress, or after `total_ms` in any case.
    pub fn shut_down_stuck(&self, patience_ms: u64, total_ms: u64) {
        let now_ms = now_ms();
        let until_ms = now_ms.saturating_add(total_ms);
        let at_ms = now_ms.saturating_add(patience_ms).min(until_ms);
        self.with(|slot| slot.arm(at_ms, Then::ShutDownStuck { patience_ms, until_ms }));
    }

    /// How long a write may make no progress, if [`Watch::shut_down_stuck`] is in force.
    pub fn patience_ms(&self) -> u64 {
        self.with(|slot| match slot.then {
            Then::ShutDownStuck { patience_ms, .. } => patience_ms,
            _ => u64::MAX,
        })
    }

    /// Records write progress.
    pub fn moved(&self) {
        let now_ms = now_ms();
        self.with(|slot| {
            if let Then::ShutDownStuck { patience_ms, until_ms } = slot.then {
                slot.deadline_ms = now_ms.saturating_add(patience_ms).min(until_ms);
            }
        });
    }

    /// Cancels the pending read at `at_ms`.
    pub fn cancel_at(&self, at_ms: u64, cancel: &Rc<RefCell<Cancel>>, wait: Wait) {
        self.with(|slot| {
            slot.deadline_ms = at_ms;
            slot.interrupt = None;
            // Usually the same one: saves the reference counting.
            match &mut slot.then {
                Then::Cancel(old, old_wait) if Rc::ptr_eq(old, cancel) => *old_wait = wait,
                then => *then = Then::Cancel(cancel.clone(), wait),
            }
        });
    }

    /// Wakes the task that polls [`Watch::poll_interrupt`] at `at_ms`.
    pub fn wake_at(&self, at_ms: u64) {
        self.with(|slot| slot.arm(at_ms, Then::Wake));
    }

    /// As `shut_down_at`, for an idle connection: [`close_idle`] ends it too.
    pub fn idle_until(&self, at_ms: u64) {
        self.with(|slot| slot.arm(at_ms, Then::CloseIdle));
    }

    /// Removes the deadline.
    pub fn clear(&self) {
        self.with(|slot| slot.arm(u64::MAX, Then::Nothing));
    }

    /// From now on a hang-up of the peer interrupts the watch and wakes its task. No effect on a detached watch.
    pub fn guard(&self) {
        REGISTRY.with_borrow_mut(|registry| {
            let place = registry.guarded.len();
            let Some(slot) = registry.slots[self.index].as_mut() else { return };
            if slot.socket.is_none() {
                return;
            }
            if slot.guarded.is_none() {
                slot.guarded = Some(place);
                registry.guarded.push(self.index);
            }
            if !registry.hangups_ticking {
                registry.hangups_ticking = true;
                spawn_lasting(&Panics::default(), tick_hangups);
            }
        });
    }

    /// Ignores hang-ups from now on.
    pub fn unguard(&self) {
        // The waker stays: the same task will wait here again, and a spurious wake-up is harmless.
        REGISTRY.with_borrow_mut(|registry| registry.unguard(self.index));
    }

    /// Takes the interrupt, if there was one.
    pub fn take_interrupt(&self) -> Option<Interrupt> {
        self.with(|slot| slot.interrupt.take())
    }

    /// As `take_interrupt`; if there was none, `waker` is woken on the next one.
    pub fn poll_interrupt(&self, waker: &Waker) -> Option<Interrupt> {
        self.with(|slot| match slot.interrupt.take() {
            Some(interrupt) => Some(interrupt),
            None => {
                match &mut slot.waker {
                    Some(old) => old.clone_from(waker),
                    none => *none = Some(waker.clone()),
                }
                None
            }
        })
    }

    /// Why it was shut down; if it was not, `waker` is woken when it is. For detached watches. Does not take the
    /// interrupt, and the result never changes once it is set.
    pub fn poll_down(&self, waker: &Waker) -> Option<Interrupt> {
        self.with(|slot| {
            if slot.down.is_none() {
                match &mut slot.waker {
                    Some(old) => old.clone_from(waker),
                    none => *none = Some(waker.clone()),
                }
            }
            slot.down
        })
    }

    /// A handle by which other tasks of this core can interrupt this socket's waits.
    pub fn alarm(&self) -> Alarm {
        self.with(|slot| Alarm { index: self.index, serial: slot.serial })
    }
}

impl Alarm {
    /// Interrupts the watch for `why`, if it still exists and was not interrupted already: wakes its task, and ends nothing.
    pub fn tell(self, why: Interrupt) {
        let waker = REGISTRY.with_borrow_mut(|registry| match registry.slots.get_mut(self.index) {
            Some(Some(slot)) if slot.serial == self.serial => {
                slot.interrupt = slot.interrupt.or(Some(why));
                slot.waker.take()
            }
            _ => None,
        });
        waker.into_iter().for_each(Waker::wake);
    }

    /// Interrupts the watch, if it still exists: shuts the socket down and wakes its task.
    pub fn interrupt(self) {
        let waker = REGISTRY.with_borrow_mut(|registry| match registry.slots.get_mut(self.index) {
            Some(Some(slot)) if slot.serial == self.serial => {
                slot.interrupt = Some(Interrupt::Abandoned);
                slot.shut_down(Interrupt::Abandoned);
                slot.waker.take()
            }
            _ => None,
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The thread-local is gone if the process ends with open sockets: nothing to do then.
        let _ = REGISTRY.try_with(|registry| {
            let mut registry = registry.borrow_mut();
            registry.unguard(self.index);
            registry.slots[self.index] = None;
            registry.live -= 1;
            registry.free.push(self.index);
        });
    }
}

impl Slot {
    fn shut_down(&mut self, why: Interrupt) {
        self.down = self.down.or(Some(why));
        if let Some(socket) = self.socket {
            shutdown_both(socket);
        }
    }

    fn arm(&mut self, at_ms: u64, then: Then) {
        (self.deadline_ms, self.then) = (at_ms, then);
        // A deadline that passed unnoticed in an earlier wait does not apply to this one.
        if self.interrupt == Some(Interrupt::Deadline) {
            self.interrupt = None;
        }
    }
}

impl Registry {
    fn unguard(&mut self, index: usize) {
        let Some(place) = self.slots[index].as_mut().and_then(|slot| slot.guarded.take()) else { return };
        self.guarded.swap_remove(place);
        if let Some(&moved) = self.guarded.get(place)
            && let Some(slot) = self.slots[moved].as_mut()
        {
            slot.guarded = Some(place);
        }
    }

    fn interrupt_hangups(&mut self, wakers: &mut Vec<Waker>) {
        self.asked.clear();
        self.asked_slots.clear();
        let count = self.guarded.len().min(HANGUPS_A_TICK);
        for step in 0..count {
            let index = self.guarded[(self.cursor + step) % self.guarded.len()];
            if let Some(Slot { socket: Some(socket), .. }) = &self.slots[index] {
                self.asked.push(*socket);
                self.asked_slots.push(index);
            }
        }
        self.cursor = self.cursor.wrapping_add(count);
        hangups(&self.asked, &mut self.found);
        for (position, hangup) in self.found.drain(..) {
            let Some(Some(slot)) = self.slots.get_mut(self.asked_slots[position]) else { continue };
            slot.interrupt = match hangup {
                Hangup::Full => Some(Interrupt::Gone),
                Hangup::Half if slot.half_closed => continue,
                Hangup::Half => Some(Interrupt::HalfClosed),
            };
            slot.half_closed = true;
            wakers.extend(slot.waker.take());
        }
    }

    /// Handles deadlines up to `now_ms`; wakers and cancels are returned to be called outside the registry's borrow.
    fn interrupt_deadlines(&mut self, now_ms: u64, wakers: &mut Vec<Waker>, cancels: &mut Vec<Rc<RefCell<Cancel>>>) {
        for slot in self.slots.iter_mut().flatten().filter(|slot| slot.deadline_ms <= now_ms) {
            slot.deadline_ms = u64::MAX;
            if slot.interrupt.is_none() {
                slot.interrupt = Some(Interrupt::Deadline); // a hang-up is reported only once, so a deadline must not overwrite it
            }
            match std::mem::replace(&mut slot.then, Then::Nothing) {
                Then::Nothing | Then::Wake => {}
                Then::ShutDown | Then::ShutDownStuck { .. } | Then::CloseIdle => slot.shut_down(Interrupt::Deadline),
                Then::Cancel(cancel, _) => cancels.push(cancel),
            }
            wakers.extend(slot.waker.take());
        }
    }
}

/// Runs while there are sockets.
async fn tick_deadlines() {
    let (mut wakers, mut cancels) = (Vec::new(), Vec::new());
    loop {
        sleep_ms(DEADLINE_TICK_MS).await;
        let go_on = REGISTRY.with_borrow_mut(|registry| {
            registry.interrupt_deadlines(now_ms(), &mut wakers, &mut cancels);
            registry.deadlines_ticking = registry.live > 0;
            registry.deadlines_ticking
        });
        wakers.drain(..).for_each(Waker::wake);
        cancels.drain(..).for_each(|cancel| cancel.borrow_mut().cancel());
        if !go_on {
            return;
        }
    }
}

/// Runs while any socket is guarded, and a little longer.
async fn tick_hangups() {
    let mut wakers = Vec::new();
    let mut idle = 0;
    loop {
        sleep_ms(HANGUP_TICK_MS).await;
        let go_on = REGISTRY.with_borrow_mut(|registry| {
            idle = if registry.guarded.is_empty() { idle + 1 } else { 0 };
            if !registry.guarded.is_empty() {
                registry.interrupt_hangups(&mut wakers);
            }
            registry.hangups_ticking = idle < HANGUP_TICKS_IDLE;
            registry.hangups_ticking
        });
        wakers.drain(..).for_each(Waker::wake);
        if !go_on {
            return;
        }
    }
}

/// Which idle connections [`close_idle`] ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    All,
    /// Those whose clients are told before (GOAWAY), and send no request into a connection that closes.
    Told,
}

/// Ends the wait of idle connections: shuts down those marked idle, and cancels reads that wait for a next request.
pub fn close_idle(which: Idle) {
    let (mut wakers, mut cancels) = (Vec::new(), Vec::new());
    REGISTRY.with_borrow_mut(|registry| {
        for slot in registry.slots.iter_mut().flatten() {
            match &slot.then {
                Then::CloseIdle | Then::Cancel(..) if which == Idle::Told && slot.socket.is_some() => {}
                // A request that has already arrived is still answered.
                Then::CloseIdle if slot.socket.is_some_and(has_input) => {}
                Then::CloseIdle => {
                    slot.shut_down(Interrupt::Abandoned);
                    wakers.extend(slot.waker.take_if(|_| slot.socket.is_none()));
                }
                Then::Cancel(cancel, Wait::ForRequest) => cancels.push(cancel.clone()),
                Then::Cancel(_, Wait::ForRest)
                | Then::Nothing
                | Then::ShutDown
                | Then::ShutDownStuck { .. }
                | Then::Wake => {}
            }
        }
    });
    wakers.drain(..).for_each(Waker::wake);
    cancels.iter().for_each(|cancel| cancel.borrow_mut().cancel());
}

/// Expires the deadline of every watch with a wake-up deadline.
pub fn wake_all() {
    REGISTRY.with_borrow_mut(|registry| {
        for slot in registry.slots.iter_mut().flatten().filter(|slot| matches!(slot.then, Then::Wake)) {
            slot.deadline_ms = 0;
        }
    });
}

/// Shuts down every socket and stream of this core.
pub fn close_all() {
    let mut wakers: Vec<Waker> = Vec::new();
    REGISTRY.with_borrow_mut(|registry| {
        for slot in registry.slots.iter_mut().flatten() {
            slot.interrupt = Some(Interrupt::Abandoned); // so that the end that follows is not attributed to the peer
            slot.shut_down(Interrupt::Abandoned);
            wakers.extend(slot.waker.take_if(|_| slot.socket.is_none()));
        }
    });
    wakers.drain(..).for_each(Waker::wake);
}

/// The registry of a core that is not running: a simulation has many cores on one thread.
#[cfg(sim)]
#[derive(Default)]
pub struct Shelf(Registry);

/// Swaps this thread's registry with the stored one.
#[cfg(sim)]
pub fn swap(shelf: &mut Shelf) {
    REGISTRY.with_borrow_mut(|registry| std::mem::swap(registry, &mut shelf.0));
}
