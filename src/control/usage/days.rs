//! What was used on one day: rows by tenant, key and model, as a file has them and as an operator is told. Owns nothing but its
//! rows; reads and writes no file.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::observe::series::{AMOUNTS, Amounts};

/// Whose usage a row is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    pub tenant: Arc<str>,
    /// The beginning of the hash of the tenant's key; 0 for none in particular.
    pub credential: u64,
    pub model: Arc<str>,
}

/// By row.
pub type Rows = BTreeMap<RowKey, Amounts>;

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    tenant: String,
    key: String,
    model: String,
    /// In the order of [`Amounts::to_array`]. Files of before the last of them was added have fewer.
    amounts: Vec<u64>,
}

/// How many amounts the oldest files have.
const AMOUNTS_MIN: usize = 10;

pub fn encode(rows: &Rows) -> String {
    let mut out = String::new();
    for (RowKey { tenant, credential, model }, amounts) in rows {
        let line = Line {
            tenant: tenant.to_string(),
            key: spell_key(*credential),
            model: model.to_string(),
            amounts: amounts.to_array().to_vec(),
        };
        // Names and numbers are always JSON.
        out.push_str(&serde_json::to_string(&line).unwrap_or_default());
        out.push('\n');
    }
    out
}

/// Errors: which line is not understood, and why.
pub fn decode(lines: &str) -> Result<Rows, String> {
    let mut rows = Rows::new();
    for (number, line) in lines.lines().enumerate() {
        let wrong = |why: String| format!("line {}: {why}", number + 2);
        let Line { tenant, key, model, amounts } =
            serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        let credential = read_key(&key).ok_or_else(|| wrong("its key is no hash".to_owned()))?;
        if !(AMOUNTS_MIN..=AMOUNTS).contains(&amounts.len()) {
            return Err(wrong(format!("it has {} amounts", amounts.len())));
        }
        let amounts = std::array::from_fn(|at| amounts.get(at).copied().unwrap_or(0));
        rows.entry(RowKey { tenant: tenant.into(), credential, model: model.into() })
            .or_default()
            .add(Amounts::of_array(amounts));
    }
    Ok(rows)
}

/// The first 16 digits of the key's hash; empty for none.
pub fn spell_key(credential: u64) -> String {
    if credential == 0 { String::new() } else { format!("{credential:016x}") }
}

pub fn read_key(text: &str) -> Option<u64> {
    match text {
        "" => Some(0),
        text if text.len() == 16 => u64::from_str_radix(text, 16).ok(),
        _ => None,
    }
}

const DAY_MS: u64 = 86_400_000;

/// The number of a day in UTC, from 1970 on.
pub fn day_of(unix_ms: u64) -> u64 {
    unix_ms / DAY_MS
}

/// As in RFC 3339.
pub fn spell_day(day: u64) -> String {
    // Years from 1 March, so that a leap day is the last of its year, in eras of 400 years.
    let days = day + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let (month, day) = ((from_march + 2) % 12 + 1, of_year - (153 * from_march + 2) / 5 + 1);
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + u64::from(month <= 2))
}

/// The number of a day that is spelled like this; `None` if there is none.
pub fn read_day(text: &str) -> Option<u64> {
    let mut parts = text.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year, from_march) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let number = (year * 365 + year / 4 - year / 100 + year / 400 + of_year).checked_sub(719_468)?;
    (spell_day(number) == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_spelled_as_they_are_read() {
        for day in (0..200_000).step_by(13).chain(11_000..11_800) {
            assert_eq!(read_day(&spell_day(day)), Some(day));
        }
        assert_eq!((spell_day(0), spell_day(11_016)), ("1970-01-01".to_owned(), "2000-02-29".to_owned()));
        for wrong in [
            "",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-1-1",
            "2026-01-01T00",
            "1969-12-31",
            "-1-1-1",
            "9999999-01-01",
        ] {
            assert_eq!(read_day(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let key =
            |tenant: &str, credential, model: &str| RowKey { tenant: tenant.into(), credential, model: model.into() };
        let amounts = |from: u64| Amounts::of_array(std::array::from_fn(|at| from + at as u64));
        let rows = Rows::from([
            (key("a\"\\\n", 0x0102_0304_0506_0708, "m"), amounts(1)),
            (key("none", 0, "other"), amounts(u64::MAX - 20)),
        ]);
        assert_eq!(decode(&encode(&rows)), Ok(rows.clone()));
        let twice = decode(&(encode(&rows) + &encode(&rows))).unwrap();
        assert_eq!(twice.values().next().unwrap().cost, 2 * rows.values().next().unwrap().cost);
        let older = r#"{"tenant":"t","key":"","model":"m","amounts":[1,2,3,4,5,6,7,8,9,10]}"#;
        let older = decode(older).unwrap()[&key("t", 0, "m")];
        assert_eq!((older.requests, older.saved_cost, older.estimated_tokens), (1, 10, 0));
        for wrong in [
            "{}",
            "x",
            r#"{"tenant":"t","key":"zz","model":"m","amounts":[0,0,0,0,0,0,0,0,0,0]}"#,
            r#"{"tenant":"t","key":"","model":"m","amounts":[0,0]}"#,
        ] {
            assert!(decode(wrong).unwrap_err().starts_with("line 2: "), "{wrong}");
        }
    }
}
