//! Dates and times in the format of RFC 3339, in UTC unless they have an offset. Owns nothing and reads no clock.

use toml::value::{Datetime, Offset};

use super::problem::printable;
use super::snapshot::Moment;
use super::value::Wrong;

const DAY_MS: i64 = 86_400_000;

/// A point in time; a date is the end of its day.
pub(super) fn moment(text: &str) -> Result<Moment, Wrong> {
    let wrong = || Wrong {
        what: format!("\"{}\" is not a date", printable(text)),
        remedy: "write a date such as \"2027-01-31\", or a time such as \"2027-01-31T18:00:00Z\"".to_owned(),
    };
    let Datetime { date: Some(date), time, offset } = text.parse().map_err(|_| wrong())? else {
        return Err(wrong());
    };
    let day_ms = days(date.year.into(), date.month.into(), date.day.into()) * DAY_MS;
    let ms = match time {
        None => day_ms + DAY_MS,
        Some(time) => {
            let minutes = i64::from(time.hour) * 60 + i64::from(time.minute);
            let east = match offset {
                None | Some(Offset::Z) => 0,
                Some(Offset::Custom { minutes }) => i64::from(minutes),
            };
            let seconds = i64::from(time.second.unwrap_or(0));
            day_ms + ((minutes - east) * 60 + seconds) * 1000 + i64::from(time.nanosecond.unwrap_or(0) / 1_000_000)
        }
    };
    let unix_ms = u64::try_from(ms).map_err(|_| wrong())?;
    Ok(Moment { unix_ms, spelled: text.to_owned() })
}

/// Days from 1970-01-01. Counts in years that begin on 1 March, so that the leap day is the last of its year, and in eras of
/// 400 years, after which the calendar repeats.
fn days(year: i64, month: i64, day: i64) -> i64 {
    const DAYS_TO_1970: i64 = 719_468;
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_TO_1970
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn days_end_and_moments_are() {
        for (text, seconds) in [
            ("1970-01-01", 86_400),
            ("2000-02-29", 951_868_800),
            ("2027-01-31", 1_801_440_000),
            ("2027-01-31T00:00:00Z", 1_801_353_600),
            ("2027-01-31T02:00:00+02:00", 1_801_353_600),
            ("2027-01-30T22:30:00-01:30", 1_801_353_600),
            ("2027-01-31T00:00:00", 1_801_353_600),
            ("2027-01-31 00:00:01.5Z", 1_801_353_601),
        ] {
            let read = moment(text).unwrap_or_else(|wrong| panic!("{text}: {}", wrong.what));
            assert_eq!((read.unix_ms / 1000, read.spelled.as_str()), (seconds, text));
        }
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in
            ["", "2027", "2027-02-29", "2027-13-01", "31.01.2027", "10:00:00", "1969-12-30", "tomorrow", "2027-01-31x"]
        {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
