//! What differs between two configurations, item by item, for those who asked for a reload. Works on the values as they are
//! written, hashes in place of secrets; never repeats a value that may be one.

use hashbrown::{HashMap, HashSet};
use serde_json::{Map, Value};

use super::keys::Table;
use super::snapshot::Snapshot;

/// What became of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Added,
    Removed,
    /// These keys have other values.
    Changed(Vec<String>),
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `backend "b"`, or the table where it stands once.
    pub item: String,
    pub change: Change,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.change {
            Change::Added => write!(out, "{} added", self.item),
            Change::Removed => write!(out, "{} removed", self.item),
            Change::Changed(keys) => write!(out, "{} changed: {}", self.item, keys.join(", ")),
        }
    }
}

/// Keys that are read once, at the start: with the sockets, threads and memory that they set up. The tests list all others.
const AT_START: &[(&str, &[&str])] = &[
    ("server", &["listen", "fast_open", "control_socket", "state_dir"]),
    ("admin", &["listen"]),
    ("log", &["access", "format"]),
    ("cores", &["data", "io", "background", "steering"]),
    ("cache", &["memory", "snapshot", "snapshot_interval"]),
    ("limits", &["shared", "nodes_min"]),
    ("redis", &["url", "sentinel_user", "sentinel_password", "tls_ca", "timeout"]),
];

/// Everything that differs.
pub fn differences(before: &Snapshot, after: &Snapshot) -> Vec<Difference> {
    let mut found = Vec::new();
    let (Value::Object(before), Value::Object(after)) = (&before.compared, &after.compared) else { return found };
    for (table, after) in after {
        match (before.get(table), after) {
            (Some(Value::Array(before)), Value::Array(after)) => items(table, before, after, &mut found),
            (Some(Value::Object(before)), Value::Object(after)) => {
                let keys = keys(before, after);
                if !keys.is_empty() {
                    found.push(Difference { item: table.clone(), change: Change::Changed(keys) });
                }
            }
            _ => {}
        }
    }
    found
}

/// The keys, dotted, whose new values take a restart.
pub fn at_restart(started: &Snapshot, now: &Snapshot) -> Vec<String> {
    let value =
        |of: &Snapshot, table: &str, key: &str| of.compared.get(table).and_then(|table| table.get(key)).cloned();
    // Whatever else is said of them holds for the next connection.
    let addresses = |of: &Snapshot| -> Vec<_> { of.server.listeners.iter().map(|one| one.address.clone()).collect() };
    let listeners = addresses(started) != addresses(now);
    let all = AT_START.iter().flat_map(|(table, keys)| keys.iter().map(move |key| (*table, *key)));
    all.filter(|(table, key)| value(started, table, key) != value(now, table, key))
        .map(|(table, key)| format!("{table}.{key}"))
        .chain(listeners.then(|| "listener.address".to_owned()))
        .collect()
}

/// The items of a table that stands several times, by their names or addresses.
fn items(table: &str, before: &[Value], after: &[Value], found: &mut Vec<Difference>) {
    let mut add = |name: Name<'_>, change| {
        let version = name.1.map_or_else(String::new, |version| format!(" version \"{version}\""));
        found.push(Difference { item: format!("{table} \"{}\"{version}", name.0), change });
    };
    let name = |item| name(table, item);
    let old: HashMap<Name<'_>, &Value> = before.iter().map(|item| (name(item), item)).collect();
    let new: HashSet<Name<'_>> = after.iter().map(name).collect();
    for item in after {
        let name = name(item);
        match (old.get(&name), item) {
            (None, _) => add(name, Change::Added),
            (Some(Value::Object(before)), Value::Object(after)) => {
                let keys = keys(before, after);
                if !keys.is_empty() {
                    add(name, Change::Changed(keys));
                }
            }
            _ => {}
        }
    }
    let mut told = HashSet::new();
    for name in before.iter().map(name).filter(|name| !new.contains(name)) {
        if told.insert(name) {
            add(name, Change::Removed);
        }
    }
}

/// A name, and a version where several stand side by side.
type Name<'a> = (&'a str, Option<&'a str>);

fn name<'a>(table: &str, item: &'a Value) -> Name<'a> {
    let name = item.get("name").or_else(|| item.get("address"));
    let version = item.get("version").filter(|_| table == Table::Template.name());
    (name.and_then(Value::as_str).unwrap_or(""), version.and_then(Value::as_str))
}

fn keys(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<String> {
    after.iter().filter(|(key, value)| before.get(*key) != Some(*value)).map(|(key, _)| key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::keys::{KEYS, Shape, Table};
    use crate::config::load::load;

    fn snapshot(text: &str) -> Snapshot {
        let nothing = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
        load(text, Path::new("test.toml"), &|_| None, &nothing).unwrap_or_else(|told| panic!("{told}"))
    }

    const BASE: &str = "[[backend]]\nname = \"a\"\nurl = \"http://127.0.0.1:1\"\napi_key = \"one\"\n\
                        [[model]]\nname = \"m\"\nbackends = [\"a\"]\n";

    #[test]
    fn what_is_added_changed_and_removed_is_told_by_name_and_never_by_secret() {
        let before = snapshot(BASE);
        assert_eq!(differences(&before, &snapshot(BASE)), []);
        let text = BASE.replace("\"one\"", "\"two\"").replace("\"m\"", "\"n\"");
        let after = snapshot(&format!("[server]\nlisten = [\"127.0.0.1:9\"]\ntimeout_idle = \"9s\"\n{text}"));
        let told: Vec<String> = differences(&before, &after).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "server changed: listen, timeout_idle",
                "backend \"a\" changed: api_key",
                "model \"n\" added",
                "model \"m\" removed"
            ]
        );
        assert_eq!(at_restart(&before, &after), ["server.listen"]);
        assert!(!after.compared.to_string().contains("two"));
    }

    /// The keys of tables that stand once and are applied by a reload. `[config]` is a file's own: see `cores/background/stored.rs`.
    const LIVE: &[(Table, &[&str])] = &[
        (
            Table::Server,
            &[
                "body_max",
                "request_memory",
                "timeout_head",
                "timeout_body",
                "timeout_write",
                "rate_min",
                "timeout_idle",
                "drain_delay",
                "timeout_drain",
                "timeout_takeover",
                "max_connections",
                "max_connections_per_client",
                "max_pipelined_requests",
                "trusted_proxies",
                "trusted_header",
                "default_model",
                "passthrough_paths",
                "region",
                "regions_near",
                "show_backend",
                "health_paths",
            ],
        ),
        (Table::Admin, &["token"]),
        (Table::Log, &["level"]),
        (Table::Cores, &["rebalance"]),
        (Table::Cache, &["enabled", "ttl", "max_entry", "scope", "timeout_follow", "stale_if_error", "show_key"]),
        (Table::Limits, &["cached_tokens", "budget_status", "service_tiers"]),
        (Table::Cors, &["origins"]),
        (Table::Metrics, &["genai", "genai_old_names"]),
    ];
    const LIVE_TABLES: [Table; 2] = [Table::Traces, Table::Config];

    #[test]
    fn every_key_is_applied_or_takes_a_restart() {
        let singles = KEYS.iter().filter(|row| row.table.shape() == Shape::Single);
        for row in singles.filter(|row| !LIVE_TABLES.contains(&row.table)) {
            let of = |(table, keys): &(&str, &[&str])| *table == row.table.name() && keys.contains(&row.name);
            let is_live = LIVE.iter().any(|(table, keys)| of(&(table.name(), keys)));
            let takes_a_restart = AT_START.iter().any(of);
            assert!(is_live != takes_a_restart, "{}.{}: which of the two?", row.table.name(), row.name);
        }
    }

    #[test]
    fn the_documentation_lists_what_takes_a_restart() {
        let page = include_str!("../../docs/reload.md");
        let (_, listed) = page.split_once("These keys configure").unwrap();
        let (listed, _) = listed.split_once("\n\n").unwrap();
        let listed: HashSet<&str> = listed.split('`').skip(1).step_by(2).filter(|word| word.contains('.')).collect();
        let all: HashSet<String> =
            AT_START.iter().flat_map(|(table, keys)| keys.iter().map(move |key| format!("{table}.{key}"))).collect();
        assert_eq!(listed, all.iter().map(String::as_str).collect());
    }

    #[test]
    fn a_new_value_is_reported_whatever_it_is() {
        let started = format!("[redis]\nurl = \"redis+sentinel://127.0.0.1/m\"\n{BASE}");
        for (from, to, key) in [
            (
                "/m\"\n",
                "/m\"\nsentinel_user = \"u\"\nsentinel_password = \"p\"\n",
                &["redis.sentinel_user", "redis.sentinel_password"][..],
            ),
            ("[redis]", "[server]\nstate_dir = \"/\"\n[redis]", &["server.state_dir"]),
            ("[redis]", "[limits]\nnodes_min = 2\n[redis]", &["limits.nodes_min"]),
            ("[redis]", "[cores]\nrebalance = false\n[redis]", &[]),
        ] {
            assert_eq!(at_restart(&snapshot(&started), &snapshot(&started.replace(from, to))), key, "{to}");
        }
    }

    #[test]
    fn what_takes_a_restart_is_a_key() {
        for (table, keys) in AT_START {
            for key in *keys {
                assert!(KEYS.iter().any(|row| row.table.name() == *table && row.name == *key), "{table}.{key}");
            }
        }
    }
}
