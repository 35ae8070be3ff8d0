//! Tasks that panic on purpose.

use std::cell::{Cell, RefCell};

use super::*;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

/// Runs a task that panics this many times before it ends; returns what was reported, and the number of panics.
fn told_of(panicking: u32, tell_panics: bool) -> (Vec<String>, u64) {
    let (told, panics, starts) = (Rc::new(RefCell::new(Vec::new())), Panics::default(), Cell::new(0));
    let hear = told.clone();
    let tell: Rc<dyn Fn(Finding)> = Rc::new(move |finding| {
        assert!(!tell_panics, "intended, too");
        match finding {
            Finding::Log(text) => hear.borrow_mut().push(text),
            other => unreachable!("{other:?}"),
        }
    });
    let [first, last, sound] = [1, 4, 3_600_000].map(Duration::from_millis);
    run(keep("the task".to_owned(), Pauses { first, last, sound }, panics.clone(), tell, || {
        starts.set(starts.get() + 1);
        let panics = starts.get() <= panicking;
        async move {
            tokio::task::yield_now().await;
            assert!(!panics, "intended");
        }
    }));
    assert_eq!(starts.get(), panicking + 1);
    (told.take(), panics.count())
}

#[test]
fn what_panics_is_told_counted_and_started_again_later_and_later() {
    assert_eq!(told_of(0, false), (Vec::new(), 0));
    let (told, count) = told_of(5, false);
    assert_eq!(count, 5);
    assert_eq!(told[0], "the task panicked and restarts in 1ms; 1 panics on this core so far");
    let pauses: Vec<&str> = told.iter().map(|text| text.split([' ', ';']).nth(6).unwrap()).collect();
    assert_eq!(pauses, ["1ms", "2ms", "4ms", "4ms", "4ms"]);
}

#[test]
fn a_panic_in_the_telling_stops_nothing() {
    assert_eq!(told_of(2, true), (Vec::new(), 4));
}

#[test]
fn what_has_run_well_begins_with_the_first_pause_again() {
    let (told, starts) = (Rc::new(RefCell::new(Vec::new())), Cell::new(0));
    let hear = told.clone();
    let tell: Rc<dyn Fn(Finding)> = Rc::new(move |finding| hear.borrow_mut().push(finding));
    let [first, last, sound] = [1, 4, 0].map(Duration::from_millis);
    run(keep("it".to_owned(), Pauses { first, last, sound }, Panics::default(), tell, || {
        starts.set(starts.get() + 1);
        let panics = starts.get() < 4;
        async move { assert!(!panics, "intended") }
    }));
    let again = |finding: &Finding| matches!(finding, Finding::Log(text) if text.contains("restarts in 1ms"));
    assert!(told.borrow().len() == 3 && told.borrow().iter().all(again), "{told:?}");
}
