//! What each core publishes: how many requests each backend has in flight, exact for the core itself, and of the others
//! some milliseconds old; and its counters. Each core writes its own row alone; nobody waits for anybody.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use shards::{CoreId, Millis};

use super::epochs::Epochs;
use super::permits::{Cap, NodePermits};
use crate::config::snapshot::Snapshot;
use crate::dialect::facts::Endpoint;
use crate::observe::counters::Counters;

/// The other cores' counts are looked at anew after so long.
const ELSEWHERE_MS: u64 = 10;
/// Counts of one core begin on a cache line of their own, and so do those of the next.
const COUNTS_A_LINE: usize = 64 / size_of::<AtomicU32>();

/// What the cores publish for each other. One row a core, one count a backend; what requests take of a core's memory; and the
/// permits that go from core to core.
pub struct Board {
    counts: Vec<AtomicU32>,
    row: usize,
    pub(super) epochs: Arc<Epochs>,
    request_bytes: Vec<Apart>,
    counters: Vec<Arc<Counters>>,
    pub(super) model_permits: Vec<Arc<NodePermits>>,
    pub(super) backend_permits: Vec<Arc<NodePermits>>,
}

/// On a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Apart(AtomicU64);

impl Board {
    pub fn new(cores: u16, snapshot: &Snapshot) -> Board {
        let permits = |cap| Arc::new(NodePermits::new(cap, cores));
        Board {
            model_permits: snapshot.models.iter().map(Cap::of_model).map(permits).collect(),
            backend_permits: snapshot.backends.iter().map(Cap::of_backend).map(permits).collect(),
            ..Board::of_counts(cores, snapshot.models.len(), snapshot.backends.len())
        }
    }

    pub(super) fn of_counts(cores: u16, models: usize, backends: usize) -> Board {
        let counters = || Arc::new(Counters::new(Endpoint::ALL.len(), models, backends));
        let row = backends.next_multiple_of(COUNTS_A_LINE) + COUNTS_A_LINE;
        let counts = (0..row * usize::from(cores)).map(|_| AtomicU32::new(0)).collect();
        let request_bytes = (0..cores).map(|_| Apart::default()).collect();
        Board {
            counts,
            row,
            epochs: Epochs::new(cores),
            request_bytes,
            counters: (0..cores).map(|_| counters()).collect(),
            model_permits: Vec::new(),
            backend_permits: Vec::new(),
        }
    }

    /// Data cores of the node.
    pub fn cores(&self) -> usize {
        self.request_bytes.len()
    }

    /// Bytes that a core's requests take; `memory` writes and reads it.
    pub fn request_bytes(&self, core: usize) -> &AtomicU64 {
        &self.request_bytes[core].0
    }

    /// The numbers of a core.
    pub fn counters(&self, core: CoreId) -> &Arc<Counters> {
        &self.counters[usize::from(core.0)]
    }

    /// The numbers of each core.
    pub fn all_counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    fn place(&self, core: usize, backend: usize) -> &AtomicU32 {
        &self.counts[core * self.row + backend]
    }
}

/// One core's view of the board.
pub struct Load {
    board: Arc<Board>,
    core: usize,
    own: Vec<Cell<u32>>,
    elsewhere: RefCell<Vec<u32>>,
    looked: Cell<Option<Millis>>,
}

impl Load {
    pub fn new(board: Arc<Board>, core: CoreId, backends: usize) -> Load {
        Load {
            board,
            core: usize::from(core.0),
            own: (0..backends).map(|_| Cell::new(0)).collect(),
            elsewhere: RefCell::new(vec![0; backends]),
            looked: Cell::new(None),
        }
    }

    /// One request more at `backend`.
    pub fn begin(&self, backend: usize) {
        self.set(backend, self.own[backend].get() + 1);
    }

    /// One less.
    pub fn end(&self, backend: usize) {
        debug_assert!(self.own[backend].get() > 0, "a request ends once");
        self.set(backend, self.own[backend].get().saturating_sub(1));
    }

    fn set(&self, backend: usize, count: u32) {
        self.own[backend].set(count);
        // Nothing else is published by it, so nothing has to be ordered with it.
        self.board.place(self.core, backend).store(count, Ordering::Relaxed);
    }

    /// This core's own count.
    pub fn own(&self, backend: usize) -> u32 {
        self.own[backend].get()
    }

    /// Over all cores, as of the last [`Load::look`].
    pub fn all(&self, backend: usize) -> u32 {
        self.own[backend].get() + self.elsewhere.borrow()[backend]
    }

    /// Looks at the other cores' counts, unless that was just done.
    pub fn look(&self, now: Millis) {
        let cores = self.board.counts.len() / self.board.row;
        if cores == 1 || self.looked.get().is_some_and(|at| now.since(at) < ELSEWHERE_MS) {
            return;
        }
        self.looked.set(Some(now));
        for (backend, sum) in self.elsewhere.borrow_mut().iter_mut().enumerate() {
            let others = (0..cores).filter(|&core| core != self.core);
            *sum = others.map(|core| self.board.place(core, backend).load(Ordering::Relaxed)).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_core_counts_the_others_see_after_a_while() {
        let board = Arc::new(Board::of_counts(2, 1, 3));
        let (one, two) = (Load::new(board.clone(), CoreId(0), 3), Load::new(board, CoreId(1), 3));
        one.look(Millis(0));
        two.begin(1);
        two.begin(1);
        one.begin(1);
        assert_eq!((one.own(1), one.all(1), two.own(1)), (1, 1, 2));
        one.look(Millis(ELSEWHERE_MS - 1));
        assert_eq!(one.all(1), 1, "looked at a moment ago");
        one.look(Millis(ELSEWHERE_MS));
        assert_eq!((one.all(0), one.all(1), one.all(2)), (0, 3, 0));
        two.end(1);
        one.look(Millis(2 * ELSEWHERE_MS));
        assert_eq!(one.all(1), 2);
    }
}
