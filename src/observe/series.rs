//! Requests and tokens by endpoint, model, tenant and status. The product of these is far too large for a table, so a
//! series is allocated when it first counts. One writer, the core; the background core reads in place. Never holds more
//! than [`SERIES`] series, whatever clients send, and never loses a request from the sum.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;

use super::counters::Counter;
use crate::limits::{SERIES, SERIES_NAMES};

/// Series that are allocated together.
const SEGMENT: usize = 256;
/// Reserved for series without their own tenant, when all others are in use.
const RESERVE: usize = SERIES / 16;

/// In a key: a model, or a tenant, that is not counted by itself.
pub const OTHER: u32 = u32::MAX;

/// The models and tenants that requests were counted for since the start. Numbers are never used for another name, so that
/// a series survives every change of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub models: NameList,
    pub tenants: NameList,
}

#[derive(Clone, Debug, Default)]
pub struct NameList {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl NameList {
    /// The number of a name, new or known; [`OTHER`] once there are too many.
    pub fn number(&mut self, name: &str) -> (u32, Arc<str>) {
        if let Some((name, number)) = self.numbers.get_key_value(name) {
            return (*number, name.clone());
        }
        let name: Arc<str> = name.into();
        if self.names.len() >= SERIES_NAMES {
            return (OTHER, name);
        }
        let number = self.names.len() as u32;
        self.names.push(name.clone());
        self.numbers.insert(name.clone(), number);
        (number, name)
    }

    /// By number.
    pub fn all(&self) -> &[Arc<str>] {
        &self.names
    }
}

/// The key of a series: numbers of [`Names`], or [`OTHER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub endpoint: u8,
    pub model: u32,
    pub tenant: u32,
    /// 0: no answer was started.
    pub status: u16,
}

/// The amounts of one request, or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub requests: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// Tokens of answers that needed no upstream call.
    pub saved_prompt_tokens: u64,
    pub saved_completion_tokens: u64,
    /// Money, in billionths of its unit: for upstream calls, and for answers that needed none.
    pub cost: u64,
    pub saved_cost: u64,
}

impl Amounts {
    pub fn add(&mut self, more: Amounts) {
        self.requests += more.requests;
        self.prompt_tokens += more.prompt_tokens;
        self.completion_tokens += more.completion_tokens;
        self.saved_prompt_tokens += more.saved_prompt_tokens;
        self.saved_completion_tokens += more.saved_completion_tokens;
        self.cost += more.cost;
        self.saved_cost += more.saved_cost;
    }
}

struct Slot {
    key: OnceLock<Key>,
    requests: Counter,
    prompt_tokens: Counter,
    completion_tokens: Counter,
    saved_prompt_tokens: Counter,
    saved_completion_tokens: Counter,
    cost: Counter,
    saved_cost: Counter,
}

/// The series of one core.
pub struct SeriesTable {
    segments: Box<[OnceLock<Box<[Slot]>>]>,
    used: AtomicUsize,
}

impl Default for SeriesTable {
    fn default() -> Self {
        SeriesTable { segments: (0..SERIES / SEGMENT).map(|_| OnceLock::new()).collect(), used: AtomicUsize::new(0) }
    }
}

impl fmt::Debug for SeriesTable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} series", self.len())
    }
}

impl SeriesTable {
    pub fn len(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every series that has counted anything.
    pub fn read(&self, mut each: impl FnMut(Key, Amounts)) {
        for at in 0..self.len() {
            let Some(slot) = self.slot(at) else { continue };
            let Some(&key) = slot.key.get() else { continue };
            each(
                key,
                Amounts {
                    requests: slot.requests.get(),
                    prompt_tokens: slot.prompt_tokens.get(),
                    completion_tokens: slot.completion_tokens.get(),
                    saved_prompt_tokens: slot.saved_prompt_tokens.get(),
                    saved_completion_tokens: slot.saved_completion_tokens.get(),
                    cost: slot.cost.get(),
                    saved_cost: slot.saved_cost.get(),
                },
            );
        }
    }

    fn slot(&self, at: usize) -> Option<&Slot> {
        self.segments.get(at / SEGMENT)?.get()?.get(at % SEGMENT)
    }

    fn push(&self, key: Key) -> Option<u32> {
        let at = self.used.load(Ordering::Relaxed);
        let segment = self.segments.get(at / SEGMENT)?.get_or_init(|| {
            let slot = || Slot {
                key: OnceLock::new(),
                requests: Counter::default(),
                prompt_tokens: Counter::default(),
                completion_tokens: Counter::default(),
                saved_prompt_tokens: Counter::default(),
                saved_completion_tokens: Counter::default(),
                cost: Counter::default(),
                saved_cost: Counter::default(),
            };
            (0..SEGMENT).map(|_| slot()).collect()
        });
        let _ = segment[at % SEGMENT].key.set(key);
        self.used.store(at + 1, Ordering::Release);
        Some(at as u32)
    }
}

/// The index of each series in the table; used only by the writer.
#[derive(Default)]
pub struct SeriesIndex {
    places: HashMap<Key, u32>,
}

impl SeriesIndex {
    pub fn add(&mut self, table: &SeriesTable, key: Key, amounts: Amounts) {
        let Some(slot) = self.place(table, key).and_then(|at| table.slot(at as usize)) else { return };
        slot.requests.add(amounts.requests);
        slot.prompt_tokens.add(amounts.prompt_tokens);
        slot.completion_tokens.add(amounts.completion_tokens);
        slot.saved_prompt_tokens.add(amounts.saved_prompt_tokens);
        slot.saved_completion_tokens.add(amounts.saved_completion_tokens);
        slot.cost.add(amounts.cost);
        slot.saved_cost.add(amounts.saved_cost);
    }

    /// The index of the series of `key`, or of a less specific key if the table is full.
    fn place(&mut self, table: &SeriesTable, key: Key) -> Option<u32> {
        if let Some(&at) = self.places.get(&key) {
            return Some(at);
        }
        let used = table.len();
        if used < SERIES - RESERVE || key.tenant == OTHER && used < SERIES - 1 {
            return self.push(table, key);
        }
        let without_tenant = Key { tenant: OTHER, ..key };
        if let Some(&at) = self.places.get(&without_tenant) {
            return Some(at);
        }
        if used < SERIES - 1 {
            return self.push(table, without_tenant);
        }
        let nothing = Key { endpoint: u8::MAX, model: OTHER, tenant: OTHER, status: 0 };
        match self.places.get(&nothing) {
            Some(&at) => Some(at),
            None => self.push(table, nothing),
        }
    }

    fn push(&mut self, table: &SeriesTable, key: Key) -> Option<u32> {
        let at = table.push(key)?;
        self.places.insert(key, at);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Amounts = Amounts {
        requests: 1,
        prompt_tokens: 2,
        completion_tokens: 3,
        saved_prompt_tokens: 0,
        saved_completion_tokens: 0,
        cost: 0,
        saved_cost: 0,
    };

    fn key(model: u32, tenant: u32) -> Key {
        Key { endpoint: 0, model, tenant, status: 200 }
    }

    #[test]
    fn what_was_added_is_read_by_its_key() {
        let (table, mut index) = (SeriesTable::default(), SeriesIndex::default());
        for _ in 0..3 {
            index.add(&table, key(1, 2), ONE);
        }
        index.add(&table, key(1, 3), ONE);
        let mut read = Vec::new();
        table.read(|key, amounts| read.push((key, amounts.requests, amounts.completion_tokens)));
        assert_eq!(read, [(key(1, 2), 3, 9), (key(1, 3), 1, 3)]);
    }

    #[test]
    fn a_full_table_tells_tenants_apart_no_more_and_loses_no_request() {
        let (table, mut index) = (SeriesTable::default(), SeriesIndex::default());
        let many = 3 * SERIES as u32;
        for round in 0..2 {
            for place in 0..many {
                // More tenants than series, and then more keys without a tenant than are reserved.
                let tenant = if place % 2 == 0 { place } else { OTHER };
                let status = (place % 500) as u16;
                index.add(&table, Key { endpoint: (place % 251) as u8, model: place % 100, tenant, status }, ONE);
            }
            assert!(table.len() <= SERIES, "round {round}: {}", table.len());
        }
        let mut total = 0;
        table.read(|_, amounts| total += amounts.requests);
        assert_eq!(total, 2 * u64::from(many));
    }
}
