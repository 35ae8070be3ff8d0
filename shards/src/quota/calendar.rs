//! Days, weeks and months of the proleptic Gregorian calendar in UTC, numbered from 1970 on. Pure arithmetic.

use super::Period;

const DAY_MS: u64 = 86_400_000;
/// 1970-01-01 was a Thursday: three days after a Monday.
const MONDAY_DAYS: u64 = 3;

/// The number of the period that `unix_ms` is in.
pub(super) fn number(period: Period, unix_ms: u64) -> u64 {
    let days = unix_ms / DAY_MS;
    match period {
        Period::Minute | Period::Day => days,
        Period::Week => (days + MONDAY_DAYS) / 7,
        Period::Month => {
            let (year, month) = month_of(days);
            (year - 1970) * 12 + month
        }
    }
}

/// When the period of this number begins.
pub(super) fn begin_ms(period: Period, number: u64) -> u64 {
    let days = match period {
        Period::Minute | Period::Day => number,
        Period::Week => number.saturating_mul(7).saturating_sub(MONDAY_DAYS),
        Period::Month => days_to(number),
    };
    days.saturating_mul(DAY_MS)
}

/// Year, and month from 0, of a day. Counts in years from 1 March, so that a leap day is the last of its year, and in eras of
/// 400 years, after which the calendar repeats.
fn month_of(days: u64) -> (u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = (from_march + 2) % 12;
    (era * 400 + year + u64::from(month < 2), month)
}

/// Days from 1970 to the first of a month.
fn days_to(number: u64) -> u64 {
    let (year, month) = (1970u64.saturating_add(number / 12), number % 12);
    let year = if month < 2 { year - 1 } else { year };
    let from_march = (month + 10) % 12;
    let of_year = (153 * from_march + 2) / 5;
    year.saturating_mul(365).saturating_add(year / 4 + year / 400 + of_year).saturating_sub(year / 100 + 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Day by day for 800 years, as one counts.
    #[test]
    fn months_are_those_of_the_calendar() {
        let (mut year, mut month, mut day) = (1970u64, 0u64, 1u64);
        for days in 0..800 * 365 {
            let number = (year - 1970) * 12 + month;
            for ms in [0, DAY_MS - 1] {
                assert_eq!(super::number(Period::Month, days * DAY_MS + ms), number, "day {days}");
            }
            if day == 1 {
                assert_eq!(begin_ms(Period::Month, number), days * DAY_MS);
            }
            let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
            let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            day += 1;
            if day > lengths[month as usize] {
                (day, month) = (1, month + 1);
            }
            if month == 12 {
                (month, year) = (0, year + 1);
            }
        }
    }

    #[test]
    fn weeks_begin_on_monday() {
        // 1970-01-05 and 2026-11-30 are Mondays.
        for monday in [4, 20_787] {
            let number = super::number(Period::Week, monday * DAY_MS);
            assert_eq!(super::number(Period::Week, monday * DAY_MS - 1), number - 1);
            assert_eq!(super::number(Period::Week, (monday + 7) * DAY_MS - 1), number);
            assert_eq!(begin_ms(Period::Week, number), monday * DAY_MS);
        }
    }

    #[test]
    fn no_number_overflows() {
        for period in [Period::Day, Period::Week, Period::Month] {
            super::number(period, u64::MAX);
            begin_ms(period, u64::MAX);
        }
    }
}
