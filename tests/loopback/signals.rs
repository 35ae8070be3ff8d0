//! Signals that leave the program running, and an access log that is moved away, truncated or not taken.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use rustix::process::Signal;

use super::kit::*;

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn a_stream_goes_on_through_signals_that_are_no_stop() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Backend::run(move |peer| {
        while peer.request().is_some() {
            peer.write(STREAM_HEAD);
            peer.write(chunk(&piece("a")));
            wait.lock().unwrap().recv_timeout(GUARD).unwrap();
            peer.write(chunk(&piece("b")) + &chunk(&finish("stop")) + &chunk(&done()) + LAST_CHUNK);
        }
    });
    let gateway = Setup::with(&backend).start();
    let mut streaming = gateway.client();
    streaming.send(chat_stream("on"));
    let mut response = streaming.head();
    response.body = streaming.chunk().unwrap();
    for signal in [Signal::HUP, Signal::USR1, Signal::PIPE] {
        gateway.signal(signal);
        gateway.ask(HEALTH).expect(200);
    }
    go.send(()).unwrap();
    streaming.body(&mut response);
    assert_eq!(response.expect(200).text(), piece("a") + &piece("b") + &finish("stop") + &done());
    gateway.terminate();
    let (status, said) = gateway.ended();
    assert!(status.success(), "{said}");
    assert!(said.contains(" INFO SIGTERM: stopping") && said.trim_end().ends_with(" INFO stopped"), "{said}");
}

#[test]
fn the_access_log_is_appended_to_wherever_its_end_is() {
    let gateway = Setup::bare().log("access = \"$DIRECTORY/access.log\"").start();
    let path = gateway.file("access.log");
    let lines = |name: &str| fs::read_to_string(gateway.file(name)).unwrap_or_default();
    gateway.ask(HEALTH).expect(200);
    eventually("a line", || lines("access.log").ends_with('\n'));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777 & !0o640, 0);
    let length = fs::metadata(&path).unwrap().len();

    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    gateway.ask(HEALTH).expect(200);
    eventually("a line behind the truncation", || lines("access.log").ends_with('\n'));
    assert!(lines("access.log").starts_with('{'), "no gap in front");
    assert!(lines("access.log").len() as u64 <= length + 10);
    gateway.ask(HEALTH).expect(200);
    // One written over it could leave a piece of it behind.
    let whole = || lines("access.log").lines().filter(|line| line.starts_with('{') && line.ends_with('}')).count();
    eventually("a second line behind it", || whole() == 2);

    fs::rename(&path, gateway.file("access.log.1")).unwrap();
    gateway.signal(Signal::USR1);
    eventually("the file is there again", || path.exists());
    gateway.ask(HEALTH).expect(200);
    eventually("a line in the new file", || lines("access.log").ends_with('\n'));
    assert_eq!((lines("access.log.1").lines().count(), lines("access.log").lines().count()), (2, 1));
}

#[test]
fn a_log_that_cannot_be_opened_again_goes_on_where_it_was() {
    let gateway = Setup::bare().log("access = \"$DIRECTORY/logs/access.log\"");
    let gateway = gateway.start_after(|directory| fs::create_dir(directory.join("logs")).unwrap());
    let moved = gateway.file("moved");
    fs::rename(gateway.file("logs"), &moved).unwrap();
    gateway.signal(Signal::USR1);
    gateway.ask(HEALTH).expect(200);
    eventually("a line", || fs::read_to_string(moved.join("access.log")).is_ok_and(|text| text.ends_with('\n')));
    gateway.terminate();
    let (status, said) = gateway.ended();
    assert!(status.success() && said.contains("the log continues in the open file"), "{said}");
}

#[test]
fn a_reader_of_the_log_who_stops_reading_holds_up_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    let gateway = Setup::bare().log("access = \"stdout\"").start_with(Stdio::from(writer));
    let mut client = gateway.client();
    // More lines than a pipe holds.
    for _ in 0..1000 {
        client.send(HEALTH);
        client.response().expect(200);
    }
    drop(client);
    gateway.terminate();
    let (status, said) = gateway.ended();
    assert!(status.success(), "{status}: {said}");
    drop(reader);
}

#[test]
fn messages_can_be_json() {
    let gateway = Setup::bare().log("format = \"json\"").start();
    gateway.signal(Signal::HUP);
    gateway.terminate();
    let (_, said) = gateway.ended();
    for line in said.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
    }
    assert!(said.contains("SIGTERM: stopping"), "{said}");
}
