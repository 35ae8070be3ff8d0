//! Makes the changes, one after the other. When one fails, those before it are taken back and the state is as it was.

use std::io;
use std::path::Path;

use super::intent::{Change, Intent};
use super::state::{self, Kind, Line, Saved, in_words};
use crate::host::root::Root;

/// Makes every change of `intent` or none. `saved` is the state as it was read; the new one is written to `path`.
///
/// # Errors
/// Which change failed and why, and what, if anything, could not be taken back.
pub fn apply(root: &Root, intent: &Intent, saved: &Saved, path: &Path) -> Result<(), String> {
    let files = intent.changes.iter().filter(|change| change.kind == Kind::File && change.wanted.is_some());
    let mut directories = saved.directories.clone();
    for directory in files.flat_map(|change| root.missing_directories(&change.path)) {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    let mut after = Saved {
        profile: intent.profile.clone(),
        boot: intent.boot.clone(),
        lines: intent.lines.clone(),
        directories: directories.clone(),
    };
    // Before anything is changed: what is about to be taken back is in it until it is.
    let mut ahead = after.clone();
    let open = saved.lines.iter().filter(|line| !ahead.lines.iter().any(|other| other.path == line.path));
    ahead.lines.extend(open.cloned().collect::<Vec<_>>());
    state::write(path, &ahead)?;

    for (place, change) in intent.changes.iter().enumerate() {
        match make(root, change) {
            Ok(now) => remember(&mut after.lines, change, now),
            Err(why) => {
                let mut told = format!("{}: {why}", change.path);
                // The one that failed, too: a value may have arrived and been found wrong.
                let lost = take_back(root, &intent.changes[..=place]);
                remove_new(root, &directories, &saved.directories);
                if lost.is_empty() {
                    state::write(path, saved)?;
                    told.push_str("; nothing is changed");
                } else {
                    // The state stays, so that --undo can try again.
                    told.push_str(&format!("; not taken back: {}", lost.join(", ")));
                }
                return Err(told);
            }
        }
    }
    if after.lines.is_empty() {
        remove_new(root, &directories, &[]);
        after = Saved::default();
    }
    state::write(path, &after)
}

/// Makes one change. Returns what is read back from a file of the kernel, which may spell it in another way.
fn make(root: &Root, change: &Change) -> Result<Option<String>, String> {
    let written = match (change.kind, &change.wanted) {
        (Kind::File, wanted) => root.put(&change.path, wanted.as_deref()),
        (Kind::Lasting(form) | Kind::Passing(form), Some(value)) => root.set(&change.path, &form.spelled(value)),
        (Kind::Lasting(_) | Kind::Passing(_), None) => Ok(()),
    };
    let value = change.wanted.as_deref().unwrap_or("nothing");
    let value = if change.kind == Kind::File { "the file" } else { value };
    written.map_err(|error: io::Error| format!("cannot write {value}: {}", in_words(&error)))?;
    let (Kind::Lasting(form) | Kind::Passing(form)) = change.kind else { return Ok(change.wanted.clone()) };
    let now = root.text(&change.path).map(|text| form.plain(&text));
    if now == change.wanted {
        Ok(now)
    } else {
        Err(format!("{value} was written, and {} is there", now.as_deref().unwrap_or("nothing")))
    }
}

fn remember(lines: &mut [Line], change: &Change, now: Option<String>) {
    if let Some(line) = lines.iter_mut().find(|line| line.path == change.path) {
        line.written = now;
    }
}

/// Puts back what was there, the latest change first. Returns the paths where that failed.
fn take_back(root: &Root, changes: &[Change]) -> Vec<String> {
    let failed = changes.iter().rev().filter(|change| {
        let back = Change { now: change.wanted.clone(), wanted: change.now.clone(), ..(*change).clone() };
        let is_back = match back.kind {
            Kind::File => root.whole(&back.path).is_ok_and(|now| now == back.wanted),
            Kind::Lasting(form) | Kind::Passing(form) => {
                root.text(&back.path).map(|text| form.plain(&text)) == back.wanted
            }
        };
        !is_back && make(root, &back).is_err()
    });
    failed.map(|change| change.path.clone()).collect()
}

/// Removes the directories that were made, innermost first, except those of an earlier change.
fn remove_new(root: &Root, made: &[String], keep: &[String]) {
    for directory in made.iter().rev().filter(|directory| !keep.contains(directory)) {
        root.remove_empty(directory);
    }
}
