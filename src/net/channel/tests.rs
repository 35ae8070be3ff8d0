//! The bounds of the three classes, in messages and bytes, and the order of reception.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Wake, Waker};

use super::*;
use crate::limits::*;

#[derive(Debug, PartialEq)]
struct Parcel {
    class: Class,
    bytes: u64,
    number: usize,
}

impl Payload for Parcel {
    fn class(&self) -> Class {
        self.class
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn parcel(class: Class, bytes: u64, number: usize) -> Parcel {
    Parcel { class, bytes, number }
}

/// The outboxes of `senders` cores and the inbox of the core after them.
fn house(senders: usize) -> (Vec<Outbox<Parcel>>, Inbox<Parcel>) {
    let notifiers: Vec<_> = (0..=senders).map(|_| Notifier::waker()).collect();
    let (mut outboxes, mut inboxes): (Vec<_>, Vec<_>) = connect(&notifiers).into_iter().unzip();
    outboxes.truncate(senders);
    (outboxes, inboxes.pop().unwrap())
}

/// How many messages of `class` and `bytes` are accepted for a core that receives none.
fn accepted(outbox: &Outbox<Parcel>, class: Class, bytes: u64) -> usize {
    (0..1_000_000).take_while(|number| outbox.post(1, parcel(class, bytes, *number)).is_ok()).count()
}

#[test]
fn each_class_has_bounds_of_its_own_in_messages() {
    let (outboxes, mut inbox) = house(1);
    assert_eq!(accepted(&outboxes[0], Class::Log, 0), 2 * LOG_MESSAGES);
    assert_eq!(accepted(&outboxes[0], Class::Request, 0), REQUEST_MESSAGES + REQUEST_MESSAGES_WAITING);
    assert_eq!(accepted(&outboxes[0], Class::Control, 0), CONTROL_MESSAGES + CONTROL_MESSAGES_WAITING);
    assert!(outboxes[0].offer(1, parcel(Class::Control, 0, 0)).is_err());
    // All of them arrive, class by class, each class in order.
    let mut numbers = [0; 3];
    loop {
        while let Some(message) = inbox.take() {
            assert_eq!(message.number, numbers[message.class as usize]);
            numbers[message.class as usize] += 1;
        }
        if !outboxes[0].flush() && inbox.classes.iter().all(|class| class.rings.iter().all(|r| r.consumer.is_empty())) {
            break;
        }
    }
    let all =
        [CONTROL_MESSAGES + CONTROL_MESSAGES_WAITING, REQUEST_MESSAGES + REQUEST_MESSAGES_WAITING, 2 * LOG_MESSAGES];
    assert_eq!(numbers, all);
}

#[test]
fn each_class_has_bounds_of_its_own_in_bytes() {
    let (outboxes, mut inbox) = house(1);
    let outbox = &outboxes[0];
    assert_eq!(accepted(outbox, Class::Request, REQUEST_MESSAGE_BYTES / 4), 4);
    assert_eq!(accepted(outbox, Class::Log, LOG_MESSAGE_BYTES / 2), 2);
    // Receiving makes room.
    assert!(inbox.take().is_some());
    assert!(outbox.post(1, parcel(Class::Request, REQUEST_MESSAGE_BYTES / 4, 4)).is_ok());
    assert!(outbox.post(1, parcel(Class::Request, 1, 5)).is_err());
    while inbox.take().is_some() {}
    // A message that is too large by itself is sent alone.
    assert!(outbox.post(1, parcel(Class::Request, 2 * REQUEST_MESSAGE_BYTES, 6)).is_ok());
    assert!(outbox.post(1, parcel(Class::Request, 1, 7)).is_err());
    assert_eq!(inbox.take().map(|message| message.number), Some(6));
    assert!(outbox.post(1, parcel(Class::Request, 1, 8)).is_ok());
}

#[test]
fn control_messages_pass_those_of_requests_and_no_sender_keeps_another_waiting() {
    let (outboxes, mut inbox) = house(2);
    let [first, second] = &outboxes[..] else { unreachable!() };
    for number in 0..REQUEST_MESSAGES {
        first.post(2, parcel(Class::Request, 0, number)).unwrap();
    }
    second.post(2, parcel(Class::Request, 0, 7_777)).unwrap();
    assert_eq!([inbox.take(), inbox.take()].map(|message| message.unwrap().number), [0, 7_777]);
    second.post(2, parcel(Class::Control, 0, 9_999)).unwrap();
    let place = (0..).find(|_| inbox.take().unwrap().class == Class::Control).unwrap();
    assert!(place <= CONTROL_EVERY as usize, "{place}");
}

#[test]
fn a_message_wakes_who_waits_and_who_is_about_to() {
    let (outboxes, inbox) = house(1);
    let mut reader = EventFdReader::default();
    let mut context = Context::from_waker(Waker::noop());
    for round in 0..3 {
        // It came before the wait; then during it.
        outboxes[0].post(1, parcel(Class::Request, 0, round)).unwrap();
        let mut wait = pin!(inbox.wait(&mut reader));
        assert!(wait.as_mut().poll(&mut context).is_ready(), "it is here already");
    }
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    let mut wait = pin!(inbox.wait(&mut reader));
    assert!(wait.as_mut().poll(&mut context).is_pending(), "what was waited for is no news");
    outboxes[0].post(1, parcel(Class::Request, 0, 3)).unwrap();
    assert!(woken.0.load(Ordering::Relaxed));
    assert!(wait.as_mut().poll(&mut context).is_ready());
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
