//! `/debug/profile`: where the CPU time of all threads goes, by samples that a timer signal takes for some seconds, as pprof
//! reads them, as folded stacks, or as a flame graph. Sampling and naming run on a thread of their own; one at a time.

#[cfg(test)]
pub(super) mod decoded; // reads the format of pprof
pub(super) mod flame; // stacks to a picture
pub(super) mod proto; // stacks to the format of pprof

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, HeaderValue};
use hyper::{Response, StatusCode};
use pprof::ProfilerGuardBuilder;
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::info;

use super::Admin;
use super::routes::{Answer, refuse, reply};
use crate::limits::PROFILE_SECONDS;
use crate::net::raise_sigprof;

/// Samples per second of each running thread. Not a divisor of any period of the program.
pub const HERTZ: i32 = 99;
const DEFAULT_SECONDS: u64 = 10;
/// One profile at a time: the timer, and what its signal writes to, are the process's, and so are the tables of allocations.
static PROFILING: Semaphore = Semaphore::const_new(1);

/// Stacks, the outermost function first behind the thread's name, and how often each was seen.
pub type Stacks = BTreeMap<Vec<String>, u64>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Pprof,
    Folded,
    Svg,
}

impl Format {
    /// The answer with a profile in this format. `file` is what pprof's is called where it is saved.
    pub fn answer(self, profile: Vec<u8>, file: &'static str) -> Response<Answer> {
        let (kind, disposition) = match self {
            Format::Pprof => ("application/octet-stream", file),
            Format::Folded => ("text/plain; charset=utf-8", "inline"),
            Format::Svg => ("image/svg+xml", "inline"),
        };
        let mut response = reply(StatusCode::OK, kind, profile);
        let fields = response.headers_mut();
        fields.insert(CONTENT_DISPOSITION, HeaderValue::from_static(disposition));
        fields.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
        response
    }
}

/// How many seconds and which format the pairs of a query ask for; `takes` says what it may have. Errors: what is wrong with it, for
/// the client.
pub fn parse<'a>(pairs: impl Iterator<Item = &'a str>, takes: &str) -> Result<(u64, Format), String> {
    let (mut seconds, mut format) = (DEFAULT_SECONDS, Format::Pprof);
    for pair in pairs.filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("seconds", value)) => match value.parse() {
                Ok(value) if (1..=PROFILE_SECONDS).contains(&value) => seconds = value,
                _ => return Err(format!("seconds is a whole number from 1 to {PROFILE_SECONDS}.")),
            },
            Some(("format", "pprof")) => format = Format::Pprof,
            Some(("format", "folded")) => format = Format::Folded,
            Some(("format", "svg")) => format = Format::Svg,
            Some(("format", _)) => return Err("format is pprof, svg or folded.".to_owned()),
            _ => return Err(format!("The query has {takes}.")),
        }
    }
    Ok((seconds, format))
}

/// The turn to profile the process, whatever is sampled. Errors: what somebody who has to wait for it is told.
pub fn turn() -> Result<SemaphorePermit<'static>, Box<Response<Answer>>> {
    let message = "The node is being profiled already; wait for that to end.";
    PROFILING.try_acquire().map_err(|_| Box::new(refuse(StatusCode::CONFLICT, "busy", message)))
}

/// Samples for so long. Blocks its thread, which is a thread of its own. Errors: why it cannot.
#[expect(clippy::disallowed_methods, reason = "no core runs on this thread")]
fn sample(seconds: u64) -> Result<Stacks, pprof::Error> {
    // The crate reads the tables for unwinding, which allocates, in its first signal. That one is sent here, where nothing is
    // being allocated, while the timer is too slow to send one to another thread before.
    let slow = ProfilerGuardBuilder::default().frequency(1).build()?;
    raise_sigprof();
    drop(slow);
    let guard = ProfilerGuardBuilder::default().frequency(HERTZ).build()?;
    std::thread::sleep(Duration::from_secs(seconds));
    let report = guard.report().build()?;
    drop(guard);
    let mut stacks = Stacks::new();
    for (frames, count) in &report.data {
        let thread = std::iter::once(frames.thread_name.clone());
        // The innermost function comes first, and inlined ones before those they are in.
        let functions = frames.frames.iter().rev().flat_map(|frame| frame.iter().rev());
        let stack = thread.chain(functions.map(|symbol| symbol.name())).collect();
        *stacks.entry(stack).or_default() += u64::try_from(*count).unwrap_or(0);
    }
    Ok(stacks)
}

pub fn folded(stacks: &Stacks) -> String {
    stacks.iter().map(|(stack, count)| format!("{} {count}\n", stack.join(";"))).collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    // Writing to memory cannot fail.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

impl Admin {
    pub(super) async fn profile(&self, query: &str) -> Response<Answer> {
        let (seconds, format) = match parse(query.split('&'), "seconds=N and format=pprof, svg or folded") {
            Ok(asked) => asked,
            Err(message) => return refuse(StatusCode::BAD_REQUEST, "bad_query", &message),
        };
        // The permit goes with the thread: a client that leaves does not make room for a second timer.
        let permit = match turn() {
            Ok(permit) => permit,
            Err(refused) => return *refused,
        };
        info!("profiling for {seconds} s");
        let work = tokio::task::spawn_blocking(move || {
            let stacks = sample(seconds);
            drop(permit);
            stacks.map(|stacks| match format {
                Format::Pprof => gzip(&encode(&stacks, seconds)),
                Format::Folded => folded(&stacks).into_bytes(),
                Format::Svg => {
                    let all = stacks.values().sum::<u64>();
                    let title = format!("Ringway: {all} samples of CPU time, by thread and function");
                    flame::draw(&stacks, &title, "samples").into_bytes()
                }
            })
        });
        match work.await.map_err(|error| error.to_string()) {
            Ok(Ok(bytes)) => format.answer(bytes, "attachment; filename=\"ringway.pb.gz\""),
            Ok(Err(error)) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "no_profile", &error.to_string()),
            Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "no_profile", &error),
        }
    }
}

/// As pprof reads it: samples, and the time that they stand for.
fn encode(stacks: &Stacks, seconds: u64) -> Vec<u8> {
    let period_ns = 1_000_000_000 / HERTZ as u64;
    let about = proto::About {
        values: &[("samples", "count"), ("cpu", "nanoseconds")],
        default: "cpu",
        seconds,
        period: (("cpu", "nanoseconds"), period_ns),
        comments: &[],
    };
    proto::encode(&about, stacks.iter().map(|(stack, count)| (&**stack, [*count, count * period_ns])))
}

#[cfg(test)]
mod tests;
