//! Permits by themselves: the cap, who is served first, and that none is lost or made.

use shards::{Place, Queue};

use super::*;

fn node(cores: u16, most: u32) -> Vec<CorePermits> {
    let node = Arc::new(NodePermits::new(Cap(most), cores));
    (0..cores).map(|_| CorePermits::new(node.clone())).collect()
}

/// Of one tenant.
fn one(priority: u8) -> Option<Front> {
    Some(Front { priority, weight: WEIGHT_UNIT })
}

fn take_all(core: &CorePermits) -> u32 {
    std::iter::from_fn(|| core.take(5).then_some(())).count() as u32
}

#[test]
fn one_busy_core_uses_the_whole_cap() {
    let cores = node(12, 100);
    assert_eq!(take_all(&cores[3]), 100);
    assert!(!cores[0].take(5));
    cores[3].keep(2);
    assert_eq!((cores[3].held(), take_all(&cores[0])), (2, 98));
}

#[test]
fn a_single_core_lends_nothing() {
    let alone = &node(1, 7)[0];
    alone.keep(0);
    assert_eq!((alone.held(), alone.take(5)), (7, false));
}

#[test]
fn a_core_below_its_part_is_served_first() {
    let cores = node(2, 4);
    assert_eq!(take_all(&cores[0]), 4);
    assert!(cores[1].begin_wanting() && !cores[1].begin_wanting());
    cores.iter().for_each(|core| core.show(one(5)));
    for left in [3, 2] {
        assert!(cores[0].owes_one());
        cores[0].keep(left);
        assert!(!cores[0].take(5), "it is for the other core");
        assert!(cores[1].take(5));
    }
    assert!(!cores[0].owes_one(), "each has its part");
    assert!(cores[0].are_wanted_elsewhere() && !cores[1].are_wanted_elsewhere());
    cores[1].end_wanting();
    assert!(!cores[0].are_wanted_elsewhere());
}

#[test]
fn fewer_permits_than_cores_go_round() {
    let cores = node(3, 1);
    assert!(cores[0].take(5));
    cores[1].begin_wanting();
    cores[0].begin_wanting();
    cores.iter().for_each(|core| core.show(one(5)));
    assert!(cores[0].owes_one());
    cores[0].keep(0);
    assert!(cores[1].take(5) && cores[1].owes_one());
}

#[test]
fn the_more_urgent_go_first_on_whichever_core_and_none_waits_for_ever() {
    let cores = node(2, 4);
    assert_eq!(take_all(&cores[0]), 4);
    cores[0].show(one(9));
    cores[0].begin_wanting();
    assert!(!cores[0].owes_one(), "nothing waits elsewhere");
    cores[1].show(one(0));
    cores[1].begin_wanting();
    // Also beyond the other core's part.
    for left in [3, 2, 1, 0] {
        assert!(cores[0].owes_one());
        cores[0].keep(left);
        assert!(!cores[0].take(9), "it is for what is more urgent");
        assert!(cores[1].take(0) && !cores[1].owes_one());
    }
    while cores[0].passed.get() < PASSED_MAX {
        cores[1].keep(3);
        assert!(!cores[0].take(9));
        assert!(cores[0].passed.get() == PASSED_MAX || cores[1].take(0));
    }
    // It has waited for long enough: now it is as urgent as any, and has less than its part.
    assert!(cores[1].owes_one());
    cores[1].keep(3);
    assert!(!cores[1].take(0) && cores[0].take(9));
    cores[0].served(one(9));
    assert!(cores[0].owes_one() && !cores[1].owes_one());
}

/// Law: whatever the cores do, held and free permits add up to the cap, and the counts of waiting cores are exact.
#[test]
fn none_is_lost_and_none_is_made() {
    let mut state = 1u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..50 {
        let (count, most) = (2 + random(4), 1 + random(20) as u32);
        let cores = node(count as u16, most);
        for _ in 0..500 {
            let core = &cores[random(count) as usize];
            match random(6) {
                0 => _ = core.take(random(10) as u8),
                1 => core.keep(random(u64::from(core.held()) + 1) as u32),
                2 => _ = core.begin_wanting(),
                3 => core.show(random(2).checked_sub(1).and_then(|_| one(random(10) as u8))),
                4 => _ = core.owes_one(),
                _ => core.end_wanting(),
            }
            assert_eq!(cores.iter().map(CorePermits::held).sum::<u32>() + core.free(), most);
            let wanting = || cores.iter().filter(|core| core.is_wanting.get());
            assert_eq!(core.node.wanting.load(Relaxed) as usize, wanting().count());
            let below = || wanting().filter(|core| core.below_part_at.get().is_some());
            let sum = |counts: &[AtomicU32]| counts.iter().map(|count| count.load(Relaxed) as usize).sum::<usize>();
            assert_eq!(
                (sum(&core.node.wanting_at), sum(&core.node.below_part_at)),
                (wanting().count(), below().count())
            );
            let weight: u64 = wanting().map(|core| core.front.get().map_or(1, |front| front.weight)).sum();
            assert_eq!(core.node.weight_at.iter().map(|weight| weight.load(Relaxed)).sum::<u64>(), weight);
        }
    }
}

#[test]
fn threads_share_them_without_loss() {
    let node = Arc::new(NodePermits::new(Cap(10), 4));
    let out = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let core = CorePermits::new(node.clone());
                for round in 0..20_000 {
                    while core.held() < 5 && core.take(5) {
                        assert!(out.fetch_add(1, Relaxed) < 10, "more than the cap");
                    }
                    let keep = core.held().min(round % 3);
                    out.fetch_sub(core.held() - keep, Relaxed);
                    core.keep(keep);
                }
                out.fetch_sub(core.held(), Relaxed);
                core.keep(0);
            });
        }
    });
    assert_eq!(node.free.load(Relaxed), 10);
}

/// A core with its queue, driven as [`super::super::queue`] does: a permit that falls free goes on here, unless it is owed to another
/// core; every 2 ms a core on which requests wait looks for free ones.
struct Served {
    permits: CorePermits,
    queue: Queue<()>,
    waits: Vec<(Place, Who, Waits)>,
    /// When those that are served end, and whose they are.
    running: Vec<(u64, u32)>,
    served: [u64; 2],
}

impl Served {
    fn wait(&mut self, who: Who) {
        let here = self.permits.who_here(who, self.queue.waiting_of(who));
        let (place, _) = self.queue.wait(here, (), shards::Millis(0));
        self.waits.push((place, who, self.permits.count_waiting(who.tenant)));
        self.permits.show(self.queue.front());
        self.permits.begin_wanting();
    }

    fn begin(&mut self, ends: u64) {
        let granted =
            self.waits.iter().position(|(place, ..)| self.queue.standing(*place) == shards::Standing::Granted);
        let (_, who, _) = self.waits.swap_remove(granted.expect("one was served"));
        self.running.push((ends, who.tenant));
        self.served[who.tenant as usize] += 1;
        self.permits.served(self.queue.front());
    }

    fn step(&mut self, ms: u64, ends: u64) {
        while let Some(place) = self.running.iter().position(|(end, _)| *end <= ms) {
            self.running.swap_remove(place);
            if self.permits.owes_one() {
                self.permits.keep(self.permits.held() - 1);
                self.queue.resize(self.permits.held());
            }
            if self.queue.leave(shards::Millis(0)).is_some() {
                self.begin(ends);
            }
        }
        if ms.is_multiple_of(2) {
            self.permits.publish();
            while let Some(front) = self.queue.front()
                && self.permits.take(front.priority)
            {
                self.queue.resize(self.permits.held());
                if self.queue.grant(shards::Millis(0)).is_some() {
                    self.begin(ends);
                }
            }
        }
    }
}

/// A tenant that floods all cores beside one with all of its requests on one core: both are served by their weights, as one queue
/// would serve them.
#[test]
fn tenants_get_their_shares_whichever_cores_they_are_on() {
    for (count, most, weights) in [(2, 8, [1, 1]), (4, 16, [1, 1]), (4, 16, [1, 3]), (12, 48, [3, 1]), (12, 24, [1, 1])]
    {
        let node = Arc::new(NodePermits::new(Cap(most), count));
        let mut cores: Vec<Served> = (0..count)
            .map(|_| Served {
                permits: CorePermits::new(node.clone()),
                queue: Queue::new(0, 1_000),
                waits: Vec::new(),
                running: Vec::new(),
                served: [0; 2],
            })
            .collect();
        let who = |tenant: u32| Who { priority: 5, tenant, weight: weights[tenant as usize] };
        let waiting = |core: &Served, tenant| core.waits.iter().filter(|(_, who, _)| who.tenant == tenant).count();
        for ms in 0..20_000u64 {
            for (place, core) in cores.iter_mut().enumerate() {
                while waiting(core, 0) < 20 {
                    core.wait(who(0));
                }
                while place == 1 && waiting(core, 1) < 60 {
                    core.wait(who(1));
                }
                // Of 40 ms each, not all at once.
                core.step(ms, ms + 37 + (ms + place as u64) % 7);
            }
        }
        let [flood, one] = [0, 1].map(|tenant| cores.iter().map(|core| core.served[tenant]).sum::<u64>());
        let share = one * u64::from(weights[0] + weights[1]) * 100 / (u64::from(weights[1]) * (flood + one));
        let what = format!("{count} cores, {most} permits, {weights:?}: {one} beside {flood}");
        assert!((85..=115).contains(&share), "{share} % of its share: {what}");
        // And no permit is idle for long.
        assert!((flood + one) * 40 >= 20_000 * u64::from(most) * 90 / 100, "{what}");
    }
}

#[test]
fn a_core_on_which_nobody_waits_gives_up_what_is_more_than_its_part() {
    let cores = node(4, 8);
    assert_eq!(take_all(&cores[0]), 8);
    assert!(!cores[0].owes_unasked(), "nobody wants any");
    cores[1].begin_wanting();
    assert!(cores[0].owes_unasked());
    cores[0].keep(4);
    assert!(!cores[0].owes_unasked(), "half of them, with one other core");
    cores[2].begin_wanting();
    assert!(cores[0].owes_unasked());
    cores[0].keep(2);
    assert!(!cores[0].owes_unasked());
}
