//! Laws of `rebalance`, and a model of a node whose cores all decide at the same time.

use super::*;
use crate::random::{Random, each_seed};
use std::vec::Vec;

fn load(busy_permille: u16, active: u16) -> CoreLoad {
    CoreLoad { busy_permille, active }
}

#[test]
fn four_busy_connections_on_one_of_two_cores_become_two_each() {
    assert_eq!(gift(0, &[load(1000, 4), load(0, 0)]), Some(Gift { to: 1, count: 2 }));
    assert_eq!(gift(1, &[load(1000, 4), load(0, 0)]), None);
    assert_eq!(gift(0, &[load(1000, 2), load(1000, 2)]), None);
    assert_eq!(gift(1, &[load(950, 3), load(1000, 5)]), Some(Gift { to: 0, count: 1 }));
    // A difference of one would only change sides.
    assert_eq!(gift(1, &[load(1000, 1), load(1000, 2)]), None);
    assert_eq!(gift(0, &[load(600, 1), load(0, 0)]), None);
    assert_eq!(gift(0, &[load(660, 2), load(330, 1)]), None);
    // Nor does a core that is not busy need help.
    assert_eq!(gift(0, &[load(200, 40), load(0, 0)]), None);
}

#[test]
fn cores_pair_up_from_both_ends() {
    let loads = [load(1000, 9), load(100, 1), load(1000, 20), load(0, 0)];
    let gifts: Vec<Option<Gift>> = (0..4).map(|own| gift(own, &loads)).collect();
    assert_eq!(gifts[2].map(|gift| gift.to), Some(3));
    assert_eq!(gifts[0].map(|gift| gift.to), Some(1));
    assert_eq!((gifts[1], gifts[3]), (None, None));
}

#[test]
fn a_gift_is_bounded_makes_things_better_and_has_one_giver() {
    each_seed(2000, |seed| {
        let mut random = Random::new(seed);
        let cores = 1 + random.below(12) as usize;
        let loads: Vec<CoreLoad> =
            (0..cores).map(|_| load(random.below(1100) as u16, [0, 1, 2, 5, 300][random.below(5) as usize])).collect();
        let mut getters = Vec::new();
        for own in 0..cores {
            let Some(Gift { to, count }) = gift(own, &loads) else { continue };
            let (mine, other) = (loads[own], loads[to]);
            assert!(own != to && (1..=GIVEN_AT_ONCE).contains(&count) && count < mine.active, "{loads:?}");
            assert!(other.rank() < mine.rank());
            if mine.is_full() && other.has_no_room() {
                assert!(mine.active - count >= other.active + count, "{loads:?}: the roles changed");
            } else {
                let each = u32::from(mine.busy_permille.min(1000)) / u32::from(mine.active);
                assert!(u32::from(other.busy_permille) + u32::from(count) * each < 1000, "{loads:?}");
            }
            getters.push(to);
        }
        let count = getters.len();
        getters.sort_unstable();
        getters.dedup();
        assert_eq!(getters.len(), count, "{loads:?}: a core gets from two");
    });
}

/// Connections with a demand each, in thousandths of a core.
struct Node {
    cores: Vec<Vec<u32>>,
    givers: Vec<Giver>,
    moved: usize,
}

impl Node {
    fn loads(&self) -> Vec<CoreLoad> {
        let load = |core: &Vec<u32>| load(core.iter().sum::<u32>().min(1000) as u16, core.len() as u16);
        self.cores.iter().map(load).collect()
    }

    /// One interval: everybody decides by what was published before it.
    fn interval(&mut self, random: &mut Random) {
        let loads = self.loads();
        let next = |(own, giver): (usize, &mut Giver)| giver.next(own, &loads);
        let gifts: Vec<Option<Gift>> = self.givers.iter_mut().enumerate().map(next).collect();
        for (own, gift) in gifts.into_iter().enumerate() {
            for _ in 0..gift.map_or(0, |gift| gift.count) {
                let place = random.below(self.cores[own].len() as u64) as usize;
                let connection = self.cores[own].swap_remove(place);
                self.cores[gift.unwrap().to].push(connection);
                self.moved += 1;
            }
        }
    }
}

fn node(random: &mut Random, demand: impl Fn(&mut Random) -> u32) -> Node {
    let cores = 2 + random.below(7) as usize;
    let mut node = Node { cores: std::vec![Vec::new(); cores], givers: std::vec![Giver::default(); cores], moved: 0 };
    for _ in 0..random.below(60) {
        let place = random.below(cores as u64) * random.below(2);
        let demand = demand(random);
        node.cores[place as usize].push(demand);
    }
    node
}

/// Whoever asks again at once takes all the time that it gets: cores with a connection are full.
#[test]
fn closed_loops_end_within_one_of_each_other_and_stay() {
    each_seed(500, |seed| {
        let mut random = Random::new(seed);
        let mut node = node(&mut random, |_| 1000);
        let all: usize = node.cores.iter().map(Vec::len).sum();
        (0..400).for_each(|_| node.interval(&mut random));
        let counts: Vec<usize> = node.cores.iter().map(Vec::len).collect();
        assert_eq!(counts.iter().sum::<usize>(), all, "one is lost or doubled");
        let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
        assert!(most - least <= 1, "{counts:?}");
        let moved = node.moved;
        assert!(moved <= 2 * all, "{moved} moves of {all} connections");
        (0..100).for_each(|_| node.interval(&mut random));
        assert_eq!(node.moved, moved, "it flaps: {counts:?}");
    });
}

/// With demands that are alike no core stays full while another has room, and then nothing moves.
#[test]
fn open_loops_fill_no_core_while_another_has_room_and_stay() {
    each_seed(500, |seed| {
        let mut random = Random::new(seed);
        let each = 5 + random.below(60) as u32;
        let mut node = node(&mut random, |_| each);
        (0..400).for_each(|_| node.interval(&mut random));
        let sums: Vec<u32> = node.cores.iter().map(|core| core.iter().sum()).collect();
        let (most, least) = (*sums.iter().max().unwrap(), *sums.iter().min().unwrap());
        let allowed = (2 * MARGIN_PERMILLE + 3 * each).max(u32::from(LEAST_PERMILLE));
        let is_full = least >= NO_ROOM_PERMILLE.into();
        assert!(is_full || most - least <= allowed, "{sums:?} of {each}");
        let moved = node.moved;
        (0..100).for_each(|_| node.interval(&mut random));
        assert_eq!(node.moved, moved, "it flaps: {sums:?}");
    });
}
