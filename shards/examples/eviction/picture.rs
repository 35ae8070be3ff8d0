//! Hit rates as bars: a chart for each trace, a group for each budget, a bar for each policy.

use std::fmt::Write;

/// The policies that are drawn.
pub const SHOWN: [&str; 4] = ["LRU", "SIEVE", "W-TinyLFU", "shards::Cache"];
const COLORS: [&str; 4] = ["#b8b8b8", "#8fb3d9", "#e0a458", "#2f6f4f"];
const BUDGETS: [&str; 3] = ["1 %", "5 %", "20 %"];
const BAR: usize = 18;
const HEIGHT: usize = 200;
const WIDTH: usize = 330;

/// The hit rates of one policy, by budget.
pub type Row = (&'static str, Vec<f64>);

pub fn draw(charts: &[(&str, Vec<Row>)]) -> String {
    let mut out = String::new();
    let (width, height) = (WIDTH * charts.len() + 20, HEIGHT + 110);
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>"
    );
    for (place, (name, rows)) in charts.iter().enumerate() {
        let left = 20 + place * WIDTH;
        let _ = writeln!(out, "<text x=\"{left}\" y=\"20\" font-weight=\"bold\">{name}</text>");
        for (at, budget) in BUDGETS.iter().enumerate() {
            let group = left + at * (BAR * SHOWN.len() + 24);
            let _ = writeln!(out, "<text x=\"{}\" y=\"{}\">{budget}</text>", group + 20, HEIGHT + 62);
            for (number, (_, hits)) in rows.iter().enumerate() {
                let (tall, x) = (hits[at] * HEIGHT as f64 / 100.0, group + number * BAR);
                let top = 45.0 + HEIGHT as f64 - tall;
                let _ = writeln!(
                    out,
                    "<rect x=\"{x}\" y=\"{top:.1}\" width=\"{}\" height=\"{tall:.1}\" fill=\"{}\"/>\n\
                     <text x=\"{x}\" y=\"{:.1}\" font-size=\"9\">{:.0}</text>",
                    BAR - 2,
                    COLORS[number],
                    top - 3.0,
                    hits[at]
                );
            }
        }
    }
    for (number, name) in SHOWN.iter().enumerate() {
        let (x, y) = (20 + number * 140, HEIGHT + 85);
        let color = COLORS[number];
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{color}\"/><text x=\"{}\" y=\"{}\">{name}</text>",
            x + 18,
            y + 10
        );
    }
    out += "</svg>\n";
    out
}
