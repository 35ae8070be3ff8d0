//! Files of the state directory that are whole or do not count: a first line says what they are, the last one is the SHA-256 of
//! all before it, and each is written beside its place and moved there. Blocking: for threads that may.

use data_encoding::HEXLOWER;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Largest file that is read.
const MOST_BYTES: u64 = 1 << 30;
const CHECK: &str = "sha256 ";

/// Replaces the file by `lines` behind `title`. Errors: it is as it was.
pub fn write(path: &Path, title: &str, lines: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let text = format!("{title}\n{lines}");
    let check = HEXLOWER.encode(&Sha256::digest(&text));
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.write_all(format!("{CHECK}{check}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The name is in the directory, which is written apart from the file.
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// The lines behind `title`; `None` if there is no file. Errors: why it does not count.
pub fn read(path: &Path, title: &str) -> Result<Option<String>, String> {
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    }
    let whole = text.strip_suffix('\n').and_then(|text| text.rsplit_once('\n'));
    let Some((_, check)) = whole.and_then(|(_, last)| last.split_once(CHECK)) else {
        return Err("it is torn: its end is missing".to_owned());
    };
    let before = &text[..text.len() - CHECK.len() - check.len() - 1];
    let counted = HEXLOWER.encode(&Sha256::digest(before));
    if counted != check {
        return Err("it is damaged: its checksum is another one".to_owned());
    }
    match before.split_once('\n') {
        Some((first, lines)) if first == title => Ok(Some(lines.to_owned())),
        _ => Err(format!("it is of another kind or version: its first line is not \"{title}\"")),
    }
}

/// As [`read`]; a file that does not count is moved aside. Gives the reason for the log besides.
pub fn read_or_put_aside(path: &Path, title: &str) -> (Option<String>, Option<String>) {
    match read(path, title) {
        Ok(lines) => (lines, None),
        Err(why) => {
            let aside = path.with_extension("damaged");
            let moved = match fs::rename(path, &aside) {
                Ok(()) => format!("it is now {}", aside.display()),
                Err(error) => format!("it cannot be moved aside: {error}"),
            };
            (None, Some(format!("{}: {why}; {moved}, and counting goes on without it", path.display())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_was_written_or_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        assert_eq!(read(&path, "t 1"), Ok(None));
        for lines in ["", "a\n", "a\nb\n"] {
            write(&path, "t 1", lines).unwrap();
            assert_eq!(read(&path, "t 1"), Ok(Some(lines.to_owned())));
            assert!(read(&path, "t 2").unwrap_err().contains("another kind"));
        }
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path, "t 1").is_err(), "{length} of {} bytes", whole.len());
        }
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 1;
            fs::write(&path, other).unwrap();
            assert!(read(&path, "t 1").is_err(), "another byte {at}");
        }
        let (lines, why) = read_or_put_aside(&path, "t 1");
        assert_eq!(lines, None);
        assert!(why.unwrap().contains("kept.damaged"));
        assert_eq!(read(&path, "t 1"), Ok(None));
    }
}
