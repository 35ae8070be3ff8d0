//! The difference between the host and what is wanted, for people.

use std::fmt::Write;

use super::intent::{Advice, Change, Intent};
use super::state::Kind;
use crate::host::report::printable;

/// What there is to change, what lasts, and what is left to people.
pub fn show(intent: &Intent) -> String {
    let mut out = String::new();
    let name = intent.profile.as_deref().map_or_else(|| "no profile".to_owned(), |name| format!("profile {name}"));
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(
        out,
        "{name}: {} to change, {} as they should be, {} not on this host",
        intent.changes.len(),
        intent.good,
        intent.not_seen.len()
    );
    for change in &intent.changes {
        one(&mut out, change);
    }
    if !intent.not_seen.is_empty() {
        out.push_str("\nnot on this host, and left out\n");
        for why in &intent.not_seen {
            let _ = writeln!(out, "  {}", printable(why));
        }
    }
    if !intent.left.is_empty() {
        out.push_str("\nchanged by somebody else since, and left as they are\n");
        for path in &intent.left {
            let _ = writeln!(out, "  {path}");
        }
    }
    if intent.changes.iter().any(|change| matches!(change.kind, Kind::Passing(_))) {
        out.push_str("\nQueues and interrupts are numbered anew at each start of the machine: run tune again then.\n");
    }
    if intent.changes.iter().any(|change| change.path.contains("/systemd/")) {
        out.push_str("\nUnits change with: systemctl daemon-reload, and a restart of the gateway.\n");
    }
    if !intent.advice.is_empty() {
        out.push_str("\nby hand, on the kernel's command line\n");
        for Advice { text, why } in &intent.advice {
            let _ = writeln!(out, "  {text}\n      {why}");
        }
    }
    out
}

fn one(out: &mut String, change: &Change) {
    let what = match (change.kind, &change.now, &change.wanted) {
        (Kind::File, None, _) => " (a new file)",
        (Kind::File, _, None) => " (goes)",
        (Kind::Passing(_), ..) => " (until the machine goes down)",
        _ => "",
    };
    let _ = writeln!(out, "\n{}{what}", change.path);
    for (sign, text) in [('-', &change.now), ('+', &change.wanted)] {
        for line in text.iter().flat_map(|text| text.lines()) {
            let _ = writeln!(out, "  {sign} {}", printable(line));
        }
    }
    let _ = writeln!(out, "      {}", change.why);
}
