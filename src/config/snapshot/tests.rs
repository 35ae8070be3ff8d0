//! A hundred thousand keys of a thousand tenants.

use std::cell::Cell;
use std::fmt::Write;
use std::path::Path;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::*;
use crate::config::diff::differences;
use crate::config::load::load;

thread_local! {
    /// How often hashes of credentials were compared.
    pub static COMPARED: Cell<u32> = const { Cell::new(0) };
}

const TENANTS: usize = 1_000;
const KEYS: usize = 100;

fn sha256(name: &str) -> [u8; 32] {
    Sha256::digest(name).into()
}

/// Every second key has a limit of its own. `renamed` is in the place of another one.
fn many(renamed: Option<(usize, usize)>) -> Snapshot {
    let mut text =
        "[[backend]]\nname = \"b\"\nurl = \"http://127.0.0.1:1\"\n[[model]]\nname = \"m\"\nbackends = [\"b\"]\n"
            .to_owned();
    for tenant in 0..TENANTS {
        write!(text, "[[tenant]]\nname = \"t{tenant}\"\ntokens_per_minute = 1000\nconcurrent_requests = 9\nkeys = [")
            .unwrap();
        for key in 0..KEYS {
            let name = if renamed == Some((tenant, key)) { "renamed".to_owned() } else { format!("{tenant} {key}") };
            let hash = HEXLOWER.encode(&sha256(&name));
            match key % 2 {
                0 => writeln!(text, "\"sha256:{hash}\","),
                _ => writeln!(text, "{{ hash = \"sha256:{hash}\", requests_per_minute = 60 }},"),
            }
            .unwrap();
        }
        text.push_str("]\n");
    }
    let nothing = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    load(&text, Path::new("test.toml"), &|_| None, &nothing).unwrap_or_else(|told| panic!("{told}"))
}

#[test]
fn a_key_is_found_among_a_hundred_thousand_without_a_search() {
    let snapshot = many(None);
    COMPARED.set(0);
    let mut asked = 0;
    for tenant in (0..TENANTS).step_by(7) {
        for key in (0..KEYS).step_by(11) {
            assert_eq!(snapshot.credential_place(&sha256(&format!("{tenant} {key}"))), Some((tenant, key)));
            assert_eq!(snapshot.credential_place(&sha256(&format!("{tenant} {key} and nobody's"))), None);
            asked += 2;
        }
    }
    // One for each that there is, and now and then one of another whose place begins alike.
    assert!(COMPARED.get() < asked, "{} in {asked} look-ups", COMPARED.get());
    // What is kept for the next reload does not grow with the keys.
    assert!(snapshot.compared.to_string().len() < 1_000 * TENANTS);
    assert!(snapshot.shown.to_string().len() < 120 * KEYS * TENANTS);

    let running = snapshot.tenants[500].limits.concurrent.as_ref().unwrap().enter();
    let next = many(Some((500, 50)));
    let changes: Vec<String> = differences(&snapshot, &next).iter().map(ToString::to_string).collect();
    assert_eq!(changes, ["tenant \"t500\" changed: keys"]);
    next.continue_running(&snapshot);
    assert_eq!(next.tenants[500].limits.concurrent.as_ref().unwrap().running(), 1);
    assert_eq!(next.credential_place(&sha256("renamed")), Some((500, 50)));
    assert_eq!(next.credential_place(&sha256("500 50")), None);
    drop(running);
}
