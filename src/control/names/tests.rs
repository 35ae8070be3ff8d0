//! Answers over time, from a test DNS server.

pub mod server; // the DNS server

use std::cell::RefCell;
use std::io;

use tokio::sync::Notify;

use self::server::{Family, Manner, Reply, Zone, ip, resolver, run, serve};
use super::*;

#[test]
fn answers_are_trusted_for_their_time_within_bounds() {
    let seconds = [0, 5, 60, 300, 86_400].map(|ttl| Pace::default().trusted(Duration::from_secs(ttl)).as_secs());
    assert_eq!(seconds, [5, 5, 60, 300, 300]);
    assert_eq!(Pace::default().trusted(Duration::MAX).as_secs(), 300);
    let waits: Vec<u64> = (1..8).map(|failed| Pace::default().retried(failed).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(Pace::default().retried(u32::MAX).as_secs(), 30);
}

fn dial(address: &str) -> Dial {
    Dial::Tcp((ip(address), 80).into())
}

#[test]
fn only_other_addresses_are_news() {
    let known = ["10.0.0.1", "10.0.0.2"].map(dial);
    let changed = |found: &[&str], port| changed(&known, found.iter().map(|&text| ip(text)).collect(), port);
    assert_eq!(changed(&["10.0.0.2", "10.0.0.1", "10.0.0.2"], 80), None, "in another order, and one twice");
    assert_eq!(changed(&[], 80), None, "no answer is no news");
    assert_eq!(changed(&["10.0.0.1"], 80).as_deref(), Some(&[dial("10.0.0.1")][..]));
    assert!(changed(&["10.0.0.1", "10.0.0.2"], 81).is_some(), "another port is another address");
}

#[test]
fn the_family_in_front_stays_in_front() {
    let found = ["10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2"].map(ip).to_vec();
    let four_first = ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"].map(dial);
    let six_first = ["fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2"].map(dial);
    assert_eq!(changed(&[dial("fd00::9")], found.clone(), 80).as_deref(), Some(&six_first[..]));
    assert_eq!(changed(&[dial("10.0.0.9")], found.clone(), 80).as_deref(), Some(&four_first[..]));
    assert_eq!(changed(&[], found, 80).as_deref(), Some(&four_first[..]));
}

/// A name that is followed, and the findings about it.
struct Followed {
    addresses: Addresses,
    told: Rc<RefCell<Vec<Finding>>>,
    news: Rc<Notify>,
}

impl Followed {
    fn start(known: &[Dial], resolver: Resolver) -> Followed {
        let addresses: Addresses = Rc::new(RefCell::new(known.into()));
        let (told, news) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Notify::new()));
        let (hear, ring) = (told.clone(), news.clone());
        let tell = Rc::new(move |finding| {
            hear.borrow_mut().push(finding);
            ring.notify_one();
        });
        let name = Name { backend: 0, called: "b".to_owned(), host: "model.test".to_owned(), port: 80 };
        let soon = Duration::from_millis(1);
        let pace = Pace { ttl_min: soon, ttl_max: soon, retry_min: soon, retry_max: soon };
        tokio::task::spawn_local(follow(name, pace, Rc::new(resolver), addresses.clone(), tell));
        Followed { addresses, told, news }
    }

    /// The finding with this index, once it has been reported.
    async fn told(&self, number: usize) -> Finding {
        loop {
            if let Some(finding) = self.told.borrow().get(number) {
                return finding.clone();
            }
            self.news.notified().await;
        }
    }

    async fn said(&self, number: usize) -> String {
        match self.told(number).await {
            Finding::Log(text) => text,
            other => panic!("{other:?}"),
        }
    }
}

fn leads_to(addresses: &[&str]) -> Finding {
    let addresses: Vec<Dial> = addresses.iter().map(|address| dial(address)).collect();
    Finding::Addresses { backend: 0, addresses: addresses.into() }
}

#[test]
fn a_name_is_followed_and_the_last_answer_kept() {
    run(async {
        let zone = Rc::new(Zone::default());
        let one = |text| Reply::Addresses(vec![ip(text)], 0);
        zone.set("model.test.", Family::A, one("10.0.0.1"));
        let resolver = resolver(serve(zone.clone()).await, &Manner::default());
        // The first answer is what is already known.
        let followed = Followed::start(&[dial("10.0.0.1")], resolver);
        while zone.asked.borrow().len() < 6 {
            tokio::task::yield_now().await;
        }
        zone.set("model.test.", Family::Aaaa, one("fd00::1"));
        assert_eq!(followed.told(0).await, leads_to(&["10.0.0.1", "fd00::1"]));
        for family in [Family::A, Family::Aaaa] {
            zone.set("model.test.", family, Reply::ServFail);
        }
        let said = followed.said(1).await;
        assert!(said.starts_with("backend b: the name model.test does not resolve (DNS answers"), "{said}");
        assert!(said.ends_with("; the last addresses are kept"), "{said}");
        // Several more failures, which are not reported.
        let asked = zone.asked.borrow().len();
        while zone.asked.borrow().len() < asked + 6 {
            tokio::task::yield_now().await;
        }
        assert_eq!(**followed.addresses.borrow(), ["10.0.0.1", "fd00::1"].map(dial));
        zone.set("model.test.", Family::Aaaa, Reply::Nothing);
        zone.set("model.test.", Family::A, one("10.0.0.2"));
        assert_eq!(followed.said(2).await, "backend b: the name model.test resolves again");
        // While one family is answered and the other not yet, its old address stays.
        let mut last = followed.told(3).await;
        if let Finding::Log(text) = &last {
            assert_eq!(text, "backend b: the name model.test resolves to other addresses now");
            last = followed.told(4).await;
            assert_eq!(last, leads_to(&["10.0.0.2"]));
        }
        assert!(last == leads_to(&["10.0.0.2"]) || last == leads_to(&["fd00::1", "10.0.0.2"]), "{last:?}");
    });
}

#[test]
fn a_name_that_led_nowhere_at_first_gets_its_addresses() {
    run(async {
        let zone = Rc::new(Zone::default());
        let followed = Followed::start(&[], resolver(serve(zone.clone()).await, &Manner::default()));
        while zone.asked.borrow().len() < 6 {
            tokio::task::yield_now().await;
        }
        zone.set("model.test.", Family::A, Reply::Addresses(vec![ip("10.0.0.1")], 0));
        // That it did not resolve was reported at start.
        assert_eq!(followed.said(0).await, "backend b: the name model.test resolves now");
        assert_eq!(followed.told(1).await, leads_to(&["10.0.0.1"]));
        // It moves, which is reported besides the addresses; an additional address is not a move.
        zone.set("model.test.", Family::A, Reply::Addresses(vec![ip("10.0.0.2")], 0));
        assert_eq!(followed.said(2).await, "backend b: the name model.test resolves to other addresses now");
        assert_eq!(followed.told(3).await, leads_to(&["10.0.0.2"]));
        zone.set("model.test.", Family::A, Reply::Addresses(["10.0.0.2", "10.0.0.3"].map(ip).to_vec(), 0));
        assert_eq!(followed.told(4).await, leads_to(&["10.0.0.2", "10.0.0.3"]));
    });
}

#[test]
fn localhost_stays_what_the_system_says() {
    run(async {
        let zone = Rc::new(Zone::default());
        let server = serve(zone.clone()).await;
        let manner = Manner {
            hosts: "10.9.9.9 model.test",
            system: |host| match host {
                "localhost" => Ok(vec![ip("127.0.0.1")]),
                "model.test" => Ok(vec![ip("10.9.9.9")]),
                _ => Err(io::Error::other("unknown")),
            },
            ..Manner::default()
        };
        zone.set("model.test.", Family::A, Reply::Addresses(vec![ip("10.0.0.1")], 0));
        let resolver = resolver(server, &manner);
        assert_eq!(resolver.look_up("localhost", &[]).await.unwrap().addresses, [ip("127.0.0.1")]);
        assert_eq!(resolver.look_up("model.test", &[]).await.unwrap().addresses, [ip("10.9.9.9")]);
        assert_eq!(resolver.look_up("my.localhost", &[]).await.unwrap_err(), "unknown");
        assert_eq!(*zone.asked.borrow(), []);
    });
}
