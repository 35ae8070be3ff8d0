//! The results of a run, and how they are printed: a few lines for people, or one JSON object for programs.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::message::CacheMark;

const HIGHEST_US: u64 = 600_000_000;
/// Precision of the percentiles: 3 significant digits.
const DIGITS: u8 = 3;

/// Times in microseconds.
pub struct Times(Histogram<u64>);

impl Times {
    pub fn new() -> Times {
        // The constant bounds are valid for hdrhistogram; without a histogram there is nothing to measure.
        Times(Histogram::new_with_bounds(1, HIGHEST_US, DIGITS).expect("constant bounds"))
    }

    pub fn note(&mut self, us: u64) {
        self.0.saturating_record(us.clamp(1, HIGHEST_US));
    }

    /// The value at a quantile, in microseconds.
    pub fn at(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    pub fn json(&self) -> serde_json::Value {
        let at = |quantile| self.0.value_at_quantile(quantile);
        serde_json::json!({
            "count": self.0.len(), "mean": self.0.mean(), "p50": at(0.5), "p90": at(0.9), "p95": at(0.95),
            "p99": at(0.99), "p999": at(0.999), "max": self.0.max(),
        })
    }

    pub fn line(&self) -> String {
        let at = |quantile| self.0.value_at_quantile(quantile);
        let (p50, p95, p99, p999) = (at(0.5), at(0.95), at(0.99), at(0.999));
        format!("p50={p50} p95={p95} p99={p99} p99.9={p999} max={} us", self.0.max())
    }
}

/// The results of one part of a run.
pub struct Part {
    pub name: String,
    pub done: u64,
    pub failed: u64,
    pub hits: u64,
    pub marked: u64,
    pub latency: Times,
}

impl Part {
    pub fn new(name: &str) -> Part {
        Part { name: name.to_owned(), done: 0, failed: 0, hits: 0, marked: 0, latency: Times::new() }
    }

    /// Resets the counts and keeps the name.
    pub fn clear(&mut self) {
        self.latency.0.reset();
        (self.done, self.failed, self.hits, self.marked) = (0, 0, 0, 0);
    }

    pub fn hit_rate(&self) -> Option<f64> {
        (self.marked > 0).then(|| self.hits as f64 / self.marked as f64)
    }
}

/// Everything a run counts.
pub struct Tally {
    /// The parts of a scenario; a plain run has one.
    pub parts: Vec<Part>,
    /// Requests that ended since the last window.
    pub window: Part,
    pub planned: u64,
    pub done: u64,
    /// From the time a request was due to the last byte of its answer.
    pub latency: Times,
    /// From the time a request was due to the time it was sent: the generator's own part of the latency.
    pub behind: Times,
    /// From the timestamp of a chunk to its arrival.
    pub lateness: Times,
    pub chunks: u64,
    pub hits: u64,
    pub marked: u64,
    /// By kind; the kinds are few and known.
    pub errors: BTreeMap<String, u64>,
    pub seconds: f64,
    /// Fraction of requests that a cache without limits could answer.
    pub hits_possible: Option<f64>,
}

impl Tally {
    pub fn new(planned: u64) -> Tally {
        Tally {
            parts: vec![Part::new("run")],
            window: Part::new("window"),
            planned,
            done: 0,
            latency: Times::new(),
            behind: Times::new(),
            lateness: Times::new(),
            chunks: 0,
            hits: 0,
            marked: 0,
            errors: BTreeMap::new(),
            seconds: 0.0,
            hits_possible: None,
        }
    }

    /// Records a good answer to a request of `part`.
    pub fn answer(&mut self, part: usize, us: u64, mark: CacheMark) {
        self.done += 1;
        self.latency.note(us);
        let (marked, hit) = (u64::from(mark != CacheMark::None), u64::from(mark == CacheMark::Hit));
        self.marked += marked;
        self.hits += hit;
        for part in [&mut self.parts[part], &mut self.window] {
            part.done += 1;
            part.latency.note(us);
            part.marked += marked;
            part.hits += hit;
        }
    }

    pub fn error(&mut self, part: usize, kind: &str) {
        *self.errors.entry(kind.to_owned()).or_default() += 1;
        self.parts[part].failed += 1;
        self.window.failed += 1;
    }

    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "planned": self.planned, "done": self.done, "seconds": self.seconds,
            "rate": self.done as f64 / self.seconds.max(1e-9), "latency_us": self.latency.json(),
            "behind_us": self.behind.json(), "chunks": self.chunks, "lateness_us": self.lateness.json(),
            "hits": self.hits, "marked": self.marked, "hit_rate": self.hit_rate(),
            "hits_possible": self.hits_possible, "errors": self.errors,
        })
    }

    fn hit_rate(&self) -> Option<f64> {
        (self.marked > 0).then(|| self.hits as f64 / self.marked as f64)
    }

    pub fn print(&self) {
        let rate = self.done as f64 / self.seconds.max(1e-9);
        println!("requests  {} of {} in {:.2} s, {rate:.0}/s", self.done, self.planned, self.seconds);
        println!("latency   {}  (from the intended start)", self.latency.line());
        println!("behind    {}  (the generator's own part)", self.behind.line());
        if self.chunks > 0 {
            println!("chunks    {}, {:.0}/s", self.chunks, self.chunks as f64 / self.seconds.max(1e-9));
            println!("lateness  {}  (from a chunk's stamp)", self.lateness.line());
        }
        if let Some(hit_rate) = self.hit_rate() {
            let possible =
                self.hits_possible.map_or(String::new(), |share| format!(" of at most {:.1} %", share * 100.0));
            println!("hits      {:.1} %{possible}", hit_rate * 100.0);
        }
        if self.errors.is_empty() {
            println!("errors    none");
        }
        for (kind, count) in &self.errors {
            println!("errors    {count} {kind}");
        }
    }
}
