//! An OCSP response that is stapled to a handshake (RFC 6960 4.2): read as far as to see that it is about the certificate, good,
//! and in time. Its signature is the client's to verify. Pure; reads DER within its bounds.

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const GENERALIZED_TIME: u8 = 0x18;
const CONTEXT_0: u8 = 0xa0;

/// The content of id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1.
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

/// Until when `response` says that the certificate with the serial number `serial` is good, in seconds since 1970. `None`: no end is
/// said. Errors: what is wrong, as the end of a sentence about a file.
pub(super) fn good_until(response: &[u8], serial: &[u8], now_s: u64) -> Result<Option<u64>, String> {
    let (status, basic) = outer(response).ok_or("it is not the DER of an OCSP response")?;
    if status != 0 {
        return Err(format!("the responder gave no answer (responseStatus {status})"));
    }
    let singles = basic.and_then(singles).ok_or("it is not the DER of a basic OCSP response")?;
    let mut rest = singles;
    while !rest.is_empty() {
        let single = Single::take(&mut rest).ok_or("it is not the DER of a basic OCSP response")?;
        if single.serial != serial {
            continue;
        }
        return match single.status {
            0x80 if single.begins_s > now_s => Err("it is not in force yet, or this host's clock is wrong".to_owned()),
            0x80 if single.ends_s.is_some_and(|ends_s| ends_s <= now_s) => {
                let days = (now_s - single.ends_s.unwrap_or(now_s)) / 86_400;
                Err(format!("it is out of date since {days} days, or this host's clock is wrong"))
            }
            0x80 => Ok(single.ends_s),
            0xa1 => Err("it says that the certificate is revoked".to_owned()),
            _ => Err("it says that the responder does not know the certificate".to_owned()),
        };
    }
    Err("it says nothing about this certificate: no serial number in it is the certificate's".to_owned())
}

/// responseStatus, and the content of the BasicOCSPResponse.
fn outer(response: &[u8]) -> Option<(u8, Option<&[u8]>)> {
    let mut rest = response;
    let mut outer = expect(&mut rest, SEQUENCE)?;
    let &[status] = expect(&mut outer, ENUMERATED)? else { return None };
    if !rest.is_empty() {
        return None;
    }
    if outer.is_empty() {
        return Some((status, None));
    }
    let mut explicit = expect(&mut outer, CONTEXT_0)?;
    let mut bytes = expect(&mut explicit, SEQUENCE)?;
    let (_, kind) = element(&mut bytes)?;
    let mut basic = expect(&mut bytes, OCTET_STRING)?;
    (kind == BASIC).then_some((status, Some(expect(&mut basic, SEQUENCE)?)))
}

/// The SingleResponses of a BasicOCSPResponse.
fn singles(mut basic: &[u8]) -> Option<&[u8]> {
    let mut data = expect(&mut basic, SEQUENCE)?;
    // The version, if it is not the first; then the responder and the time.
    if data.first() == Some(&CONTEXT_0) {
        element(&mut data)?;
    }
    element(&mut data)?;
    expect(&mut data, GENERALIZED_TIME)?;
    expect(&mut data, SEQUENCE)
}

struct Single<'a> {
    serial: &'a [u8],
    /// Its tag: 0x80 is good, 0xa1 revoked, 0x82 unknown.
    status: u8,
    begins_s: u64,
    ends_s: Option<u64>,
}

impl<'a> Single<'a> {
    fn take(rest: &mut &'a [u8]) -> Option<Single<'a>> {
        let mut single = expect(rest, SEQUENCE)?;
        let mut id = expect(&mut single, SEQUENCE)?;
        expect(&mut id, SEQUENCE)?;
        expect(&mut id, OCTET_STRING)?;
        expect(&mut id, OCTET_STRING)?;
        let serial = expect(&mut id, INTEGER)?;
        let (status, _) = element(&mut single)?;
        let begins_s = seconds(expect(&mut single, GENERALIZED_TIME)?)?;
        let ends_s = match single.first() {
            Some(&CONTEXT_0) => {
                let mut explicit = expect(&mut single, CONTEXT_0)?;
                Some(seconds(expect(&mut explicit, GENERALIZED_TIME)?)?)
            }
            _ => None,
        };
        Some(Single { serial, status, begins_s, ends_s })
    }
}

/// Takes the next element off `rest`: its tag and its content.
fn element<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let [tag, first, behind @ ..] = *rest else { return None };
    let (length, behind) = match *first {
        short @ 0..=0x7f => (usize::from(short), behind),
        long @ 0x81..=0x84 => {
            let (digits, behind) = behind.split_at_checked(usize::from(long - 0x80))?;
            (digits.iter().fold(0_usize, |length, &digit| length << 8 | usize::from(digit)), behind)
        }
        _ => return None,
    };
    let (content, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    Some((*tag, content))
}

/// As `element`, if it has this tag.
fn expect<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    element(rest).filter(|(found, _)| *found == tag).map(|(_, content)| content)
}

/// Seconds since 1970 of `YYYYMMDDHHMMSSZ` (RFC 6960 4.2.2.1: no fractions).
fn seconds(time: &[u8]) -> Option<u64> {
    let digits =
        time.strip_suffix(b"Z").filter(|digits| digits.len() == 14 && digits.iter().all(u8::is_ascii_digit))?;
    let number =
        |from: usize, to: usize| digits[from..to].iter().fold(0, |all, digit| all * 10 + u64::from(digit - b'0'));
    let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days from 1970-01-01 in a calendar whose year begins in March.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some(days * 86_400 + number(8, 10) * 3600 + number(10, 12) * 60 + number(12, 14))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let mut out = vec![tag];
        match content.len() {
            length @ 0..=0x7f => out.push(length as u8),
            length => out.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        out.extend(content);
        out
    }

    /// A response about `serial`; its signature is nothing.
    fn response(serial: &[u8], status: u8, begins: &[u8], ends: Option<&[u8]>) -> Vec<u8> {
        let time = |text: &[u8]| der(GENERALIZED_TIME, &[text]);
        let single = |serial: &[u8]| {
            let hash = der(OCTET_STRING, &[&[7; 20]]);
            let id = der(SEQUENCE, &[&der(SEQUENCE, &[&der(6, &[b"+"])]), &hash, &hash, &der(INTEGER, &[serial])]);
            let state = if status == 0xa1 { der(status, &[&time(begins)]) } else { der(status, &[]) };
            let ends = ends.map_or(Vec::new(), |ends| der(CONTEXT_0, &[&time(ends)]));
            der(SEQUENCE, &[&id, &state, &time(begins), &ends])
        };
        let singles = der(SEQUENCE, &[&single(b"other"), &single(serial)]);
        let data = der(SEQUENCE, &[&der(0xa2, &[&der(OCTET_STRING, &[b"key"])]), &time(begins), &singles]);
        let basic = der(SEQUENCE, &[&data, &der(SEQUENCE, &[]), &der(3, &[b"\0sig"])]);
        let bytes = der(SEQUENCE, &[&der(6, &[BASIC]), &der(OCTET_STRING, &[&basic])]);
        der(SEQUENCE, &[&der(ENUMERATED, &[&[0]]), &der(CONTEXT_0, &[&bytes])])
    }

    const BEGINS: &[u8] = b"20260101000000Z";
    const ENDS: &[u8] = b"20260108000000Z";

    #[test]
    fn a_good_response_is_so_until_its_end() {
        let (begins_s, ends_s) = (seconds(BEGINS).unwrap(), seconds(ENDS).unwrap());
        let good = response(b"serial", 0x80, BEGINS, Some(ENDS));
        assert_eq!(good_until(&good, b"serial", begins_s), Ok(Some(ends_s)));
        assert_eq!(good_until(&response(b"serial", 0x80, BEGINS, None), b"serial", ends_s * 2), Ok(None));
        let wrong = |response: &[u8], now_s: u64| good_until(response, b"serial", now_s).unwrap_err();
        assert!(wrong(&good, ends_s + 3 * 86_400).contains("since 3 days"));
        assert!(wrong(&good, begins_s - 1).contains("not in force yet"));
        assert!(wrong(&response(b"serial", 0xa1, BEGINS, Some(ENDS)), begins_s).contains("revoked"));
        assert!(wrong(&response(b"serial", 0x82, BEGINS, Some(ENDS)), begins_s).contains("does not know"));
        assert!(wrong(&response(b"serials", 0x80, BEGINS, Some(ENDS)), begins_s).contains("nothing about"));
        assert!(wrong(&der(SEQUENCE, &[&der(ENUMERATED, &[&[3]])]), begins_s).contains("responseStatus 3"));
    }

    #[test]
    fn what_is_cut_anywhere_is_no_response() {
        let good = response(b"serial", 0x80, BEGINS, Some(ENDS));
        for length in 0..good.len() {
            assert!(good_until(&good[..length], b"serial", 0).is_err(), "{length}");
        }
        assert!(good_until(&[&good[..], b"x"].concat(), b"serial", seconds(BEGINS).unwrap()).is_err());
        assert!(good_until(b"-----BEGIN OCSP RESPONSE-----", b"serial", 0).unwrap_err().contains("not the DER"));
        // No byte makes it panic.
        for place in 0..good.len() {
            for value in [0, 0x7f, 0x80, 0x84, 0x85, 0xff] {
                let mut changed = good.clone();
                changed[place] = value;
                let _ = good_until(&changed, b"serial", 0);
            }
        }
    }

    #[test]
    fn times_are_read_as_the_calendar_has_them() {
        for (time, expected) in [
            ("19700101000000Z", Some(0)),
            ("20000229235959Z", Some(951_868_799)),
            ("20260101000000Z", Some(1_767_225_600)),
            ("99991231235959Z", Some(253_402_300_799)),
            ("19691231235959Z", None),
            ("20261301000000Z", None),
            ("20260101000000", None),
            ("20260101000000.5Z", None),
            ("2026010100000xZ", None),
        ] {
            assert_eq!(seconds(time.as_bytes()), expected, "{time}");
        }
    }
}
