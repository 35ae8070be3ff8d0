//! Tests of `coalesce`: against a model that evaluates the whole history at each event, and with crowds at one owner.

use super::*;
use crate::random::{Random, each_seed};
use crate::{CoreId, Fingerprint, Flights, Joined, Millis};
use alloc::vec::Vec;

type Event = CoalesceEvent<u32, &'static str>;
type Step = CoalesceStep<u32, &'static str>;

/// The expected step after `history`, derived from all of it and the steps taken so far.
fn expected(history: &[Event], steps: &[Step]) -> Step {
    let Some((last, earlier)) = history.split_last() else {
        return Step::Ask { group: Group::Everyone, silent: None };
    };
    let before = &steps[earlier.len()];
    let is_other = |event: &Event| matches!(event, Event::Found(_, Fit::OtherForm) | Event::Converted(None));
    let is_old = |event: &Event| matches!(event, Event::Found(_, Fit::TooOld));
    let group_after = |history: &[Event]| match () {
        () if history.iter().any(is_other) => Group::SameForm,
        () if history.iter().any(is_old) => Group::Younger,
        () => Group::Everyone,
    };
    let (group, was) = (group_after(history), group_after(earlier));
    let same = |step: &&Step| matches!(step, Step::Ask { group, .. } | Step::AskHere { group, .. } if *group == was);
    let asks = steps.iter().filter(same).count();
    let is_owner_silent = history.contains(&Event::Silent(None));
    let again = |silent| match is_owner_silent {
        _ if asks >= 16 && group == was => Step::Alone,
        true => Step::AskHere { group, silent },
        false => Step::Ask { group, silent },
    };
    let owned = matches!(before, Step::Lead | Step::Alone);
    match last {
        Event::Found(answer, Fit::Usable) | Event::Converted(Some(answer)) => Step::Serve(*answer),
        _ if group != was => again(None),
        Event::Found(_, Fit::OtherForm) | Event::Converted(None) => Step::Alone,
        Event::Found(_, Fit::TooOld) | Event::Gone => again(None),
        Event::Lead => Step::Lead,
        Event::Follow => Step::Follow(group, if asks < 3 { Patience::Usual } else { Patience::Long }),
        Event::Silent(None) if earlier.contains(&Event::Silent(None)) => Step::Alone,
        Event::Silent(number) => again(*number),
        Event::Alone => Step::Alone,
        Event::Lagged(_) if !owned => Step::Alone,
        Event::Failed(_, Worth::AnotherTry) if !owned && !matches!(before, Step::Follow(_, Patience::Long)) => {
            again(None)
        }
        Event::Lagged(failure) | Event::Failed(failure, _) => Step::Fail(failure),
        Event::Stale(answer) => Step::ServeStale(*answer),
    }
}

/// An event that can follow `step`; none if nothing can.
fn draw(random: &mut Random, step: &Step) -> Option<Event> {
    let failed = |random: &mut Random| {
        let worth = if random.chance(70) { Worth::AnotherTry } else { Worth::Nothing };
        Event::Failed("failed", worth)
    };
    Some(match step {
        Step::Ask { group, .. } => match random.below(8) {
            0 => Event::Found(1, Fit::Usable),
            1 => Event::Found(1, Fit::TooOld),
            2 if *group != Group::SameForm => Event::Found(1, Fit::OtherForm),
            3 => Event::Alone,
            4 => Event::Lead,
            _ => Event::Follow,
        },
        Step::AskHere { .. } => {
            if random.chance(50) {
                Event::Lead
            } else {
                Event::Follow
            }
        }
        Step::Follow(group, _) => match random.below(9) {
            0 => Event::Gone,
            1 => Event::Silent(random.chance(80).then_some(9)),
            2 if *group != Group::SameForm => Event::Converted(random.chance(30).then_some(2)),
            3 => Event::Lagged("lagged"),
            4 => Event::Stale(3),
            5 => Event::Lead,
            6 => Event::Found(1, Fit::TooOld),
            _ => failed(random),
        },
        Step::Lead | Step::Alone => match random.below(3) {
            0 => Event::Lagged("lagged"),
            1 => Event::Stale(3),
            _ => failed(random),
        },
        Step::Serve(_) | Step::ServeStale(_) | Step::Fail(_) => return None,
    })
}

#[test]
fn every_history_ends_as_the_model_says() {
    each_seed(2_000, |seed| {
        let mut random = Random::new(seed);
        let mut coalescing = Coalescing::new();
        let mut history: Vec<Event> = Vec::new();
        let mut step: Step = coalescing.begin();
        let mut steps = Vec::from([expected(&history, &[])]);
        assert_eq!(step, steps[0], "SEED={seed}");
        while let Some(event) = draw(&mut random, &step) {
            history.push(event.clone());
            step = coalescing.next(event);
            steps.push(expected(&history, &steps));
            assert_eq!(Some(&step), steps.last(), "SEED={seed} {history:?}");
            assert!(history.len() <= 120, "SEED={seed}: does not end: {history:?}");
        }
    });
}

/// How an upstream call ends for its followers.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// Complete and not stored; whether it can be converted.
    Complete {
        converts: bool,
    },
    Failed(Worth),
    Silent,
}

/// Requests of both forms that all wait for one answer, at one owner.
struct Crowd {
    flights: Flights,
    requests: Vec<Request>,
    /// Whether each call made could be followed.
    calls: Vec<Flown>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flown {
    Led,
    Alone,
}

struct Request {
    coalescing: Coalescing,
    streams: bool,
    /// Flight and form of its leader, for followers.
    follows: Option<(Fingerprint, u64)>,
    end: Option<Step>,
}

const QUESTION: Fingerprint = Fingerprint([0; 32]);

fn fingerprint(group: Group, streams: bool) -> Fingerprint {
    match group {
        Group::Everyone => QUESTION,
        Group::Younger => Fingerprint([3; 32]),
        Group::SameForm => Fingerprint([1 + u8::from(streams); 32]),
    }
}

impl Crowd {
    fn new(random: &mut Random) -> Crowd {
        let requests = (0..50).map(|_| Request {
            coalescing: Coalescing::new(),
            streams: random.chance(50),
            follows: None,
            end: None,
        });
        let mut crowd = Crowd { flights: Flights::new(64), requests: requests.collect(), calls: Vec::new() };
        for at in 0..crowd.requests.len() {
            let step = crowd.requests[at].coalescing.begin();
            crowd.go(at, step);
        }
        crowd
    }

    /// Runs request `at` until it follows, fetches, or is over.
    fn go(&mut self, at: usize, mut step: Step) {
        loop {
            let request = &mut self.requests[at];
            step = match step {
                Step::Ask { group, silent } => {
                    let fingerprint = fingerprint(group, request.streams);
                    if let Some(number) = silent {
                        self.flights.finish(&fingerprint, number);
                    }
                    let event = match self.flights.join(&fingerprint, CoreId(0), Millis(0)) {
                        Joined::Lead { .. } => Event::Lead,
                        Joined::Follow { number, .. } => {
                            request.follows = Some((fingerprint, number));
                            Event::Follow
                        }
                        Joined::Full => Event::Alone,
                    };
                    request.coalescing.next(event)
                }
                Step::AskHere { .. } => panic!("the owner has answered"),
                Step::Lead | Step::Alone => {
                    self.calls.push(if step == Step::Lead { Flown::Led } else { Flown::Alone });
                    // The outcome of a call is the same for the request that makes it.
                    request.end = Some(step);
                    return;
                }
                Step::Follow(..) => return,
                end => {
                    request.end = Some(end);
                    return;
                }
            };
        }
    }

    /// Ends the oldest flight. False if there is none.
    fn land(&mut self, streamed: bool, ending: Ending) -> bool {
        let flying = [QUESTION, fingerprint(Group::SameForm, false), fingerprint(Group::SameForm, true)];
        let Some((flight, number)) = flying.iter().find_map(|flight| Some((*flight, self.flights.number(flight)?)))
        else {
            return false;
        };
        if !matches!(ending, Ending::Silent) {
            self.flights.finish(&flight, number);
        }
        for at in 0..self.requests.len() {
            let request = &mut self.requests[at];
            if request.follows != Some((flight, number)) || request.end.is_some() {
                continue;
            }
            request.follows = None;
            let event = match ending {
                Ending::Failed(worth) => Event::Failed("failed", worth),
                Ending::Silent => Event::Silent(Some(number)),
                Ending::Complete { .. } if flight != QUESTION || request.streams == streamed => {
                    request.end = Some(Step::Serve(1));
                    continue;
                }
                Ending::Complete { converts } => Event::Converted(converts.then_some(1)),
            };
            let step = request.coalescing.next(event);
            self.go(at, step);
        }
        true
    }
}

#[test]
fn an_answer_that_is_not_kept_serves_both_forms_or_costs_one_call_more() {
    each_seed(200, |seed| {
        let mut random = Random::new(seed);
        let converts = random.chance(50);
        let mut crowd = Crowd::new(&mut random);
        let streamed = random.chance(50);
        while crowd.land(streamed, Ending::Complete { converts }) {}
        let split = crowd.requests.iter().any(|request| request.streams != streamed);
        let most = if converts || !split { 1 } else { 2 };
        assert!(crowd.calls.len() <= most, "SEED={seed}: {:?}", crowd.calls);
        assert!(crowd.requests.iter().all(|request| request.end.is_some()), "SEED={seed}");
    });
}

#[test]
fn a_crowd_makes_few_calls_whatever_becomes_of_them() {
    each_seed(2_000, |seed| {
        let mut random = Random::new(seed);
        let mut crowd = Crowd::new(&mut random);
        let mut landed = Vec::new();
        let mut silent = 0;
        loop {
            let ending = match random.below(4) {
                0 => Ending::Complete { converts: random.chance(50) },
                1 => Ending::Failed(Worth::AnotherTry),
                2 => Ending::Failed(Worth::Nothing),
                // After that many silent flights no request waits any longer.
                _ if silent < 10 => Ending::Silent,
                _ => Ending::Failed(Worth::AnotherTry),
            };
            silent += usize::from(matches!(ending, Ending::Silent));
            if !crowd.land(random.chance(50), ending) {
                break;
            }
            landed.push(ending);
        }
        // Three calls for `Everyone`, three for each form, and one for each silent flight.
        assert!(crowd.calls.len() <= 9 + silent, "SEED={seed}: {:?} after {landed:?}", crowd.calls);
        assert!(!crowd.calls.contains(&Flown::Alone), "SEED={seed}: {:?} after {landed:?}", crowd.calls);
        assert!(crowd.requests.iter().all(|request| request.end.is_some()), "SEED={seed}");
    });
}
