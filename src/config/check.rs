//! Checks that look at more than one value: names and references, listeners against each other, credentials.
//! Owns no state but the indices of names. It never changes a value.

use std::net::{IpAddr, SocketAddr};

use hashbrown::HashMap;
use secrecy::{ExposeSecret, SecretString};

use super::glob;
use super::keys::Table;
use super::problem::{Report, nearest};
use super::reader::header;
use super::section::{Placed, Section};
use super::snapshot::{Choice, Listen, Network};

/// Reports a name that stands for many models where one is to be named.
pub(super) fn one_model(path: &str, name: &Placed<String>, report: &mut Report<'_>) {
    if name.value.contains('*') {
        let what = format!("\"{}\" stands for many models", name.value);
        report.add(name.at, path, what, "name a [[model]] without * in its name");
    }
}

/// The names of one table's sections, by which others refer to them.
pub(super) struct Names {
    table: Table,
    index: HashMap<String, usize>,
    /// Whether a section has a broken name: then a reference that leads nowhere may have meant it.
    incomplete: bool,
}

impl Names {
    /// Collects the names of `sections`, all of `table`, and reports each that was there before.
    pub fn of(table: Table, sections: &[Section], report: &mut Report<'_>) -> Names {
        let mut names = Names { table, index: HashMap::new(), incomplete: false };
        for (index, section) in sections.iter().enumerate() {
            let Some(name) = section.name() else {
                names.incomplete = true;
                continue;
            };
            match names.index.get(&name.value) {
                None => {
                    names.index.insert(name.value.clone(), index);
                }
                Some(first) => {
                    let line = sections.get(*first).map_or(0, |section| report.line(section.at));
                    let what = format!("\"{}\" is the name of the {} on line {line} too", name.value, header(table));
                    report.add(name.at, &format!("{}.name", table.name()), what, "give each its own name");
                }
            }
        }
        names
    }

    /// The same where sections are versions of what their name says: a name is that of the first one.
    pub fn of_versions(table: Table, sections: &[Section]) -> Names {
        let mut names = Names { table, index: HashMap::new(), incomplete: false };
        for (index, section) in sections.iter().enumerate() {
            match section.name() {
                Some(name) => _ = names.index.entry(name.value.clone()).or_insert(index),
                None => names.incomplete = true,
            }
        }
        names
    }

    /// The index of the section that `name`, the value of key `path`, refers to.
    pub fn find(&self, path: &str, name: &Placed<String>, report: &mut Report<'_>) -> Option<usize> {
        let found = self.index.get(&name.value).copied();
        if found.is_none() && !self.incomplete {
            let what = format!("there is no {} named \"{}\"", header(self.table), name.value);
            let remedy = match nearest(&name.value, self.index.keys().map(String::as_str)) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("add the {}, or take the name out", header(self.table)),
            };
            report.add_absence(name.at, path, what, remedy);
        }
        found
    }

    /// The indices of the sections whose names match `pattern`, the value of key `path`.
    pub fn fitting(&self, path: &str, pattern: &Placed<String>, report: &mut Report<'_>) -> Vec<usize> {
        let fits = |name: &String| glob::fits(pattern.value.as_bytes(), name.as_bytes());
        let found: Vec<usize> = self.index.iter().filter(|(name, _)| fits(name)).map(|(_, index)| *index).collect();
        if found.is_empty() && !self.incomplete {
            let what = format!("there is no {} whose name matches \"{}\"", header(self.table), pattern.value);
            report.add_absence(pattern.at, path, what, "correct the pattern, or remove it");
        }
        found
    }
}

/// Whether clients have to show a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tenants {
    Some,
    None,
}

/// Reports listeners that exclude each other, and open ones that others can reach. `earlier` ones were checked before.
pub(super) fn listeners(
    path: &str,
    earlier: &[Listen],
    listen: &[Placed<Listen>],
    tenants: Tenants,
    report: &mut Report<'_>,
) {
    for (index, Placed { at, value }) in listen.iter().enumerate() {
        for earlier in earlier.iter().chain(listen[..index].iter().map(|placed| &placed.value)) {
            if value == earlier && !is_any_port(value) {
                let what = match path {
                    "server.listen" => format!("{value} stands twice in the list"),
                    _ => format!("{value} is listened on already"),
                };
                report.add(*at, path, what, "name each address once");
            } else if overlap(value, earlier) {
                let remedy = "keep the address that covers the other, or choose another port";
                report.add(*at, path, format!("{value} and {earlier} exclude each other"), remedy);
            }
        }
        if tenants == Tenants::None && !value.is_local() {
            let what = format!("{value} can be reached by others, and without a [[tenant]] no key is asked for");
            report.add_absence(*at, path, what, "add a [[tenant]], or listen on 127.0.0.1, [::1] or unix:/path only");
        }
    }
}

/// Reports an admin listener that others can reach without a token, a token that fits no header field, and an address that
/// clients use.
pub(super) fn admin(
    listen: &Placed<Option<Listen>>,
    choice: Choice,
    token: Option<&SecretString>,
    clients: &[Listen],
    report: &mut Report<'_>,
) {
    let Placed { at, value: Some(own) } = listen else { return };
    if token.is_none() && !own.is_local() {
        let what = format!("{own} can be reached by others, and there is no token");
        report.add_absence(*at, "admin.listen", what, "add token, or listen on 127.0.0.1, [::1] or unix:/path");
    }
    if token.is_some_and(|token| !token.expose_secret().bytes().all(|byte| byte.is_ascii_graphic())) {
        let remedy = "take visible ASCII characters, such as the output of `openssl rand -hex 32`";
        report.add(*at, "admin.token", "has a character that no bearer credential can have", remedy);
    }
    // The default gives way at start.
    let taken = clients.iter().find(|other| *other == own && !is_any_port(own) || overlap(own, other));
    if let Some(other) = taken.filter(|_| choice == Choice::Written) {
        let what = format!("{own} and {other}, which clients use, exclude each other");
        report.add(*at, "admin.listen", what, "choose another port");
    }
}

fn is_any_port(listen: &Listen) -> bool {
    matches!(listen, Listen::Tcp(address) if address.port() == 0)
}

/// Whether one of two different addresses is a wildcard that takes the other's connections.
fn overlap(one: &Listen, other: &Listen) -> bool {
    match (one, other) {
        (Listen::Tcp(one), Listen::Tcp(other)) => {
            one != other
                && one.port() == other.port()
                && one.port() != 0
                && (covers(one, other.ip()) || covers(other, one.ip()))
        }
        _ => false,
    }
}

/// Whether a listener at `wildcard` gets connections to `address`. `[::]` takes IPv4 too (ipv6(7), IPV6_V6ONLY is 0
/// unless the system says otherwise).
fn covers(wildcard: &SocketAddr, address: IpAddr) -> bool {
    wildcard.ip().is_unspecified() && (wildcard.is_ipv6() || address.is_ipv4())
}

/// Reports regions that are near nothing, or stand in two places of the order.
pub(super) fn regions(own: Option<&Placed<String>>, near: &[Placed<String>], report: &mut Report<'_>) {
    let path = "server.regions_near";
    if let (None, Some(first)) = (own, near.first()) {
        report.add_absence(
            first.at,
            path,
            "there is no region that they are near to",
            "add region, where this node is",
        );
    }
    for (index, Placed { at, value }) in near.iter().enumerate() {
        if own.is_some_and(|own| own.value == *value) {
            let what = format!("\"{value}\" is the node's own region, which comes first by itself");
            report.add(*at, path, what, "take it out of the list");
        } else if near[..index].iter().any(|earlier| earlier.value == *value) {
            report.add(*at, path, format!("\"{value}\" stands twice in the list"), "name each region once");
        }
    }
}

/// Reports what is no network, and gives the others.
pub(super) fn networks(names: &[Placed<String>], report: &mut Report<'_>) -> Vec<Network> {
    let read = |name: &Placed<String>| {
        let network = name.value.parse();
        if network.is_err() {
            let remedy = "write an address, or a network whose further bits are 0, such as \"10.0.0.0/8\"";
            report.add(name.at, "server.trusted_proxies", format!("\"{}\" is no network", name.value), remedy);
        }
        network.ok()
    };
    names.iter().filter_map(read).collect()
}

/// Reports a path to pass through that could be taken for another one, or never be asked for.
pub(super) fn passthrough_path(path: &Placed<String>, earlier: &[Placed<String>], report: &mut Report<'_>) {
    let key = "server.passthrough_paths";
    let Placed { at, value } = path;
    let segment = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(is_path_byte);
    let is_path = value.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment));
    if !is_path {
        let remedy = "write it as \"/rerank\": no query, no percent-codes, no slash at the end";
        report.add(*at, key, format!("\"{value}\" is not the path of one kind of request"), remedy);
    } else if value == "/v1" || value.starts_with("/v1/") {
        report.add(*at, key, "what is below /v1/ is passed through as it is", "take it out of the list");
    } else if value == "/healthz" {
        report.add(*at, key, "the gateway answers /healthz itself", "take it out of the list");
    } else if earlier.iter().any(|other| other.value == *value) {
        report.add(*at, key, format!("\"{value}\" stands twice in the list"), "name each path once");
    }
}

/// Bytes of a path's segment but for percent-codes and parameters (RFC 3986 3.3).
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

/// Reports credentials that stand twice, in one tenant or in two: a request could not be told whose it is.
#[derive(Default)]
pub(super) struct Credentials {
    seen: HashMap<[u8; 32], usize>,
}

impl Credentials {
    pub fn add(&mut self, digest: &Placed<[u8; 32]>, report: &mut Report<'_>) {
        self.add_once(digest, "tenant.keys", "key", report);
    }

    pub fn add_certificate(&mut self, digest: &Placed<[u8; 32]>, report: &mut Report<'_>) {
        self.add_once(digest, "tenant.client_certificates", "name", report);
    }

    fn add_once(&mut self, digest: &Placed<[u8; 32]>, path: &str, kind: &str, report: &mut Report<'_>) {
        match self.seen.get(&digest.value) {
            None => {
                self.seen.insert(digest.value, digest.at);
            }
            Some(first) => {
                let what = format!("the same {kind} stands on line {} too", report.line(*first));
                report.add(digest.at, path, what, format!("a {kind} belongs to one tenant, once"));
            }
        }
    }
}
