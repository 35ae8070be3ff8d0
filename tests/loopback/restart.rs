//! Stored answers over restarts: snapshots, and what of them is not to come back.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use super::kit::*;

fn node(backend: &Backend, directory: &Path, cores: usize) -> Setup {
    Setup::with(backend)
        .cores(cores)
        .server(&format!("state_dir = \"{}\"", directory.display()))
        .cache("snapshot = true\nsnapshot_interval = \"0s\"\nshow_key = true")
        .admin("listen = \"127.0.0.1:0\"")
}

fn operate(gateway: &Gateway, method: &str, path: &str, body: &str) -> Response {
    let mut client = Client::connect(gateway.admin.unwrap());
    let length = body.len();
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n{body}"));
    client.response()
}

fn status(gateway: &Gateway) -> Value {
    let whole: Value = serde_json::from_str(operate(gateway, "GET", "/v1/status", "").expect(200).text()).unwrap();
    whole["cache"]["snapshot"].clone()
}

/// Waits until what there was is back; what is said of it.
fn restored(gateway: &Gateway) -> Value {
    eventually("the end of the restoring", || status(gateway)["restore"] != "running");
    status(gateway)
}

fn stop(gateway: Gateway) {
    gateway.terminate();
    let (ended, said) = gateway.ended();
    assert!(ended.success() && said.contains("a snapshot of"), "{said}");
}

fn kill(gateway: Gateway) {
    gateway.signal(Signal::KILL);
    let _ = gateway.ended();
}

#[test]
fn answers_outlive_a_restart_whatever_the_number_of_cores() {
    let backend = Backend::answering(echo);
    let directory = tempfile::tempdir().unwrap();
    let requests: Vec<Vec<u8>> = (0..40)
        .flat_map(|place| [chat(&format!("whole {place}")), chat_stream(&format!("streamed {place}"))])
        .collect();
    let mut answers: Vec<String> = Vec::new();
    for cores in [2, 1, 3, 2] {
        let gateway = node(&backend, directory.path(), cores).start();
        let back = restored(&gateway);
        match answers.is_empty() {
            true => assert_eq!(back["restore"], "none"),
            false => assert_eq!(back["restored"], serde_json::json!({ "restored": requests.len() }), "{back}"),
        }
        for (place, request) in requests.iter().enumerate() {
            let answer = gateway.ask(request).expect(200);
            match answers.get(place) {
                None => answers.push(answer.text().to_owned()),
                Some(before) => assert_eq!((answer.cache(), answer.text()), ("HIT", &before[..])),
            }
        }
        stop(gateway);
    }
    assert_eq!(backend.count(), requests.len());
    // The other form is made of what came back.
    let gateway = node(&backend, directory.path(), 2).start();
    restored(&gateway);
    assert_eq!(gateway.ask(chat_stream("whole 7")).expect(200).cache(), "HIT");
}

#[test]
fn a_killed_node_has_what_the_last_snapshot_has_and_nothing_that_was_purged() {
    let backend = Backend::answering(echo);
    let directory = tempfile::tempdir().unwrap();
    let setup = || node(&backend, directory.path(), 2).model("n", "backends = [\"b\"]");
    let of_n = |what: &str| post(CHAT, &question(what).replace("\"m\"", "\"n\""));
    let gateway = setup().start();
    let asked = [chat("stays"), chat("goes before"), chat("goes after"), of_n("goes with its model")];
    let key = |response: Response| {
        let told = response.field("cache-status").unwrap();
        told.split_once("key=\"").unwrap().1.trim_end_matches('"').to_owned()
    };
    let keys: Vec<String> = asked.iter().map(|request| key(gateway.ask(request).expect(200))).collect();
    let purge_key = |gateway: &Gateway, place: usize| {
        operate(gateway, "POST", "/v1/purge", &format!(r#"{{"fingerprint":"{}"}}"#, keys[place])).expect(200);
    };
    purge_key(&gateway, 1);
    let told: Value = serde_json::from_str(operate(&gateway, "POST", "/v1/snapshot", "").expect(200).text()).unwrap();
    assert_eq!((&told["entries"], &told["written"]), (&3.into(), &1.into()), "{told}");
    purge_key(&gateway, 2);
    operate(&gateway, "POST", "/v1/purge", r#"{"model":"n"}"#).expect(200);
    gateway.ask(chat("comes too late")).expect(200);
    kill(gateway);

    let gateway = setup().start();
    assert_eq!(restored(&gateway)["restored"], serde_json::json!({ "restored": 1, "purged": 2 }));
    let caches: Vec<String> = asked.iter().map(|request| gateway.ask(request).expect(200).cache().to_owned()).collect();
    assert_eq!(caches, ["HIT", "MISS", "MISS", "MISS"]);
    assert_eq!(gateway.ask(chat("comes too late")).expect(200).cache(), "MISS");
    // By the command, this time; the numbers of purges have gone on.
    let admin = format!("http://{}", gateway.admin.unwrap());
    let done = Command::new(env!("CARGO_BIN_EXE_ringway")).args(["snapshot", "--admin", &admin]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    purge_key(&gateway, 0);
    kill(gateway);
    let gateway = setup().start();
    assert_eq!(restored(&gateway)["restored"], serde_json::json!({ "restored": 4, "purged": 1 }));
    assert_eq!(gateway.ask(&asked[0]).expect(200).cache(), "MISS");
    assert_eq!(gateway.ask(&asked[1]).expect(200).cache(), "HIT");
    operate(&gateway, "POST", "/v1/purge", r#"{"all":true}"#).expect(200);
    kill(gateway);
    let gateway = setup().start();
    assert_eq!(restored(&gateway)["restored"], serde_json::json!({ "purged": 5 }));
}

#[test]
fn what_is_not_whole_or_not_ours_is_left_out_with_its_reason() {
    let backend = Backend::answering(echo);
    let directory = tempfile::tempdir().unwrap();
    let gateway = node(&backend, directory.path(), 1).start();
    let asked: Vec<Vec<u8>> = (0..6).map(|place| chat(&format!("question {place}"))).collect();
    asked.iter().for_each(|request| drop(gateway.ask(request).expect(200)));
    // Half of them are hotter than the others: they stand in a block of their own.
    asked[..3].iter().for_each(|request| drop(gateway.ask(request).expect(200)));
    stop(gateway);
    let path = directory.path().join("cache.snapshot");
    let whole = std::fs::read(&path).unwrap();
    let table = std::fs::read(directory.path().join("cache.purges")).unwrap();
    let pages = whole.len() / 4096;
    assert_eq!(pages, 4, "the first block, two of answers, the last");

    let try_with = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let gateway = node(&backend, directory.path(), 1).start();
        let told = restored(&gateway);
        // It serves in any case.
        let hits = asked.iter().filter(|request| gateway.ask(request).expect(200).cache() == "HIT").count();
        kill(gateway);
        (told["restored"].clone(), told["restore_fault"].as_str().unwrap_or("").to_owned(), hits)
    };
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let (counts, fault, hits) = try_with(&changed(4096 + 200));
    assert_eq!((counts, &fault[..], hits), (serde_json::json!({ "restored": 3, "damaged_block": 1 }), "", 3));
    let (counts, fault, hits) = try_with(&whole[..3 * 4096 - 100]);
    assert!(fault.contains("its end is missing"), "{fault}");
    assert!(counts["restored"].as_u64() == Some(hits as u64) && hits >= 3, "{counts}");
    for (bytes, why) in [
        (b"something else".to_vec(), "no file of Ringway's"),
        (Vec::new(), "ends in the middle"),
        (changed(7), "it is of layout 0"),
        (changed(20), "a checksum is wrong"),
    ] {
        let (counts, fault, hits) = try_with(&bytes);
        assert!(fault.contains(why), "{fault}");
        assert_eq!((counts, hits), (serde_json::json!({ "refused_file": 1 }), 0));
    }
    // Nobody knows what was purged.
    std::fs::remove_file(directory.path().join("cache.purges")).unwrap();
    let (_, fault, hits) = try_with(&whole);
    assert!(fault.contains("purged since it was written is not known") && hits == 0, "{fault}");
    std::fs::write(directory.path().join("cache.purges"), table).unwrap();
    assert_eq!(try_with(&whole).2, 6);
    // A node that does not write down what is purged leaves nothing behind that it may have purged.
    let setup = || Setup::with(&backend).server(&format!("state_dir = \"{}\"", directory.path().display()));
    drop(setup().start());
    assert!(!path.exists());

    let told = Setup::with(&backend).cache("snapshot = true").refused();
    assert!(told.contains("cache.snapshot: there is no directory to keep it in; set server.state_dir"), "{told}");
}
