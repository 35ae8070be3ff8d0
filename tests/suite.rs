//! `tests/run` itself, with a stand-in for cargo: what it counts as passed, and how it shows what stages say.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A project of nothing but `tests/run`, and a cargo of its own that does what `script` says.
fn project(script: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir_all(root.join("tests/sim")).unwrap();
    fs::create_dir(root.join("bin")).unwrap();
    let suite = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/run");
    fs::copy(suite, root.join("tests/run")).unwrap();
    for name in ["cargo", "cargo-fuzz"] {
        let path = root.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    directory
}

/// Exit status and output of the stages named.
fn run(project: &Path, stages: &[&str]) -> (i32, String) {
    let path = format!("{}:{}", project.join("bin").display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash").arg(project.join("tests/run")).args(stages).env("PATH", path).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn a_part_that_is_missing_has_failed() {
    let project = project("exit 0");
    let (status, told) = run(project.path(), &["sim", "fuzz"]);
    assert_eq!(status, 1, "{told}");
    assert!(
        told.contains("No test ran in: cargo test --config profile.dev.package.ringway.opt-level=1 --test sim"),
        "{told}"
    );
    assert!(told.contains("There is no fuzz target in tests/fuzz."), "{told}");
    assert!(told.ends_with("\n0 passed, 2 failed\n"), "{told}");
}

fn a_target_without_tests_has_failed_beside_one_with() {
    let empty = project("echo 'test result: ok. 3 passed; 0 failed'; echo 'test result: ok. 0 passed; 0 failed'");
    assert_eq!(run(empty.path(), &["sim"]).0, 1);
    let full = project("echo 'test result: ok. 3 passed; 0 failed'");
    let (status, told) = run(full.path(), &["sim", "quick"]);
    assert_eq!(status, 0, "{told}");
    assert!(told.ends_with("\n2 passed, 0 failed\n"), "{told}");
    let failing = project("echo 'test result: ok. 3 passed; 0 failed'; exit 1");
    assert_eq!(run(failing.path(), &["sim"]).0, 1);
}

fn the_output_of_a_stage_stays_together_and_is_kept() {
    let project = project("echo \"begin $1\"; echo \"end $1\"; [ \"$1\" = fmt ]");
    let (status, told) = run(project.path(), &["fmt", "clippy"]);
    assert_eq!(status, 1);
    assert!(told.contains("==== fmt\nbegin fmt\nend fmt\n---- fmt: passed"), "{told}");
    assert!(told.contains("==== clippy\nbegin clippy\nend clippy\n---- clippy: FAILED"), "{told}");
    let kept = fs::read_to_string(project.path().join("target/testbed/output/clippy")).unwrap();
    assert_eq!(kept, "begin clippy\nend clippy\n");
}

fn a_stage_that_does_not_exist_is_told() {
    assert_eq!(run(project("exit 0").path(), &["simm"]).0, 2);
}

/// The stages of the whole run are those that the help page lists.
fn every_stage_is_in_the_whole_run_and_on_the_help_page() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/run")).unwrap();
    let line = |start: &str, end: char| {
        let rest = text.split_once(start).unwrap().1;
        rest[..rest.find(end).unwrap()].to_owned()
    };
    let stages = line("\nSTAGES=(", ')');
    let rows = line("\nreadonly ROWS=(", ')');
    let in_rows: Vec<_> = rows.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()).collect();
    let (mut listed, mut run): (Vec<_>, Vec<_>) = (stages.split(' ').collect(), in_rows);
    listed.sort_unstable();
    run.sort_unstable();
    assert_eq!(listed, run);
    for stage in listed {
        assert!(
            text.contains(&format!("\n  {stage:8} ")) && text.contains(&format!("\nstage_{stage}() {{")),
            "{stage}"
        );
    }
}

// One after the other: while a process starts, it holds open what others are writing, and a program that somebody writes to
// cannot be executed (ETXTBSY).
#[test]
fn the_suite_tells_what_passed_and_what_failed() {
    a_part_that_is_missing_has_failed();
    a_target_without_tests_has_failed_beside_one_with();
    the_output_of_a_stage_stays_together_and_is_kept();
    a_stage_that_does_not_exist_is_told();
    every_stage_is_in_the_whole_run_and_on_the_help_page();
}

/// A change that moves what a planted mistake replaces has to move the mistake, too.
#[test]
fn every_planted_mistake_fits_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("tests/planted/bugs.toml")).unwrap();
    let bugs = text.parse::<toml::Table>().unwrap();
    let bugs = bugs["bug"].as_array().unwrap();
    assert!(bugs.len() >= 25);
    for bug in bugs {
        let [name, file, from, to] = ["name", "file", "from", "to"].map(|key| bug[key].as_str().unwrap());
        let code = fs::read_to_string(root.join(file)).unwrap();
        assert_eq!(code.matches(from).count(), 1, "{name}: `{from}` in {file}; change `from` to what stands there now");
        assert_ne!(from, to, "{name}");
    }
}
