//! The files of the service: what `ringway install` puts where, and what `ringway uninstall` takes away again. Every file is
//! told. Nothing is started, enabled or created but files; what somebody has changed is never lost.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::root::Root;
use crate::config::sample;

/// A file of the service.
pub struct Piece {
    pub path: &'static str,
    content: Vec<u8>,
    mode: u32,
    owner: Owner,
}

/// Whose a file is once it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Ours: replaced by the next install, taken away by uninstall.
    Program,
    /// The user's: written where there is none, and then left alone.
    User,
}

/// What is to happen to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Write,
    /// The one that is there goes to the same name with `.old`.
    Replace,
    /// It is there as it should be.
    Same,
    /// The user's: it stays as it is.
    Keep,
    /// It is not what install wrote: it stays as it is.
    Changed,
    Remove,
    /// It is not there.
    Absent,
}

impl Step {
    pub fn words(self) -> &'static str {
        match self {
            Step::Write => "write",
            Step::Replace => "replace, and keep the present one as .old",
            Step::Same => "is there already",
            Step::Keep => "stays as it is: it is yours",
            Step::Changed => "stays as it is: somebody has changed it",
            Step::Remove => "remove",
            Step::Absent => "is not there",
        }
    }
}

const UNIT: &str = include_str!("../../systemd/ringway.service");
const SOCKET: &str = include_str!("../../systemd/ringway.socket");
const SLICE: &str = include_str!("../../systemd/ringway.slice");
const SYSUSERS: &str = include_str!("../../systemd/sysusers.conf");
const TMPFILES: &str = include_str!("../../systemd/tmpfiles.conf");
const LOGROTATE: &str = include_str!("../../systemd/logrotate");

/// Everything of the service, in the order it is written; `program` is the executable's content.
pub fn pieces(program: Vec<u8>) -> Vec<Piece> {
    let piece = |path, content: &str| Piece { path, content: content.into(), mode: 0o644, owner: Owner::Program };
    vec![
        Piece { path: "/usr/local/bin/ringway", content: program, mode: 0o755, owner: Owner::Program },
        // The service's group reads it, nobody else: it may hold credentials.
        Piece { path: "/etc/ringway/ringway.toml", content: sample::sample().into(), mode: 0o640, owner: Owner::User },
        piece("/etc/sysusers.d/ringway.conf", SYSUSERS),
        piece("/etc/tmpfiles.d/ringway.conf", TMPFILES),
        piece("/etc/logrotate.d/ringway", LOGROTATE),
        piece("/etc/systemd/system/ringway.slice", SLICE),
        piece("/etc/systemd/system/ringway.socket", SOCKET),
        piece("/etc/systemd/system/ringway.service", UNIT),
    ]
}

/// What installing would do to each file.
///
/// # Errors
/// A file that cannot be looked at.
pub fn install_steps(root: &Root, pieces: &[Piece]) -> Result<Vec<Step>, String> {
    steps(root, pieces, |piece, there| match (there, piece.owner) {
        (None, _) => Step::Write,
        (Some(_), Owner::User) => Step::Keep,
        (Some(content), Owner::Program) if content == piece.content => Step::Same,
        (Some(_), Owner::Program) => Step::Replace,
    })
}

/// What uninstalling would do to each file.
///
/// # Errors
/// A file that cannot be looked at.
pub fn uninstall_steps(root: &Root, pieces: &[Piece]) -> Result<Vec<Step>, String> {
    steps(root, pieces, |piece, there| match (there, piece.owner) {
        (None, _) => Step::Absent,
        (Some(_), Owner::User) => Step::Keep,
        (Some(content), Owner::Program) if content == piece.content => Step::Remove,
        (Some(_), Owner::Program) => Step::Changed,
    })
}

fn steps(root: &Root, pieces: &[Piece], step: impl Fn(&Piece, Option<Vec<u8>>) -> Step) -> Result<Vec<Step>, String> {
    let look = |piece: &Piece| match fs::read(root.path(piece.path)) {
        Ok(content) => Ok(step(piece, Some(content))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(step(piece, None)),
        Err(error) => Err(format!("{}: {error}", piece.path)),
    };
    pieces.iter().map(look).collect()
}

/// Takes the steps, one for each piece. When one fails, those before it are taken back.
///
/// # Errors
/// Which one failed and why, and what could not be taken back.
pub fn carry_out(root: &Root, pieces: &[Piece], steps: &[Step]) -> Result<(), String> {
    for (place, (piece, step)) in pieces.iter().zip(steps).enumerate() {
        if let Err(error) = take(root, piece, *step) {
            let back = pieces.iter().zip(steps).take(place).rev();
            let lost: Vec<&str> = back
                .filter(|(piece, step)| take_back(root, piece, **step).is_err())
                .map(|(piece, _)| piece.path)
                .collect();
            let rest = match lost[..] {
                [] => "; nothing is changed".to_owned(),
                _ => format!("; not taken back: {}", lost.join(", ")),
            };
            let root = if error.kind() == io::ErrorKind::PermissionDenied { "; run it as root" } else { "" };
            return Err(format!("{}: {error}{root}{rest}", piece.path));
        }
    }
    Ok(())
}

fn take(root: &Root, piece: &Piece, step: Step) -> io::Result<()> {
    let path = root.path(piece.path);
    match step {
        Step::Write => put(&path, piece),
        Step::Replace => {
            // A link first: the name is never without a file, and a program that runs keeps its own.
            let _ = fs::remove_file(old(&path));
            fs::hard_link(&path, old(&path))?;
            put(&path, piece).inspect_err(|_| drop(fs::rename(old(&path), &path)))
        }
        Step::Remove => fs::remove_file(path),
        Step::Same | Step::Keep | Step::Changed | Step::Absent => Ok(()),
    }
}

fn take_back(root: &Root, piece: &Piece, step: Step) -> io::Result<()> {
    let path = root.path(piece.path);
    match step {
        Step::Write => fs::remove_file(path),
        Step::Replace => fs::rename(old(&path), &path),
        // Only what is byte for byte ours is removed.
        Step::Remove => put(&path, piece),
        Step::Same | Step::Keep | Step::Changed | Step::Absent => Ok(()),
    }
}

fn old(path: &Path) -> PathBuf {
    beside(path, ".old")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

fn put(path: &Path, piece: &Piece) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let fresh = beside(path, ".new");
    let written = fs::write(&fresh, &piece.content)
        .and_then(|()| fs::set_permissions(&fresh, fs::Permissions::from_mode(piece.mode)))
        .and_then(|()| fs::rename(&fresh, path));
    written.inspect_err(|_| drop(fs::remove_file(&fresh)))
}
