//! Which backend gets which addresses, and that names are resolved in parallel.

use std::path::Path;
use std::sync::Barrier;
use std::sync::mpsc;

use super::*;
use crate::config::load::load;

/// A configuration with backends `b0`, `b1` and so on, with these URLs.
fn snapshot(urls: &[&str]) -> Snapshot {
    let mut text = "[server]\nlisten = [\"127.0.0.1:0\"]\n".to_owned();
    for (place, url) in urls.iter().enumerate() {
        text += &format!("[[backend]]\nname = \"b{place}\"\nurl = \"{url}\"\n");
    }
    text += "[[model]]\nname = \"m\"\nbackends = [\"b0\"]\n";
    load(&text, Path::new("test.toml"), &|_| None, &|_| Err(io::ErrorKind::NotFound.into()))
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn each_backend_gets_the_addresses_of_its_host_with_its_port() {
    let urls = [
        "http://one.test:8000",
        "http://10.0.0.9:81",
        "http://gone.test",
        "http://[fd00::9]:82",
        "http://one.test:9000",
        "unix:/run/model",
        "http://empty.test",
    ];
    let (ask, asked) = mpsc::channel();
    let (addresses, warnings) = resolved(
        &snapshot(&urls),
        |_| None,
        |host| {
            ask.send(host.to_owned()).unwrap();
            match host {
                "one.test" => Ok(vec![at("[fd00::1]:0"), at("10.0.0.1:0")]),
                "empty.test" => Ok(Vec::new()),
                _ => Err(io::Error::other("unknown")),
            }
        },
    );
    let tcp = |texts: &[&str]| texts.iter().map(|text| Dial::Tcp(at(text))).collect::<Vec<_>>();
    let expected = [
        tcp(&["[fd00::1]:8000", "10.0.0.1:8000"]),
        tcp(&["10.0.0.9:81"]),
        Vec::new(),
        tcp(&["[fd00::9]:82"]),
        tcp(&["[fd00::1]:9000", "10.0.0.1:9000"]),
        vec![Dial::Unix("/run/model".into())],
        Vec::new(),
    ];
    assert_eq!(addresses.iter().map(|of| of.to_vec()).collect::<Vec<_>>(), expected);
    let told = |backend, host, why| {
        format!("backend {backend}: the name {host} does not resolve ({why}); it gets no requests until it does")
    };
    let expected = [told("b2", "gone.test", "unknown"), told("b6", "empty.test", "it has no addresses")];
    assert_eq!(warnings, expected);
    let mut asked: Vec<String> = asked.try_iter().collect();
    asked.sort();
    assert_eq!(asked, ["empty.test", "gone.test", "one.test"], "each name once, and no address");
}

#[test]
fn names_are_looked_up_side_by_side() {
    let names: Vec<String> = (0..THREADS).map(|place| format!("{place}.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // None is answered before all have been requested.
    let all = Barrier::new(THREADS);
    let found = look_up_all(&names, |_| {
        all.wait();
        Ok(vec![at("10.0.0.1:0")])
    });
    assert!(names.iter().all(|name| matches!(found.get(name), Some(Ok(_)))));
}

#[test]
fn more_names_than_threads_are_each_asked_for_once() {
    let names: Vec<String> = (0..5 * THREADS + 3).map(|place| format!("{place}.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (ask, asked) = mpsc::channel();
    let found = look_up_all(&names, |name| {
        ask.send(()).unwrap();
        let place: u8 = name.trim_end_matches(".test").parse().unwrap();
        Ok(vec![SocketAddr::from(([10, 0, 0, place], 0))])
    });
    for (place, name) in names.iter().enumerate() {
        assert_eq!(found[name].as_ref().unwrap()[..], [SocketAddr::from(([10, 0, 0, place as u8], 0))], "{name}");
    }
    assert_eq!((found.len(), asked.try_iter().count()), (names.len(), names.len()));
    assert!(look_up_all(&[], |_| panic!("nothing to ask for")).is_empty());
}
