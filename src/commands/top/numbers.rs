//! Numbers to short text.

/// At most six characters: 1,284 as it is, 12.3k, 4.56M.
pub fn count(value: f64) -> String {
    match value {
        value if value >= 1e9 => format!("{:.2}G", value / 1e9),
        value if value >= 1e6 => format!("{:.2}M", value / 1e6),
        value if value >= 1e4 => format!("{:.1}k", value / 1e3),
        value if value >= 10.0 || value.fract() == 0.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

pub fn whole(value: u64) -> String {
    count(value as f64)
}

pub fn seconds(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 0.001 => format!("{:.0} us", value * 1e6),
        Some(value) if value < 0.1 => format!("{:.1} ms", value * 1e3),
        Some(value) if value < 1.0 => format!("{:.0} ms", value * 1e3),
        Some(value) => format!("{value:.2} s"),
    }
}

pub fn percent(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{:.0} %", value * 100.0))
}

pub fn bytes(value: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (value as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let digits = usize::from(value < 10.0 && unit > 0);
    format!("{value:.digits$} {}", units[unit])
}

pub fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (1.., ..) => format!("{days} d {hours} h"),
        (0, 1.., _) => format!("{hours} h {minutes} min"),
        (0, 0, 1..) => format!("{minutes} min {} s", seconds % 60),
        (0, 0, 0) => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_short() {
        assert_eq!(
            [0.0, 0.25, 9.96, 12.3, 1284.0, 12_345.0, 4.56e6, 7e9].map(count),
            ["0", "0.2", "10.0", "12", "1284", "12.3k", "4.56M", "7.00G"]
        );
        assert_eq!(
            [None, Some(0.000_307), Some(0.00469), Some(0.205), Some(3.214)].map(seconds),
            ["-", "307 us", "4.7 ms", "205 ms", "3.21 s"]
        );
        assert_eq!([0, 1023, 4 << 20, 42 << 30].map(bytes), ["0 B", "1023 B", "4.0 MiB", "42 GiB"]);
        assert_eq!([59, 61, 3661, 90_000].map(span), ["59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
        assert_eq!((percent(Some(0.894)), percent(None)), ("89 %".to_owned(), "-".to_owned()));
    }
}
