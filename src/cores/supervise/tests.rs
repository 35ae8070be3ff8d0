//! Threads that panic, end or stall, and the supervisor's reaction.

use std::sync::mpsc::channel;

use super::*;

/// No limits, however slow the machine is, except for the end.
const PATIENT: Pace = Pace { every: Duration::from_millis(1), start: u32::MAX, stall: u32::MAX, end: 20 };

/// Two data cores and the background core, which run the given functions.
fn node(
    pace: Pace,
    data: impl Fn(usize, &Sender<Event>, &Beat) + Send + Clone + 'static,
    background: impl FnOnce(&Sender<Event>, &Beat) + Send + 'static,
) -> (Result<Stopped, String>, bool) {
    let (events, heard) = channel();
    let beats: Vec<_> =
        [Who::Data(0), Who::Data(1), Who::Background].into_iter().map(|who| (who, Beat::default())).collect();
    for (core, (who, beat)) in beats.iter().take(2).enumerate() {
        let (data, tell, beat) = (data.clone(), events.clone(), beat.clone());
        start(*who, events.clone(), move || data(core, &tell, &beat)).unwrap();
    }
    let (tell, beat) = (events.clone(), beats[2].1.clone());
    start(Who::Background, events.clone(), move || background(&tell, &beat)).unwrap();
    drop(events);
    let mut served = false;
    (
        supervise(
            &heard,
            3,
            &beats,
            pace,
            || {
                served = true;
                Ok(())
            },
            || (),
        ),
        served,
    )
}

fn serve(tell: &Sender<Event>) {
    tell.send(Event::Ready(Ok(()))).unwrap();
}

/// Blocks until the test is over.
fn stand_still() {
    loop {
        thread::park();
    }
}

/// Makes progress until the receiver is gone.
fn beat_on(tell: &Sender<Event>, beat: &Beat) {
    serve(tell);
    loop {
        beat.raise();
        thread::yield_now();
    }
}

#[test]
fn a_node_that_is_stopped_has_ended_when_its_threads_have() {
    let (result, served) = node(
        PATIENT,
        |_, tell, _| serve(tell),
        |tell, _| {
            serve(tell);
            tell.send(Event::Stopped(Stopped::Drained)).unwrap();
        },
    );
    assert_eq!((result, served), (Ok(Stopped::Drained), true));
}

#[test]
fn a_thread_that_is_stuck_at_the_end_is_not_waited_for() {
    let (result, _) = node(
        PATIENT,
        |core, tell, _| {
            serve(tell);
            if core == 1 {
                stand_still();
            }
        },
        |tell, _| {
            serve(tell);
            tell.send(Event::Stopped(Stopped::Cut)).unwrap();
        },
    );
    assert_eq!(result, Ok(Stopped::Cut));
}

#[test]
fn a_core_that_panics_ends_the_node_with_its_reason() {
    let (result, _) = node(
        PATIENT,
        |core, tell, beat| {
            if core == 1 {
                serve(tell);
                panic!("the shard broke");
            }
            beat_on(tell, beat);
        },
        beat_on,
    );
    assert_eq!(result, Err("data core 1 panicked: the shard broke".to_owned()));
    let (result, _) = node(PATIENT, |_, tell, beat| beat_on(tell, beat), |_, _| panic!("{}", "early"));
    assert_eq!(result, Err("the background core panicked: early".to_owned()));
}

#[test]
fn a_core_that_stands_still_ends_the_node() {
    let (result, served) = node(
        Pace { stall: 20, ..PATIENT },
        |core, tell, beat| match core {
            1 => {
                serve(tell);
                stand_still();
            }
            _ => beat_on(tell, beat),
        },
        beat_on,
    );
    assert!(served);
    let told = result.unwrap_err();
    assert!(told.ends_with(" has made no progress for 0 s"), "{told}");
}

#[test]
fn a_background_core_that_ends_by_itself_ends_the_node() {
    let (result, _) = node(PATIENT, |_, tell, beat| beat_on(tell, beat), |tell, _| serve(tell));
    assert_eq!(result, Err("the background core ended".to_owned()));
}

#[test]
fn what_does_not_start_is_told() {
    let refuse = |_: usize, tell: &Sender<Event>, _: &Beat| {
        tell.send(Event::Ready(Err("no ring".to_owned()))).unwrap();
    };
    assert_eq!(node(PATIENT, refuse, beat_on), (Err("no ring".to_owned()), false));
    let half =
        |core: usize, tell: &Sender<Event>, beat: &Beat| if core == 0 { beat_on(tell, beat) } else { stand_still() };
    let (result, served) = node(Pace { start: 50, ..PATIENT }, half, beat_on);
    let told = result.unwrap_err();
    assert!(!served && told.ends_with(" of 3 threads did not start in time"), "{told}");
}

#[test]
fn looks_are_counted_from_the_last_progress_of_each() {
    let mut watch = Watch::new(vec![true; 2], 3);
    assert_eq!(watch.look([5, 0].into_iter()), None);
    assert_eq!(watch.look([5, 0].into_iter()), None);
    assert_eq!(watch.look([6, 1].into_iter()), None, "both moved in time");
    for _ in 0..2 {
        assert_eq!(watch.look([7, 1].into_iter()), None);
        watch.seen[0].1 = 0;
    }
    assert_eq!(watch.look([8, 1].into_iter()), Some(1));
}

#[test]
fn the_manager_is_told_only_when_every_thread_has_moved_and_a_stuck_log_ends_nothing() {
    let mut watch = Watch::new(vec![true, true, false], 3);
    let mut look = |counts: [u64; 3]| (watch.look(counts.into_iter()), watch.all_moved());
    assert_eq!(look([1, 1, 0]), (None, false), "the I/O core has not moved");
    assert_eq!(look([1, 1, 1]), (None, true), "each has, if not between the same two looks");
    assert_eq!(look([1, 1, 1]), (None, false));
    for count in 2..20 {
        assert_eq!(look([count, count, 1]), (None, false), "a stuck I/O core is no reason to end, nor to tell");
    }
    assert_eq!(look([20, 20, 2]), (None, true));
    assert_eq!([(); 3].map(|()| look([21, 20, 3])), [(None, false), (None, false), (Some(1), false)]);
}

#[test]
fn a_thread_that_waits_for_somebody_outside_is_seen_as_moving() {
    let beat = Beat::default();
    assert_eq!(beat.count(), beat.count());
    beat.raise();
    let before = beat.count();
    let (reader, writer) = channel::<()>();
    let waiting = beat.clone();
    let thread = thread::spawn(move || waiting.wait_outside(|| writer.recv().is_err()));
    while beat.count() == before {
        thread::yield_now();
    }
    let mut seen = beat.count();
    for _ in 0..100 {
        let now = beat.count();
        assert_ne!(std::mem::replace(&mut seen, now), now);
    }
    drop(reader);
    thread.join().unwrap();
    assert_eq!(beat.count(), beat.count(), "back to its own progress");
}
