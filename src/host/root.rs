//! The files of the kernel, read and written below a prefix, so that tests and `--root` can script a host.
//! Every read is bounded and never waits; what cannot be read is an answer of its own, not an error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::limits::{HOST_ENTRIES, HOST_FILE_BYTES};

/// What reading a file gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Its text without white space around it; bytes that are not UTF-8 are replaced.
    Text(String),
    Absent,
    /// It is there and cannot be read, and why.
    Hidden(String),
}

impl Seen {
    pub fn text(self) -> Option<String> {
        match self {
            Seen::Text(text) => Some(text),
            Seen::Absent | Seen::Hidden(_) => None,
        }
    }
}

/// Where `/proc`, `/sys` and `/etc` are.
#[derive(Clone, Debug)]
pub struct Root {
    prefix: PathBuf,
    /// Writes left before one fails: how tests reach every place where a change can break.
    #[cfg(test)]
    pub writes_left: std::cell::Cell<Option<usize>>,
}

impl Root {
    /// This machine.
    pub fn system() -> Root {
        Root::at(Path::new("/"))
    }

    /// A tree that looks like one.
    pub fn at(prefix: &Path) -> Root {
        Root {
            prefix: prefix.to_owned(),
            #[cfg(test)]
            writes_left: std::cell::Cell::default(),
        }
    }

    /// Where the absolute `path` really is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.prefix.join(path.trim_start_matches('/'))
    }

    /// Reads one file; what is beyond the bound is not read.
    pub fn read(&self, path: &str) -> Seen {
        // Without O_NONBLOCK a fifo in the tree would wait for a writer.
        let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(self.path(path));
        let mut bytes = Vec::new();
        match open.and_then(|file| file.take(HOST_FILE_BYTES).read_to_end(&mut bytes)) {
            Ok(_) => Seen::Text(String::from_utf8_lossy(&bytes).trim().to_owned()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Seen::Absent
            }
            Err(error) => Seen::Hidden(error.to_string()),
        }
    }

    /// The text of a file, or nothing for whatever reason.
    pub fn text(&self, path: &str) -> Option<String> {
        self.read(path).text()
    }

    /// A file as it is, to be put back. `None`: there is none. Errors: it is too large, or no text, or cannot be read.
    pub fn whole(&self, path: &str) -> io::Result<Option<String>> {
        let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(self.path(path));
        let mut text = String::new();
        match open.and_then(|file| file.take(HOST_FILE_BYTES + 1).read_to_string(&mut text)) {
            Ok(length) if length as u64 > HOST_FILE_BYTES => Err(io::ErrorKind::FileTooLarge.into()),
            Ok(_) => Ok(Some(text)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    /// The names in a directory, in order; none where it cannot be read.
    pub fn list(&self, directory: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(directory)) else { return Vec::new() };
        let names = entries.take(HOST_ENTRIES).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        // Numbers in numeric order: cpu2 before cpu10.
        names.sort_by_key(|name| {
            (name.trim_end_matches(|letter: char| letter.is_ascii_digit()).len(), name.len(), name.clone())
        });
        names
    }

    /// The paths that are there and fit a pattern, in which `*` stands for any part of one name. A pattern without `*`
    /// gives itself.
    pub fn matching(&self, pattern: &str) -> Vec<String> {
        let mut found = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let mut next = Vec::new();
            for base in &found {
                match part.split_once('*') {
                    None => next.push(format!("{base}/{part}")),
                    Some((before, after)) => {
                        let fits = |name: &String| {
                            name.len() >= before.len() + after.len()
                                && name.starts_with(before)
                                && name.ends_with(after)
                        };
                        next.extend(
                            self.list(base).iter().filter(|name| fits(name)).map(|name| format!("{base}/{name}")),
                        );
                    }
                }
            }
            next.truncate(HOST_ENTRIES);
            found = next;
        }
        if pattern.contains('*') {
            found.retain(|path| self.exists(path));
        }
        found
    }

    /// Writes a value to a file of the kernel, which must be there.
    pub fn set(&self, path: &str, value: &str) -> io::Result<()> {
        self.spend()?;
        let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
        // One write: the kernel takes a value whole or refuses it. Truncating matters for plain files only.
        let mut file = OpenOptions::new().write(true).truncate(true).custom_flags(flags).open(self.path(path))?;
        file.write_all(format!("{value}\n").as_bytes())
    }

    /// Puts a whole file in its place, or takes it away. Readers see the old one or the new one.
    pub fn put(&self, path: &str, content: Option<&str>) -> io::Result<()> {
        self.spend()?;
        let target = self.path(path);
        let Some(content) = content else {
            return match fs::remove_file(&target) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        };
        if let Some(directory) = target.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let fresh = target.with_file_name(name);
        let written = File::create(&fresh).and_then(|mut file| {
            file.write_all(content.as_bytes())?;
            file.sync_all()
        });
        written.and_then(|()| fs::rename(&fresh, &target)).inspect_err(|_| drop(fs::remove_file(&fresh)))
    }

    /// The directories of `path` that are not there yet, outermost first.
    pub fn missing_directories(&self, path: &str) -> Vec<String> {
        let all = Path::new(path).ancestors().skip(1).filter_map(Path::to_str);
        let mut missing: Vec<String> = all.filter(|above| !self.exists(above)).map(str::to_owned).collect();
        missing.reverse();
        missing
    }

    /// Removes a directory that is empty; one that is not, or is gone, stays as it is.
    pub fn remove_empty(&self, directory: &str) {
        let _ = fs::remove_dir(self.path(directory));
    }

    fn spend(&self) -> io::Result<()> {
        #[cfg(test)]
        if let Some(left) = self.writes_left.get() {
            self.writes_left.set(left.checked_sub(1));
            if left == 0 {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
        }
        Ok(())
    }
}
