//! Each scenario's short form, for a moment, against the mock: what was asked is answered, and the reports are whole.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_loadtest");

struct Mock {
    child: Child,
    url: String,
}

impl Mock {
    fn start() -> Mock {
        let mut child =
            Command::new(PROGRAM).args(["backend", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Mock { child, url: line.trim().strip_prefix("listening ").unwrap().to_owned() }
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn scenario(mock: &Mock, name: &str, report: &Path, more: &[&str]) -> (bool, String) {
    let done = Command::new(PROGRAM)
        .args([
            "scenario",
            name,
            "--short",
            "--time-scale",
            "0.01",
            "--rate-scale",
            "0.05",
            "--url",
            &mock.url,
            "--report",
        ])
        .arg(report)
        .args(more)
        .output()
        .unwrap();
    let told = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8(told).unwrap())
}

#[test]
fn every_scenario_leaves_a_report() {
    let mock = Mock::start();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reports");
    for (name, parts) in [
        ("baseline", &["steady", "ramp"][..]),
        ("sustained", &["ramp", "steady"]),
        ("spike", &["low", "up", "high", "down", "after"]),
        ("soak", &["wave"]),
        ("cache", &["with cache", "without cache"]),
    ] {
        let (good, told) = scenario(&mock, name, &directory, &[]);
        assert!(good && told.contains("| Part |"), "{name}: {told}");
        let read = |ending: &str| std::fs::read_to_string(directory.join(format!("{name}.{ending}"))).unwrap();
        let json: serde_json::Value = serde_json::from_str(&read("json")).unwrap();
        let total = &json["total"];
        assert!(total["planned"].as_u64() > Some(0), "{name}: {total}");
        assert_eq!((&total["done"], &total["errors"]), (&total["planned"], &serde_json::json!({})), "{name}");
        // A ramp may end early on a machine that is busy with other things.
        if json["failed_at_rate"].is_null() {
            let names: Vec<_> = json["parts"].as_array().unwrap().iter().map(|part| &part["name"]).collect();
            assert_eq!(names, parts, "{name}");
            let done: u64 = json["parts"].as_array().unwrap().iter().map(|part| part["done"].as_u64().unwrap()).sum();
            assert_eq!(Some(done), total["done"].as_u64(), "{name}");
        }
        assert!(json["windows"].as_array().unwrap().len() > 1, "{name}");
        assert!(read("svg").ends_with("</svg>\n") && read("md").contains(&format!("({name}.svg)")), "{name}");
    }
}

#[test]
fn what_cannot_be_run_is_refused() {
    let mock = Mock::start();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("refused");
    for (more, why) in
        [(&["--connections", "0"][..], "a connection at least"), (&["--corpus", "/nowhere/corpus"], "/nowhere/corpus")]
    {
        let (good, told) = scenario(&mock, "cache", &directory, more);
        assert!(!good && told.contains(why), "{told}");
    }
}
