//! A configuration in two texts: what a node's own file says, and what a store has.

use std::path::Path;

use ringway::config::bootstrap::Bootstrap;
use ringway::config::load::{Loaded, load_document, load_file};
use ringway::config::pem::no_look;
use ringway::config::problem::Problems;
use ringway::config::snapshot::{Listen, Snapshot, StoreKind};

use super::{LEAST, SECRET};

const ETCD: &str = "[config]\nsource = \"etcd\"\nendpoints = [\"http://127.0.0.1:2379\"]\n";

fn file(text: &str) -> Result<Loaded, Problems> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.toml");
    std::fs::write(&path, text).unwrap();
    load_file(&path, &no_look)
}

fn own(text: &str) -> Box<Bootstrap> {
    match file(text) {
        Ok(Loaded::Elsewhere(own)) => own,
        other => panic!("{other:?}"),
    }
}

fn refused(text: &str) -> String {
    file(text).expect_err(text).to_string()
}

fn together(of_node: &str, of_store: &str) -> Result<Snapshot, String> {
    let own = own(of_node);
    load_document(&own, "etcd:k", of_store, &no_look).map_err(|problems| problems.to_string())
}

fn listen(text: &str) -> Listen {
    text.parse().unwrap()
}

#[test]
fn a_store_is_read_from_the_file_that_names_it() {
    let own = own(&format!("[server]\nstate_dir = \"/s\"\n{ETCD}user = \"u\"\npassword = \"{SECRET}\"\n"));
    assert_eq!((own.store.kind, own.store.called().as_str()), (StoreKind::Etcd, "etcd:ringway/config"));
    assert_eq!(own.state_dir.as_deref(), Some(Path::new("/s")));
    assert!(!format!("{own:?}").contains(&format!("{SECRET}\"")) || !format!("{:?}", own.store).contains(SECRET));
    assert!(!format!("{:?}", own.store).contains(SECRET));
}

#[test]
fn what_is_wrong_with_a_store_is_told_at_its_key() {
    let config = |rest: &str| format!("[config]\n{rest}\n");
    let cases = [
        (config("source = \"etcd\""), ":2:10: config.endpoints: is required with etcd"),
        (
            config("source = \"redis\"\nendpoints = [\"http://h\"]"),
            ":3:14: config.endpoints: is not how redis is reached",
        ),
        (config("source = \"consul\"\nendpoints = [\"redis://h\"]"), ":3:14: config.endpoints: is not how consul"),
        (config("source = \"redis\"\nendpoints = [\"redis://u:p@h\"]"), "a credential stands in the address"),
        (
            config("source = \"redis\"\nendpoints = [\"redis+cluster://h\"]"),
            "Sentinels and clusters are not asked where the configuration is",
        ),
        (format!("{ETCD}token = \"t\"\n"), ":4:9: config.token: is not used with etcd"),
        (format!("{ETCD}user = \"u\"\n"), "user and password belong together"),
        (format!("{ETCD}password = \"p\"\n"), "user and password belong together"),
        (format!("{ETCD}{LEAST}"), "a [[backend]] stands in the store"),
        (format!("{ETCD}[server]\nlisten = [\"nonsense\"]\n"), ":5:11: server.listen"),
        (format!("{ETCD}[cash]\n"), "did you mean cache?"),
    ];
    for (text, what) in cases {
        let told = refused(&text);
        assert!(told.contains(what), "{text}\ngave {told}");
        assert!(told.starts_with('/'), "{told}");
    }
}

#[test]
fn what_the_node_says_wins_key_by_key() {
    let of_node = format!("{ETCD}[server]\nlisten = [\"127.0.0.1:1\"]\n[log]\nlevel = \"warn\"\n");
    let of_store = format!(
        "[server]\nlisten = [\"127.0.0.1:2\"]\ntimeout_head = \"7s\"\n[log]\nlevel = \"error\"\nformat = \"json\"\n{LEAST}"
    );
    let snapshot = together(&of_node, &of_store).unwrap();
    assert_eq!(snapshot.server.listen, [listen("127.0.0.1:1")]);
    assert_eq!(snapshot.server.timeout_head_ms, 7_000);
    assert_eq!(format!("{:?} {:?}", snapshot.log.level, snapshot.log.format), "Warn Json");
    assert!(snapshot.config.store.is_some());
    assert_eq!(snapshot.files.len(), 1);
}

#[test]
fn listeners_are_those_of_the_node_if_it_has_any() {
    let of_store = format!("[[listener]]\naddress = \"127.0.0.1:3\"\n{LEAST}");
    let all = |snapshot: Snapshot| snapshot.server.listeners.into_iter().map(|one| one.address).collect::<Vec<_>>();
    assert_eq!(all(together(ETCD, &of_store).unwrap()), [listen("127.0.0.1:3")]);
    let of_node = format!("{ETCD}[[listener]]\naddress = \"127.0.0.1:4\"\n");
    assert_eq!(all(together(&of_node, &of_store).unwrap()), [listen("127.0.0.1:4")]);
}

#[test]
fn when_it_is_read_again_may_stand_in_the_store_and_where_it_is_may_not() {
    let of_store = format!("[config]\nrefresh = \"9s\"\nwatch = false\n{LEAST}");
    assert_eq!(together(ETCD, &of_store).unwrap().config.refresh_ms, 9_000);
    let own = format!("{ETCD}refresh = \"8s\"\n");
    assert_eq!(together(&own, &of_store).unwrap().config.refresh_ms, 8_000);
    for key in ["source = \"file\"", "endpoints = [\"http://h\"]", "key = \"k\"", "timeout = \"1s\"", "token = \"t\""] {
        let told = together(ETCD, &format!("[config]\n{key}\n{LEAST}")).unwrap_err();
        assert!(told.contains("etcd:k:2:1: config.") && told.contains("each node's own file"), "{told}");
    }
}

#[test]
fn errors_have_their_place_in_the_text_that_they_stand_in() {
    let told = together(ETCD, &LEAST.replace("\"a\"]", "\"nobody\"]")).unwrap_err();
    assert!(
        told.starts_with("etcd:k:7:13: model.backends.backend: there is no [[backend]] named \"nobody\""),
        "{told}"
    );
    // Of the two together: this one listens beyond this machine, and the store has no tenant.
    let own = format!("{ETCD}[server]\n\n   listen = [\"0.0.0.0:1\"]\n");
    let told = together(&own, LEAST).unwrap_err();
    assert!(told.contains("/node.toml:6:14: server.listen: 0.0.0.0:1 can be reached by others"), "{told}");
    let told = together(ETCD, "[[backend").unwrap_err();
    assert!(told.starts_with("etcd:k:1:"), "{told}");
    let told = together(ETCD, "").unwrap_err();
    assert!(told.contains("etcd:k:1:1: backend: there is no [[backend]]"), "{told}");
}

#[test]
fn a_prompt_template_stands_in_the_store() {
    let template = "[[template]]\nname = \"t\"\nuser = \"{{ a }}\"\n";
    let snapshot = together(ETCD, &format!("{LEAST}{template}")).unwrap();
    assert_eq!(snapshot.prompts.templates().len(), 1);
    let told = together(ETCD, &format!("{LEAST}{}", template.replace(" }}", ""))).unwrap_err();
    assert!(told.starts_with("etcd:k:") && told.contains("template.user"), "{told}");
    assert!(refused(&format!("{ETCD}{template}")).contains("a [[template]] stands in the store"));
}
