//! Builds the ring runtime of a data core, with the flags this gateway needs, and starts tasks on it.

use std::cell::Cell;
use std::future::Future;
use std::io;

/// Entries of a data core's submission queue. The runtime flushes a full queue, so this bounds a batch, not the work.
const RING_ENTRIES: u32 = 2048;

/// Runs `main` on a new ring on this thread until it ends.
///
/// SINGLE_ISSUER and DEFER_TASKRUN: completions are worked on when the core asks for them and never interrupt it, which
/// saves 5 % of the CPU of a streamed chunk. The price is a rule: a task must not wake itself to run again, as a yield
/// would, for the runtime does not ask for completions while any task is runnable; go through [`super::sleep_ms`].
/// No SQPOLL: the runtime panics on a full queue with it.
///
/// Errors: the kernel's refusal to make a ring, with the usual cause in words.
pub fn run_data_core<F: Future>(main: F) -> io::Result<F::Output> {
    let mut ring = io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .uring_builder(ring)
        .with_entries(RING_ENTRIES)
        .enable_timer()
        .build()
        .map_err(explain)?;
    RUNNING.set(true);
    let output = runtime.block_on(main);
    RUNNING.set(false);
    Ok(output)
}

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Whether tasks can be started here: not on a thread without a ring, nor when the ring has ended and what was left on it
/// is dropped.
pub fn is_running() -> bool {
    RUNNING.try_with(Cell::get).unwrap_or(false)
}

fn explain(error: io::Error) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM) => {
            "io_uring is forbidden here: container seccomp profiles and kernel.io_uring_disabled do that"
        }
        Some(libc::ENOSYS) => "this kernel has no io_uring; Linux 6.1 or later is needed",
        Some(libc::EINVAL) => "this kernel lacks ring flags from Linux 6.1; Linux 6.1 or later is needed",
        Some(libc::ENOMEM) => "the locked-memory limit is too low for a ring; raise LimitMEMLOCK",
        _ => "io_uring could not be set up",
    };
    io::Error::new(error.kind(), format!("{hint} ({error})"))
}

/// Starts a task without the guard against panics; everybody else uses [`super::spawn`].
pub fn spawn_raw(task: impl Future<Output = ()> + 'static) {
    drop(monoio::spawn(task));
}
