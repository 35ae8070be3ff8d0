//! The delay that a backend asks for: `Retry-After` (RFC 9110 10.2.3) and `retry-after-ms`, as OpenAI's SDKs read it.
//! Pure: the current time is an argument. It must never treat an unreadable value as "at once".

use std::time::UNIX_EPOCH;

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
        decimal(value, 1000).or_else(|| Some(http_date_ms(value)?.saturating_sub(unix_ms)))
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
fn http_date_ms(value: &[u8]) -> Option<u64> {
    let date = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    u64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}
