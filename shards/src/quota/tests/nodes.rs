//! Nodes of many cores that share a limit by a store, which may be slow, silent, gone, or have forgotten everything. The store here is
//! the model of the script that runs in Redis.

use std::collections::{BTreeMap, VecDeque};
use std::vec::Vec;

use super::super::*;
use super::world::Traffic;
use crate::random::{Random, each_seed};

const ID: LimitId = LimitId(7);
const FRESH_MS: u64 = 3_000;
/// Records of nodes that say nothing for so long count no longer.
const SILENT_MS: u64 = 64_000;
/// How often a request that waits looks again.
const LOOK_MS: u64 = 250;

/// What the script does, in its order.
struct Model {
    born: Option<u64>,
    /// By calendar slot, or 0, and node: the serial of the question, what it said, and when.
    records: BTreeMap<(Slot, usize), (u64, u64, u64)>,
}

impl Model {
    fn ask(&mut self, node: usize, serial: u64, fetch: &Fetch, nodes: u64, ms: u64) -> Fetched {
        let slot = if fetch.period == Period::Minute { 0 } else { fetch.slot };
        let is_fresh = ms - *self.born.get_or_insert(ms) < FRESH_MS;
        if self.records.get(&(slot, node)).is_some_and(|(last, ..)| *last > serial) {
            return Fetched { amount: 0, free: 0 };
        }
        let is_minute = fetch.period == Period::Minute;
        self.records.retain(|(at, _), (_, _, said)| *at != slot || !is_minute || ms - *said <= SILENT_MS);
        let others = self.records.iter().filter(|((at, other), _)| *at == slot && *other != node);
        let used = fetch.mine + others.map(|(_, (_, amount, _))| amount).sum::<u64>();
        let mut free = fetch.limit.saturating_sub(used);
        if is_fresh {
            free = free.min((fetch.limit / nodes).saturating_sub(fetch.mine));
        }
        let mut amount = 0;
        if fetch.is_ask && fetch.need <= free {
            amount = (free / (16 * nodes)).max(fetch.want.min(free / (2 * nodes))).max(fetch.need);
        }
        self.records.insert((slot, node), (serial, fetch.mine + amount, ms));
        Fetched { amount, free: free - amount }
    }
}

enum Message {
    Ask(Ask, u16),
    Grant(Grant),
    Settle(Returned),
}

struct Node {
    /// The node's clock is so far ahead of the world's.
    ahead_ms: u64,
    cores: Vec<Leases>,
    /// Since when, and what for.
    waiting: Vec<Vec<(u64, Cost)>>,
    mail: Vec<VecDeque<(u64, Message)>>,
    share: Option<Share>,
    store: Store,
    serial: u64,
    /// On their way to the store, and back.
    out: VecDeque<(u64, u64, Fetch)>,
    back: VecDeque<(u64, Fetch, Option<Fetched>)>,
}

struct World {
    random: Random,
    ms: u64,
    model: Model,
    nodes: Vec<Node>,
    is_up: bool,
    /// Of a thousand answers.
    lost: u64,
    /// Nobody says whether the store answers.
    is_silent: bool,
    /// The longest that a request waited.
    longest_ms: u64,
    spent: Vec<(u64, u64)>,
}

impl World {
    fn new(nodes: usize, cores: u16, seed: u64) -> World {
        let mut random = Random::new(seed);
        let node = |ahead_ms| Node {
            ahead_ms,
            cores: (0..cores).map(|_| Leases::default()).collect(),
            waiting: (0..cores).map(|_| Vec::new()).collect(),
            mail: (0..cores).map(|_| VecDeque::new()).collect(),
            share: None,
            store: Store::Up { nodes: nodes as u16 },
            serial: 0,
            out: VecDeque::new(),
            back: VecDeque::new(),
        };
        let nodes: Vec<Node> = (0..nodes).map(|_| node(random.below(5_000))).collect();
        let model = Model { born: Some(0), records: BTreeMap::new() };
        World {
            random,
            ms: 10_000,
            model,
            nodes,
            is_up: true,
            lost: 0,
            is_silent: false,
            longest_ms: 0,
            spent: Vec::new(),
        }
    }

    fn now(&self, node: usize) -> Now {
        // Days are those of one calendar.
        Now { mono: Millis(self.ms + self.nodes[node].ahead_ms), unix_ms: 20_000 * 86_400_000 + self.ms }
    }

    fn set_store(&mut self, is_up: bool) {
        self.is_up = is_up;
        let count = self.nodes.len() as u16;
        // Each node finds out in its own time, by a question or by asking whether it lives.
        for node in 0..self.nodes.len() {
            if is_up {
                self.nodes[node].store = Store::Up { nodes: count };
            }
        }
    }

    fn flood(&mut self, cost: Cost, traffic: Traffic, per_second: u64, ms: u64) {
        let (nodes, cores) = (self.nodes.len() as u64, self.nodes[0].cores.len() as u64);
        let (mut due, end) = (0, self.ms + ms);
        while self.ms < end {
            due += per_second;
            while due >= 1000 {
                due -= 1000;
                let (node, core) = (self.random.below(nodes), self.random.below(cores));
                let moving = self.ms / 5_000;
                let (node, core) = match traffic {
                    Traffic::One => (nodes - 1, cores - 1),
                    Traffic::Spread => (node, core),
                    Traffic::Skewed if self.random.chance(50) => (0, 0),
                    Traffic::Skewed => (node, core),
                    Traffic::Moving => (moving % nodes, moving % cores),
                };
                self.admit(node as usize, core as u16, cost, self.ms);
            }
            self.step();
        }
    }

    fn step(&mut self) {
        self.ms += 1;
        for node in 0..self.nodes.len() {
            let now = self.now(node);
            for core in 0..self.nodes[node].cores.len() {
                if self.ms.is_multiple_of(LOOK_MS) {
                    self.admit_waiting(node, core as u16);
                }
                while self.nodes[node].mail[core].front().is_some_and(|(at, _)| *at <= self.ms) {
                    let (_, message) = self.nodes[node].mail[core].pop_front().expect("there is one");
                    self.deliver(node, core as u16, message);
                }
                if self.ms % 1000 == core as u64 * 7 % 1000 {
                    let mut told = Vec::new();
                    for part in 0..PARTS {
                        self.nodes[node].cores[core].sweep(part, now, |_, _, returned| told.push(returned));
                    }
                    told.into_iter().for_each(|returned| self.send(node, 0, Message::Settle(returned)));
                }
            }
            if self.ms % 1000 == node as u64 * 13 % 1000 {
                if self.is_up {
                    self.nodes[node].store = Store::Up { nodes: self.nodes.len() as u16 };
                }
                let fetch = self.nodes[node].share.as_mut().and_then(|share| share.sweep(now));
                fetch.into_iter().for_each(|fetch| self.fetch(node, fetch));
            }
            self.exchange(node);
        }
    }

    /// What has arrived at the store is answered, and what came back is told.
    fn exchange(&mut self, node: usize) {
        let count = self.nodes.len() as u64;
        while self.nodes[node].out.front().is_some_and(|(at, ..)| *at <= self.ms) {
            let (_, serial, fetch) = self.nodes[node].out.pop_front().expect("there is one");
            let answer = self.is_up.then(|| self.model.ask(node, serial, &fetch, count, self.ms));
            let answer = answer.filter(|_| self.random.below(1000) >= self.lost);
            let delay = match answer {
                None => 100,
                Some(_) => self.delay(),
            };
            let at = self.nodes[node].back.back().map_or(0, |(at, ..)| *at).max(self.ms + delay);
            self.nodes[node].back.push_back((at, fetch, answer));
        }
        while self.nodes[node].back.front().is_some_and(|(at, ..)| *at <= self.ms) {
            let (_, fetch, answer) = self.nodes[node].back.pop_front().expect("there is one");
            let now = self.now(node);
            let of = &mut self.nodes[node];
            if answer.is_none() {
                of.store = Store::Down { nodes: count as u16 };
            }
            let Some(share) = &mut of.share else { continue };
            let told = share.fetched(&fetch, answer, of.cores.len() as u16, of.store, now);
            share.check();
            self.tell(node, told);
        }
    }

    fn delay(&mut self) -> u64 {
        match self.random.below(100) {
            0 => self.random.below(90),
            1..20 => self.random.below(5),
            _ => 0,
        }
    }

    fn fetch(&mut self, node: usize, fetch: Fetch) {
        if self.is_silent {
            return;
        }
        let delay = self.delay();
        let of = &mut self.nodes[node];
        of.serial += 1;
        let at = of.out.back().map_or(0, |(at, ..)| *at).max(self.ms + delay);
        of.out.push_back((at, of.serial, fetch));
    }

    fn tell(&mut self, node: usize, told: Told) {
        for (core, grant) in told.grants {
            self.send(node, core, Message::Grant(grant));
        }
        told.fetch.into_iter().for_each(|fetch| self.fetch(node, fetch));
    }

    fn send(&mut self, node: usize, to: u16, message: Message) {
        let delay = self.delay();
        let mail = &mut self.nodes[node].mail[to as usize];
        let at = mail.back().map_or(0, |(at, _)| *at).max(self.ms + delay);
        mail.push_back((at, message));
    }

    fn deliver(&mut self, node: usize, core: u16, message: Message) {
        let now = self.now(node);
        let of = &mut self.nodes[node];
        let (cores, store) = (of.cores.len() as u16, of.store);
        match message {
            Message::Ask(ask, from) => {
                let share = of.share.get_or_insert_with(|| Share::new(ask.period, ask.limit));
                let told = share.ask(from, ask, cores, store, now);
                share.check();
                self.tell(node, told);
            }
            Message::Grant(grant) => {
                of.cores[core as usize].granted(ID, grant, now);
                self.admit_waiting(node, core);
            }
            Message::Settle(returned) => {
                of.share.as_mut().expect("it was asked").settle(&returned, now);
            }
        }
    }

    fn admit_waiting(&mut self, node: usize, core: u16) {
        for (since, cost) in std::mem::take(&mut self.nodes[node].waiting[core as usize]) {
            self.admit(node, core, cost, since);
        }
    }

    fn admit(&mut self, node: usize, core: u16, cost: Cost, since: u64) {
        self.longest_ms = self.longest_ms.max(self.ms - since);
        let now = self.now(node);
        let (mut taken, mut asks) = (Vec::new(), Vec::new());
        let result = self.nodes[node].cores[core as usize].admit([cost].into_iter(), now, &mut taken, &mut asks);
        for (_, ask) in asks {
            if let Some(returned) = self.nodes[node].cores[core as usize].take_returned(ID) {
                self.send(node, 0, Message::Settle(returned));
            }
            self.send(node, 0, Message::Ask(ask, core));
        }
        match result {
            Admitted::Wait => self.nodes[node].waiting[core as usize].push((since, cost)),
            Admitted::Yes => self.spent.push((self.ms, cost.need)),
            Admitted::No { .. } => {}
        }
    }

    fn spent_between(&self, from_ms: u64, to_ms: u64) -> u64 {
        self.spent.iter().filter(|(at, _)| (from_ms..to_ms).contains(at)).map(|(_, amount)| amount).sum()
    }

    /// The most in any minute that lies between these times.
    fn most_in_a_minute(&self, from_ms: u64, to_ms: u64) -> u64 {
        let spent: Vec<_> = self.spent.iter().filter(|(at, _)| (from_ms..to_ms).contains(at)).collect();
        let (mut first, mut sum, mut most) = (0, 0, 0);
        for (at, amount) in &spent {
            sum += amount;
            while spent[first].0 + 60_000 <= *at {
                sum -= spent[first].1;
                first += 1;
            }
            most = most.max(sum);
        }
        most
    }
}

const LIMIT: Cost = Cost { id: ID, period: Period::Minute, what: 0, limit: 0, need: 1 };

/// While the store answers, all nodes together see the limit at most in any 60 seconds, and 95 % of it can be used.
#[test]
fn nodes_that_share_a_limit_hold_it_together() {
    for (nodes, cores, limit) in [(1, 1, 60), (2, 1, 600), (2, 4, 3_000), (3, 12, 60), (8, 4, 3_000), (2, 128, 6_000)] {
        for traffic in Traffic::ALL {
            if cores > 100 && traffic != Traffic::Skewed {
                continue;
            }
            let mut world = World::new(nodes, cores, nodes as u64 * 1_000 + u64::from(cores));
            let cost = Cost { limit, ..LIMIT };
            let start = world.ms;
            world.flood(cost, traffic, (limit / 6).max(20), 191_000);
            let what = std::format!("{nodes} nodes of {cores} cores, {traffic:?}, limit {limit}");
            let most = world.most_in_a_minute(0, u64::MAX);
            assert!(most <= limit, "{what}: {most}");
            let (first, all) =
                (world.spent_between(start, start + 63_000), world.spent_between(start, start + 189_000));
            assert!(first * 100 >= limit * 95, "{what}: {first} at first");
            assert!(all * 100 >= 3 * limit * 95, "{what}: {all} of three");
        }
    }
}

/// The store goes, comes back, and forgets all: less than twice the limit meanwhile, the limit again a minute later, and a
/// node's part is there all the time.
#[test]
fn without_the_store_each_node_has_its_part() {
    each_seed(12, |seed| {
        let mut random = Random::new(seed);
        let (nodes, cores) = (1 + random.below(4) as usize, 1 + random.below(6) as u16);
        let limit = 60 + random.below(3_000);
        let cost = Cost { limit, ..LIMIT };
        let mut world = World::new(nodes, cores, seed);
        let per_second = (limit / 6).max(20);
        world.flood(cost, Traffic::Spread, per_second, 20_000 + random.below(60_000));
        world.set_store(false);
        let gone = world.ms;
        world.flood(cost, Traffic::Spread, per_second, 130_000);
        let part = limit / nodes as u64 * nodes as u64;
        let meanwhile = world.spent_between(gone + 67_000, gone + 130_000);
        assert!(meanwhile * 100 >= part * 90, "{meanwhile} of {part} by their own");
        assert!(world.most_in_a_minute(gone + 64_000, u64::MAX) <= limit);
        if random.chance(50) {
            world.model = Model { born: None, records: BTreeMap::new() };
        }
        world.set_store(true);
        let back = world.ms;
        world.flood(cost, Traffic::One, per_second, 130_000);
        assert!(world.most_in_a_minute(back + 66_000, u64::MAX) <= limit);
        let again = world.spent_between(back + 65_000, back + 130_000);
        assert!(again * 100 >= limit * 95, "{again} of {limit} on one node alone");
        let most = world.most_in_a_minute(0, u64::MAX);
        assert!(most < 2 * limit || nodes == 1 && most <= limit, "{most} of {limit}, {nodes} nodes");
    });
}

/// What the home cores ask is lost, and nobody says that there is no answer: no request waits longer than for one answer, and each
/// node has its part.
#[test]
fn nobody_waits_for_a_store_of_which_nothing_is_heard() {
    each_seed(12, |seed| {
        let mut random = Random::new(seed);
        let (nodes, cores) = (1 + random.below(4) as usize, 1 + random.below(6) as u16);
        let cost = Cost { limit: 60 + random.below(3_000), ..LIMIT };
        let mut world = World::new(nodes, cores, seed);
        let per_second = (cost.limit / 6).max(20);
        world.flood(cost, Traffic::Spread, per_second, random.below(5_000));
        world.is_silent = true;
        let silent = world.ms;
        world.flood(cost, Traffic::Spread, per_second, 130_000);
        assert!(world.longest_ms < 1_500, "{} ms", world.longest_ms);
        let part = cost.limit / nodes as u64 * nodes as u64;
        let meanwhile = world.spent_between(silent + 67_000, silent + 130_000);
        assert!(meanwhile * 100 >= part * 80, "{meanwhile} of {part} by their own");
        world.is_silent = false;
        let again = world.ms;
        world.flood(cost, Traffic::Spread, per_second, 130_000);
        assert!(world.most_in_a_minute(again + 66_000, u64::MAX) <= cost.limit);
    });
}

/// A store that forgets all while the nodes go on.
#[test]
fn a_store_that_forgets_is_told_again() {
    each_seed(12, |seed| {
        let mut random = Random::new(seed);
        let nodes = 2 + random.below(4) as usize;
        let cost = Cost { limit: 600 + random.below(3_000), ..LIMIT };
        let mut world = World::new(nodes, 2, seed);
        world.lost = random.below(3);
        let per_second = cost.limit / 6;
        world.flood(cost, Traffic::Spread, per_second, random.below(60_000));
        world.model = Model { born: None, records: BTreeMap::new() };
        let flushed = world.ms;
        world.flood(cost, Traffic::Spread, per_second, 130_000);
        let most = world.most_in_a_minute(0, u64::MAX);
        assert!(most < 2 * cost.limit, "{most} of {}", cost.limit);
        let later = world.most_in_a_minute(flushed + 66_000, u64::MAX);
        assert!(later <= cost.limit || world.lost > 0, "{later} of {}", cost.limit);
    });
}

/// A day's limit is spent once, by whatever node, and lost answers lose nothing of it.
#[test]
fn a_day_of_several_nodes_is_spent_once() {
    each_seed(8, |seed| {
        let mut random = Random::new(seed);
        let cost = Cost { period: Period::Day, limit: 100 + random.below(20_000), ..LIMIT };
        let mut world = World::new(1 + random.below(8) as usize, 1 + random.below(8) as u16, seed);
        world.lost = 0;
        world.flood(cost, Traffic::Moving, cost.limit / 20 + 20, 60_000);
        let spent = world.spent_between(0, u64::MAX);
        assert!(spent <= cost.limit && spent * 100 >= cost.limit * 95, "{spent} of {}", cost.limit);
    });
}
