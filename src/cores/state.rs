//! The directory for what outlives a restart. Owns nothing; no data core touches it.

use std::path::PathBuf;

use crate::config::snapshot::Server;

/// The variable in which systemd says where `StateDirectory=` is (systemd.exec(5)); with several, they are separated by colons.
const BY_SYSTEMD: &str = "STATE_DIRECTORY";

/// Where to keep things; none if nothing is to be kept.
pub fn directory(server: &Server) -> Option<PathBuf> {
    directory_of(server.state_dir.clone())
}

/// The same, from what is written.
pub fn directory_of(written: Option<PathBuf>) -> Option<PathBuf> {
    chosen(written, std::env::var(BY_SYSTEMD).ok().as_deref())
}

fn chosen(written: Option<PathBuf>, by_systemd: Option<&str>) -> Option<PathBuf> {
    let first = by_systemd.and_then(|all| all.split(':').next()).filter(|first| first.starts_with('/'));
    written.or_else(|| first.map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_counts_before_what_systemd_provides() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(chosen(path("/a"), Some("/b")), path("/a"));
        assert_eq!(chosen(None, Some("/b:/c")), path("/b"));
        assert_eq!(chosen(None, Some("")), None);
        assert_eq!(chosen(None, None), None);
    }
}
