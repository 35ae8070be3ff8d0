//! Rates and latencies over time as an SVG with two charts. Pure.

use std::fmt::Write;

use super::results::Window;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 40.0;
const GAP: f64 = 60.0;

/// A line of a chart: name, colour, and its value in a window.
type Row<'r> = (&'r str, &'r str, fn(&Window) -> f64);

const RATES: [Row<'_>; 3] = [
    ("asked for", "#8c959f", |window| window.asked),
    ("answered", "#1f6feb", |window| window.done),
    ("failed", "#cf222e", |window| window.failed),
];
const LATENCIES: [Row<'_>; 3] = [
    ("p50", "#2da44e", |window| window.p50_us as f64 / 1000.0),
    ("p95", "#bf8700", |window| window.p95_us as f64 / 1000.0),
    ("p99", "#cf222e", |window| window.p99_us as f64 / 1000.0),
];

/// Maps a value to the range from the bottom (0) to the top (1) of a chart.
#[derive(Clone, Copy)]
enum Scale {
    Linear {
        most: f64,
    },
    /// Whole decades, as powers of ten.
    Logarithmic {
        least: f64,
        most: f64,
    },
}

impl Scale {
    fn linear(values: impl Iterator<Item = f64>) -> Scale {
        let most = values.fold(1.0, f64::max);
        let step = 10f64.powf(most.log10().floor());
        Scale::Linear { most: (most / step).ceil() * step }
    }

    fn logarithmic(values: impl Iterator<Item = f64>) -> Scale {
        let (least, most) = values
            .filter(|value| *value > 0.0)
            .fold((f64::MAX, 0.001), |(least, most), value| (least.min(value), f64::max(most, value)));
        let least = least.min(most).log10().floor();
        Scale::Logarithmic { least, most: most.log10().ceil().max(least + 1.0) }
    }

    fn height(self, value: f64) -> f64 {
        match self {
            Scale::Linear { most } => value / most,
            Scale::Logarithmic { least, most } => (value.max(1e-6).log10() - least) / (most - least),
        }
        .clamp(0.0, 1.0)
    }

    fn marks(self) -> Vec<f64> {
        match self {
            Scale::Linear { most } => (0..=4).map(|quarter| most * f64::from(quarter) / 4.0).collect(),
            Scale::Logarithmic { least, most } => {
                (least as i32..=most as i32).map(|decade| 10f64.powi(decade)).collect()
            }
        }
    }
}

pub fn draw(title: &str, windows: &[Window]) -> String {
    let height = TOP + 2.0 * HEIGHT + 2.0 * GAP;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"16\">{title}</text>\n",
        LEFT + WIDTH + 20.0
    );
    let rates = Scale::linear(RATES.iter().flat_map(|(_, _, value)| windows.iter().map(value)));
    let latencies = Scale::logarithmic(LATENCIES.iter().flat_map(|(_, _, value)| windows.iter().map(value)));
    chart(&mut out, TOP, "requests a second", &RATES, windows, rates);
    chart(&mut out, TOP + HEIGHT + GAP, "latency in ms", &LATENCIES, windows, latencies);
    out + "</svg>\n"
}

fn chart(out: &mut String, top: f64, unit: &str, rows: &[Row<'_>], windows: &[Window], scale: Scale) {
    let end = windows.last().map_or(1.0, |window| window.end).max(1e-9);
    let y = |value: f64| top + HEIGHT * (1.0 - scale.height(value));
    let mut add = |words: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{words}");
    };
    for mark in scale.marks() {
        let at = y(mark);
        add(format_args!("<path d=\"M{LEFT} {at:.1}h{WIDTH}\" stroke=\"#d0d7de\"/>"));
        add(format_args!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{mark}</text>", LEFT - 6.0, at + 4.0));
    }
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let (x, below) = (LEFT + WIDTH * share, top + HEIGHT + 16.0);
        add(format_args!("<text x=\"{x}\" y=\"{below}\" text-anchor=\"middle\">{:.0} s</text>", end * share));
    }
    add(format_args!("<text x=\"{LEFT}\" y=\"{}\">{unit}</text>", top - 6.0));
    for (number, (name, colour, value)) in rows.iter().enumerate() {
        let points: String = windows
            .iter()
            .map(|window| format!("{:.1},{:.1} ", LEFT + WIDTH * window.end / end, y(value(window))))
            .collect();
        add(format_args!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>",
            points.trim_end()
        ));
        let x = LEFT + 200.0 + 110.0 * number as f64;
        add(format_args!("<text x=\"{x}\" y=\"{}\" fill=\"{colour}\">{name}</text>", top - 6.0));
    }
}
