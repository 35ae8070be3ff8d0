//! Deadlines and hang-ups of what tasks are waiting on, sockets or streams within them; a registry a core.
//!
//! No task ever races a socket operation against a timer: dropping such an operation loses bytes. A task waits on its
//! socket alone; a ticker finds what is overdue or gone and makes the wait end, by shutting the socket down, by taking
//! an idle read back, or by waking the task. Setting a deadline is a store, so the path of a cache hit can afford it.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Waker;

use super::{Cancel, Hangup, Panics, SocketId, hangups, has_input, now_ms, shutdown_both, sleep_ms, spawn_lasting};

/// How often guarded sockets are asked for hang-ups: a client that left is noticed within two of these.
const HANGUP_TICK_MS: u64 = 10;
/// The hang-up ticker ends after so many rounds without a guarded socket.
const HANGUP_TICKS_IDLE: u32 = 100;
/// How often deadlines are looked at, which is how late they may be: time-outs here are seconds.
const DEADLINE_TICK_MS: u64 = 100;
/// Most sockets asked for hang-ups in one tick, so that ten thousand streams cost no more than these; the rest come in
/// the next ones. A client that left while its stream flows is noticed by the next write anyway.
const HANGUPS_A_TICK: usize = 128;

/// Why a wait was made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The deadline passed.
    Deadline,
    /// The peer has ended its sending direction; it may still be reading. Said once.
    HalfClosed,
    /// The connection is gone.
    Gone,
    /// Somebody on this core asked for it with [`Alarm::interrupt`].
    Abandoned,
}

enum Then {
    Nothing,
    ShutDown,
    /// And each bit of progress puts it off by `patience_ms`, but not beyond `until_ms`.
    ShutDownStuck {
        patience_ms: u64,
        until_ms: u64,
    },
    CloseIdle,
    Cancel(Rc<RefCell<Cancel>>, Wait),
    Wake,
}

/// What a read that can be taken back waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The next request: [`close_idle`] takes it back too.
    ForRequest,
    /// The rest of one that has begun.
    ForRest,
}

struct Slot {
    /// Absent where the watched thing shares its socket with others.
    socket: Option<SocketId>,
    serial: u64,
    deadline_ms: u64,
    then: Then,
    /// Place in `Registry::guarded`.
    guarded: Option<usize>,
    half_closed: bool,
    interrupt: Option<Interrupt>,
    /// Why it was shut down. Unlike the interrupt it stays: a socket that was shut down does too.
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

/// The watch of one socket or stream; leaves the registry when dropped.
pub struct Watch {
    index: usize,
}

/// Reaches a watch from another task of the same core, as long as it lives.
#[derive(Clone, Copy, Debug)]
pub struct Alarm {
    index: usize,
    serial: u64,
}

impl Watch {
    pub(super) fn new(socket: SocketId) -> Watch {
        Watch::enter(Some(socket))
    }

    /// A watch of something without a socket of its own, as a stream of a shared connection is: where a socket would be
    /// shut down, the task that polls with [`Watch::poll_down`] is woken. Hang-ups are the connection's matter.
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
            // A watch's slot is freed by its own drop alone.
            act(registry.slots[self.index].as_mut().expect("a live watch has a slot"))
        })
    }

    /// Shuts the socket down when `at_ms` passes: pending and later operations then end.
    pub fn shut_down_at(&self, at_ms: u64) {
        self.with(|slot| slot.arm(at_ms, Then::ShutDown));
    }

    /// As `shut_down_at`, unless something has tripped: that is taken, and nothing is armed. Whether nothing has.
    pub fn go_on_until(&self, at_ms: u64) -> bool {
        self.with(|slot| {
            let goes_on = slot.interrupt.take().is_none();
            if goes_on {
                (slot.deadline_ms, slot.then) = (at_ms, Then::ShutDown);
            }
            goes_on
        })
    }

    /// Shuts the socket down when `patience_ms` pass in which a write makes no progress, or `total_ms` whatever progress
    /// it makes.
    pub fn shut_down_stuck(&self, patience_ms: u64, total_ms: u64) {
        let now_ms = now_ms();
        let until_ms = now_ms.saturating_add(total_ms);
        let at_ms = now_ms.saturating_add(patience_ms).min(until_ms);
        self.with(|slot| slot.arm(at_ms, Then::ShutDownStuck { patience_ms, until_ms }));
    }

    /// How long a write may make no progress, if [`Watch::shut_down_stuck`] is what was asked for.
    pub fn patience_ms(&self) -> u64 {
        self.with(|slot| match slot.then {
            Then::ShutDownStuck { patience_ms, .. } => patience_ms,
            _ => u64::MAX,
        })
    }

    /// A write has made progress.
    pub fn moved(&self) {
        let now_ms = now_ms();
        self.with(|slot| {
            if let Then::ShutDownStuck { patience_ms, until_ms } = slot.then {
                slot.deadline_ms = now_ms.saturating_add(patience_ms).min(until_ms);
            }
        });
    }

    /// Takes the pending read back when `at_ms` passes.
    pub fn cancel_at(&self, at_ms: u64, cancel: &Rc<RefCell<Cancel>>, wait: Wait) {
        self.with(|slot| {
            slot.deadline_ms = at_ms;
            slot.interrupt = None;
            // Most of the time it is the same one: no need to count references up and down.
            match &mut slot.then {
                Then::Cancel(old, old_wait) if Rc::ptr_eq(old, cancel) => *old_wait = wait,
                then => *then = Then::Cancel(cancel.clone(), wait),
            }
        });
    }

    /// Wakes the task that polls with [`Watch::poll_interrupt`] when `at_ms` passes.
    pub fn wake_at(&self, at_ms: u64) {
        self.with(|slot| slot.arm(at_ms, Then::Wake));
    }

    /// As `shut_down_at`, for a connection with nothing to do: [`close_idle`] ends it too.
    pub fn idle_until(&self, at_ms: u64) {
        self.with(|slot| slot.arm(at_ms, Then::CloseIdle));
    }

    /// No deadline any more.
    pub fn clear(&self) {
        self.with(|slot| slot.arm(u64::MAX, Then::Nothing));
    }

    /// From now on hang-ups of the peer interrupt the watch and wake its task. Nothing on a detached watch.
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

    /// Hang-ups no longer matter.
    pub fn unguard(&self) {
        // The waker stays: the same task will wait here again, and to be woken once in vain does no harm.
        REGISTRY.with_borrow_mut(|registry| registry.unguard(self.index));
    }

    /// What tripped, once.
    pub fn take_interrupt(&self) -> Option<Interrupt> {
        self.with(|slot| slot.interrupt.take())
    }

    /// As `take_interrupt`; if nothing did, `waker` is woken when something does.
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

    /// Why it was shut down; if it was not, `waker` is woken when it is. For detached watches: the interrupt stays to be taken,
    /// and the answer stays the same for ever.
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

    /// A handle by which others on this core can end this socket's waits.
    pub fn alarm(&self) -> Alarm {
        self.with(|slot| Alarm { index: self.index, serial: slot.serial })
    }
}

impl Alarm {
    /// Trips the watch, if it still lives: the socket is shut down and its task woken.
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
        // The thread's storage is gone when the process ends with sockets open: nothing to do then.
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
        // What an earlier wait left unread is not this one's.
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

    /// Handles deadlines up to `now_ms`; what has to be woken or taken back is for outside of the registry's borrow.
    fn interrupt_deadlines(&mut self, now_ms: u64, wakers: &mut Vec<Waker>, cancels: &mut Vec<Rc<RefCell<Cancel>>>) {
        for slot in self.slots.iter_mut().flatten().filter(|slot| slot.deadline_ms <= now_ms) {
            slot.deadline_ms = u64::MAX;
            if slot.interrupt.is_none() {
                slot.interrupt = Some(Interrupt::Deadline); // a hang-up is said once, and not over a deadline
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

/// Runs while any socket lives.
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

/// Ends the wait of every connection that has nothing to do: those that are idle are shut down, and reads that wait for
/// a next request are taken back.
pub fn close_idle() {
    let (mut wakers, mut cancels) = (Vec::new(), Vec::new());
    REGISTRY.with_borrow_mut(|registry| {
        for slot in registry.slots.iter_mut().flatten() {
            match &slot.then {
                // A request that has come already is still answered.
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

/// Lets the time come of everybody who is to be woken at one.
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
            slot.interrupt = Some(Interrupt::Abandoned); // so that the end that follows is not taken for the peer's
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

/// Puts this thread's registry on the shelf and takes up the one that was there.
#[cfg(sim)]
pub fn swap(shelf: &mut Shelf) {
    REGISTRY.with_borrow_mut(|registry| std::mem::swap(registry, &mut shelf.0));
}
