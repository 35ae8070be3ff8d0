//! The copy of the last good configuration of a store, in the state directory, so that a node starts while its store is down. A
//! line of its own, then the document as it was; replaced whole or not at all. One that is damaged, of another store, or written in
//! another format is refused, with the reason.

use data_encoding::HEXLOWER;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::store::Document;
use crate::config::snapshot::Store;
use crate::limits::STORED_CONFIG_BYTES;

const NAME: &str = "config.kept.toml";
/// Before it gets its name.
const NEW: &str = "config.kept.toml.new";
/// It may hold secrets: for this user, and its group to read.
const MODE: u32 = 0o640;
/// What the first line begins with; the number is that of the format.
const BEGIN: &str = "# ringway: kept configuration 1,";
const ANY_BEGIN: &str = "# ringway: kept configuration ";
/// Longest first line: the key and the servers.
const LINE_BYTES: u64 = 8 << 10;

/// Where the copy is.
pub fn path(directory: &Path) -> PathBuf {
    directory.join(NAME)
}

/// Keeps `document`. Errors: it is not kept, and the former copy is as it was.
pub fn write(directory: &Path, store: &Store, document: &Document) -> io::Result<()> {
    let new = directory.join(NEW);
    let written = (|| {
        // One that is left over may have other rights.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&new)?;
        file.write_all(first_line(store, document).as_bytes())?;
        file.write_all(document.text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path(directory))?;
        File::open(directory)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// The copy; none if there is none. Errors: why it is not to be trusted.
pub fn read(directory: &Path, store: &Store) -> Result<Option<Document>, String> {
    let path = path(directory);
    let refuse = |why: &str| Err(format!("{}: {why}", path.display()));
    let mut text = String::new();
    match File::open(&path).map(|file| file.take(STORED_CONFIG_BYTES as u64 + LINE_BYTES + 1)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return refuse(&format!("it cannot be read: {error}")),
        Ok(mut file) => {
            if let Err(error) = file.read_to_string(&mut text) {
                return refuse(&format!("it cannot be read: {error}"));
            }
        }
    }
    let Some((line, text)) = text.split_once('\n') else { return refuse("it is no kept configuration") };
    let Some(rest) = line.strip_prefix(BEGIN) else {
        return refuse(match line.starts_with(ANY_BEGIN) {
            true => "it was written by another version of Ringway",
            false => "it is no kept configuration",
        });
    };
    // No key has a tab in it, nor has the address of a server.
    let mut fields = rest.split('\t').map(str::trim);
    let mut field = |name: &str| fields.next().and_then(|field| field.strip_prefix(name)).unwrap_or("").to_owned();
    // The checksum comes first: whatever else is damaged.
    let (checksum, called) = (field("sha256 "), field("of "));
    let (endpoints, revision) = (field("at "), field("revision "));
    let document = Document { text: text.to_owned(), revision };
    if checksum != sum(&called, &endpoints, &document) {
        return refuse("it is damaged: its checksum is another one");
    }
    if called != store.called() {
        return refuse(&format!("it is of {called}, not of {}", store.called()));
    }
    let is_known = |endpoint: &str| store.endpoints.iter().any(|known| known.to_string() == endpoint);
    if !endpoints.split(' ').any(is_known) {
        return refuse(&format!("it is of other servers: {endpoints}"));
    }
    Ok(Some(document))
}

fn first_line(store: &Store, document: &Document) -> String {
    let endpoints: Vec<String> = store.endpoints.iter().map(ToString::to_string).collect();
    let (called, endpoints) = (store.called(), endpoints.join(" "));
    let checksum = sum(&called, &endpoints, document);
    format!("{BEGIN} sha256 {checksum}\tof {called}\tat {endpoints}\trevision {}\n", document.revision)
}

fn sum(called: &str, endpoints: &str, document: &Document) -> String {
    let mut hash = Sha256::new();
    for part in [called, endpoints, &document.revision, &document.text] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    HEXLOWER.encode(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::snapshot::{Endpoint, StoreKind, Tls};

    fn store(key: &str, endpoint: &str) -> Store {
        Store {
            kind: StoreKind::Etcd,
            endpoints: vec![Endpoint::of(endpoint).unwrap(), Endpoint::of("http://second:1").unwrap()],
            key: key.to_owned(),
            user: None,
            password: None,
            token: None,
            tls: Tls { server_name: String::new(), ca: None, client: None },
            timeout_ms: 1,
        }
    }

    fn kept() -> (tempfile::TempDir, Store, Document) {
        let directory = tempfile::tempdir().unwrap();
        let store = store("ringway/a, b", "http://first:1");
        let document = Document { text: "[server]\n# hello\n".to_owned(), revision: "12".to_owned() };
        write(directory.path(), &store, &document).unwrap();
        (directory, store, document)
    }

    #[test]
    fn what_was_kept_is_read_again_and_replaced_whole() {
        let (directory, store, document) = kept();
        let directory = directory.path();
        assert_eq!(read(directory, &store), Ok(Some(document.clone())));
        let mode = fs::metadata(path(directory)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
        let newer = Document { text: String::new(), revision: "13".to_owned() };
        write(directory, &store, &newer).unwrap();
        assert_eq!(read(directory, &store), Ok(Some(newer)));
        assert_eq!(fs::read_dir(directory).unwrap().count(), 1);
    }

    #[test]
    fn without_one_there_is_none() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path(), &store("k", "http://first:1")), Ok(None));
    }

    #[test]
    fn one_that_is_torn_foreign_or_old_is_refused_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let own = store("k", "http://first:1");
        let document = Document { text: "[server]\n# hello\n".to_owned(), revision: "12".to_owned() };
        write(directory, &own, &document).unwrap();
        let whole = fs::read(path(directory)).unwrap();
        let why = |bytes: &[u8], store: &Store| {
            fs::write(path(directory), bytes).unwrap();
            read(directory, store).unwrap_err()
        };
        for length in 0..whole.len() {
            why(&whole[..length], &own);
        }
        for place in 0..whole.len() {
            let mut other = whole.clone();
            other[place] ^= 1;
            why(&other, &own);
        }
        assert!(why(&[&whole[..], b"x"].concat(), &own).contains("damaged"));
        assert!(why(&whole, &store("other", "http://first:1")).contains("it is of etcd:k, not of etcd:other"));
        let elsewhere = Store { endpoints: vec![Endpoint::of("http://third:1").unwrap()], ..own.clone() };
        assert!(why(&whole, &elsewhere).contains("other servers"));
        let second = Store { endpoints: vec![Endpoint::of("http://second:1").unwrap()], ..own.clone() };
        fs::write(path(directory), &whole).unwrap();
        assert_eq!(read(directory, &second), Ok(Some(document)));
        let old = String::from_utf8(whole).unwrap().replacen("configuration 1,", "configuration 0,", 1);
        assert!(why(old.as_bytes(), &own).contains("another version"));
        assert!(why(b"[server]\n", &own).contains("no kept configuration"));
        assert!(why(&[0xff; 40], &own).contains("cannot be read"));
        assert!(why(&vec![b'#'; STORED_CONFIG_BYTES + (LINE_BYTES as usize) + 5], &own).contains("no kept"));
    }

    #[test]
    fn where_nothing_can_be_written_the_former_copy_stays() {
        let (directory, _, document) = kept();
        let own = store("k", "http://first:1");
        write(directory.path(), &own, &document).unwrap();
        // What would be replaced cannot be: it is a directory that is not empty.
        let new = directory.path().join(NEW);
        fs::create_dir_all(new.join("in the way")).unwrap();
        assert!(write(directory.path(), &own, &Document { text: "x".to_owned(), revision: "2".to_owned() }).is_err());
        assert_eq!(read(directory.path(), &own), Ok(Some(document)));
    }
}
