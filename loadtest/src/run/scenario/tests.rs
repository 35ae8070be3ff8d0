//! The plans of the scenarios, and a short run of each against a mock.

use super::*;

#[test]
fn lengths_and_rates_are_those_of_the_plan() {
    let length = |name, short| phases(name, short).iter().map(|phase| phase.seconds).sum::<f64>();
    let (minute, hour) = (60.0, 3600.0);
    assert_eq!(length(Name::Baseline, false), 30.0 * minute);
    assert_eq!(length(Name::Sustained, false), 4.0 * hour);
    assert_eq!(length(Name::Spike, false), hour);
    assert_eq!(length(Name::Soak, false), 24.0 * hour);
    assert_eq!(length(Name::Cache, false), hour);
    for name in [Name::Baseline, Name::Sustained, Name::Spike, Name::Soak, Name::Cache] {
        assert!(length(name, true) <= 3.0 * minute, "{name:?}");
        for pair in phases(name, false).windows(2) {
            assert_eq!(pair[0].to, pair[1].from, "{name:?}: the rate is continuous");
        }
    }
    let spike = phases(Name::Spike, false);
    assert_eq!(rate(&spike, 0.0), 1_000.0);
    assert_eq!(rate(&spike, 150.0), 20_000.0);
    assert_eq!(rate(&spike, 299.0), 1_000.0);
    let soak = phases(Name::Soak, true);
    assert_eq!((rate(&soak, 15.0), rate(&soak, 45.0)), (9_600.0, 6_400.0));
}

#[test]
fn requests_start_as_the_rate_says() {
    let phases = [
        Phase { part: "up", seconds: 10.0, from: 0.0, to: 100.0, cache: CacheUse::Allowed },
        Phase { part: "hold", seconds: 2.0, from: 100.0, to: 100.0, cache: CacheUse::Bypassed },
    ];
    let parts = parts(&phases);
    let starts: Vec<Start> = starts(&phases, &parts).collect();
    assert_eq!(starts.len(), 700);
    assert!(starts.is_sorted_by_key(|start| start.after));
    // Half the time at half the rate is a quarter of the ramp.
    let early = starts.iter().filter(|start| start.after.as_secs_f64() < 5.0).count();
    assert!((124..=126).contains(&early), "{early}");
    assert!(starts[500..].iter().all(|start| start.part == 1 && start.cache == CacheUse::Bypassed));
    assert!((starts[699].after.as_secs_f64() - 11.99).abs() < 0.001);
}

fn window(asked: f64, done: f64, failed: f64, p99_us: u64) -> Window {
    Window { end: 1.0, asked, done, failed, hit_rate: None, p50_us: 1, p95_us: 1, p99_us }
}

#[test]
fn a_ramp_fails_by_errors_by_answers_that_are_missing_and_by_late_ones() {
    assert!(!has_failed(&window(1000.0, 995.0, 5.0, 900_000)));
    assert!(has_failed(&window(1000.0, 980.0, 20.0, 1)));
    assert!(has_failed(&window(1000.0, 850.0, 0.0, 1)));
    assert!(has_failed(&window(1000.0, 1000.0, 0.0, 1_100_000)));
}

#[test]
fn only_a_ramp_that_stays_bad_ends() {
    let phases = phases(Name::Baseline, true);
    for (name, bad, ended) in [(Name::Baseline, 3, true), (Name::Baseline, 2, false), (Name::Sustained, 3, false)] {
        let mut watch = Watch::new(name, &phases);
        // No answers in the bad seconds, and all of them in the last one.
        let mut flow = ControlFlow::Continue(());
        for second in 1..=bad {
            flow = watch.look(Duration::from_secs(second), &mut Part::new("window"));
        }
        assert_eq!(flow.is_break(), ended, "{name:?}");
        assert_eq!(watch.windows.len(), bad as usize);
    }
}

#[test]
fn the_picture_is_whole_whatever_was_measured() {
    let empty = picture::draw("x", &[]);
    let strange = picture::draw("x", &[window(0.0, 0.0, 0.0, 0), window(1e6, 1e6, 3.0, 10_000_000)]);
    for text in [empty, strange] {
        assert!(
            text.starts_with("<svg ") && text.ends_with("</svg>\n") && !text.contains("NaN") && !text.contains("inf")
        );
    }
}
