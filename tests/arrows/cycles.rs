//! Whether files import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{branches, code_of};

/// The circles among `files`, which are paths from the workspace's root with their texts: each as the files in it, in order.
/// Files of one room alone are looked at; a room's root, which declares the others, is in no circle.
pub fn cycles(files: &[(String, String)]) -> Vec<Vec<String>> {
    let modules: BTreeMap<Vec<String>, usize> =
        files.iter().enumerate().map(|(index, (path, _))| (module_of(path), index)).collect();
    let imports: Vec<BTreeSet<usize>> = files
        .iter()
        .enumerate()
        .map(|(index, (path, text))| {
            let found = paths(without_tests(&code_of(text)), &module_of(path));
            let found = found.iter().filter_map(|path| {
                let prefixes = (2..=path.len()).rev().map(|length| &path[..length]);
                prefixes.filter_map(|prefix| modules.get(prefix)).next().copied()
            });
            found.filter(|other| *other != index).collect()
        })
        .collect();
    let mut found: Vec<Vec<String>> = Vec::new();
    for start in 0..files.len() {
        let circle = way(&imports, start, start);
        let names: Vec<String> = circle.iter().map(|index| files[*index].0.clone()).collect();
        let is_new = |known: &Vec<String>| known.iter().all(|name| !names.contains(name));
        if !names.is_empty() && found.iter().all(is_new) {
            found.push(names);
        }
    }
    found
}

/// The files on the shortest way from one to another, the first one included; none if there is no way.
fn way(imports: &[BTreeSet<usize>], from: usize, to: usize) -> Vec<usize> {
    let mut before: BTreeMap<usize, usize> = BTreeMap::new();
    let mut next = std::collections::VecDeque::from([from]);
    while let Some(file) = next.pop_front() {
        for &other in &imports[file] {
            if other == to {
                let mut way = vec![file];
                while way[way.len() - 1] != from {
                    way.push(before[&way[way.len() - 1]]);
                }
                way.reverse();
                return way;
            }
            if other != from && !before.contains_key(&other) {
                before.insert(other, file);
                next.push_back(other);
            }
        }
    }
    Vec::new()
}

/// `["exchange", "flight"]` for `src/exchange/flight/mod.rs` and `src/exchange/flight.rs`.
fn module_of(path: &str) -> Vec<String> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

fn without_tests(code: &str) -> &str {
    code.find("mod tests {").map_or(code, |at| &code[..at])
}

/// Every path in `code` that names something of this crate, from the crate's root.
fn paths(code: &str, module: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for word in ["crate", "self", "super", "use"] {
        for (at, _) in code.match_indices(word) {
            let inside = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
            let rest = &code[at + word.len()..];
            if code[..at].ends_with(inside)
                || rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_')
            {
                continue;
            }
            let rest = rest.trim_start();
            let start = match word {
                "use" if !rest.starts_with(':') => Some((module.to_vec(), rest)),
                "crate" => rest.strip_prefix("::").map(|rest| (Vec::new(), rest)),
                "self" => rest.strip_prefix("::").map(|rest| (module.to_vec(), rest)),
                "super" => rest.strip_prefix("::").map(|rest| (module[..module.len() - 1].to_vec(), rest)),
                _ => None,
            };
            if let Some((start, rest)) = start {
                expand(start, rest, &mut found);
            }
        }
    }
    found
}

fn expand(prefix: Vec<String>, text: &str, found: &mut Vec<Vec<String>>) {
    for (name, after) in branches(text) {
        let mut path = prefix.clone();
        match name.as_str() {
            "super" => _ = path.pop(),
            "self" => {}
            _ => path.push(name),
        }
        match after.trim_start().strip_prefix("::") {
            Some(rest) => expand(path, rest, found),
            None => found.push(path),
        }
    }
}

#[test]
fn circles_are_found() {
    let files = |files: &[(&str, &str)]| -> Vec<(String, String)> {
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    };
    let circle = files(&[
        ("src/room/mod.rs", "pub mod one; mod two; mod three;"),
        ("src/room/one.rs", "use super::two::{self, Two};"),
        ("src/room/two.rs", "use crate::room::{three::part::Part, other::Thing};"),
        ("src/room/three.rs", "mod part;\nfn f() { super :: one::g() }"),
        ("src/room/three/part.rs", "pub struct Part; fn f() { super::f() }"),
    ]);
    let found = cycles(&circle);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains(&"src/room/three/part.rs".to_owned()) && found[0].len() == 4, "{found:?}");
    let fine = files(&[
        ("src/room/mod.rs", "pub mod one; mod two;"),
        ("src/room/one.rs", "use super::two::Two; // super::three\nconst A: &str = \"super::one\";"),
        ("src/room/two.rs", "use super::Shared; use std::rc::Rc;\n#[cfg(test)]\nmod tests { use super::one::One; }"),
    ]);
    assert_eq!(cycles(&fine), Vec::<Vec<String>>::new());
    let child =
        files(&[("src/room/a/mod.rs", "mod b;\nuse b::B;\npub struct A;"), ("src/room/a/b.rs", "use super::A;")]);
    assert_eq!(cycles(&child).len(), 1, "a file and its child");
}
