//! Installing and uninstalling the service's files below a directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::super::install::{Piece, Step, carry_out, install_steps, pieces, uninstall_steps};
use super::super::root::Root;

fn ours() -> Vec<Piece> {
    pieces(b"the program".to_vec())
}

fn install(root: &Root) -> Vec<Step> {
    let steps = install_steps(root, &ours()).unwrap();
    carry_out(root, &ours(), &steps).unwrap();
    steps
}

fn uninstall(root: &Root) -> Vec<Step> {
    let steps = uninstall_steps(root, &ours()).unwrap();
    carry_out(root, &ours(), &steps).unwrap();
    steps
}

#[test]
fn what_is_installed_is_there_once_and_goes_again_but_for_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::at(directory.path());
    assert!(install(&root).iter().all(|step| *step == Step::Write));
    let mode = |path: &str| fs::metadata(root.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("/usr/local/bin/ringway"), mode("/etc/ringway/ringway.toml")), (0o755, 0o640));
    assert!(fs::read_to_string(root.path("/etc/systemd/system/ringway.service")).unwrap().contains("Type=notify"));
    let again = install(&root);
    assert_eq!(again.iter().filter(|step| **step == Step::Same).count(), again.len() - 1);
    assert!(again.contains(&Step::Keep));
    let gone = uninstall(&root);
    assert_eq!(gone.iter().filter(|step| **step == Step::Remove).count(), gone.len() - 1);
    for piece in ours() {
        assert_eq!(root.path(piece.path).exists(), piece.path == "/etc/ringway/ringway.toml", "{}", piece.path);
    }
    assert_eq!(uninstall(&root).iter().filter(|step| **step == Step::Absent).count(), gone.len() - 1);
}

#[test]
fn what_somebody_has_changed_is_never_lost() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::at(directory.path());
    install(&root);
    let read = |path: &str| fs::read_to_string(root.path(path)).unwrap();
    for path in ["/etc/ringway/ringway.toml", "/etc/logrotate.d/ringway"] {
        fs::write(root.path(path), "mine").unwrap();
    }
    assert!(uninstall(&root).contains(&Step::Changed));
    assert_eq!((read("/etc/ringway/ringway.toml"), read("/etc/logrotate.d/ringway")), ("mine".into(), "mine".into()));
    assert!(install(&root).contains(&Step::Replace));
    assert_eq!(
        (read("/etc/ringway/ringway.toml"), read("/etc/logrotate.d/ringway.old")),
        ("mine".into(), "mine".into())
    );
    assert!(read("/etc/logrotate.d/ringway").contains("postrotate"));
}

#[test]
fn when_one_file_fails_those_before_it_are_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::at(directory.path());
    let program = root.path("/usr/local/bin/ringway");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::write(&program, "an older one").unwrap();
    // A file stands where the last piece wants a directory.
    fs::create_dir_all(root.path("/etc")).unwrap();
    let steps = install_steps(&root, &ours()).unwrap();
    fs::write(root.path("/etc/systemd"), "in the way").unwrap();
    let told = carry_out(&root, &ours(), &steps).unwrap_err();
    assert!(
        told.starts_with("/etc/systemd/system/ringway.slice: ") && told.ends_with("; nothing is changed"),
        "{told}"
    );
    assert_eq!(fs::read_to_string(&program).unwrap(), "an older one");
    assert!(!root.path("/etc/logrotate.d/ringway").exists() && !root.path("/etc/ringway/ringway.toml").exists());
}

#[test]
fn the_unit_allows_what_the_gateway_needs() {
    let unit = include_str!("../../../systemd/ringway.service");
    let values = |key: &str| {
        unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect::<Vec<_>>().join(" ")
    };
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(values("SystemCallFilter").contains(call), "{call}");
    }
    assert!(values("RestrictAddressFamilies").contains("AF_UNIX"));
    // Locked memory and descriptors as doctor wants them.
    assert_eq!((values("LimitMEMLOCK").as_str(), values("LimitNOFILE").as_str()), ("64M", "1048576"));
    // The drain must end before systemd kills.
    let patience: u64 = values("TimeoutStopSec").parse().unwrap();
    let text = "[[backend]]\nname = \"b\"\nurl = \"http://127.0.0.1:1\"\n[[model]]\nname = \"m\"\nbackends = [\"b\"]\n";
    let none = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let snapshot = crate::config::load::load(text, std::path::Path::new("t.toml"), &|_| None, &none).unwrap();
    assert!(patience * 1000 > snapshot.server.timeout_drain_ms);
}
