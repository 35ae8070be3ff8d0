//! From a configuration to running threads, and back. Either everything starts or nothing does: each thread reports
//! before the node calls itself ready.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use shards::CoreId;

use super::background::{self, Stopped};
use super::data::{self, Parts};
use super::{io, listen, resolve, secure};
use crate::config::snapshot::{Listen, Snapshot};
use crate::exchange::load::Board;
use crate::host::plan::{allowed_cpus, plan};
use crate::net::mail::{self, Bell};
use crate::net::refuse_huge_pages;
use crate::net::runtime::run_data_core;

/// Runs the node on this thread and others until it is told to stop. `ready` is called with the addresses it listens on
/// once every core serves. Errors: why nothing was started, or that something had to be cut off at the end.
pub fn run(snapshot: Snapshot, ready: impl FnOnce(&[Listen])) -> Result<(), String> {
    refuse_huge_pages();
    let cpus = allowed_cpus()?;
    let plan = plan(&cpus, &snapshot.cores)?;
    eprintln!("ringway {}: {plan}", env!("CARGO_PKG_VERSION"));
    let (addresses, warnings) = resolve::addresses(&snapshot);
    for warning in warnings {
        eprintln!("ringway: {warning}");
    }
    let tls = secure::settings(&snapshot)?;
    let cores = plan.data.len();
    let (listening, bound) = listen::bind(&snapshot.server.listen, cores)?;
    let mut bells = Vec::with_capacity(cores + 2);
    for _ in 0..cores {
        bells.push(Bell::ring().map_err(|error| format!("no descriptor for a core's bell: {error}"))?);
    }
    bells.extend([Bell::waker(), Bell::waker()]);
    let mut posts = mail::lay(&bells).into_iter();
    let board = Arc::new(Board::new(cores as u16, snapshot.models.len(), snapshot.backends.len()));
    let snapshot = Arc::new(snapshot);
    let (report, reports) = mpsc::channel();
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for (place, (cpu, listening)) in plan.data.iter().copied().zip(listening).enumerate() {
        let Some((outbox, inbox)) = posts.next() else { return Err("a core has no mail".to_owned()) };
        let (snapshot, addresses, board) = (snapshot.clone(), addresses.clone(), board.clone());
        let (tls, report) = (tls.clone(), report.clone());
        let (id, count) = (CoreId(place as u16), cores as u16);
        threads.push(start(format!("ringway-data-{place}"), move || {
            pin(cpu);
            let tell = report.clone();
            let parts = Parts { id, count, snapshot, addresses, tls, board, outbox, inbox, listening };
            let main = data::run(parts, move |result| drop(tell.send(result)));
            if let Err(error) = run_data_core(main) {
                let _ = report.send(Err(format!("data core {place}: {error}")));
            }
        })?);
    }
    let (Some((io_out, io_in)), Some((background_out, background_in))) = (posts.next(), posts.next()) else {
        return Err("a core has no mail".to_owned());
    };
    let (log, cpu, tell) = (snapshot.server.access_log.clone(), plan.io, report.clone());
    threads.push(start("ringway-io".to_owned(), move || {
        io::run(cpu, log, io_out, io_in, move |result| drop(tell.send(result)));
    })?);
    let (cpu, tell) = (plan.background, report.clone());
    let parts =
        background::Parts { data_cores: cores, snapshot, addresses, tls, outbox: background_out, inbox: background_in };
    let background = thread::Builder::new().name("ringway-background".to_owned()).spawn(move || {
        pin(cpu);
        background::run(parts, move |result| drop(tell.send(result)))
    });
    let background = background.map_err(|error| format!("a thread cannot be started: {error}"))?;
    drop(report);
    for _ in 0..cores + 2 {
        // The threads that did start end with the process.
        reports.recv().unwrap_or_else(|_| Err("a core ended before it served".to_owned()))?;
    }
    ready(&bound);
    let stopped = background.join().unwrap_or(Stopped::Cut);
    remove_sockets(&bound);
    match stopped {
        Stopped::Drained => {
            threads.into_iter().for_each(|thread| drop(thread.join()));
            Ok(())
        }
        Stopped::Cut => {
            Err("the drain's deadline passed or a second signal came: running requests were cut off".to_owned())
        }
    }
}

fn start(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, String> {
    thread::Builder::new().name(name).spawn(body).map_err(|error| format!("a thread cannot be started: {error}"))
}

/// Pins this thread. A CPU that went away since the plan was made leaves the thread floating, which is slower and works.
fn pin(cpu: Option<usize>) {
    if let Some(cpu) = cpu {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
            eprintln!("ringway: CPU {cpu} cannot be used ({error}); the thread floats");
        }
    }
}

fn remove_sockets(bound: &[Listen]) {
    for listen in bound {
        if let Listen::Unix(path) = listen {
            let _ = std::fs::remove_file(path);
        }
    }
}
