//! The house's rules that the compiler does not know: which room may import which, where the runtimes and `unsafe` may
//! be named, and how large a file may grow. Read from the source's text; comments and literals don't count.

#[path = "arrows/cycles.rs"]
mod cycles;
#[path = "arrows/source.rs"]
mod source;

use std::fs;
use std::path::Path;

use cycles::cycles;
use source::{code_of, root_paths, words};

/// What a room may import besides itself. A second segment narrows: `config::snapshot` is not all of `config`.
/// `commands` and `main` may import everything.
const ARROWS: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("error", &["limits"]),
    ("wire", &["limits", GOLDEN]),
    ("dialect", &["wire", "limits", GOLDEN]),
    ("prompts", &["limits"]),
    ("config", &["prompts", "limits"]),
    ("net", &["limits"]),
    ("observe", &["config::snapshot", "wire", "error", "limits", GOLDEN]),
    ("demo", &["wire"]),
    ("upstream", &["dialect", "config::snapshot", "observe", "net", "limits"]),
    ("exchange", &["upstream", "prompts", "dialect", "wire", "config::snapshot", "observe", "net", "error", "limits"]),
    ("serve", &["exchange", "upstream", "wire", "config::snapshot", "observe", "net", "limits"]),
    ("control", &["config", "dialect", "wire", "observe", "net", "error", "limits"]),
    ("disk", &["exchange", "wire", "observe", "net", "limits"]),
    ("host", &["config", "limits"]),
    (
        "cores",
        &[
            "serve", "exchange", "upstream", "control", "disk", "host", "config", "dialect", "wire", "observe", "net",
            "error", "limits",
        ],
    ),
    ("commands", EVERYTHING),
    ("main", EVERYTHING),
    ("lib", EVERYTHING),
];

/// Parts of a room that no other one may name, whatever its arrows say: translation is to be added without touching
/// `exchange`, so what one API is like is known behind the closed enum alone.
const PRIVATE: &[(&str, &[&str])] = &[("dialect", &["openai", "anthropic"])];

const EVERYTHING: &[&str] = &["*"];

/// What unit tests compare with; not part of the program.
const GOLDEN: &str = "golden";

/// Words that only some places may use: a runtime named elsewhere would tie that place to one kind of core.
const PLACES: &[(&str, &[&str])] = &[
    ("monoio", &["src/net/", "src/cores/"]),
    ("glommio", &["src/cores/io", "src/disk/"]),
    // Where bytes go to and from HTTP/2 and TLS, its traits of reading and writing alone are named: the runtime stays out.
    ("tokio", &["src/control/", "src/cores/background", "src/cores/takeover", "src/net/duplex", "src/net/http2"]),
    ("h2", &["src/net/http2"]),
    ("unsafe", &["src/net/sys.rs"]),
    ("shards", &["src/exchange/", "src/upstream/", "src/cores/", "src/control/", "src/disk/"]),
];

/// Words that no file may use, put together here so that this file does not hold them.
const BANNED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!")];

/// Longest file in lines. About 250 is the aim; above this a file holds more than one subject.
const FILE_LINES: usize = 600;

/// Most `//!` lines at the head of a file: purpose, owner of the state, what it must never do.
const OPENING_LINES: usize = 5;

/// Everything wrong with one file, as `path:line: what`.
fn faults(path: &str, text: &str) -> Vec<String> {
    let code = code_of(text);
    let mut faults = Vec::new();
    let mut fault = |line: usize, what: String| faults.push(format!("{path}:{line}: {what}"));

    if let Some(room) = room_of(path) {
        match ARROWS.iter().find(|(name, _)| *name == room) {
            None => fault(1, format!("the room `{room}` has no row in ARROWS")),
            Some((_, allowed)) => {
                for (line, [first, second]) in root_paths(&code) {
                    if !may_import(room, allowed, &first, &second) {
                        fault(line, format!("`{room}` may not import `{first}::{second}`"));
                    }
                }
            }
        }
    }
    if path.starts_with("src/") || path.starts_with("shards/src/") {
        for (line, word) in words(&code) {
            let place = PLACES.iter().find(|(name, _)| *name == word);
            if place.is_some_and(|(_, places)| !places.iter().any(|place| path.starts_with(place))) {
                fault(line, format!("`{word}` may not be named here"));
            }
        }
    }
    for (number, line) in text.lines().enumerate() {
        for word in BANNED.iter().filter(|word| has_word(line, word)) {
            fault(number + 1, format!("`{word}`: finish it, or leave it out"));
        }
    }
    let opening = text.lines().take_while(|line| line.starts_with("//!")).count();
    if opening == 0 {
        fault(1, "the file does not open with `//!`".into());
    } else if opening > OPENING_LINES {
        fault(1, format!("{opening} lines of `//!`, more than {OPENING_LINES}"));
    }
    let lines = text.lines().count();
    if lines > FILE_LINES {
        fault(lines, format!("{lines} lines, more than {FILE_LINES}"));
    }
    faults
}

/// `wire` for `src/wire/sse.rs`, `limits` for `src/limits.rs`, nothing outside `src`.
fn room_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    inside.split(['/', '.']).next()
}

fn may_import(room: &str, allowed: &[&str], first: &str, second: &str) -> bool {
    let is_private = PRIVATE.iter().any(|(other, parts)| *other == first && parts.contains(&second));
    first == room
        || !is_private
            && allowed.iter().any(|arrow| match arrow.split_once("::") {
                Some((outer, inner)) => outer == first && inner == second,
                None => *arrow == "*" || *arrow == first,
            })
}

fn has_word(line: &str, word: &str) -> bool {
    let continues = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    line.match_indices(word)
        .any(|(at, _)| !continues(line[..at].chars().next_back()) && !continues(line[at + word.len()..].chars().next()))
}

/// Every `.rs` file under `folder`, as paths from the workspace's root, in order.
fn rust_files(root: &Path, folder: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().expect("a file name in UTF-8");
        let path = format!("{folder}/{name}");
        if entry.file_type().unwrap().is_dir() {
            if name != "target" {
                rust_files(root, &path, found);
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found.sort();
}

#[test]
fn the_house_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "shards", "loadtest", "tests", "benches"] {
        rust_files(root, folder, &mut files);
    }
    assert!(files.contains(&"src/lib.rs".to_owned()), "no source found in {}", root.display());
    let all: Vec<String> =
        files.iter().flat_map(|path| faults(path, &fs::read_to_string(root.join(path)).unwrap())).collect();
    assert!(all.is_empty(), "{} faults:\n{}", all.len(), all.join("\n"));
}

/// Rooms in which no file imports one that imports it, over however many others.
const WITHOUT_CYCLES: &[&str] = &["src/exchange", "src/upstream"];

#[test]
fn no_files_import_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for room in WITHOUT_CYCLES {
        let mut files = Vec::new();
        rust_files(root, room, &mut files);
        assert!(files.len() > 5, "{room} is empty");
        let files: Vec<(String, String)> =
            files.into_iter().map(|path| (path.clone(), fs::read_to_string(root.join(path)).unwrap())).collect();
        let found: Vec<String> = cycles(&files).iter().map(|circle| circle.join(" > ")).collect();
        assert!(found.is_empty(), "files import each other:\n{}", found.join("\n"));
    }
}

#[test]
fn planted_faults_are_found() {
    let planted = [
        ("src/wire/x.rs", "use crate::net::Stream;", "`wire` may not import `net::Stream`"),
        ("src/wire/x.rs", "use crate::{\n  limits,\n  exchange::run,\n};", "`wire` may not import `exchange::run`"),
        ("src/dialect/x.rs", "fn f() { crate :: net :: dial(); }", "`dialect` may not import `net::dial`"),
        ("src/exchange/x.rs", "use crate::config::{snapshot::Model, load};", "may not import `config::load`"),
        ("src/exchange/x.rs", "use crate::config;", "`exchange` may not import `config::`"),
        ("src/exchange/x.rs", "use crate::dialect::openai;", "`exchange` may not import `dialect::openai`"),
        ("src/commands/x.rs", "use crate::{dialect::{facts, anthropic::x}};", "may not import `dialect::anthropic`"),
        ("src/limits.rs", "use crate::wire;", "`limits` may not import `wire::`"),
        ("src/demo/x.rs", "use crate::net::{self};", "`demo` may not import `net::self`"),
        ("src/strange/x.rs", "", "the room `strange` has no row"),
        ("src/exchange/x.rs", "use monoio::spawn;", "`monoio` may not be named here"),
        ("src/net/x.rs", "use tokio::spawn;", "`tokio` may not be named here"),
        ("src/cores/data.rs", "use glommio::spawn;", "`glommio` may not be named here"),
        ("src/net/socket.rs", "fn f() { unsafe { g() } }", "`unsafe` may not be named here"),
        ("shards/src/cache.rs", "let a = b'\\''; unsafe {}", "`unsafe` may not be named here"),
        ("src/wire/x.rs", concat!("// TO", "DO later"), concat!("`TO", "DO`: finish it")),
        ("tests/x.rs", concat!("fn f() { to", "do!() }"), concat!("`to", "do!`: finish it")),
    ];
    for (path, code, expected) in planted {
        let found = faults(path, &format!("//! Head.\n{code}\n"));
        assert!(found.len() == 1 && found[0].contains(expected), "{path}: {code}: {found:?}");
    }
    assert!(faults("src/wire/x.rs", "fn f() {}")[0].contains("does not open"));
    assert!(faults("src/wire/x.rs", &"//! a\n".repeat(6))[0].contains("6 lines of `//!`"));
    assert!(faults("src/wire/x.rs", &format!("//! a\n{}", "\n".repeat(600)))[0].contains("601 lines"));
}

#[test]
fn what_is_allowed_or_not_code_is_no_fault() {
    let fine = [
        ("src/wire/x.rs", "use crate::wire::Span;\nuse crate::limits::HEAD_BYTES;"),
        (
            "src/exchange/x.rs",
            "use crate::{config::{snapshot::Model}, net::{dial, channel::Message}, error};\nuse shards::Shard;",
        ),
        ("src/exchange/x.rs", "use crate::config::snapshot;"),
        ("src/commands/x.rs", "use crate::{demo, cores};"),
        ("src/net/sys.rs", "unsafe { monoio::f() }"),
        ("src/wire/x.rs", "// crate::net::x, unsafe, monoio\n/* crate::net /* tokio */ unsafe */ fn f() {}"),
        ("src/wire/x.rs", r###"const A: &str = "unsafe \" crate::net::x"; const B: &str = r#"tokio " unsafe"#;"###),
        (
            "src/wire/x.rs",
            r###"const A: &[u8] = br"\"; const C: &[u8] = b"unsafe"; fn f<'a>(c: &'a u8) { '"'; '\''; '\u{22}'; 'ü'; }"###,
        ),
        ("src/wire/x.rs", "#![allow(unsafe_code)]\nlet unsafe_thing = my_crate::net::x; for_tokio();"),
        ("src/wire/x.rs", "// todo and Todo in prose, TODOS too"),
        ("tests/x.rs", "use ringway::net;\nunsafe { tokio::f() }"),
    ];
    for (path, code) in fine {
        let text = format!("//! Head.\n{code}\n");
        assert_eq!(faults(path, &text), Vec::<String>::new(), "{code}\n{}", code_of(&text));
    }
}
