//! The estimate of a wait: unknown before anything was served, near the truth at a steady pace, and never too hopeful for
//! long where the pace changes.

use super::*;

#[test]
fn nothing_is_said_before_anything_was_served() {
    let mut rate = Rate::default();
    assert_eq!(rate.wait_ms(10, Millis(0)), None);
    rate.waits(Millis(0));
    assert_eq!(rate.wait_ms(10, Millis(50_000)), None);
    rate.idle(Millis(50_000));
    assert_eq!(rate.wait_ms(10, Millis(50_000)), None, "all of them left");
}

fn serve(rate: &mut Rate, from_ms: u64, every_ms: u64, count: u64) -> u64 {
    rate.waits(Millis(from_ms));
    (1..=count).for_each(|number| rate.served(Millis(from_ms + number * every_ms)));
    from_ms + count * every_ms
}

#[test]
fn the_estimate_follows_the_pace() {
    let mut rate = Rate::default();
    let now = serve(&mut rate, 0, 20, 50);
    assert_eq!((rate.wait_ms(10, Millis(now)), rate.wait_ms(0, Millis(now))), (Some(210), Some(10)));
    // Ten times slower, at once when it is seen, and for good.
    let slow = rate.wait_ms(10, Millis(now + 200)).unwrap();
    assert_eq!(slow, 2_100, "nobody was served for 200 ms");
    let now = serve(&mut rate, now, 200, 10);
    assert!((2_000..=2_100).contains(&rate.wait_ms(10, Millis(now)).unwrap()));
    // And faster again.
    let now = serve(&mut rate, now, 10, 100);
    assert!((100..=110).contains(&rate.wait_ms(10, Millis(now)).unwrap()));
    // A short queue is enough to learn from, and one of long ago is forgotten.
    rate.idle(Millis(now));
    assert!(rate.wait_ms(10, Millis(now + 59_000)).is_some());
    assert_eq!(rate.wait_ms(10, Millis(now + 60_000)), None);
    assert_eq!(rate.wait_ms(u64::MAX, Millis(now)), Some(u64::MAX));
}
