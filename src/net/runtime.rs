//! Builds the monoio runtime of a data core with the flags this gateway needs, and starts tasks on it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use pin_project_lite::pin_project;

use super::{clock, reactor};

/// The runtime's own ring is not used.
const RING_ENTRIES: u32 = 256;
/// A round with so few tasks has run all that were runnable; the runtime cuts a round short only after more.
const WHOLE_ROUND: u32 = 2;

/// Runs `main` on this thread until it ends. The runtime runs the tasks of a round; when no task is runnable, the
/// core's ring is served and waited on, see [`super::reactor`]. All wake-ups come from there.
/// Errors: the kernel refuses to create a ring; the message names the usual cause.
pub fn run_data_core<F: Future>(main: F) -> io::Result<F::Output> {
    let mut ring = io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .uring_builder(ring)
        .with_entries(RING_ENTRIES)
        .build()
        .map_err(explain)?;
    reactor::check().map_err(explain)?;
    RUNNING.set(true);
    let call = Arc::new(Call(AtomicBool::new(true)));
    let waker = Waker::from(call.clone());
    let output = runtime.block_on(async {
        spawn_raw(round());
        let mut main = pin!(main);
        // The runtime polls this when it was woken: by `main`'s waker, or by the task that ends a round.
        let output = poll_fn(|context| {
            let ended = ROUND.with_borrow_mut(|round| {
                round.runtime.get_or_insert_with(|| context.waker().clone());
                round.task.take()
            });
            let is_called = call.0.swap(false, Ordering::Relaxed);
            if is_called && let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(output);
            }
            if let Some(task) = ended {
                reactor::work(!is_called && RAN.get() <= WHOLE_ROUND);
                RAN.set(0);
                // If no task were runnable, the runtime would wait on its own ring.
                task.wake();
            }
            Poll::Pending
        })
        .await;
        // Here, and not only once the runtime has ended: what is dropped may wake tasks (a connection of HTTP/2 does), and
        // the runtime panics where that happens outside of it.
        RUNNING.set(false);
        reactor::end();
        output
    });
    ROUND.take();
    drop(runtime);
    reactor::end();
    clock::end_rounds();
    Ok(output)
}

/// Marks the end of a round by waking the main future once the tasks before it have run.
async fn round() {
    poll_fn(|context| {
        ROUND.with_borrow_mut(|round| {
            round.task = Some(context.waker().clone());
            if let Some(runtime) = &round.runtime {
                runtime.wake_by_ref();
            }
        });
        Poll::<()>::Pending
    })
    .await;
}

/// The waker of the main future.
struct Call(AtomicBool);

impl Wake for Call {
    fn wake(self: Arc<Call>) {
        self.0.store(true, Ordering::Relaxed);
        ROUND.with_borrow(|round| round.runtime.iter().for_each(Waker::wake_by_ref));
    }
}

#[derive(Default)]
struct Round {
    runtime: Option<Waker>,
    task: Option<Waker>,
}

pin_project! {
    struct Counted<F> {
        #[pin]
        task: F,
    }
}

impl<F: Future<Output = ()>> Future for Counted<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        RAN.set(RAN.get() + 1);
        self.project().task.poll(context)
    }
}

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
    /// Tasks that ran in this round.
    static RAN: Cell<u32> = const { Cell::new(0) };
    static ROUND: RefCell<Round> = RefCell::default();
}

/// Whether tasks can be started here: not on a thread without a ring, nor while a finished ring drops its remaining
/// tasks.
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

/// Starts a task without panic isolation; all other code uses [`super::spawn`].
pub fn spawn_raw(task: impl Future<Output = ()> + 'static) {
    drop(monoio::spawn(Counted { task }));
}
