//! The numbers that Redis gave to purges, as far as this node knows: of each scope that of the last one. A Redis that has a smaller
//! one has lost purges, and nothing of that scope serves from it. Written by whichever thread hears of a number and read by look-ups
//! alone; no number is ever forgotten.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use shards::Fingerprint;

use super::tags::{Tags, key_group};
use crate::limits::{PURGE_KEYS, PURGE_NAMES};

/// Scopes by name, and the number of the last purge of each.
pub type Numbered = Vec<(String, u64)>;

/// In this order: all, the groups of models, versions and tenants, and those of single answers.
const PLACES: usize = 1 + 3 * PURGE_NAMES + PURGE_KEYS;

/// See the module.
#[derive(Default)]
pub struct PurgeNumbers {
    /// None before the first purge: until then a look-up costs nothing for it.
    places: OnceLock<Box<[AtomicU64]>>,
}

impl PurgeNumbers {
    /// Redis gave `number` to a purge of the scope with this name. A name that is not understood is no request's.
    pub fn note(&self, scope: &str, number: u64) {
        if let Some(place) = place_of(scope) {
            self.note_at(place, number);
        }
    }

    /// As `note`, of the scopes of an answer to `request`.
    pub fn note_all(&self, tags: Tags, request: &Fingerprint, numbers: &[u64; 5]) {
        for (place, number) in places_of(tags, request).into_iter().zip(numbers).filter(|(_, number)| **number > 0) {
            self.note_at(place, *number);
        }
    }

    fn note_at(&self, place: usize, number: u64) {
        let places = self.places.get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
        // Most look-ups hear what is known.
        if places[place].load(Ordering::Acquire) < number {
            places[place].fetch_max(number, Ordering::SeqCst);
        }
    }

    /// The number of each scope of an answer to `request`, in the order of [`Tags::fields`]; 0 for what was never purged.
    pub fn get(&self, tags: Tags, request: &Fingerprint) -> [u64; 5] {
        self.places
            .get()
            .map_or([0; 5], |places| places_of(tags, request).map(|place| places[place].load(Ordering::Acquire)))
    }
}

fn places_of(tags: Tags, request: &Fingerprint) -> [usize; 5] {
    let [model, version, tenant] = tags.groups().map(usize::from);
    [0, 1 + model, 1 + PURGE_NAMES + version, 1 + 2 * PURGE_NAMES + tenant, 1 + 3 * PURGE_NAMES + key_group(request)]
}

fn place_of(scope: &str) -> Option<usize> {
    if scope == "all" {
        return Some(0);
    }
    let (kind, group) = scope.split_at_checked(1)?;
    let (first, count) = match kind {
        "m" => (1, PURGE_NAMES),
        "v" => (1 + PURGE_NAMES, PURGE_NAMES),
        "t" => (1 + 2 * PURGE_NAMES, PURGE_NAMES),
        "k" => (1 + 3 * PURGE_NAMES, PURGE_KEYS),
        _ => return None,
    };
    group.parse().ok().filter(|group| *group < count).map(|group: usize| first + group)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Fingerprint = Fingerprint([0xff; 32]);

    fn tags() -> Tags {
        Tags { model: 1, version: 1, tenant: PURGE_NAMES as u16 - 1 }
    }

    #[test]
    fn each_scope_has_its_own_number_which_only_grows() {
        let numbers = PurgeNumbers::default();
        assert_eq!(numbers.get(tags(), &REQUEST), [0; 5]);
        for (place, scope) in tags().fields(&REQUEST).iter().enumerate() {
            let number = 7 + place as u64;
            numbers.note(scope, number);
            numbers.note(scope, number - 1);
            assert_eq!(numbers.get(tags(), &REQUEST)[place], number, "{scope}");
        }
        assert_eq!(numbers.get(tags(), &REQUEST), [7, 8, 9, 10, 11]);
        numbers.note_all(tags(), &REQUEST, &[0, 20, 3, 0, 12]);
        assert_eq!(numbers.get(tags(), &REQUEST), [7, 20, 9, 10, 12]);
    }

    #[test]
    fn what_is_no_scope_has_no_place() {
        for scope in ["", "all2", "m", "m4096", "k65536", "m-1", "x1", "né"] {
            assert_eq!(place_of(scope), None, "{scope}");
        }
        assert_eq!(place_of("k65535"), Some(PLACES - 1));
    }
}
