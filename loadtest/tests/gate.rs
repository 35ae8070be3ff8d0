//! `loadtest/gate` with counts from a file: what passes, what does not, and what it says of a damaged record.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Record {
    folder: PathBuf,
}

impl Record {
    fn new(name: &str) -> Record {
        let folder = std::env::temp_dir().join(format!("ringway-gate-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Record { folder }
    }

    fn history(&self) -> PathBuf {
        self.folder.join("history.jsonl")
    }

    /// Status and output with a hit of `hit` instructions, 1,000 of them in `parse`, and others that stay.
    fn gate(&self, hit: u32, options: &[&str]) -> (i32, String) {
        let counts = self.folder.join("counts.json");
        let rest = hit - 1_000;
        let text = format!(
            r#"{{"hit":{{"gateway":{{"look_up":{rest},"parse":1000}}}},
                "miss":{{"gateway":{{"send":30000}}}},"stream":{{"gateway":{{"relay":3000}}}}}}"#
        );
        fs::write(&counts, text).unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("gate");
        let mut command = Command::new(program);
        command.arg("--history").arg(self.history()).arg("--counts").arg(counts).args(options);
        let output = command.output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), said)
    }

    fn entries(&self) -> usize {
        fs::read_to_string(self.history()).map_or(0, |text| text.lines().count())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_request_that_became_dearer_does_not_pass() {
    let record = Record::new("dearer");
    let (status, said) = record.gate(12_000, &[]);
    assert_eq!((status, record.entries()), (0, 0), "nothing to compare with: {said}");
    assert_eq!((record.gate(12_000, &["--record"]).0, record.entries()), (0, 1));
    let (status, said) = record.gate(12_500, &[]);
    assert!(status == 0 && said.contains("hit      12,000 ->   12,500 instructions    +4.2 %\n"), "{said}");
    let (status, said) = record.gate(12_700, &["--record"]);
    assert_eq!((status, record.entries()), (1, 1), "what is too dear is not recorded: {said}");
    assert!(said.contains("+5.8 %  too dear\n           +700  look_up\n"), "{said}");
    assert!(!said.contains("parse"), "only what grew: {said}");
    assert_eq!(record.gate(12_700, &["--percent", "6"]).0, 0);
    assert_eq!((record.gate(12_700, &["--record", "--accept", "limits"]).0, record.entries()), (0, 2));
    assert_eq!(record.gate(12_800, &[]).0, 0, "against the last entry");
}

#[test]
fn a_record_that_cannot_be_read_is_told_with_its_line() {
    let record = Record::new("damaged");
    for damage in ["{", "[]", r#"{"hit":{"total":0}}"#, r#"{"hit":3}"#] {
        fs::write(record.history(), damage).unwrap();
        let (status, said) = record.gate(12_000, &["--record"]);
        assert!(status == 2 && said.contains("line 1, is no entry of the record"), "{said}");
        assert_eq!(fs::read_to_string(record.history()).unwrap(), damage, "nothing is added");
    }
    fs::write(record.history(), "").unwrap();
    let chart = record.folder.join("chart.svg");
    let options = ["--chart", chart.to_str().unwrap()];
    assert_eq!(record.gate(12_000, &options).0, 2, "there is nothing to draw");
    for hit in [12_000, 12_400, 11_000] {
        assert_eq!(record.gate(hit, &["--record"]).0, 0);
    }
    assert_eq!(record.gate(12_000, &options).0, 0);
    let drawn = fs::read_to_string(chart).unwrap();
    assert!(
        drawn.starts_with("<svg ") && drawn.matches("<polyline").count() == 3 && drawn.contains("hit: 11,000"),
        "{drawn}"
    );
}
