//! Housekeeping of one core.

use super::generation::Current;
use super::spend;
use crate::net::{arena, spawn};
use crate::upstream::queue;

/// About once a second: closes connections idle for too long, sends on what waited, flushes the log, sets the gauges.
pub fn tick(current: &Current) {
    let (core, generation) = (current.core(), current.get());
    generation.upstreams.reap();
    current.close_retired();
    queue::release_all(&generation.upstreams);
    core.sweep();
    spawn(&core.panics, spend::keep_swept(core.clone()));
    if let Some(second) = core.cache.second.get() {
        second.tick();
    }
    core.outbox.flush();
    core.flush_log();
    core.flush_spans();
    core.counters.log_lines_dropped.set(core.log.borrow().dropped_ever());
    core.counters.log_bytes_dropped.set(core.log.borrow().dropped_bytes());
    core.memory.buffers.settle();
    arena::settle();
    core.memory.publish(&core.counters.memory);
    core.counters.memory.log.set(core.log.borrow().waiting_bytes());
    core.cache.publish(&core.counters);
    generation.upstreams.publish();
}
