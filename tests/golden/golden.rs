//! Golden files: bytes that others see, kept beside the tests. A difference is shown as a diff; UPDATE=1 rewrites the
//! file. Shared by unit and integration tests through `#[path]`.

use std::path::Path;

/// Compares `actual` with the file at `path`, a path from the root of the project.
#[track_caller]
pub fn check(path: impl AsRef<Path>, actual: impl AsRef<[u8]>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        return std::fs::write(&path, actual).expect("the golden file can be written");
    }
    let kept = std::fs::read(&path).unwrap_or_default();
    if kept != actual.as_ref() {
        let lines = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            // A carriage return shows, so that what only differs in it does not look the same.
            Ok(text) => text.replace('\r', "\u{240d}"),
            Err(_) => bytes.escape_ascii().to_string().replace("\\n", "\\n\n"),
        };
        let (before, now) = (lines(&kept), lines(actual.as_ref()));
        let diff = similar::TextDiff::from_lines(&before, &now);
        let name = path.display();
        panic!("{name} differs; UPDATE=1 rewrites it if that was meant\n{}", diff.unified_diff().header("kept", "now"));
    }
}
