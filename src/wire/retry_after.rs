//! The delay that a backend asks for: `Retry-After` (RFC 9110 10.2.3) and `retry-after-ms`, as OpenAI's SDKs read it.
//! Pure: the current time is an argument. It must never treat an unreadable value as "at once".

#[cfg(test)]
mod tests;

/// The delay in milliseconds, rounded up; `None` if neither field is readable. `retry_after_ms` takes precedence, as it
/// is more precise. A date in the past is a delay of 0. There is no upper bound: the caller caps it.
///
/// `unix_ms` is the current time in milliseconds since 1970.
pub fn wait_ms(retry_after: Option<&[u8]>, retry_after_ms: Option<&[u8]>, unix_ms: u64) -> Option<u64> {
    let fine = retry_after_ms.and_then(|value| decimal(value.trim_ascii(), 1));
    fine.or_else(|| {
        let value = retry_after?.trim_ascii();
        decimal(value, 1000).or_else(|| Some(http_date_ms(value, unix_ms)?.saturating_sub(unix_ms)))
    })
}

/// A decimal number times `scale`, rounded up and saturating. The RFC does not allow fractions of seconds, but servers
/// send them and the SDKs read them. No sign, exponent or words.
fn decimal(value: &[u8], scale: u64) -> Option<u64> {
    let point = value.iter().position(|byte| *byte == b'.').unwrap_or(value.len());
    let (whole, fraction) = (&value[..point], value.get(point + 1..).unwrap_or(&[]));
    if whole.is_empty() && fraction.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |byte: &u8| u64::from(byte - b'0');
    let whole = whole.iter().fold(0u64, |number, byte| number.saturating_mul(10).saturating_add(digit(byte)));
    // `worth` is the weight of the last digit read; digits below one unit only round up.
    let (mut worth, mut units, mut rest) = (scale, 0, 0);
    for byte in fraction {
        if worth % 10 == 0 {
            worth /= 10;
            units += digit(byte) * worth;
        } else {
            rest |= digit(byte);
        }
    }
    Some(whole.saturating_mul(scale).saturating_add(units + u64::from(rest != 0)))
}

/// An HTTP date in milliseconds since 1970, in any of the three formats a recipient must accept (RFC 9110 5.6.7).
/// Lenient about case and white space; the day of the week is not checked. A date before 1970 is unreadable.
fn http_date_ms(value: &[u8], unix_ms: u64) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let mut words = text.split_ascii_whitespace();
    let mut word = || words.next();
    let (weekday, second) = (word()?, word()?);
    let (day, month, year, time, zone);
    if !weekday.ends_with(',') {
        // Sun Nov  6 08:49:37 1994
        (month, day, time, year, zone) = (second, word()?, word()?, full_year(word()?)?, "GMT");
    } else if let Some((first, rest)) = second.split_once('-') {
        // Sunday, 06-Nov-94 08:49:37 GMT
        let (middle, last) = rest.split_once('-')?;
        (day, month, year, time, zone) = (first, middle, short_year(last, unix_ms)?, word()?, word()?);
    } else {
        // Sun, 06 Nov 1994 08:49:37 GMT
        (day, month, year, time, zone) = (second, word()?, full_year(word()?)?, word()?, word()?);
    }
    if word().is_some() || !zone.eq_ignore_ascii_case("GMT") {
        return None;
    }
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))?;
    let day = number(day, 1..=2)?;
    let leap_day = u64::from(month == 1 && is_leap(year));
    if day == 0 || day > MONTH_DAYS[month] + leap_day {
        return None;
    }
    let days = days_before(year) - days_before(1970) + days_in_months(month, year) + day - 1;
    Some((days * 86_400 + second_of_day(time)?) * 1000)
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const MONTH_DAYS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days from the year 1 of the Gregorian calendar to 1 January of `year`, at least 1.
fn days_before(year: u64) -> u64 {
    let past = year - 1;
    past * 365 + past / 4 - past / 100 + past / 400
}

/// Days in the first `months` months of `year`.
fn days_in_months(months: usize, year: u64) -> u64 {
    MONTH_DAYS[..months].iter().sum::<u64>() + u64::from(months > 1 && is_leap(year))
}

fn full_year(text: &str) -> Option<u64> {
    number(text, 4..=4).filter(|year| *year >= 1970)
}

/// A two-digit year is the latest one with these digits that is at most 50 years ahead (RFC 9110 5.6.7).
fn short_year(text: &str, unix_ms: u64) -> Option<u64> {
    let latest = 1970 + unix_ms / YEAR_MS + 50;
    let digits = number(text, 2..=2)?;
    Some(latest - (latest + 100 - digits) % 100).filter(|year| *year >= 1970)
}

/// A mean Gregorian year: an error of a day in the current year matters only 50 years away.
const YEAR_MS: u64 = 31_556_952_000;

fn second_of_day(time: &str) -> Option<u64> {
    let mut parts = time.split(':');
    let mut part = || number(parts.next()?, 2..=2);
    let (hour, minute, second) = (part()?, part()?, part()?);
    // 60 is a leap second.
    (parts.next().is_none() && hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
}

/// Decimal digits, as many as `digits` allows.
fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u64> {
    let plain = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}
