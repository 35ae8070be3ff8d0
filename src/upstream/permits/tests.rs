//! Permits by themselves: the cap, who is served first, and that none is lost or made.

use super::*;

fn node(cores: u16, most: u32, sharing: Sharing) -> Vec<CorePermits> {
    let node = Arc::new(NodePermits::new(Cap { most, sharing }, cores));
    (0..cores).map(|_| CorePermits::new(node.clone())).collect()
}

fn take_all(core: &CorePermits) -> u32 {
    std::iter::from_fn(|| core.take(5).then_some(())).count() as u32
}

#[test]
fn one_busy_core_uses_the_whole_cap() {
    let cores = node(12, 100, Sharing::Lent);
    assert_eq!(take_all(&cores[3]), 100);
    assert!(!cores[0].take(5));
    cores[3].keep(2);
    assert_eq!((cores[3].held(), take_all(&cores[0])), (2, 98));
}

#[test]
fn a_single_core_and_a_divided_cap_lend_nothing() {
    let alone = &node(1, 7, Sharing::Lent)[0];
    alone.keep(0);
    assert_eq!((alone.held(), alone.take(5)), (7, false));
    let cores = node(3, 7, Sharing::Divided);
    cores[0].keep(0);
    assert_eq!((cores[0].held(), cores[0].take(5), cores[1].take(5)), (3, false, false));
    assert_eq!((cores[0].divide(100), cores[1].held()), (34, 3));
}

#[test]
fn a_core_below_its_part_is_served_first() {
    let cores = node(2, 4, Sharing::Lent);
    assert_eq!(take_all(&cores[0]), 4);
    assert!(cores[1].begin_wanting() && !cores[1].begin_wanting());
    cores.iter().for_each(|core| core.show(Some(5)));
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
    let cores = node(3, 1, Sharing::Lent);
    assert!(cores[0].take(5));
    cores[1].begin_wanting();
    cores[0].begin_wanting();
    cores.iter().for_each(|core| core.show(Some(5)));
    assert!(cores[0].owes_one());
    cores[0].keep(0);
    assert!(cores[1].take(5) && cores[1].owes_one());
}

#[test]
fn the_more_urgent_go_first_on_whichever_core_and_none_waits_for_ever() {
    let cores = node(2, 4, Sharing::Lent);
    assert_eq!(take_all(&cores[0]), 4);
    cores[0].show(Some(9));
    cores[0].begin_wanting();
    assert!(!cores[0].owes_one(), "nothing waits elsewhere");
    cores[1].show(Some(0));
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
    cores[0].served(Some(9));
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
        let cores = node(count as u16, most, Sharing::Lent);
        for _ in 0..500 {
            let core = &cores[random(count) as usize];
            match random(6) {
                0 => _ = core.take(random(10) as u8),
                1 => core.keep(random(u64::from(core.held()) + 1) as u32),
                2 => _ = core.begin_wanting(),
                3 => core.show(random(2).checked_sub(1).map(|_| random(10) as u8)),
                4 => _ = core.owes_one(),
                _ => core.end_wanting(),
            }
            assert_eq!(cores.iter().map(CorePermits::held).sum::<u32>() + core.free(), most);
            let wanting = || cores.iter().filter(|core| core.is_wanting.get());
            assert_eq!(core.node.wanting.load(Relaxed) as usize, wanting().count());
            let below = wanting().filter(|core| core.held() < (most / count as u32).max(1)).count();
            let sum = |counts: &[AtomicU32]| counts.iter().map(|count| count.load(Relaxed) as usize).sum::<usize>();
            assert_eq!((sum(&core.node.wanting_at), sum(&core.node.below_part_at)), (wanting().count(), below));
        }
    }
}

#[test]
fn threads_share_them_without_loss() {
    let node = Arc::new(NodePermits::new(Cap { most: 10, sharing: Sharing::Lent }, 4));
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
