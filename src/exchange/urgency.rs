//! How urgent a request is where it waits for a backend: by its tenant, and by what its head says. Parses only.

use shards::Who;

use super::client::ClientConnection;
use super::generation::Generation;
use super::record::RequestRecord;
use super::scratch::Scratch;
use crate::error::Failure;
use crate::upstream::queue::Claim;
use crate::wire::json;

/// Of requests without a tenant.
const PRIORITY: u8 = 5;
const PRIORITY_LAST: u8 = 9;

/// Longest time-out that a request can name.
const TIMEOUT_MAX_MS: u64 = 24 * 60 * 60 * 1000;

/// What the head says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Urgency {
    /// The most urgent priority that the request wants.
    priority: Option<u8>,
    /// How long its client waits for an answer to begin.
    timeout_ms: Option<u64>,
}

impl Urgency {
    /// Errors: a field that cannot be understood.
    pub fn of(client: &ClientConnection<'_>) -> Result<Urgency, Failure> {
        let priority = one(client, "x-request-priority")?.map(|value| match value {
            b"interactive" => Ok(0),
            b"batch" => Ok(PRIORITY_LAST),
            [digit @ b'0'..=b'9'] => Ok(digit - b'0'),
            _ => Err(bad("x-request-priority is a number from 0 (first) to 9 (last), \"interactive\" or \"batch\".")),
        });
        let timeout = one(client, "x-request-timeout")?.map(|value| {
            let ms = timeout_ms(value).filter(|ms| (1..=TIMEOUT_MAX_MS).contains(ms));
            ms.ok_or_else(|| bad("x-request-timeout is a number of seconds above 0, such as 30, 2.5, 30s or 1500ms."))
        });
        Ok(Urgency { priority: priority.transpose()?, timeout_ms: timeout.transpose()? })
    }

    /// For whom it waits: a request may be less urgent than its tenant, never more. And for how long: without a word of its
    /// own, as long as OpenAI's libraries say that they do.
    pub fn claim(
        self,
        generation: &Generation,
        client: &ClientConnection<'_>,
        body: &[u8],
        record: &RequestRecord,
    ) -> Claim {
        let (tenant, priority, weight) = record.tenant.map_or((u32::MAX, PRIORITY, 1), |tenant| {
            let settings = &generation.snapshot.tenants[tenant];
            (generation.tenant_series(tenant), settings.priority, settings.weight)
        });
        let tier = match generation.snapshot.limits.service_tiers.is_empty() {
            true => None,
            false => priority_of_tier(generation, body),
        };
        let wanted = self.priority.unwrap_or(0).max(tier.unwrap_or(0));
        let who = Who { priority: priority.max(wanted), tenant, weight };
        let timeout_ms = self.timeout_ms.or_else(|| library_timeout_ms(client));
        Claim { who, until_ms: timeout_ms.map_or(u64::MAX, |ms| at(record.started_us, ms)) }
    }

    /// Until when an answer has to have begun, of a request that came at `started_us`.
    pub fn deadline_ms(self, started_us: u64) -> Option<u64> {
        self.timeout_ms.map(|ms| at(started_us, ms))
    }
}

/// What the configuration says of the `service_tier` in a body, if it has one.
fn priority_of_tier(generation: &Generation, body: &[u8]) -> Option<u8> {
    let Scratch { tape, text, .. } = &mut *generation.memory.scratch.borrow_mut();
    // No JSON: it has none. The root is one level, and its members another.
    json::parse_outline(body, tape, 1).ok()?;
    let tier = tape.root().get(body, "service_tier")?.text(body, text)?;
    generation.snapshot.limits.priority_of_tier(tier)
}

fn at(started_us: u64, timeout_ms: u64) -> u64 {
    (started_us / 1000).saturating_add(timeout_ms)
}

/// How long OpenAI's library waits: that for Python for the next bytes, that for Node.js for the answer, both in seconds. What
/// cannot be understood means nothing: nobody wrote it for this gateway.
fn library_timeout_ms(client: &ClientConnection<'_>) -> Option<u64> {
    let field = |name| client.head.fields.get(client.pending(), name);
    let value = field("x-stainless-read-timeout").or_else(|| field("x-stainless-timeout"))?;
    timeout_ms(value).filter(|ms| *ms > 0)
}

/// A time of seconds, or of the unit that is named, `s` or `ms`: digits, with up to three behind a point.
fn timeout_ms(value: &[u8]) -> Option<u64> {
    let value = value.to_ascii_lowercase();
    let (number, unit_ms) = match (value.strip_suffix(b"ms"), value.strip_suffix(b"s")) {
        (Some(number), _) => (number, 1),
        (None, Some(number)) => (number, 1000),
        (None, None) => (&value[..], 1000),
    };
    let mut parts = number.trim_ascii_end().splitn(2, |byte| *byte == b'.');
    let whole = digits(parts.next()?)?;
    let thousandths = match parts.next() {
        None => 0,
        Some(part @ ([_] | [_, _] | [_, _, _])) => digits(part)? * 10u64.pow(3 - part.len() as u32),
        Some(_) => return None,
    };
    whole.checked_mul(unit_ms)?.checked_add(thousandths * unit_ms / 1000)
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 15 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// The value of a field that may stand once.
fn one<'a>(client: &'a ClientConnection<'_>, name: &'static str) -> Result<Option<&'a [u8]>, Failure> {
    let mut values = client.head.fields.get_all(client.pending(), name);
    let first = values.next();
    match first.and_then(|_| values.next()) {
        Some(_) => Err(bad(&format!("The header field {name} stands twice."))),
        None => Ok(first),
    }
}

fn bad(why: &str) -> Failure {
    Failure::BadHead { status: 400, why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::timeout_ms;

    #[test]
    fn time_outs_are_read_as_clients_spell_them() {
        for (text, ms) in [
            ("30", 30_000),
            ("600.0", 600_000),
            ("2.5", 2_500),
            ("0.001", 1),
            ("1500ms", 1_500),
            ("30s", 30_000),
            ("30 S", 30_000),
            ("0.5ms", 0),
            ("0", 0),
        ] {
            assert_eq!(timeout_ms(text.as_bytes()), Some(ms), "{text}");
        }
        for text in [
            "",
            "-1",
            "+1",
            "1e3",
            "1.",
            ".5",
            "1.2345",
            "s",
            "ms",
            "1m",
            "1,5",
            "NaN",
            "9999999999999999",
            "1 2",
            "1.-2",
        ] {
            assert_eq!(timeout_ms(text.as_bytes()), None, "{text}");
        }
        assert_eq!(timeout_ms(b"999999999999999"), Some(999_999_999_999_999_000));
    }
}
