//! The configuration from outside: the sample, every row of the table of keys, golden error texts, secrets, and
//! arbitrary text. UPDATE=1 rewrites the sample and the golden files. RINGWAY_SEED repeats a random run.

#[path = "config/backends.rs"]
mod backends;
#[path = "golden/golden.rs"]
mod golden_file;
#[path = "config/limits.rs"]
mod limits;
#[path = "config/sources.rs"]
mod sources;

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use ringway::config::keys::{Absent, KEYS, Shape, Table};
use ringway::config::load::load;
use ringway::config::problem::Problems;
use ringway::config::sample;
use ringway::config::snapshot::{
    Access, AccessLog, Address, Allowed, Balance, CacheMode, Connections, CoreChoice, CredentialField, FastOpen,
    HealthCheck, IncludeUsage, Listen, Protocol, Scope, Snapshot, Standing,
};
use ringway::config::value::{duration_ms, size, spell_duration, spell_size};
use secrecy::ExposeSecret;

/// The secret of every test. No message and no dump may hold it.
const SECRET: &str = "hunter2";

fn environment(name: &str) -> Option<String> {
    match name {
        "SECRET" | "VLLM_KEY" | "ADMIN_TOKEN" | "REDIS_PASSWORD" | "STORE_PASSWORD" | "SENTINEL_PASSWORD"
        | "CONSUL_TOKEN" | "OTLP_TOKEN" => Some(SECRET.to_owned()),
        "SECRET_PATH" => Some("file:/run/secrets/good".to_owned()),
        "EMPTY" => Some(String::new()),
        "PORT" => Some("8000".to_owned()),
        "WEIGHT" => Some("7".to_owned()),
        "OFF" => Some("false".to_owned()),
        _ => None,
    }
}

fn files(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/run/secrets/good") => Ok(format!("{SECRET}\n")),
        // What is in them is read by whoever builds TLS.
        Some(
            "/etc/ringway/ca.pem"
            | "/etc/ringway/cert.pem"
            | "/etc/ringway/cert.ocsp"
            | "/etc/ringway/key.pem"
            | "/etc/ringway/redis-ca.pem"
            | "/etc/ringway/otlp-ca.pem"
            | "/etc/ringway/client.pem"
            | "/etc/ringway/client.key",
        ) => Ok(String::new()),
        Some("/etc/ringway/latin1.pem") => Err(io::ErrorKind::InvalidData.into()),
        Some("/etc/ringway/locked.key") => Err(io::ErrorKind::PermissionDenied.into()),
        Some("/run/secrets/two-lines") => Ok(format!("{SECRET}\n{SECRET}\n")),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn read(text: &str) -> Result<Snapshot, Problems> {
    load(text, Path::new("test.toml"), &environment, &files)
}

fn good(text: &str) -> Snapshot {
    read(text).unwrap_or_else(|problems| panic!("refused:\n{problems}\n{text}"))
}

/// A backend and a model, the least that a configuration needs.
const LEAST: &str = r#"
[[backend]]
name = "a"
url = "http://127.0.0.1:8000"
[[model]]
name = "m"
backends = ["a"]
"#;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compares `text` with the file at `path`, or writes it there if UPDATE is set.
fn compare(path: &Path, text: &str) {
    golden_file::check(path, text);
}

#[test]
fn the_sample_is_fresh_and_valid() {
    let text = sample::sample();
    compare(&root("tuning/ringway.toml"), &text);
    let snapshot = good(&text);
    assert_eq!(snapshot.access, Access::Open);
    assert_eq!(snapshot.server.listen, ["127.0.0.1:8080".parse::<Listen>().unwrap()]);
}

#[test]
fn the_sample_with_every_line_switched_on_is_valid() {
    let mut text = String::new();
    for line in sample::sample().lines() {
        let on = line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()));
        writeln!(text, "{}", on.unwrap_or(line)).unwrap();
    }
    let snapshot = good(&at_its_fullest(&text));
    assert_eq!(snapshot.access, Access::Keys);
    assert_eq!(snapshot.server.default_model, Some(0));
    assert_eq!(snapshot.backends[0].api_key.as_ref().unwrap().expose_secret(), SECRET);
}

/// `text`, where every key of the sample is in use, with what some of them call for: TLS, sessions, and a second model.
fn at_its_fullest(text: &str) -> String {
    let secure = text.replace("url = \"http://127.0.0.1:8000\"", "url = \"https://127.0.0.1:8000\"");
    let whole = secure.replace("balance = \"least-connections\"", "balance = \"sticky\"");
    format!("{whole}\n[[model]]\nname = \"claude-haiku\"\nbackends = [\"vllm-a\"]\n")
}

/// A whole configuration in which every key has its row's example, but for `other`, which has `value`.
fn from_examples(other: Option<(Table, &str, &str)>) -> String {
    let mut text = String::new();
    for table in Table::ALL {
        let brackets = match table.shape() {
            Shape::Single => ("[", "]"),
            Shape::Repeated => ("[[", "]]"),
            Shape::Nested => continue,
        };
        writeln!(text, "{}{}{}", brackets.0, table.name(), brackets.1).unwrap();
        for key in table.keys() {
            let value = match other {
                Some((table, name, value)) if (table, name) == (key.table, key.name) => value,
                _ => key.example,
            };
            if let Some(nested) = key.kind.nested() {
                let parts = nested.keys().map(|part| match other {
                    Some((table, name, value)) if (table, name) == (nested, part.name) => format!("{name} = {value}"),
                    _ => format!("{} = {}", part.name, part.example),
                });
                let parts: Vec<String> = parts.collect();
                match other {
                    Some((table, name, value)) if (table, name) == (key.table, key.name) => {
                        writeln!(text, "{name} = {value}").unwrap()
                    }
                    _ => writeln!(text, "{} = [{{ {} }}]", key.name, parts.join(", ")).unwrap(),
                }
            } else {
                writeln!(text, "{} = {value}", key.name).unwrap();
            }
        }
    }
    at_its_fullest(&text)
}

#[test]
fn every_example_is_valid() {
    let snapshot = good(&from_examples(None));
    assert_eq!(snapshot.cache.mode, CacheMode::Off);
    assert_eq!(snapshot.backends[0].include_usage, IncludeUsage::Leave);
    assert_eq!(snapshot.cores.data, CoreChoice::List(vec![2, 3, 4, 5, 8]));
    for key in KEYS {
        good(&from_examples(Some((key.table, key.name, key.example))));
        if let Absent::Default(value) = key.absent {
            good(&from_examples(Some((key.table, key.name, value))));
        }
    }
}

#[test]
fn every_key_refuses_values_of_other_types_at_its_own_name() {
    let values =
        ["1.5", "1979-05-27", "{ x = 1 }", "[]", "[1]", "[[]]", "-1", "99999999999999999999", "\"\\u0000\"", "nan"];
    for key in KEYS {
        for value in values {
            if value.starts_with('{') && matches!(key.kind, ringway::config::keys::Kind::Members) {
                continue; // any table will do
            }
            if value == "[]" && key.may_be_empty() {
                continue;
            }
            let text = from_examples(Some((key.table, key.name, value)));
            let problems = read(&text).expect_err(&text);
            let path = format!("{}.{}", key.table.name(), key.name);
            // Tables that stand in several others have one name.
            let paths = [path.as_str(), key.kind.nested().map_or(&path, |nested| nested.name())];
            let named = problems.iter().any(|problem| paths.iter().any(|path| problem.key.starts_with(path)));
            assert!(named, "{path} = {value} gave\n{problems}");
        }
    }
}

#[test]
fn every_row_says_enough() {
    for key in KEYS {
        assert!(key.doc.ends_with('.'), "{}: the documentation is no sentence", key.name);
        assert!(!key.doc.contains("  "), "{}: two spaces in the documentation", key.name);
        assert!(!key.example.is_empty(), "{}: no example", key.name);
        let same = KEYS.iter().filter(|other| (other.table, other.name) == (key.table, key.name)).count();
        assert_eq!(same, 1, "{}: more than one row", key.name);
        assert!(sample::reference().contains(&format!("{}.{}\n", key.table.name(), key.name)));
    }
}

#[test]
fn the_defaults_are_as_documented() {
    let Snapshot { server, log, cores, cache, backends, models, tenants, access, .. } = good(LEAST);
    assert_eq!(server.body_max_bytes, 10 << 20);
    let timeouts = [
        server.timeout_head_ms,
        server.timeout_body_ms,
        server.timeout_write_ms,
        server.timeout_idle_ms,
        server.timeout_drain_ms,
    ];
    assert_eq!(timeouts, [10_000, 30_000, 30_000, 650_000, 30_000]);
    assert_eq!((server.rate_min_bytes, server.request_memory_bytes), (1 << 10, 1 << 30));
    assert_eq!((server.default_model, log.access), (None, AccessLog::Off));
    assert_eq!((server.region, server.regions_near), (None, Vec::new()));
    assert_eq!((&cores.data, &cores.io, &cores.background), (&CoreChoice::Auto, &CoreChoice::Auto, &CoreChoice::Auto));
    assert_eq!((cache.mode, cache.scope), (CacheMode::On, Scope::Tenant));
    assert_eq!((cache.memory_bytes, cache.max_entry_bytes), (4 << 30, 2 << 20));
    assert_eq!((cache.ttl_ms, cache.timeout_follow_ms, cache.stale_if_error_ms), (300_000, 10_000, 3_600_000));
    let backend = &backends[0];
    assert_eq!(backend.address, Address::Tcp { host: "127.0.0.1".to_owned(), port: 8000 });
    assert_eq!((backend.authority.as_str(), backend.paths.is_the_same()), ("127.0.0.1:8000", true));
    assert_eq!((backend.weight, backend.priority, &backend.region), (1, 0, &None));
    assert_eq!((backend.protocol, &backend.tls, backend.fast_open), (Protocol::Auto, &None, FastOpen::Off));
    assert_eq!(backend.connections, Connections { min: 5, max: 50 });
    assert_eq!((backend.http2_connections, backend.http2_streams), (Connections { min: 10, max: 100 }, 100));
    let timeouts = [
        backend.timeout_connect_ms,
        backend.timeout_idle_ms,
        backend.timeout_head_ms,
        backend.timeout_first_token_ms,
        backend.timeout_request_ms,
        backend.timeout_stream_idle_ms,
        backend.timeout_stream_content_ms,
    ];
    assert_eq!(timeouts, [5_000, 300_000, 300_000, 600_000, 600_000, 300_000, 600_000]);
    assert_eq!((backend.timeout_stream_ms, backend.include_usage), (None, IncludeUsage::Ask));
    assert_eq!((backend.api_key.is_none(), backend.credential_field), (true, CredentialField::Authorization));
    let health = &backend.health;
    assert_eq!(health.check, Some(HealthCheck { path: "/health".to_owned(), interval_ms: 5_000, timeout_ms: 2_000 }));
    assert_eq!((health.errors_in_row, health.error_percent, health.probes), (5, 50, 2));
    assert_eq!((health.eject_ms, health.slow_start_ms), (5_000, 10_000));
    let model = &models[0];
    assert_eq!((&model.balance, model.version.as_str()), (&Balance::LeastConnections, ""));
    assert_eq!((model.targets[0].backend, model.targets[0].weight, model.fallback.len()), (0, 1, 0));
    assert_eq!(
        (model.max_concurrent_requests, model.max_pending_requests, model.timeout_queue_ms),
        (100, 1_000, 10_000)
    );
    assert_eq!(model.retry_after_max_ms, 2_000);
    assert_eq!((model.retries, model.retry_budget_percent, model.hedge_percent, model.panic_percent), (2, 20, 0, 0));
    assert!(tenants.is_empty());
    assert_eq!(access, Access::Open);
}

#[test]
fn names_and_credentials_lead_to_their_owners() {
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    let snapshot = good(&format!(
        r#"
        [[backend]]
        name = "a"
        url = "http://[::1]:8000/base/path/"
        weight = 5
        [[backend]]
        name = "b"
        url = "unix:/run/b.sock"
        [[model]]
        name = "m"
        backends = ["a", {{ backend = "b", model = "other", weight = 9 }}]
        [[model]]
        name = "n"
        balance = "round-robin"
        [[model.backends]]
        backend = "b"
        [[tenant]]
        name = "t"
        keys = ["sha256:{one}"]
        models = ["n"]
        [[tenant]]
        name = "u"
        keys = ["sha256:{two}"]
        "#
    ));
    assert_eq!(
        (
            snapshot.asked(b"m").map(|asked| asked.model),
            snapshot.asked(b"n").map(|asked| asked.model),
            snapshot.asked(b"M").map(|asked| asked.model)
        ),
        (Some(0), Some(1), None)
    );
    let owner = |byte| snapshot.credential(&[byte; 32]).map(|(tenant, _)| tenant);
    assert_eq!((owner(0x11), owner(0x22), owner(0x33)), (Some(0), Some(1), None));
    assert!(!snapshot.tenants[0].models.allows(0) && snapshot.tenants[0].models.allows(1));
    assert_eq!(snapshot.tenants[1].models, Allowed::All);
    let backends = &snapshot.backends;
    assert_eq!(backends[0].address, Address::Tcp { host: "::1".to_owned(), port: 8000 });
    assert_eq!(backends[0].authority, "[::1]:8000");
    assert_eq!(backends[0].paths.there(b"/v1/models"), b"/base/path/v1/models");
    assert_eq!(backends[1].address, Address::Unix("/run/b.sock".into()));
    assert_eq!(backends[1].authority, "localhost");
    let targets = &snapshot.models[0].targets;
    assert_eq!((targets[0].backend, targets[0].weight, targets[0].model.as_deref()), (0, 5, None));
    assert_eq!((targets[1].backend, targets[1].weight, targets[1].model.as_deref()), (1, 9, Some("other")));
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&snapshot);
}

#[test]
fn keys_expire_and_are_disabled_and_models_are_named_by_patterns() {
    let (one, two, three) = ("1".repeat(64), "2".repeat(64), "3".repeat(64));
    let snapshot = good(&format!(
        r#"
        {LEAST}
        [[model]]
        name = "qwen-7b"
        backends = ["a"]
        [[model]]
        name = "qwen-72b"
        backends = ["a"]
        [[tenant]]
        name = "t"
        keys = [{{ hash = "sha256:{one}", expires = "2027-01-31" }}, "sha256:{two}", {{ hash = "sha256:{three}", disabled = true }}]
        models = ["qwen-*", "qwen-7b"]
        [[tenant]]
        name = "u"
        keys = ["sha256:{}"]
        models = ["*"]
        "#,
        "4".repeat(64),
    ));
    let standing = |byte, unix_ms| snapshot.credential(&[byte; 32]).unwrap().1.standing(|| unix_ms);
    let end_ms = 1_801_440_000_000;
    assert_eq!((standing(0x11, end_ms - 1), standing(0x11, end_ms)), (Standing::Accepted, Standing::Expired));
    assert_eq!((standing(0x22, u64::MAX), standing(0x33, 0)), (Standing::Accepted, Standing::Disabled));
    assert_eq!([0, 1, 2].map(|model| snapshot.tenants[0].models.allows(model)), [false, true, true]);
    assert_eq!(snapshot.tenants[1].models, Allowed::All);
}

#[test]
fn the_environment_and_files_stand_in_for_text() {
    let snapshot = good(
        r#"
        [cache]
        enabled = "${OFF}"
        [[backend]]
        name = "a"
        url = "http://127.0.0.1:${PORT}"
        weight = "${WEIGHT}"
        api_key = "prefix-${SECRET}"
        [[backend]]
        name = "b"
        url = "http://127.0.0.1"
        api_key = "file:/run/secrets/good"
        [[backend]]
        name = "c"
        url = "http://127.0.0.1"
        api_key = "$${SECRET}$"
        [[backend]]
        name = "d"
        url = "http://127.0.0.1"
        api_key = "${SECRET_PATH}"
        [[model]]
        name = "m"
        backends = ["a"]
        "#,
    );
    assert_eq!((snapshot.cache.mode, snapshot.backends[0].weight), (CacheMode::Off, 7));
    assert_eq!(snapshot.backends[0].authority, "127.0.0.1:8000");
    assert_eq!(snapshot.backends[1].address, Address::Tcp { host: "127.0.0.1".to_owned(), port: 80 });
    let secrets: Vec<&str> =
        snapshot.backends.iter().map(|backend| backend.api_key.as_ref().unwrap().expose_secret()).collect();
    // The last one: what the environment says is never taken for the path of a file.
    assert_eq!(secrets, ["prefix-hunter2", SECRET, "${SECRET}$", "file:/run/secrets/good"]);
    assert!(!format!("{snapshot:?}").contains(SECRET));
}

#[test]
fn systemd_credentials_are_files_of_their_directory() {
    let text = LEAST.replace("[[model]]", "api_key = \"credential:vllm\"\n[[model]]");
    let environment = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| "/run/credentials/x".to_owned());
    let files = |path: &Path| {
        assert_eq!(path, Path::new("/run/credentials/x/vllm"));
        Ok(SECRET.to_owned())
    };
    let snapshot = load(&text, Path::new("test.toml"), &environment, &files).unwrap();
    assert_eq!(snapshot.backends[0].api_key.as_ref().unwrap().expose_secret(), SECRET);
}

#[test]
fn listeners_are_open_only_to_this_machine_without_tenants() {
    for listen in ["127.0.0.1:0", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "unix:/run/r.sock"] {
        good(&format!("[server]\nlisten = [\"{listen}\"]\n{LEAST}"));
    }
    for listen in ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "[::ffff:10.0.0.1]:80"] {
        let text = format!("[server]\nlisten = [\"{listen}\"]\n{LEAST}");
        assert!(read(&text).is_err(), "{listen}");
        let digest = "1".repeat(64);
        good(&format!("{text}[[tenant]]\nname = \"t\"\nkeys = [\"sha256:{digest}\"]\n"));
    }
}

#[test]
fn broken_files_give_their_golden_texts() {
    let directory = root("tests/golden/config");
    let mut names: Vec<PathBuf> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    names.sort();
    assert!(names.len() >= 9);
    for path in names {
        let text = std::fs::read_to_string(&path).unwrap();
        let short = Path::new(path.file_name().unwrap());
        let problems = load(&text, short, &environment, &files).expect_err("a broken file was taken");
        let told = problems.to_string();
        assert!(!told.contains(SECRET), "a secret is told:\n{told}");
        assert!(!format!("{problems:?}").contains(SECRET));
        let places: Vec<_> = problems.iter().map(|problem| (problem.line, problem.column)).collect();
        assert!(places.is_sorted(), "not in the order of the file:\n{told}");
        compare(&path.with_extension("txt"), &told);
    }
}

#[test]
fn the_number_of_told_problems_is_bounded() {
    let text: String = (0..100_000).map(|number| format!("k{number} = 1\n")).collect();
    let problems = read(&text).unwrap_err();
    assert_eq!(problems.len(), 100);
    assert!(problems.to_string().ends_with("test.toml: there may be more; 100 problems are told\n"));
}

#[test]
fn a_broken_table_hides_nothing_about_the_others() {
    let text =
        format!("[server]\nlisten = [\"127.0.0.1:80\"\n{LEAST}[[model.backends]]\nbackend = 1\n[cache]\nttl = 1\n");
    // The second is the `[[model.backends]]` of a model that has `backends` already.
    let problems = read(&text).unwrap_err();
    let found: Vec<_> = problems.iter().map(|problem| (problem.line, problem.key.as_str())).collect();
    assert_eq!(found, [(2, ""), (10, ""), (13, "cache.ttl")], "{problems}");
}

#[test]
fn a_table_that_stands_twice_is_told_though_each_is_whole() {
    let problems = read(&format!("[cache]\nttl = \"1s\"\n{LEAST}\n[cache]\nttl = \"2s\"\n")).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "test.toml:11:2: this is not TOML: duplicate key; fix the syntax here; what follows in the same table was not checked\n"
    );
}

#[test]
fn a_missing_bracket_does_not_carry_a_secret_into_another_key() {
    let text = LEAST.replace("[[model]]", "api_key = \"hunter2\"\n[[model]]").replace("\"a\"\nurl", "[\"a\"\nurl");
    let told = read(&text.replace("name = [", "listen = [")).unwrap_err().to_string();
    assert!(!told.contains(SECRET), "{told}");
}

#[test]
fn deep_nesting_is_refused_and_no_more() {
    for (open, close) in [("[", "]"), ("{ a = ", " }")] {
        let text = format!("x = {}1{}", open.repeat(50_000), close.repeat(50_000));
        assert!(read(&text).is_err());
    }
    assert!(read(&format!("{}x = 1", "a.".repeat(50_000))).is_err());
}

/// A runner whose seed is printed, and taken back from RINGWAY_SEED.
fn runner(cases: u32) -> TestRunner {
    let seed: u64 = match std::env::var("RINGWAY_SEED") {
        Ok(text) => text.parse().expect("RINGWAY_SEED is a number"),
        Err(_) => rand_seed(),
    };
    println!("RINGWAY_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn rand_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

/// What no text may do: panic, tell a secret, or be refused without a place.
fn survives(text: &str) -> Result<(), TestCaseError> {
    match read(text) {
        Ok(snapshot) => assert!(!snapshot.server.listen.is_empty() && !snapshot.models.is_empty()),
        Err(problems) => {
            assert!(!problems.is_empty());
            let lines = text.lines().count().max(1) + 1;
            assert!(problems.iter().all(|problem| problem.line >= 1 && problem.column >= 1 && problem.line <= lines));
            assert!(!problems.iter().any(|problem| problem.what.is_empty() || problem.remedy.is_empty()));
            let lines = problems.len() + usize::from(problems.len() >= 100);
            assert_eq!(problems.to_string().lines().count(), lines, "a problem is one line: {problems}");
        }
    }
    Ok(())
}

#[test]
fn arbitrary_text_never_panics() {
    runner(2_000).run(&any::<String>(), |text| survives(&text)).unwrap();
    let toml_like = "[\\[\\]{}=\"'#.,$ \\na-e0-9_\\\\:/-]{0,200}";
    runner(2_000).run(&toml_like, |text| survives(&text)).unwrap();
}

/// Replaces, removes or doubles a stretch of characters.
fn mutate(text: &str, edits: &[(prop::sample::Index, usize, Option<String>)]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for (place, length, put) in edits {
        let at = place.index(characters.len() + 1);
        let end = (at + length).min(characters.len());
        let stretch: Vec<char> = match put {
            Some(put) => put.chars().collect(),
            None => characters[at..end].iter().chain(&characters[at..end]).copied().collect(),
        };
        characters.splice(at..end, stretch);
    }
    characters.into_iter().collect()
}

#[test]
fn mutated_configurations_never_panic() {
    let mut texts = vec![sample::sample(), from_examples(None), LEAST.to_owned()];
    for path in std::fs::read_dir(root("tests/golden/config")).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|end| end == "toml") {
            texts.push(std::fs::read_to_string(path).unwrap());
        }
    }
    let put = prop::option::of("[\\[\\]{}=\"'#.,$ \\n\\r\\ta-c0-9\\u{e9}\\u{1F600}]{0,4}");
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0usize..20, put), 1..5);
    let strategy = (prop::sample::select(texts), edits);
    runner(2_000).run(&strategy, |(text, edits)| survives(&mutate(&text, &edits))).unwrap();
}

#[test]
fn sizes_and_durations_are_read_back_as_they_are_spelled() {
    runner(2_000)
        .run(&any::<u64>(), |number| {
            prop_assert_eq!(size(&spell_size(number)), Ok(number));
            prop_assert_eq!(duration_ms(&spell_duration(number)), Ok(number));
            Ok(())
        })
        .unwrap();
    for (text, bytes) in [("0B", 0), ("1 KiB", 1 << 10), ("4GiB", 4 << 30), ("12", 12), ("2TiB", 2 << 40)] {
        assert_eq!(size(text), Ok(bytes));
    }
    for (text, ms) in [("0ms", 0), ("5ms", 5), ("300s", 300_000), ("2m", 120_000), ("1h", 3_600_000)] {
        assert_eq!(duration_ms(text), Ok(ms));
    }
}
