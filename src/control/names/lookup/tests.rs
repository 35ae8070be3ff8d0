//! Single lookups: search domains, partial answers, and which resolver is used.

use super::super::tests::server::{Family, Manner, Reply, Zone, ip, resolver, run, serve};
use super::*;
use std::rc::Rc;

fn named(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

#[test]
fn search_domains_come_before_or_after_the_name_itself() {
    let search = ["svc.cluster.local", "cluster.local"].map(named);
    let tried = |name: &str, ndots| -> Vec<String> {
        candidates(&named(name), &search, ndots).iter().map(Name::to_string).collect()
    };
    assert_eq!(tried("vllm", 1), ["vllm.svc.cluster.local.", "vllm.cluster.local.", "vllm."]);
    assert_eq!(
        tried("vllm.models", 1),
        ["vllm.models.", "vllm.models.svc.cluster.local.", "vllm.models.cluster.local."]
    );
    assert_eq!(
        tried("vllm.models", 5),
        ["vllm.models.svc.cluster.local.", "vllm.models.cluster.local.", "vllm.models."]
    );
    assert_eq!(tried("vllm.models.", 5), ["vllm.models."], "a dot at the end says that it is whole");
    assert_eq!(candidates(&named("vllm"), &[], 1), [named("vllm.")]);
}

#[test]
fn half_an_answer_takes_nothing_away() {
    let ten = Duration::from_secs(10);
    let some = |text, seconds| Half::Some { addresses: vec![ip(text)], ttl: Duration::from_secs(seconds) };
    let lost = || Half::Unanswered("lost".to_owned());
    let found = |addresses: &[&str], ttl| {
        Whole::Found(Found { addresses: addresses.iter().map(|text| ip(text)).collect(), ttl })
    };
    let known = ["10.0.0.9", "fd00::9"].map(ip);
    let cases = [
        (some("10.0.0.1", 20), some("fd00::1", 10), found(&["10.0.0.1", "fd00::1"], ten)),
        (some("10.0.0.1", 10), Half::None, found(&["10.0.0.1"], ten)),
        (Half::None, some("fd00::1", 10), found(&["fd00::1"], ten)),
        (some("10.0.0.1", 10), lost(), found(&["10.0.0.1", "fd00::9"], Duration::ZERO)),
        (lost(), some("fd00::1", 10), found(&["10.0.0.9", "fd00::1"], Duration::ZERO)),
        (Half::None, Half::None, Whole::None),
        (Half::None, lost(), Whole::Unanswered("lost".to_owned())),
        (lost(), lost(), Whole::Unanswered("lost".to_owned())),
    ];
    for (four, six, expected) in cases {
        let told = format!("{four:?} and {six:?}");
        assert_eq!(whole(four, six, &known), expected, "{told}");
    }
    assert_eq!(whole(some("10.0.0.1", 10), lost(), &[ip("10.0.0.9")]), found(&["10.0.0.1"], ten), "nothing is missed");
}

#[test]
fn both_families_are_asked_for_each_time() {
    run(async {
        let zone = Rc::new(Zone::default());
        let resolver = resolver(serve(zone.clone()).await, &Manner::default());
        let (four, six) = ([ip("10.0.0.1"), ip("10.0.0.2")], [ip("fd00::1")]);
        zone.set("model.test.", Family::A, Reply::Addresses(four.to_vec(), 600));
        zone.set("model.test.", Family::Aaaa, Reply::Addresses(six.to_vec(), 7000));
        let found = resolver.look_up("model.test", &[]).await.unwrap();
        assert_eq!(found.addresses, [&four[..], &six].concat());
        let seconds = found.ttl.as_secs_f64();
        assert!(seconds > 0.0 && seconds <= 600.0, "{seconds} s of 600");
        // Whatever TTL is left of the last answer, a new lookup gets a new one.
        zone.set("model.test.", Family::Aaaa, Reply::Nothing);
        assert_eq!(resolver.look_up("model.test", &[]).await.unwrap().addresses, four);
        zone.forget("model.test.");
        let why = resolver.look_up("model.test", &four).await.unwrap_err();
        assert_eq!(why, "DNS has no address for it");
        zone.set("model.test.", Family::A, Reply::Addresses(vec![four[0]], 600));
        assert_eq!(resolver.look_up("model.test", &[]).await.unwrap().addresses, four[..1]);
    });
}

#[test]
fn the_first_candidate_that_has_an_address_is_taken() {
    run(async {
        let zone = Rc::new(Zone::default());
        let manner = Manner { search: &["one.test", "two.test"], ndots: 2, ..Manner::default() };
        let resolver = resolver(serve(zone.clone()).await, &manner);
        zone.set("vllm.one.test.", Family::A, Reply::Nothing);
        zone.set("vllm.two.test.", Family::A, Reply::Addresses(vec![ip("10.0.0.2")], 9));
        zone.set("vllm.", Family::A, Reply::Addresses(vec![ip("10.0.0.3")], 9));
        assert_eq!(resolver.look_up("vllm", &[]).await.unwrap().addresses, [ip("10.0.0.2")]);
        // A failed lookup does not mean that the name does not exist.
        zone.set("vllm.one.test.", Family::A, Reply::ServFail);
        let why = resolver.look_up("vllm", &[]).await.unwrap_err();
        assert!(why.starts_with("DNS answers: "), "{why}");
    });
}

#[test]
fn what_dns_does_not_know_the_system_may_know() {
    run(async {
        let zone = Rc::new(Zone::default());
        let manner = Manner { system: |_| Ok(vec![ip("10.0.0.7")]), ..Manner::default() };
        let found = Found { addresses: vec![ip("10.0.0.7")], ttl: SYSTEM_TTL };
        let server = serve(zone.clone()).await;
        assert_eq!(resolver(server, &manner).look_up("printer.lan", &[]).await, Ok(found.clone()));
        let nobody = Resolver::new(None, Hosts::default(), Arc::new(manner.system));
        assert_eq!(nobody.look_up("model.test", &[]).await, Ok(found));
        let empty = Resolver::new(None, Hosts::default(), Arc::new(|_: &str| Ok(Vec::new())));
        assert_eq!(empty.look_up("model.test", &[]).await.unwrap_err(), "the system has no address for it");
    });
}

#[test]
fn a_silent_server_is_given_up() {
    run(async {
        let zone = Rc::new(Zone::default());
        for family in [Family::A, Family::Aaaa] {
            zone.set("model.test.", family, Reply::Silence);
        }
        let manner = Manner { timeout: Duration::from_millis(25), ..Manner::default() };
        let why = resolver(serve(zone).await, &manner).look_up("model.test", &[]).await.unwrap_err();
        assert!(why.starts_with("DNS"), "{why}");
    });
}
