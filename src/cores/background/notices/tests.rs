//! Cores that stall while health changes, and what they have received once they read their messages again.

use super::*;
use crate::net::channel::{Inbox, Notifier, connect};
use crate::upstream::message::UpstreamMessage;

/// Notices to this many cores, and the inboxes of those.
fn house(cores: usize) -> (Notices, Vec<Inbox<Message>>) {
    let notifiers: Vec<_> = (0..=cores).map(|_| Notifier::waker()).collect();
    let (mut outboxes, inboxes): (Vec<_>, Vec<_>) = connect(&notifiers).into_iter().unzip();
    (Notices::new(outboxes.pop().unwrap(), cores), inboxes)
}

/// The last verdict on each backend among the messages that are there, and how many messages those were.
fn read(inbox: &mut Inbox<Message>, known: &mut BTreeMap<BackendId, HealthNews>) -> usize {
    let mut count = 0;
    while let Some(message) = inbox.take() {
        count += 1;
        match message {
            Message::Upstream(UpstreamMessage::Health { backend, news }) => _ = known.insert(backend, news),
            Message::Drain | Message::Halt | Message::Stop => {}
            _ => panic!("another message"),
        }
    }
    count
}

#[test]
fn a_core_that_was_stalled_hears_the_last_verdict_on_each_backend() {
    let (notices, mut inboxes) = house(2);
    let (mut awake, mut stalled) = (BTreeMap::new(), BTreeMap::new());
    let verdict =
        |round: usize| if round.is_multiple_of(2) { HealthNews::CheckPassed } else { HealthNews::CheckFailed };
    // Far more than any ring and what stands behind it holds; what a ring holds ends with bad news, the last is good.
    for round in 0..99_999 {
        for backend in 0..2 {
            notices.tell(2, &Notice::Health { backend: BackendId(backend), news: verdict(round) });
        }
        read(&mut inboxes[0], &mut awake);
        assert!(notices.waiting.borrow()[1].len() <= 2, "one a backend");
    }
    let well = BTreeMap::from([(BackendId(0), HealthNews::CheckPassed), (BackendId(1), HealthNews::CheckPassed)]);
    assert_eq!(awake, well, "who reads its mail waits for nobody");
    assert!(notices.waiting.borrow()[0].is_empty());
    read(&mut inboxes[1], &mut stalled);
    assert!(notices.send(), "there is room again");
    assert!(read(&mut inboxes[1], &mut stalled) <= 2);
    assert_eq!(stalled, well);
}

#[test]
fn what_found_no_room_is_sent_once_there_is_some() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (notices, mut inboxes) = house(1);
        for _ in 0..10_000 {
            notices.tell(1, &Notice::Health { backend: BackendId(0), news: HealthNews::CheckFailed });
        }
        notices.tell(1, &Notice::Stop);
        notices.tell(1, &Notice::Drain);
        notices.tell(1, &Notice::Health { backend: BackendId(0), news: HealthNews::CheckPassed });
        let mut known = BTreeMap::new();
        tokio::select! {
            biased;
            () = notices.keep_sending() => {}
            () = async {
                read(&mut inboxes[0], &mut known);
                while !notices.waiting.borrow()[0].is_empty() {
                    tokio::task::yield_now().await;
                }
            } => {}
        }
        let mut rest = Vec::new();
        while let Some(message) = inboxes[0].take() {
            rest.push(message);
        }
        use Message::{Drain, Stop, Upstream};
        use UpstreamMessage::Health;
        let passed = HealthNews::CheckPassed;
        assert!(
            matches!(&rest[..], [Upstream(Health { backend: BackendId(0), news }), Drain, Stop] if *news == passed),
            "and in order"
        );
    });
}
