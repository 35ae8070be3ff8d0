//! No contents of a host's files make the examination panic, hang, or print what a terminal would obey.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::doctor::examine;
use super::super::profile::Profile;
use super::super::report::Colours;
use super::super::sight::{Ring, Sight, root};
use super::fixture::{Host, PERFECT};

/// Contents near and far from what the kernel writes.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..40),
        "[0-9a-f,\\-]{0,24}".prop_map(String::into_bytes),
        "-?[0-9]{1,30}( [0-9]{1,30}){0,3}".prop_map(String::into_bytes),
        "(0-)?[0-9]{1,20}(,[0-9]{1,6}-[0-9]{1,20}){0,3}".prop_map(String::into_bytes),
        "(TcpExt:|cpu |Cpus_allowed_list:|MemTotal:|0::|4:memory:|Max open files|nr_periods|\\[)[ -~\n]{0,40}"
            .prop_map(String::into_bytes),
        Just(b"\x1b[2J\x1b]0;owned\x07".to_vec()),
        Just(vec![b'9'; 300_000]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn strange_files_are_told_or_not_seen(changes in vec((0..PERFECT.len(), contents()), 1..25), profile in 0usize..5) {
        let host = Host::perfect();
        for (place, text) in changes {
            host.write(PERFECT[place].0, text);
        }
        let root = root(Some(host.path()));
        let profile = Profile::named(Profile::names().nth(profile).unwrap()).unwrap();
        let report = examine(&Sight::new(&root, None, None, Ring::Untried), &profile);
        let text = report.text(Colours::Off);
        prop_assert!(!text.chars().any(|letter| letter.is_control() && letter != '\n'), "{:?}", text);
        prop_assert!(serde_json::from_str::<serde_json::Value>(&report.json()).is_ok());
    }
}
