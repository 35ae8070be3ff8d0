//! Connections to backends as they are kept: ahead of need, as long as the peer says, no more than allowed; and what is
//! asked when nothing is in service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::kit::*;

#[test]
fn connections_are_opened_ahead_of_need_and_used() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with_backend(&backend, "connections_min = 3").start();
    eventually("three connections wait", || backend.connections() == 3);
    for round in 0..5 {
        gateway.ask(chat(&format!("{round}"))).expect(200);
    }
    assert_eq!((backend.count(), backend.connections()), (5, 3));
}

#[test]
fn a_connection_is_kept_no_longer_than_its_peer_says() {
    let answer = |request: &Request| {
        let text = String::from_utf8(echo(request)).unwrap();
        let seconds = if request.text().contains("short") { 1 } else { 60 };
        text.replacen("\r\n", &format!("\r\nKeep-Alive: max=9, timeout={seconds}\r\n"), 1).into_bytes()
    };
    let backend = Backend::answering(answer);
    let gateway = Setup::with(&backend).start();
    gateway.ask(chat("long 1")).expect(200);
    gateway.ask(chat("long 2")).expect(200);
    assert_eq!(backend.connections(), 1, "60 s are long enough");
    gateway.ask(chat("short 1")).expect(200);
    gateway.ask(chat("short 2")).expect(200);
    assert_eq!(backend.connections(), 2, "of one second nothing is left, less one for the way");
}

#[test]
fn fast_open_is_an_ordinary_connection_where_nobody_knows_it() {
    let backend = Backend::answering(echo);
    let gateway = Setup::with_backend(&backend, "fast_open = true").start();
    for round in 0..3 {
        assert_eq!(gateway.ask(chat(&format!("{round}"))).expect(200).text(), completion(&format!("{round}!")));
    }
    // And a refusal, which shows later there, is a refusal.
    let gateway = Setup::with_backend(&Backend::absent(), "fast_open = true").start();
    gateway.ask(chat("x")).expect(502);
}

#[test]
fn when_nothing_is_in_service_all_are_asked() {
    let sick = Arc::new(AtomicBool::new(true));
    let backend = Backend::sickly(&sick);
    let gateway = Setup::bare()
        .backend("b", &backend, "eject_errors = 1\neject_time = \"1h\"")
        .model("m", "backends = [\"b\"]\nretries = 0")
        .start();
    for round in 1..=3 {
        gateway.ask(chat("x")).expect(502);
        assert_eq!(backend.count(), round, "out of service, and there is nothing to lose");
    }
    sick.store(false, Ordering::SeqCst);
    gateway.ask(chat("x")).expect(200);
}

#[test]
fn sessions_stay_where_they_were_and_regions_come_in_order() {
    let backends: Vec<Backend> = (0..4).map(|_| Backend::answering(echo)).collect();
    let mut setup = Setup::bare().server("region = \"here\"\nregions_near = [\"near\"]");
    for (place, (backend, region)) in backends.iter().zip(["far", "near", "here", "here"]).enumerate() {
        setup = setup.backend(&format!("b{place}"), backend, &format!("region = \"{region}\""));
    }
    let gateway = setup
        .model("m", "balance = \"sticky\"\nsession_header = \"X-Chat\"\nbackends = [\"b0\", \"b1\", \"b2\", \"b3\"]")
        .start();
    let count = || backends.iter().map(Backend::count).collect::<Vec<_>>();
    for session in 0..8 {
        let before = count();
        for round in 0..4 {
            let body = question(&format!("{session} {round}"));
            gateway.ask(post_with(CHAT, &format!("X-Chat: session {session}\r\n"), &body)).expect(200);
        }
        let mut asked: Vec<usize> = count().iter().zip(before).map(|(now, before)| now - before).collect();
        asked.sort_unstable();
        assert_eq!(asked, [0, 0, 0, 4], "one backend has the session");
    }
    let count = count();
    assert_eq!((count[0], count[1], count[2] + count[3]), (0, 0, 32), "nobody goes further than need be");
}
