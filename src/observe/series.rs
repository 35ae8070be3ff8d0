//! Requests and tokens by endpoint, model, tenant and status, and by tenant, key and model. The product of these is far too
//! large for a table, so a series is allocated when it first counts. One writer, the core; the background core reads in place.
//! Never holds more than [`SeriesKey::MOST`] series, whatever clients send, and never loses a request from the sum.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use super::counters::Counter;
use crate::limits::{PROMPT_SERIES, SERIES, SERIES_NAMES, USAGE_SERIES};

/// Series that are allocated together.
const SEGMENT: usize = 256;
/// Reserved for less specific keys, when all other series are in use: this part of them.
const RESERVED: usize = 16;

/// In a key: a model, or a tenant, that is not counted by itself.
pub const OTHER: u32 = u32::MAX;

/// The models and tenants that requests were counted for since the start. Numbers are never used for another name, so that
/// a series survives every change of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub models: NameList,
    pub tenants: NameList,
    /// Names and versions of prompt templates, as [`template_name`] puts them together.
    pub templates: NameList,
}

/// The name of a version of a prompt template in a [`NameList`]: no part of it has a line break.
pub fn template_name(name: &str, version: &str) -> String {
    format!("{name}\n{version}")
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

/// The key of a tenant's usage: numbers of [`Names`], or [`OTHER`], and the beginning of the key's hash, or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsageKey {
    pub tenant: u32,
    pub credential: u64,
    pub model: u32,
}

/// The number of a version of a prompt template in [`Names`], or [`OTHER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateKey(pub u32);

/// By what a table counts.
pub trait SeriesKey: Copy + Eq + Hash {
    /// Most series of a core.
    const MOST: usize;
    /// Of what has no series of its own.
    const NOTHING: Self;

    /// The same, less specific; itself if there is nothing to leave out.
    fn general(self) -> Self;
}

impl SeriesKey for Key {
    const MOST: usize = SERIES;
    const NOTHING: Key = Key { endpoint: u8::MAX, model: OTHER, tenant: OTHER, status: 0 };

    fn general(self) -> Key {
        Key { tenant: OTHER, ..self }
    }
}

impl SeriesKey for TemplateKey {
    const MOST: usize = PROMPT_SERIES;
    const NOTHING: TemplateKey = TemplateKey(OTHER);

    fn general(self) -> TemplateKey {
        TemplateKey::NOTHING
    }
}

impl SeriesKey for UsageKey {
    const MOST: usize = USAGE_SERIES;
    const NOTHING: UsageKey = UsageKey { tenant: OTHER, credential: 0, model: OTHER };

    fn general(self) -> UsageKey {
        UsageKey { credential: 0, ..self }
    }
}

/// The amounts of one request, or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub requests: u64,
    /// Those of them that needed no upstream call.
    pub saved_requests: u64,
    pub prompt_tokens: u64,
    /// Of these, what the backend had in its own cache.
    pub cached_tokens: u64,
    pub completion_tokens: u64,
    /// Of these, what was thought and not said.
    pub reasoning_tokens: u64,
    /// Tokens of answers that needed no upstream call.
    pub saved_prompt_tokens: u64,
    pub saved_completion_tokens: u64,
    /// Money, in billionths of its unit: for upstream calls, and for answers that needed none.
    pub cost: u64,
    pub saved_cost: u64,
    /// Of prompt and completion tokens, and of the money, the part that is estimated: of answers that broke off, or that said
    /// nothing of their usage.
    pub estimated_tokens: u64,
    pub estimated_cost: u64,
}

/// How many amounts there are.
pub const AMOUNTS: usize = 12;

impl Amounts {
    pub fn to_array(self) -> [u64; AMOUNTS] {
        let Amounts { requests, saved_requests, prompt_tokens, cached_tokens, completion_tokens, .. } = self;
        let Amounts { reasoning_tokens, saved_prompt_tokens, saved_completion_tokens, cost, saved_cost, .. } = self;
        let Amounts { estimated_tokens, estimated_cost, .. } = self;
        let [first, second] = [
            [requests, saved_requests, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens],
            [saved_prompt_tokens, saved_completion_tokens, cost, saved_cost, estimated_tokens, estimated_cost],
        ];
        std::array::from_fn(|at| if at < 6 { first[at] } else { second[at - 6] })
    }

    pub fn of_array(of: [u64; AMOUNTS]) -> Amounts {
        let [requests, saved_requests, prompt_tokens, cached_tokens, completion_tokens, rest @ ..] = of;
        let [reasoning_tokens, saved_prompt_tokens, saved_completion_tokens, cost, saved_cost, rest @ ..] = rest;
        let [estimated_tokens, estimated_cost] = rest;
        Amounts {
            requests,
            saved_requests,
            prompt_tokens,
            cached_tokens,
            completion_tokens,
            reasoning_tokens,
            saved_prompt_tokens,
            saved_completion_tokens,
            cost,
            saved_cost,
            estimated_tokens,
            estimated_cost,
        }
    }

    pub fn add(&mut self, more: Amounts) {
        let (own, more) = (self.to_array(), more.to_array());
        *self = Amounts::of_array(std::array::from_fn(|at| own[at].saturating_add(more[at])));
    }

    /// What has come since `before`.
    pub fn since(self, before: Amounts) -> Amounts {
        let (now, before) = (self.to_array(), before.to_array());
        Amounts::of_array(std::array::from_fn(|at| now[at].saturating_sub(before[at])))
    }
}

/// Two cache lines that come together: of many thousand series, the one that counts is in no cache.
#[repr(C, align(128))]
struct Slot<K> {
    key: OnceLock<K>,
    amounts: [Counter; AMOUNTS],
}

const _: () = assert!(size_of::<Slot<UsageKey>>() == 128 && size_of::<Slot<Key>>() == 128);

/// Series that are allocated together, once the first of them counts.
type Segment<K> = OnceLock<Box<[Slot<K>]>>;

/// The series of one core.
pub struct SeriesTable<K = Key> {
    segments: Box<[Segment<K>]>,
    used: AtomicUsize,
}

impl<K: SeriesKey> Default for SeriesTable<K> {
    fn default() -> Self {
        SeriesTable { segments: (0..K::MOST / SEGMENT).map(|_| OnceLock::new()).collect(), used: AtomicUsize::new(0) }
    }
}

impl<K: SeriesKey> fmt::Debug for SeriesTable<K> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} series", self.len())
    }
}

impl<K: SeriesKey> SeriesTable<K> {
    pub fn len(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every series that has counted anything, in the order in which they began.
    pub fn read(&self, mut each: impl FnMut(K, Amounts)) {
        for at in 0..self.len() {
            let Some(slot) = self.slot(at) else { continue };
            let Some(&key) = slot.key.get() else { continue };
            each(key, Amounts::of_array(std::array::from_fn(|place| slot.amounts[place].get())));
        }
    }

    fn slot(&self, at: usize) -> Option<&Slot<K>> {
        self.segments.get(at / SEGMENT)?.get()?.get(at % SEGMENT)
    }

    fn key(&self, at: u32) -> Option<&K> {
        self.slot(at as usize)?.key.get()
    }

    fn push(&self, key: K) -> Option<u32> {
        let at = self.used.load(Ordering::Relaxed);
        let segment = self.segments.get(at / SEGMENT)?.get_or_init(|| {
            let slot = || Slot { key: OnceLock::new(), amounts: Default::default() };
            (0..SEGMENT).map(|_| slot()).collect()
        });
        let _ = segment[at % SEGMENT].key.set(key);
        self.used.store(at + 1, Ordering::Release);
        Some(at as u32)
    }
}

/// The index of each series in the table, which has their keys; used only by the writer.
pub struct SeriesIndex<K = Key> {
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
    of: PhantomData<K>,
}

impl<K> Default for SeriesIndex<K> {
    fn default() -> Self {
        SeriesIndex { places: HashTable::new(), hasher: DefaultHashBuilder::default(), of: PhantomData }
    }
}

impl<K: SeriesKey> SeriesIndex<K> {
    pub fn add(&mut self, table: &SeriesTable<K>, key: K, amounts: Amounts) {
        let Some(slot) = self.place(table, key).and_then(|at| table.slot(at as usize)) else { return };
        for (counter, more) in slot.amounts.iter().zip(amounts.to_array()) {
            if more > 0 {
                counter.add(more);
            }
        }
    }

    /// The index of the series of `key`, or of a less specific key if the table is full.
    fn place(&mut self, table: &SeriesTable<K>, key: K) -> Option<u32> {
        if let Some(at) = self.find(table, &key) {
            return Some(at);
        }
        let (used, general) = (table.len(), key.general());
        if used < K::MOST - K::MOST / RESERVED || key == general && used < K::MOST - 1 {
            return self.push(table, key);
        }
        if let Some(at) = self.find(table, &general) {
            return Some(at);
        }
        if used < K::MOST - 1 {
            return self.push(table, general);
        }
        self.find(table, &K::NOTHING).or_else(|| self.push(table, K::NOTHING))
    }

    fn find(&self, table: &SeriesTable<K>, key: &K) -> Option<u32> {
        self.places.find(self.hasher.hash_one(key), |at| table.key(*at) == Some(key)).copied()
    }

    fn push(&mut self, table: &SeriesTable<K>, key: K) -> Option<u32> {
        let at = table.push(key)?;
        let hash = |at: &u32| table.key(*at).map_or(0, |key| self.hasher.hash_one(key));
        self.places.insert_unique(self.hasher.hash_one(key), at, hash);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Amounts = Amounts {
        requests: 1,
        saved_requests: 0,
        prompt_tokens: 2,
        cached_tokens: 0,
        completion_tokens: 3,
        reasoning_tokens: 0,
        saved_prompt_tokens: 0,
        saved_completion_tokens: 0,
        cost: 0,
        saved_cost: 0,
        estimated_tokens: 0,
        estimated_cost: 0,
    };

    fn key(model: u32, tenant: u32) -> Key {
        Key { endpoint: 0, model, tenant, status: 200 }
    }

    #[test]
    fn what_was_added_is_read_by_its_key() {
        let (table, mut index) = (SeriesTable::<Key>::default(), SeriesIndex::default());
        for _ in 0..3 {
            index.add(&table, key(1, 2), ONE);
        }
        index.add(&table, key(1, 3), ONE);
        let mut read = Vec::new();
        table.read(|key, amounts| read.push((key, amounts.requests, amounts.completion_tokens)));
        assert_eq!(read, [(key(1, 2), 3, 9), (key(1, 3), 1, 3)]);
    }

    #[test]
    fn usage_without_room_for_its_key_counts_for_its_tenant() {
        let (table, mut index) = (SeriesTable::<UsageKey>::default(), SeriesIndex::default());
        for credential in 1..=2 * USAGE_SERIES as u64 {
            index.add(&table, UsageKey { tenant: 1, credential, model: 2 }, ONE);
        }
        let (mut total, mut general) = (0, 0);
        table.read(|key, amounts| {
            total += amounts.requests;
            general += if key.credential == 0 { amounts.requests } else { 0 };
        });
        assert_eq!(total, 2 * USAGE_SERIES as u64);
        assert!(general > USAGE_SERIES as u64);
    }

    #[test]
    fn a_full_table_tells_tenants_apart_no_more_and_loses_no_request() {
        let (table, mut index) = (SeriesTable::<Key>::default(), SeriesIndex::default());
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
