//! What stood in each file before it was changed, as JSON. Written before the first change, so that a change that was cut off
//! can be undone, too.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::setting::Form;

/// Everything that there is to undo.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// The profile that is applied.
    pub profile: Option<String>,
    /// The start of the machine in which it was applied.
    pub boot: Option<String>,
    pub lines: Vec<Line>,
    /// Directories that were made for files, outermost first.
    pub directories: Vec<String>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    pub path: String,
    pub kind: Kind,
    /// Nothing: it was not there.
    pub before: Option<String>,
    /// What is there now, unless somebody else has changed it since.
    pub written: Option<String>,
}

/// What a path is, and how long a value in it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A file of the kernel that is set again at each start.
    Lasting(Form),
    /// A file of the kernel whose value ends with the machine's run.
    Passing(Form),
    /// A file on disk.
    File,
}

/// Reads the state at `path`; nothing there means nothing to undo.
pub fn read(path: &Path) -> Result<Saved, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    serde_json::from_str(&text).map_err(|error| format!("{}: it is no state of tune: {error}", path.display()))
}

/// Writes the state, or removes it where there is nothing to undo.
pub fn write(path: &Path, saved: &Saved) -> Result<(), String> {
    let done = if saved.lines.is_empty() && saved.directories.is_empty() {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    } else {
        replace(path, saved)
    };
    done.map_err(|error| format!("{}: {error}", path.display()))
}

fn replace(path: &Path, saved: &Saved) -> io::Result<()> {
    let fresh = path.with_extension("json.new");
    let mut file = File::create(&fresh)?;
    file.write_all(&serde_json::to_vec_pretty(saved)?)?;
    file.sync_all()?;
    fs::rename(fresh, path)
}

/// Keeps other runs of tune out for as long as it lives.
#[derive(Debug)]
pub struct Lock {
    directory: PathBuf,
    is_made: bool,
    _held: File,
}

impl Lock {
    /// Locks the directory of the state, which is made if it is not there. Errors: another run holds it, or it cannot be made.
    pub fn take(state: &Path) -> Result<Lock, String> {
        let directory = match state.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let explain = |error: io::Error| format!("{}: {}", directory.display(), in_words(&error));
        let is_made = !directory.exists();
        fs::create_dir_all(&directory).map_err(explain)?;
        let held = File::open(&directory).map_err(explain)?;
        rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| format!("{}: another run of tune is at work", directory.display()))?;
        Ok(Lock { directory, is_made, _held: held })
    }
}

impl Drop for Lock {
    /// A directory that was made in vain goes again; one with a state in it stays.
    fn drop(&mut self) {
        if self.is_made {
            let _ = fs::remove_dir(&self.directory);
        }
    }
}

/// A refusal with the usual remedy.
pub fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!("{error}; run it as root"),
        io::ErrorKind::ReadOnlyFilesystem => format!("{error}; in a container this is the host's to set"),
        _ => error.to_string(),
    }
}
