//! What a node has beside its memory: Redis, purges that are written down, and snapshots; and how its process ends and another
//! one goes on.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ringway::config::snapshot::PurgeScope;
use ringway::exchange::core::Core;
use ringway::exchange::kept::{Kept, Slice};
use ringway::exchange::message::Message;
use ringway::exchange::purges::Purges;
use ringway::exchange::second::{Hooks, SecondLevel};
use ringway::exchange::snapshot::{decode, encode};
use ringway::net::sim::{Place, World, between};
use ringway::net::sleep_ms;
use shards::{CoreId, Heat, placement};

use crate::house::{House, Setup};
use crate::redis;

/// The state directory of a node.
#[derive(Clone, Default)]
pub struct Disk(Rc<RefCell<Files>>);

#[derive(Default)]
struct Files {
    /// The answers of the last snapshot that became whole.
    snapshot: Vec<(Heat, Vec<u8>)>,
    /// The number of the last purge, and that of each scope.
    purges: (u64, Vec<(String, u64)>),
    /// The numbers that Redis gave to purges, by scope.
    told: BTreeMap<String, u64>,
    /// Not of the disk: purges that Redis has lost, as a core of this process has found.
    lost: Vec<(String, u64)>,
    /// The snapshot that is being written: its number, what of it is here, and the cores that have more.
    number: u64,
    written: Vec<(Heat, Vec<u8>)>,
    missing: BTreeSet<u16>,
    /// Answers that cores have taken back.
    restored: u64,
}

impl Disk {
    fn begin(&self, cores: usize) -> u64 {
        let mut files = self.0.borrow_mut();
        files.number += 1;
        files.written.clear();
        files.missing = (0..cores as u16).collect();
        files.number
    }

    /// Writes a part of a snapshot. What its core is to be asked next.
    pub fn write(&self, from: CoreId, slice: &Slice) -> Option<Message> {
        let mut files = self.0.borrow_mut();
        if slice.number != files.number {
            return None;
        }
        files.written.extend(slice.kept.iter().map(|kept| (kept.heat, encode(kept))));
        if slice.next.is_some() {
            return Some(Message::SnapshotAsk { number: slice.number, at: slice.next });
        }
        files.missing.remove(&from.0);
        if files.missing.is_empty() {
            files.snapshot = std::mem::take(&mut files.written);
        }
        None
    }

    /// Whether the last snapshot that was begun is whole.
    pub fn is_written(&self) -> bool {
        self.0.borrow().missing.is_empty()
    }

    /// Forgets a snapshot that is being written, as a process does that ends.
    pub fn tear(&self) {
        let mut files = self.0.borrow_mut();
        files.number += 1;
        files.written.clear();
        files.lost.clear();
    }

    /// Before the cores of a process start.
    pub fn recall(&self, purges: &Purges) {
        let files = self.0.borrow();
        purges.recall(files.purges.0, files.purges.1.iter().cloned());
        files.told.iter().for_each(|(name, number)| purges.numbers.note(name, *number));
    }

    /// Purges that Redis has lost, and that nobody has told it again.
    pub fn take_lost(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.0.borrow_mut().lost)
    }

    pub fn took_back(&self, count: u64) {
        self.0.borrow_mut().restored += count;
    }

    pub fn restored(&self) -> u64 {
        self.0.borrow().restored
    }

    /// What may serve of the snapshot, hottest first.
    fn read(&self, most_bytes: u64, purges: &Purges) -> Vec<Kept> {
        let files = self.0.borrow();
        let latest = purges.latest();
        let all = Heat::ALL.into_iter().flat_map(|heat| files.snapshot.iter().filter(move |(of, _)| *of == heat));
        all.filter_map(|(heat, bytes)| decode(bytes, *heat, most_bytes, latest, purges).ok()).collect()
    }
}

/// Lets a core use the Redis of the story.
pub fn open_second(core: &Rc<Core>, disk: &Disk) {
    let settings = redis::settings();
    let topology = settings.topology.clone();
    let missing = disk.clone();
    let lost_purges = Box::new(move |mut lost| missing.0.borrow_mut().lost.append(&mut lost));
    let hooks = Hooks { lost: Box::new(|_| ()), moved: Box::new(|| ()), lost_purges };
    let level = SecondLevel::new(settings, core.counters.clone(), core.cache.purges.clone(), hooks);
    core.cache.second.get_or_init(|| Rc::new(level)).set_topology(&topology, &core.panics);
}

impl House {
    /// Purges as the background core does. What Redis is to be told.
    pub fn purge(&self, scope: &PurgeScope) -> String {
        let name = self.board.purges().purge(scope);
        self.disk.0.borrow_mut().purges = self.board.purges().all_purges();
        for core in 0..self.cores.len() {
            assert!(self.background.post(core, Message::Purged).is_ok(), "a core has mail");
        }
        name
    }

    /// Redis has been told of every purge, and gave them these numbers.
    pub fn purges_are_told(&self, numbers: Vec<(String, u64)>) {
        for (name, number) in numbers {
            self.board.purges().numbers.note(&name, number);
            self.disk.0.borrow_mut().told.insert(name, number);
        }
        self.board.purges().caught_up();
    }

    /// Redis has not been told of every purge of the process before.
    pub fn purges_are_untold(&self) {
        self.board.purges().behind();
    }

    /// Has a snapshot written.
    pub fn snapshot(&self) {
        let number = self.disk.begin(self.cores.len());
        for core in 0..self.cores.len() {
            assert!(self.background.post(core, Message::SnapshotAsk { number, at: None }).is_ok(), "a core has mail");
        }
    }

    /// Takes back what the process before has written, in its own time.
    pub fn take_back(&mut self, world: &World, setup: &Setup) {
        let all = self.disk.read(setup.max_entry_bytes, self.board.purges());
        if all.is_empty() {
            return; // one task more would change what comes in each story
        }
        let (background, cores) = (self.background.clone(), setup.cores as u16);
        self.servants.push(world.spawn(Place::Outside, async move {
            for kept in all {
                let core = usize::from(placement::owner(&kept.request, cores).0);
                let _ = background.post(core, Message::TakeBack { kept: vec![kept] });
                sleep_ms(between(0, 20)).await;
            }
        }));
    }

    /// Its process ends, whatever each of its tasks waits for.
    pub fn kill(&mut self, world: &World) {
        self.disk.tear();
        for task in self.servants.drain(..) {
            world.kill(task);
        }
        for core in 0..self.cores.len() {
            let place = Place::Core(core);
            loop {
                // The watches of all places have one ticker.
                let spared = world.tasks_born(place, "net/watch.rs");
                let mut tasks = world.tasks_born(place, "");
                tasks.retain(|task| !spared.contains(task));
                if tasks.is_empty() {
                    break;
                }
                for task in tasks {
                    world.kill(task);
                }
            }
        }
        self.listeners.clear();
        for (index, core) in self.cores.drain(..).enumerate() {
            world.at(Place::Core(index), || drop(core));
        }
    }
}
