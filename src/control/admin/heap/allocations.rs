//! `/debug/heap?seconds=N`: which functions allocate, and which of it is still in use at the end, by samples of some seconds. All
//! threads are sampled by the allocator itself (`net/allocations`); stacks get their names afterwards, on a thread of their own.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use hyper::{Response, StatusCode};
use tracing::info;

use super::super::Admin;
use super::super::profile::{self, Format, Stacks, flame, proto};
use super::super::routes::{Answer, refuse};
use crate::limits::{ALLOCATION_SAMPLE_BYTES, ALLOCATION_STACKS};
use crate::net::allocations::{Allocations, Amount, Sampling, Site};
use crate::observe::process::threads;

const TAKES: &str =
    "seconds=N, format=pprof, svg or folded, and kind=inuse or alloc; without a query, the path has sizes as JSON";
/// As Go calls them, whose tools show them.
const VALUES: [proto::Kind<'static>; 4] =
    [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")];
/// Where stacks stand that have no thread: see [`Profile::new`].
const UNKNOWN: &str = "(unknown)";
/// Functions that take a sample, and those through which the program reaches its allocator: their names begin like this, among the first
/// of a stack.
const SAMPLING: [&str; 7] = [
    "ringway::net::allocations::",
    "ringway::net::sys::seen",
    "ringway::net::sys::unseen",
    "<ringway::net::sys::SamplingAllocator as ",
    "__rustc::",
    "__rust_alloc",
    "__rust_realloc",
];
const SAMPLING_NAMES: usize = 24;
/// The standard library's way there; functions that are inlined have short names.
const ALLOCATOR: [&str; 2] = ["alloc::alloc::", "<alloc::alloc::Global as "];
const ALLOCATOR_INLINED: [&str; 6] =
    ["alloc", "alloc_zeroed", "realloc", "alloc_impl", "alloc_impl_runtime", "allocate"];

/// What pictures and folded stacks count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    InUse,
    Allocated,
}

fn parse(query: &str) -> Result<(u64, Format, Kind), String> {
    let mut kind = Kind::InUse;
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("kind", "inuse")) => kind = Kind::InUse,
            Some(("kind", "alloc")) => kind = Kind::Allocated,
            Some(("kind", _)) => return Err("kind is inuse or alloc.".to_owned()),
            _ => {}
        }
    }
    let others = query.split('&').filter(|pair| !pair.starts_with("kind="));
    profile::parse(others, TAKES).map(|(seconds, format)| (seconds, format, kind))
}

/// What one stack allocated, and what of it is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    allocated: Amount,
    in_use: Amount,
}

impl Sums {
    fn add(&mut self, allocated: Amount, in_use: Amount) {
        self.allocated += allocated;
        self.in_use += in_use;
    }

    fn bytes(&self, kind: Kind) -> u64 {
        match kind {
            Kind::InUse => self.in_use.bytes.round() as u64,
            Kind::Allocated => self.allocated.bytes.round() as u64,
        }
    }

    /// In the order of [`VALUES`].
    fn values(&self) -> [u64; 4] {
        [self.allocated.blocks, self.allocated.bytes, self.in_use.blocks, self.in_use.bytes]
            .map(|value| value.round() as u64)
    }
}

/// The samples by name.
struct Profile {
    seconds: u64,
    /// Stacks begin with the thread, as those of a CPU profile.
    stacks: BTreeMap<Vec<String>, Sums>,
    total: Sums,
}

impl Profile {
    /// `name` has the functions at an address, the innermost first; `threads` the names of threads by number. What there was no room
    /// for stands with the rest, so that sums are right: stacks that were not kept as one, and blocks that were not followed as in use.
    fn new(
        seconds: u64,
        samples: &Allocations,
        threads: &HashMap<u32, String>,
        name: impl Fn(usize) -> Vec<String>,
    ) -> Profile {
        let mut profile = Profile { seconds, stacks: BTreeMap::new(), total: Sums::default() };
        let mut names = HashMap::new();
        for site in &samples.sites {
            let functions = site
                .frames
                .iter()
                .flat_map(|frame| names.entry(*frame).or_insert_with(|| name(*frame)).clone())
                .collect();
            let thread = threads.get(&site.thread).map_or("(ended)", String::as_str);
            profile.add(stack(thread, functions), site.allocated, site.in_use);
        }
        let unknown = |what: String| vec![UNKNOWN.to_owned(), what];
        let Site { allocated, in_use, .. } = samples.elsewhere;
        if allocated.blocks > 0.0 {
            profile.add(unknown(format!("stacks beyond the first {ALLOCATION_STACKS}")), allocated, in_use);
        }
        if samples.not_followed.blocks > 0.0 {
            let what = "blocks that were not followed: in use or freed".to_owned();
            profile.add(unknown(what), Amount::default(), samples.not_followed);
        }
        profile
    }

    fn add(&mut self, stack: Vec<String>, allocated: Amount, in_use: Amount) {
        self.stacks.entry(stack).or_default().add(allocated, in_use);
        self.total.add(allocated, in_use);
    }

    /// In one line.
    fn summary(&self) -> String {
        let Sums { allocated, in_use } = self.total;
        format!(
            "{:.1} MB in {:.0} blocks allocated in {} s ({:.1} MB/s, {:.0} blocks/s); {:.1} MB in {:.0} blocks of it in use at the end",
            allocated.bytes / 1e6,
            allocated.blocks,
            self.seconds,
            allocated.bytes / 1e6 / self.seconds as f64,
            allocated.blocks / self.seconds as f64,
            in_use.bytes / 1e6,
            in_use.blocks,
        )
    }

    fn stacks(&self, kind: Kind) -> Stacks {
        let bytes = self.stacks.iter().map(|(stack, sums)| (stack.clone(), sums.bytes(kind)));
        bytes.filter(|(_, bytes)| *bytes > 0).collect()
    }

    fn write(&self, format: Format, kind: Kind) -> Vec<u8> {
        match format {
            Format::Pprof => profile::gzip(&self.encode(kind)),
            Format::Folded => profile::folded(&self.stacks(kind)).into_bytes(),
            Format::Svg => {
                let shown = match kind {
                    Kind::InUse => "bytes in use",
                    Kind::Allocated => "bytes allocated",
                };
                let title = format!("Ringway: {shown}, by thread and function. {}", self.summary());
                flame::draw(&self.stacks(kind), &title, "bytes").into_bytes()
            }
        }
    }

    fn encode(&self, kind: Kind) -> Vec<u8> {
        let about = proto::About {
            values: &VALUES,
            default: match kind {
                Kind::InUse => "inuse_space",
                Kind::Allocated => "alloc_space",
            },
            seconds: self.seconds,
            period: (("space", "bytes"), ALLOCATION_SAMPLE_BYTES),
            comments: &[self.summary()],
        };
        proto::encode(&about, self.stacks.iter().map(|(stack, sums)| (&**stack, sums.values())))
    }
}

/// The thread, and its functions from the outermost one to that which asks for memory. `functions` are the innermost first, and begin
/// with the allocator's.
fn stack(thread: &str, functions: Vec<String>) -> Vec<String> {
    let begins = |name: &str, with: &[&str]| with.iter().any(|start| name.starts_with(start));
    let own =
        functions.iter().take(SAMPLING_NAMES).rposition(|name| begins(name, &SAMPLING)).map_or(0, |last| last + 1);
    let asked = functions
        .into_iter()
        .skip(own)
        .skip_while(|name| begins(name, &ALLOCATOR) || ALLOCATOR_INLINED.contains(&name.as_str()));
    let mut stack: Vec<String> = asked.chain([thread.to_owned()]).collect();
    stack.reverse();
    stack
}

/// The functions at a return address: inlined ones first, in the order in which they are in one another.
fn name(address: usize) -> Vec<String> {
    let mut names = Vec::new();
    backtrace::resolve(std::ptr::without_provenance_mut(address), |symbol| {
        names.extend(symbol.name().map(|name| format!("{name:#}")));
    });
    names
}

impl Admin {
    pub(super) async fn allocations(&self, query: &str) -> Response<Answer> {
        let (seconds, format, kind) = match parse(query) {
            Ok(asked) => asked,
            Err(message) => return refuse(StatusCode::BAD_REQUEST, "bad_query", &message),
        };
        let turn = match profile::turn() {
            Ok(turn) => turn,
            Err(refused) => return *refused,
        };
        let failed = |message: &str| refuse(StatusCode::INTERNAL_SERVER_ERROR, "no_profile", message);
        // A client that leaves ends it: both are dropped then, samples first.
        let (sampling, turn) = match tokio::task::spawn_blocking(move || (Sampling::begin(), turn)).await {
            Ok((Some(sampling), turn)) => (sampling, turn),
            Ok((None, _)) => return failed("Allocations are being sampled already."),
            Err(error) => return failed(&error.to_string()),
        };
        info!("sampling allocations for {seconds} s");
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let work = tokio::task::spawn_blocking(move || {
            let samples = sampling.end();
            let threads = threads().into_iter().filter_map(|one| Some((u32::try_from(one.thread).ok()?, one.name)));
            let profile = Profile::new(seconds, &samples, &threads.collect(), name);
            let written = profile.write(format, kind);
            drop(turn);
            (written, profile.summary())
        });
        match work.await {
            Ok((written, summary)) => {
                info!("{summary}");
                format.answer(written, "attachment; filename=\"ringway-heap.pb.gz\"")
            }
            Err(error) => failed(&error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
