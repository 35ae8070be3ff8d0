//! The file that this program was started from: when another one has its name, a reload starts that one as the successor.

use std::cell::Cell;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;

use tokio::task::{spawn_blocking, spawn_local};
use tracing::{error, info};

/// How this process was started.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    file: File,
}

/// What tells one file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct File {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl File {
    fn of(path: &Path) -> Option<File> {
        let of = std::fs::metadata(path).ok()?;
        Some(File { device: of.dev(), inode: of.ino(), changed: (of.mtime(), of.mtime_nsec()) })
    }
}

impl Program {
    /// To be called while the file is still there. `None`: it is not, or cannot be found.
    pub fn of_this_process() -> Option<Program> {
        let path = std::env::current_exe().ok()?;
        let file = File::of(&path)?;
        Some(Program { path, arguments: std::env::args_os().skip(1).collect(), file })
    }

    /// Whether another file has its name.
    pub fn is_replaced(&self) -> bool {
        File::of(&self.path).is_some_and(|now| now != self.file)
    }

    /// Starts it with the arguments that this process has, to take over.
    pub fn start_successor(&self) -> io::Result<Child> {
        const TAKE_OVER: &str = "--take-over";
        let mut command = Command::new(&self.path);
        command.args(&self.arguments);
        if !self.arguments.iter().any(|argument| argument == TAKE_OVER) {
            command.arg(TAKE_OVER);
        }
        command.stdin(Stdio::null()).spawn()
    }
}

/// Starts a successor when there is reason to. Owned by the background core.
pub struct Upgrade {
    program: Option<Program>,
    /// One at a time.
    is_running: Cell<bool>,
}

impl Upgrade {
    pub fn new(program: Option<Program>) -> Rc<Upgrade> {
        Rc::new(Upgrade { program, is_running: Cell::new(false) })
    }

    /// If another program has the name of this one, lets it take over; what it needs, the configuration too, it reads itself.
    /// False: it is the same.
    pub fn begin(self: &Rc<Upgrade>) -> bool {
        let Some(program) = self.program.as_ref().filter(|program| program.is_replaced()) else { return false };
        if self.is_running.replace(true) {
            info!("a successor is starting already");
            return true;
        }
        let path = program.path.display();
        let mut child = match program.start_successor() {
            Ok(child) => child,
            Err(error) => {
                error!("{path} cannot be started: {error}; this process goes on");
                self.is_running.set(false);
                return true;
            }
        };
        info!("{path} is another file now: process {} is to take over", child.id());
        let upgrade = self.clone();
        spawn_local(async move {
            if let Ok(Ok(status)) = spawn_blocking(move || child.wait()).await {
                error!("the successor has ended: {status}");
            }
            upgrade.is_running.set(false);
        });
        true
    }
}
