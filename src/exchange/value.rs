//! A stored answer as bytes, for other nodes and for after a restart: a checksum in front of a versioned message. What is foreign, old or damaged is no
//! answer. Times are those of the wall clock: nodes whose clocks differ by a second serve an answer a second longer or shorter.

use std::borrow::Cow;

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use shards::{Fingerprint, Millis};

use crate::dialect::facts::{Endpoint, Form, TokenUsage};
use crate::exchange::entry::Entry;
use crate::exchange::tags::Tags;
use crate::net::{now_ms, unix_ms};

/// Names what follows; another layout has another one.
const MAGIC: &[u8; 4] = b"RW\x00\x01";
/// Of SHA-256, over all that follows.
const CHECKSUM_BYTES: usize = 16;
/// Clocks of nodes may differ by so much.
const SKEW_MS: u64 = 60_000;
/// Bodies between these are compressed: smaller ones gain little, and larger ones would hold up the core for milliseconds.
const COMPRESSED_FROM_BYTES: usize = 1 << 10;
const COMPRESSED_TO_BYTES: usize = 128 << 10;
const COMPRESSION_LEVEL: i32 = 1;

/// The message. Fields are only ever added.
#[derive(Clone, PartialEq, Message)]
struct Stored {
    /// So that nobody can put an answer in another one's place.
    #[prost(bytes = "vec", tag = "1")]
    fingerprint: Vec<u8>,
    #[prost(string, tag = "2")]
    endpoint: String,
    #[prost(bool, tag = "3")]
    is_stream: bool,
    #[prost(bytes = "vec", tag = "4")]
    content_type: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    body: Vec<u8>,
    /// Of the body before it was compressed; 0 if it is not.
    #[prost(uint64, tag = "6")]
    plain_bytes: u64,
    #[prost(bytes = "vec", optional, tag = "7")]
    usage_event: Option<Vec<u8>>,
    #[prost(message, optional, tag = "8")]
    tokens: Option<Tokens>,
    #[prost(uint64, tag = "9")]
    stored_unix_ms: u64,
    #[prost(uint64, tag = "10")]
    ttl_ms: u64,
    /// What was known of purges when the call began, by scope.
    #[prost(uint64, repeated, tag = "11")]
    purges: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Tokens {
    #[prost(uint64, tag = "1")]
    prompt: u64,
    #[prost(uint64, tag = "2")]
    completion: u64,
    #[prost(uint64, tag = "3")]
    total: u64,
    #[prost(uint64, tag = "4")]
    cached: u64,
    #[prost(uint64, tag = "5")]
    reasoning: u64,
    #[prost(uint64, tag = "6")]
    cache_written: u64,
}

/// Why a value is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Foreign, damaged, or of another layout.
    Damaged,
    /// Its time is over.
    Expired,
    /// It was purged.
    Purged,
    /// The server has lost purges that it was written under, and may have lost later ones: nobody knows whether it was purged.
    Ahead,
    /// Whose age cannot be known: a clock was set back.
    FromTheFuture,
}

/// The value of an answer; `purges` are the numbers of the last purges that were known when its call began.
pub fn encode(fingerprint: &Fingerprint, entry: &Entry, purges: &[u64]) -> Vec<u8> {
    let plain = &entry.body[..];
    let compressed = (COMPRESSED_FROM_BYTES..=COMPRESSED_TO_BYTES)
        .contains(&plain.len())
        .then(|| zstd::bulk::compress(plain, COMPRESSION_LEVEL).ok())
        .flatten()
        .filter(|compressed| compressed.len() < plain.len() / 10 * 9);
    let stored =
        Stored {
            fingerprint: fingerprint.0.to_vec(),
            endpoint: entry.endpoint.label().to_owned(),
            is_stream: entry.form == Form::Streaming,
            content_type: entry.content_type.to_vec(),
            plain_bytes: compressed.as_ref().map_or(0, |_| plain.len() as u64),
            body: compressed.unwrap_or_else(|| plain.to_vec()),
            usage_event: entry.usage_event.as_ref().map(|event| event.to_vec()),
            tokens: entry.tokens.map(|TokenUsage { prompt, completion, total, cached, cache_written, reasoning }| {
                Tokens { prompt, completion, total, cached, reasoning, cache_written }
            }),
            stored_unix_ms: unix_ms().saturating_sub(entry.age_ms(Millis(now_ms()))),
            ttl_ms: entry.ttl_ms,
            purges: purges.to_vec(),
        };
    let mut value = Vec::with_capacity(MAGIC.len() + CHECKSUM_BYTES + stored.encoded_len());
    value.extend_from_slice(MAGIC);
    value.extend_from_slice(&[0; CHECKSUM_BYTES]);
    value.extend_from_slice(&stored.encode_to_vec());
    let (head, message) = value.split_at_mut(MAGIC.len() + CHECKSUM_BYTES);
    head[MAGIC.len()..].copy_from_slice(&Sha256::digest(message)[..CHECKSUM_BYTES]);
    value
}

/// The answer in `value`, if it may serve: `purges` are the numbers of the last purges by now.
pub fn decode(
    fingerprint: &Fingerprint,
    value: &[u8],
    purges: &[u64],
    most_bytes: u64,
    (tags, born): (Tags, u64),
) -> Result<Entry, Unusable> {
    match decode_any(value, purges, most_bytes, (tags, born))? {
        (stored, entry) if stored == *fingerprint => Ok(entry),
        _ => Err(Unusable::Damaged),
    }
}

/// As `decode`, of whatever request; with its fingerprint.
pub fn decode_any(
    value: &[u8],
    purges: &[u64],
    most_bytes: u64,
    (tags, born): (Tags, u64),
) -> Result<(Fingerprint, Entry), Unusable> {
    let damaged = Unusable::Damaged;
    let rest = value.strip_prefix(MAGIC).ok_or(damaged)?;
    let (checksum, message) = rest.split_at_checked(CHECKSUM_BYTES).ok_or(damaged)?;
    if Sha256::digest(message)[..CHECKSUM_BYTES] != *checksum {
        return Err(damaged);
    }
    let stored = Stored::decode(message).map_err(|_| damaged)?;
    let endpoint = Endpoint::ALL.into_iter().find(|endpoint| endpoint.label() == stored.endpoint).ok_or(damaged)?;
    let fingerprint = Fingerprint(stored.fingerprint.try_into().map_err(|_| damaged)?);
    if stored.body.len().max(stored.plain_bytes as usize) as u64 > most_bytes {
        return Err(damaged);
    }
    // A purge that is not known of is none.
    let known = |place: usize| stored.purges.get(place).copied().unwrap_or(0);
    if purges.iter().enumerate().any(|(place, latest)| known(place) < *latest) {
        return Err(Unusable::Purged);
    }
    if purges.iter().enumerate().any(|(place, latest)| known(place) > *latest) {
        return Err(Unusable::Ahead);
    }
    let now = unix_ms();
    if stored.stored_unix_ms > now.saturating_add(SKEW_MS) {
        return Err(Unusable::FromTheFuture);
    }
    let age_ms = now.saturating_sub(stored.stored_unix_ms);
    if age_ms >= stored.ttl_ms {
        return Err(Unusable::Expired);
    }
    let body = match stored.plain_bytes {
        0 => stored.body,
        plain_bytes => {
            let plain = zstd::bulk::decompress(&stored.body, plain_bytes as usize).map_err(|_| damaged)?;
            if plain.len() as u64 != plain_bytes {
                return Err(damaged);
            }
            plain
        }
    };
    let entry = Entry {
        endpoint,
        form: if stored.is_stream { Form::Streaming } else { Form::NonStreaming },
        content_type: Cow::Owned(stored.content_type),
        body: Bytes::from(body),
        usage_event: stored.usage_event.map(Bytes::from),
        tokens: stored.tokens.map(|Tokens { prompt, completion, total, cached, reasoning, cache_written }| {
            TokenUsage { prompt, completion, total, cached, cache_written, reasoning }
        }),
        stored_ms: now_ms() as i64 - age_ms as i64,
        ttl_ms: stored.ttl_ms,
        tags,
        born,
    };
    Ok((fingerprint, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: &[u8]) -> Entry {
        Entry {
            endpoint: Endpoint::ChatCompletions,
            form: Form::Streaming,
            content_type: Cow::Borrowed(b"text/event-stream"),
            body: Bytes::copy_from_slice(body),
            usage_event: Some(Bytes::from_static(b"data: {}\n\n")),
            tokens: Some(TokenUsage { prompt: 2, completion: 2, total: 4, cached: 1, cache_written: 1, reasoning: 2 }),
            stored_ms: now_ms() as i64,
            ttl_ms: 60_000,
            tags: Tags::default(),
            born: 7,
        }
    }

    const KEY: Fingerprint = Fingerprint([9; 32]);

    fn read(value: &[u8], purges: &[u64]) -> Result<Entry, Unusable> {
        decode(&KEY, value, purges, 1 << 20, (Tags::default(), 7))
    }

    #[test]
    fn a_value_is_the_answer_it_was_made_of() {
        for body in [vec![], b"short".to_vec(), b"data: again and again\n\n".repeat(500), vec![b'x'; 300_000]] {
            let made = entry(&body);
            let value = encode(&KEY, &made, &[1, 2]);
            assert!(body.len() < COMPRESSED_FROM_BYTES || body.len() > COMPRESSED_TO_BYTES || value.len() < body.len());
            let read = read(&value, &[1, 2]).unwrap();
            assert_eq!((read.endpoint, read.form, read.tokens), (made.endpoint, made.form, made.tokens));
            assert_eq!((&read.body, &read.usage_event), (&made.body, &made.usage_event));
            assert_eq!((&read.content_type, read.ttl_ms), (&made.content_type, made.ttl_ms));
        }
    }

    #[test]
    fn what_is_foreign_cut_or_changed_is_no_answer() {
        let value = encode(&KEY, &entry(&b"data: x\n\n".repeat(300)), &[]);
        for cut in 0..value.len() {
            assert_eq!(read(&value[..cut], &[]).unwrap_err(), Unusable::Damaged);
        }
        for place in 0..value.len() {
            let mut changed = value.clone();
            changed[place] ^= 0x20;
            assert_eq!(read(&changed, &[]).unwrap_err(), Unusable::Damaged, "byte {place}");
        }
        let other = decode(&Fingerprint([8; 32]), &value, &[], 1 << 20, (Tags::default(), 7));
        assert_eq!(other.unwrap_err(), Unusable::Damaged, "another one's place");
        assert!(decode(&KEY, &value, &[], 100, (Tags::default(), 7)).is_err(), "larger than what may be stored");
    }

    #[test]
    fn ages_go_on() {
        let made = Entry { stored_ms: now_ms() as i64 - 40_000, ..entry(b"x") };
        let read = read(&encode(&KEY, &made, &[]), &[]).unwrap();
        let now = Millis(now_ms());
        assert!(read.age_ms(now) >= 40_000 && read.left_ms(now) <= 20_000, "{}", read.age_ms(now));
        let over = Entry { stored_ms: now_ms() as i64 - 60_000, ..entry(b"x") };
        assert_eq!(self::read(&encode(&KEY, &over, &[]), &[]).unwrap_err(), Unusable::Expired);
    }

    #[test]
    fn what_was_purged_or_is_too_old_does_not_serve() {
        let value = encode(&KEY, &entry(b"x"), &[5, 0]);
        assert!(read(&value, &[5, 0]).is_ok());
        assert_eq!(read(&value, &[4, 0]).unwrap_err(), Unusable::Ahead, "what the server has lost");
        assert_eq!(read(&value, &[4, 1]).unwrap_err(), Unusable::Purged, "lost, and purged since");
        assert_eq!(read(&value, &[6, 0]).unwrap_err(), Unusable::Purged);
        assert_eq!(read(&value, &[5, 1]).unwrap_err(), Unusable::Purged);
        let expired = encode(&KEY, &Entry { ttl_ms: 0, ..entry(b"x") }, &[]);
        assert_eq!(read(&expired, &[]).unwrap_err(), Unusable::Expired);
    }
}
