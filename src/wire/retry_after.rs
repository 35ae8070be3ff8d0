//! How long a server asks to be left alone: `Retry-After` (RFC 9110 10.2.3) and the finer `retry-after-ms` that OpenAI
//! sends beside it. Pure functions of the fields and the time; no value makes them panic.

/// Milliseconds to wait from `unix_ms` on, or `None` where neither field says anything that can be understood.
/// A date that has passed is no wait.
pub fn wait_ms(retry_after: Option<&[u8]>, retry_after_ms: Option<&[u8]>, unix_ms: u64) -> Option<u64> {
    let finer = retry_after_ms.and_then(|text| scaled(text.trim_ascii(), 1));
    finer.or_else(|| {
        let text = retry_after?.trim_ascii();
        scaled(text, 1000).or_else(|| Some(date_ms(text)?.saturating_sub(unix_ms)))
    })
}

/// A number that may have a fraction, times `scale`; rounded up, and the largest number where it does not fit.
fn scaled(text: &[u8], scale: u64) -> Option<u64> {
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &[][..]),
    };
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let add = |number: u64, byte: &u8| number.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
    let mut value = whole.iter().fold(0, add).saturating_mul(scale);
    let mut place = scale;
    for digit in fraction.iter().map(|byte| u64::from(byte - b'0')) {
        if place == 1 || place % 10 != 0 {
            // Below what is counted: any of it is one more.
            value = value.saturating_add(u64::from(digit > 0));
            if digit > 0 {
                break;
            }
            continue;
        }
        place /= 10;
        value = value.saturating_add(digit * place);
    }
    Some(value)
}

/// Milliseconds since 1970 of a date in any of HTTP's three forms (RFC 9110 5.6.7); the name of the day is not looked at.
fn date_ms(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let mut parts = text.split([' ', ',', '-']).filter(|part| !part.is_empty());
    parts.next()?; // the day of the week
    let second = parts.next()?;
    let (day, month, year, time) = if second.as_bytes()[0].is_ascii_digit() {
        // IMF-fixdate, or the one of RFC 850 with its two digits of a year.
        let (month, year, time) = (parts.next()?, parts.next()?, parts.next()?);
        (parts.next()? == "GMT").then_some(())?;
        (second, month, year, time)
    } else {
        // asctime.
        let (day, time) = (parts.next()?, parts.next()?);
        (day, second, parts.next()?, time)
    };
    if parts.next().is_some() {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year = match (number(year)?, year.len()) {
        // RFC 9110 5.6.7: what looks more than 50 years ahead is of the last century.
        (year @ 0..70, 2) => year + 2000,
        (year, 2) => year + 1900,
        (year @ 1970..=9999, 4) => year,
        _ => return None,
    };
    let mut clock = time.split(':').map(number);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let day = number(day)?;
    // 60 is a leap second.
    if clock.next().is_some() || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some((days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000)
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn number(text: &str) -> Option<u64> {
    let digits = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar from 1970 on. A year is counted from March, so that the leap
/// day is its last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let to_year = year * 365 + year / 4 - year / 100 + year / 400;
    // Months of 31 and 30 days in turn, five of them 153 days.
    let to_month = (153 * month + 2) / 5;
    to_year + to_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &str) -> Option<u64> {
        wait_ms(Some(text.as_bytes()), None, NOW)
    }

    /// 1994-11-06 08:49:37 UTC, the date of RFC 9110's examples.
    const NOW: u64 = 784_111_777_000;

    #[test]
    fn seconds_and_their_fractions() {
        assert_eq!(
            [after("7"), after(" 0 "), after("1.5"), after("0.0001")],
            [Some(7000), Some(0), Some(1500), Some(1)]
        );
        assert_eq!(after("99999999999999999999999"), Some(u64::MAX));
        for nonsense in ["", "-1", "+1", "1,5", "1e3", ".5", "soon", "0x10"] {
            assert_eq!(after(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn milliseconds_win() {
        assert_eq!(wait_ms(Some(b"7"), Some(b"250"), NOW), Some(250));
        assert_eq!(wait_ms(Some(b"7"), Some(b"249.2"), NOW), Some(250));
        assert_eq!(wait_ms(Some(b"7"), Some(b"never"), NOW), Some(7000));
        assert_eq!(wait_ms(None, None, NOW), None);
    }

    #[test]
    fn dates_in_all_three_forms() {
        for date in ["Sun, 06 Nov 1994 08:49:57 GMT", "Sunday, 06-Nov-94 08:49:57 GMT", "Sun Nov  6 08:49:57 1994"] {
            assert_eq!(after(date), Some(20_000), "{date}");
        }
        assert_eq!(after("Sun, 06 Nov 1994 08:49:36 GMT"), Some(0), "it has passed");
        let odd = [
            "Sun, 06 Nov 1994 08:49:57 CET",
            "Sun, 06 Foo 1994 08:49:57 GMT",
            "Sun, 32 Nov 1994 08:49:57 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1960 08:49:57 GMT",
            "Sun, 06 Nov 1994 08:49:57 GMT and more",
            "Sun,",
            "\u{fc}ber, 06 Nov 1994",
        ];
        for date in odd {
            assert_eq!(after(date), None, "{date}");
        }
    }

    #[test]
    fn days_of_the_calendar() {
        assert_eq!(
            [days(1970, 1, 1), days(1970, 12, 31), days(2000, 2, 29), days(2000, 3, 1)],
            [0, 364, 11_016, 11_017]
        );
        assert_eq!(days(9999, 12, 31), 2_932_896);
    }
}
