//! `/debug/heap`: where the memory of the process is, as the kernel, the allocator and the cores count it. Reads counters and a
//! few files of /proc, and asks no core. With a query: samples of what is allocated.

mod allocations; // which functions allocate

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::Admin;
use super::routes::{Answer, JSON, pretty, reply};
use crate::limits::LOG_BYTES;
use crate::net::allocator_statistics;
use crate::observe::counters::{Counter, Counters};
use crate::observe::process::{MemoryUse, Process, threads};

impl Admin {
    pub(super) async fn heap(&self, query: &str) -> Response<Answer> {
        match query {
            "" => reply(StatusCode::OK, JSON, pretty(&self.heap_told())),
            query => self.allocations(query).await,
        }
    }

    fn heap_told(&self) -> Value {
        let used = MemoryUse::read();
        let threads = threads();
        let faults = |one: fn(&crate::observe::process::ThreadFaults) -> u64| -> u64 { threads.iter().map(one).sum() };
        let cores = &self.parts.counters;
        let sum = |gauge: fn(&Counters) -> &Counter| -> u64 { cores.iter().map(|core| gauge(core).get()).sum() };
        let in_force = self.in_force.borrow();
        let accounted = cores.iter().map(|core| accounted(core)).sum::<u64>();
        json!({
            "process": {
                "resident_bytes": used.resident,
                "resident_peak_bytes": used.resident_peak,
                "anonymous_bytes": used.anonymous,
                "file_bytes": used.files,
                "shared_bytes": used.shared,
                "swapped_bytes": used.swapped,
                "page_table_bytes": used.page_tables,
                "virtual_bytes": Process::read().virtual_bytes,
                "page_faults": faults(|one| one.minor),
                "page_faults_major": faults(|one| one.major),
            },
            "allocator": allocator_statistics().and_then(|text| allocator(&text)),
            "threads": threads.iter().map(|one| json!({
                "thread": one.thread,
                "name": one.name,
                "page_faults": one.minor,
                "page_faults_major": one.major,
            })).collect::<Vec<_>>(),
            "ringway": {
                "accounted_bytes": accounted,
                "cache_bytes": sum(|core| &core.cache_bytes),
                "cache_budget_bytes": in_force.snapshot.cache.memory_bytes,
                "request_bytes": sum(|core| &core.memory.requests),
                "request_budget_bytes": in_force.snapshot.server.request_memory_bytes,
                "event_bytes": sum(|core| &core.memory.events),
                "buffer_bytes": sum(|core| &core.memory.buffers),
                "log_bytes": sum(|core| &core.memory.log),
                "log_budget_bytes": LOG_BYTES,
            },
            "cores": cores.iter().enumerate().map(|(core, counters)| json!({
                "core": core,
                "thread": counters.thread.get(),
                "accounted_bytes": self::accounted(counters),
                "cache_bytes": counters.cache_bytes.get(),
                "cache_entries": counters.cache_entries.get(),
                "request_bytes": counters.memory.requests.get(),
                "event_bytes": counters.memory.events.get(),
                "buffer_bytes": counters.memory.buffers.get(),
                "log_bytes": counters.memory.log.get(),
                "log_dropped_lines": counters.log_lines_dropped.get(),
                "connections": counters.connections.get(),
                "requests_in_flight": counters.exchanges.get(),
                "flights": counters.flights.get(),
            })).collect::<Vec<_>>(),
        })
    }
}

/// What a core says it has.
fn accounted(core: &Counters) -> u64 {
    let memory = &core.memory;
    let gauges = [&core.cache_bytes, &memory.requests, &memory.events, &memory.buffers, &memory.log];
    gauges.iter().map(|gauge| gauge.get()).sum()
}

/// What of the allocator's statistics is true in a release build, at any time, for the whole process: blocks in use are not
/// counted there, and counts by thread lag behind and go with pages that move from thread to thread.
fn allocator(text: &[u8]) -> Option<Value> {
    let told: Value = serde_json::from_slice(text).ok()?;
    let version = told["mimalloc_version"].as_u64().unwrap_or(0);
    let amount = |value: &Value| value.as_i64().unwrap_or(0).max(0);
    Some(json!({
        "name": "mimalloc",
        "version": version,
        "reserved_bytes": amount(&told["reserved"]["current"]),
        "reserved_peak_bytes": amount(&told["reserved"]["peak"]),
        "committed_bytes": amount(&told["committed"]["current"]),
        "committed_peak_bytes": amount(&told["committed"]["peak"]),
        "returned_bytes_total": amount(&told["purged"]),
        "arenas": amount(&told["arena_count"]),
        "system_calls": {
            "map": amount(&told["mmap_calls"]),
            "commit": amount(&told["commit_calls"]),
            "return": amount(&told["purge_calls"]),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allocators_own_words_are_understood() {
        let text = allocator_statistics().unwrap();
        let raw: Value = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        for name in ["reserved", "committed"] {
            assert!(raw[name]["current"].is_number() && raw[name]["peak"].is_number(), "{name}: {raw}");
        }
        for name in ["purged", "arena_count", "mmap_calls", "commit_calls", "purge_calls", "mimalloc_version"] {
            assert!(raw[name].is_number(), "{name}: {raw}");
        }
        assert_eq!(allocator(&text).unwrap()["name"], "mimalloc");
        assert_eq!(allocator(b"{\"reserved\":"), None, "what is cut off is not half true");
    }
}
