//! Load over time: the scenarios, their rates, and what is recorded. Requests come from the Zipf corpus. Owns the plan
//! of a scenario; `drive` of the parent module keeps the time.

mod picture;
mod results;

use std::cell::RefCell;
use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::questions::Questions;
use super::{CacheUse, Start, drive, target};
use crate::report::{Part, Tally};
use results::{Ending, Results, Window};

const EXAMPLES: &str = "\
Scenarios, with their full and short lengths:
  baseline   1,000 a second for 10 minutes, then a ramp to 20,000 until it fails   30 min   2 min
  sustained  10,000 a second                                                       4 h      2 min
  spike      1,000 to 20,000 and back, every five minutes                          1 h      100 s
  soak       8,000 a second, 20 % up and down                                      24 h     3 min
  cache      2,000 a second, with the cache and without it (no-store)              1 h      2 min

A ramp has failed when, for three seconds in a row, more than 1 % of the requests fail, fewer than nine of ten are answered, or
their 99th percentile is above one second.

Examples:
  loadtest scenario baseline --short --url http://127.0.0.1:8080 --key sk-test
  loadtest scenario spike --short --rate-scale 0.1 --url http://127.0.0.1:8080 --report reports
  loadtest scenario soak --time-scale 2 --url http://127.0.0.1:8080 --models mock-a,mock-b   # 48 hours";

/// Consecutive failed seconds that end a ramp.
const FAILED_WINDOWS: u32 = 3;
/// A 99th percentile above this is a failure.
const FAILED_P99_US: u64 = 1_000_000;
/// Points of a chart; more could not be distinguished.
const WINDOWS: f64 = 600.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    Baseline,
    Sustained,
    Spike,
    Soak,
    Cache,
}

/// Load a gateway according to one of five scenarios
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[arg(value_enum)]
    name: Name,
    /// Where to: http://HOST:PORT, or with a path (default path /v1/chat/completions)
    #[arg(long)]
    url: String,
    /// The short form, which takes minutes
    #[arg(long)]
    short: bool,
    /// Multiplies every rate, for machines of another size
    #[arg(long, default_value_t = 1.0)]
    rate_scale: f64,
    /// Multiplies every duration
    #[arg(long, default_value_t = 1.0)]
    time_scale: f64,
    /// Connections; also the most requests at one time. Requests that find none free wait, and their wait counts
    #[arg(long, default_value_t = 256)]
    connections: usize,
    /// Sent as a bearer credential
    #[arg(long)]
    key: Option<String>,
    /// Models of the generated corpus
    #[arg(long, value_delimiter = ',', default_value = crate::corpus::MODELS)]
    models: Vec<String>,
    /// A file written by `loadtest corpus`; without it the corpus is generated
    #[arg(long)]
    corpus: Option<PathBuf>,
    /// Seed of the corpus and of the order of requests
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Weight of rank r is 1 / r ^ exponent
    #[arg(long, default_value_t = 0.9)]
    exponent: f64,
    /// Directory for NAME.md, NAME.json and NAME.svg
    #[arg(long, value_name = "DIRECTORY")]
    report: Option<PathBuf>,
    /// Allow a target that is not this machine
    #[arg(long)]
    remote: bool,
}

/// A period in which the rate changes linearly from one value to another.
#[derive(Clone, Debug, PartialEq)]
struct Phase {
    part: &'static str,
    seconds: f64,
    from: f64,
    to: f64,
    cache: CacheUse,
}

/// The phases of a scenario, in order.
fn phases(name: Name, short: bool) -> Vec<Phase> {
    let long = |full: f64, quick: f64| if short { quick } else { full };
    let ramp = |part, seconds, from, to| Phase { part, seconds, from, to, cache: CacheUse::Allowed };
    let hold = |part, seconds, rate| ramp(part, seconds, rate, rate);
    match name {
        Name::Baseline => {
            vec![hold("steady", long(600.0, 20.0), 1_000.0), ramp("ramp", long(1_200.0, 100.0), 1_000.0, 20_000.0)]
        }
        Name::Sustained => {
            vec![ramp("ramp", long(60.0, 10.0), 100.0, 10_000.0), hold("steady", long(14_340.0, 110.0), 10_000.0)]
        }
        Name::Spike => {
            let cycle = [
                hold("low", long(120.0, 20.0), 1_000.0),
                ramp("up", long(10.0, 2.0), 1_000.0, 20_000.0),
                hold("high", long(60.0, 8.0), 20_000.0),
                ramp("down", long(10.0, 2.0), 20_000.0, 1_000.0),
                hold("after", long(100.0, 18.0), 1_000.0),
            ];
            cycle.iter().cycle().take(cycle.len() * if short { 2 } else { 12 }).cloned().collect()
        }
        Name::Soak => {
            let quarter = long(150.0, 15.0);
            let wave = [
                ramp("wave", quarter, 8_000.0, 9_600.0),
                ramp("wave", 2.0 * quarter, 9_600.0, 6_400.0),
                ramp("wave", quarter, 6_400.0, 8_000.0),
            ];
            let waves = if short { 3 } else { 24 * 3600 / 600 };
            wave.iter().cycle().take(wave.len() * waves).cloned().collect()
        }
        Name::Cache => {
            let with = hold("with cache", long(1_800.0, 60.0), 2_000.0);
            let without = Phase { part: "without cache", cache: CacheUse::Bypassed, ..with.clone() };
            vec![with, without]
        }
    }
}

impl Phase {
    fn scaled(mut self, arguments: &Arguments) -> Phase {
        self.seconds *= arguments.time_scale;
        self.from *= arguments.rate_scale;
        self.to *= arguments.rate_scale;
        self
    }

    /// Number of requests that start in it.
    fn count(&self) -> u64 {
        ((self.from + self.to) / 2.0 * self.seconds) as u64
    }

    /// When a request starts, in seconds since the start of the phase: its number is the integral of the rate.
    fn start(&self, number: u64) -> f64 {
        if number == 0 {
            return 0.0;
        }
        let (number, growth) = (number as f64, (self.to - self.from) / self.seconds);
        // Stable for a slope near zero, unlike the usual quadratic formula.
        2.0 * number / (self.from + (self.from * self.from + 2.0 * growth * number).max(0.0).sqrt())
    }

    fn rate(&self, seconds: f64) -> f64 {
        self.from + (self.to - self.from) * seconds / self.seconds
    }
}

/// The planned rate at `seconds` after the start.
fn rate(phases: &[Phase], mut seconds: f64) -> f64 {
    for phase in phases {
        if seconds < phase.seconds {
            return phase.rate(seconds);
        }
        seconds -= phase.seconds;
    }
    0.0
}

fn starts<'p>(phases: &'p [Phase], parts: &'p [&'static str]) -> impl Iterator<Item = Start> + 'p {
    let mut begin = 0.0;
    phases.iter().flat_map(move |phase| {
        let offset = begin;
        begin += phase.seconds;
        let part = parts.iter().position(|part| *part == phase.part).unwrap_or(0);
        (0..phase.count()).map(move |number| Start {
            after: Duration::from_secs_f64(offset + phase.start(number)),
            part,
            cache: phase.cache,
        })
    })
}

/// Each part once, in order.
fn parts(phases: &[Phase]) -> Vec<&'static str> {
    let mut parts = Vec::new();
    for phase in phases {
        if !parts.contains(&phase.part) {
            parts.push(phase.part);
        }
    }
    parts
}

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let sane = |scale: f64| (0.0001..=1000.0).contains(&scale);
    if !sane(arguments.rate_scale) || !sane(arguments.time_scale) || arguments.connections == 0 {
        return Err("scales are from 0.0001 to 1000, and there is a connection at least".into());
    }
    let (address, host, path) = target(&arguments.url)?;
    if !address.ip().is_loopback() && !arguments.remote {
        return Err(format!("{address} is not this machine; --remote allows it").into());
    }
    if let Some(directory) = &arguments.report {
        // Fails before hours of load, not after.
        std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    let phases: Vec<Phase> =
        phases(arguments.name, arguments.short).into_iter().map(|phase| phase.scaled(arguments)).collect();
    let questions = Questions::new(&arguments.asked(), &host, &path)?;
    let parts = parts(&phases);
    let mut tally = Tally::new(0);
    tally.parts = parts.iter().map(|part| Part::new(part)).collect();
    let tally = Rc::new(RefCell::new(tally));
    let mut watch = Watch::new(arguments.name, &phases);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let questions = Rc::new(RefCell::new(questions));
        let look = |after: Duration, tally: &RefCell<Tally>| watch.look(after, &mut tally.borrow_mut().window);
        drive(arguments.connections, address, questions, tally.clone(), starts(&phases, &parts), super::GRACE, look)
            .await;
    });
    let tally = tally.borrow();
    let results = Results { name: arguments.name, tally: &tally, windows: &watch.windows, ending: watch.ending };
    println!("{}", results.text());
    if let Some(directory) = &arguments.report {
        results.write(directory)?;
    }
    Ok(())
}

impl Arguments {
    /// The arguments of a plain run over the same corpus.
    fn asked(&self) -> super::Arguments {
        super::Arguments {
            url: self.url.clone(),
            scenario: super::Scenario::Zipf,
            rate: 1.0,
            seconds: 1.0,
            connections: self.connections,
            grace: super::GRACE.as_secs_f64(),
            key: self.key.clone(),
            model: String::new(),
            models: self.models.clone(),
            corpus: self.corpus.clone(),
            seed: self.seed,
            exponent: self.exponent,
            json: false,
            remote: self.remote,
        }
    }
}

/// Divides the run into windows, and ends a ramp that has failed.
struct Watch<'p> {
    phases: &'p [Phase],
    name: Name,
    length: f64,
    windows: Vec<Window>,
    bad: u32,
    ending: Ending,
}

impl<'p> Watch<'p> {
    fn new(name: Name, phases: &'p [Phase]) -> Watch<'p> {
        let total: f64 = phases.iter().map(|phase| phase.seconds).sum();
        // A ramp is checked every second, to detect a failure soon.
        let length = if name == Name::Baseline { 1.0 } else { (total / WINDOWS).max(1.0) };
        // A run of a few seconds still has a few points.
        let length = length.min(total / 10.0);
        Watch { phases, name, length, windows: Vec::new(), bad: 0, ending: Ending::Whole }
    }

    fn look(&mut self, after: Duration, ended: &mut Part) -> ControlFlow<()> {
        let (now, begin) = (after.as_secs_f64(), self.windows.last().map_or(0.0, |window| window.end));
        if now < begin + self.length {
            return ControlFlow::Continue(());
        }
        let asked = rate(self.phases, (begin + now) / 2.0);
        let window = Window::cut(begin, now, asked, ended);
        ended.clear();
        let failed = self.name == Name::Baseline && has_failed(&window);
        self.windows.push(window);
        self.bad = if failed { self.bad + 1 } else { 0 };
        if self.bad < FAILED_WINDOWS {
            return ControlFlow::Continue(());
        }
        self.ending = Ending::Failed { rate: asked };
        ControlFlow::Break(())
    }
}

fn has_failed(window: &Window) -> bool {
    let failed_share = window.failed / (window.done + window.failed).max(1e-9);
    window.done < 0.9 * window.asked || failed_share > 0.01 || window.p99_us > FAILED_P99_US
}

#[cfg(test)]
mod tests;
