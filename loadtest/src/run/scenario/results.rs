//! The results of a scenario, as text, as one JSON object, and as a page with a chart. Owns nothing.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use super::{Name, picture};
use crate::report::{Part, Tally};

/// Results within one period of the run; rates are per second.
pub struct Window {
    pub end: f64,
    /// Requests due.
    pub asked: f64,
    pub done: f64,
    pub failed: f64,
    pub hit_rate: Option<f64>,
    pub p50_us: u64,
    pub p95_us: u64,
    pub p99_us: u64,
}

impl Window {
    pub fn cut(begin: f64, end: f64, asked: f64, ended: &Part) -> Window {
        let seconds = (end - begin).max(1e-9);
        Window {
            end,
            asked,
            done: ended.done as f64 / seconds,
            failed: ended.failed as f64 / seconds,
            hit_rate: ended.hit_rate(),
            p50_us: ended.latency.at(0.5),
            p95_us: ended.latency.at(0.95),
            p99_us: ended.latency.at(0.99),
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ending {
    Whole,
    /// The rate that the ramp had reached.
    Failed {
        rate: f64,
    },
}

pub struct Results<'r> {
    pub name: Name,
    pub tally: &'r Tally,
    pub windows: &'r [Window],
    pub ending: Ending,
}

impl Results<'_> {
    fn title(&self) -> String {
        format!("{:?}", self.name).to_lowercase()
    }

    /// For a terminal, and for the table in the page.
    pub fn text(&self) -> String {
        let tally = self.tally;
        let mut out = format!(
            "{}: {} of {} requests answered in {:.1} s; the generator was behind by {}\n\n",
            self.title(),
            tally.done,
            tally.planned,
            tally.seconds,
            tally.behind.line()
        );
        out += "| Part | Answered | Failed | Hits | p50 ms | p95 ms | p99 ms | p99.9 ms |\n|---|---|---|---|---|---|---|---|\n";
        for part in &tally.parts {
            let ms = |quantile| part.latency.at(quantile) as f64 / 1000.0;
            let hits = part.hit_rate().map_or_else(|| "-".to_owned(), |rate| format!("{:.1} %", rate * 100.0));
            // Writing to a string does not fail.
            let _ = writeln!(
                out,
                "| {} | {} | {} | {hits} | {:.2} | {:.2} | {:.2} | {:.2} |",
                part.name,
                part.done,
                part.failed,
                ms(0.5),
                ms(0.95),
                ms(0.99),
                ms(0.999)
            );
        }
        let share = tally.failed() as f64 / (tally.planned.max(1)) as f64;
        let _ = writeln!(out, "\nErrors: {:.3} %", share * 100.0);
        for (kind, count) in &tally.errors {
            let _ = writeln!(out, "* {count}: {kind}");
        }
        if let Some(possible) = tally.hits_possible {
            let _ = writeln!(out, "\nRequests that repeat an earlier one: {:.1} %", possible * 100.0);
        }
        if let Ending::Failed { rate } = self.ending {
            let _ = writeln!(out, "\nThe ramp failed at {rate:.0} requests a second.");
        }
        out + "\nLatencies count from the time a request was to start.\n"
    }

    fn json(&self) -> serde_json::Value {
        let parts = self.tally.parts.iter().map(|part| {
            serde_json::json!({
                "name": part.name, "done": part.done, "failed": part.failed, "hit_rate": part.hit_rate(),
                "latency_us": part.latency.json(),
            })
        });
        let windows = self.windows.iter().map(|window| {
            serde_json::json!({
                "end_s": window.end, "asked": window.asked, "done": window.done, "failed": window.failed,
                "hit_rate": window.hit_rate, "p50_us": window.p50_us, "p95_us": window.p95_us, "p99_us": window.p99_us,
            })
        });
        let failed_at = if let Ending::Failed { rate } = self.ending { Some(rate) } else { None };
        serde_json::json!({
            "scenario": self.title(), "failed_at_rate": failed_at, "total": self.tally.json(), "parts": parts.collect::<Vec<_>>(),
            "windows": windows.collect::<Vec<_>>(),
        })
    }

    /// Writes NAME.md, NAME.json and NAME.svg.
    pub fn write(&self, directory: &Path) -> Result<(), Box<dyn Error>> {
        let title = self.title();
        let page = format!("# {title}\n\n![Rates and latencies over time]({title}.svg)\n\n{}", self.text());
        let json = serde_json::to_string_pretty(&self.json())?;
        for (ending, text) in [("md", page), ("json", json), ("svg", picture::draw(&title, self.windows))] {
            let path = directory.join(format!("{title}.{ending}"));
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }
}
