//! Session tickets from the gateway's listeners (RFC 5077, RFC 8446 4.6.1). All cores derive the same keys from one seed
//! and the hour, so a ticket of one core resumes on every other without a message between them. Each core owns its copy;
//! the library requires a lock, which is never contended. A key is erased an hour after its last use for encryption, and
//! cannot be computed from later ones.

// The library requires the tickets to be shareable between threads; these never are.
#![allow(clippy::disallowed_types)]

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::server::ProducesTickets;
use secrecy::zeroize::Zeroizing;
use sha2::{Digest, Sha256};

use crate::net::unix_ms;

/// How long a key encrypts; afterwards it decrypts for as long again.
const PERIOD_MS: u64 = 3_600_000;
/// What clients are told: a session can be resumed for so long at least.
const LIFETIME_SECONDS: u32 = 3600;
/// A clock that jumps further than this, a year, breaks resumption instead of blocking the core.
const PERIODS_MAX: u64 = 365 * 24;
/// Identifies the key of a ticket.
const NAME_BYTES: usize = 16;

/// The secret from which the keys follow: created at start, given to every core.
#[derive(Clone)]
pub struct TicketSeed {
    secret: Zeroizing<[u8; 32]>,
    /// Of the period before.
    before: Option<Zeroizing<[u8; 32]>>,
    period: u64,
}

impl TicketSeed {
    /// A random one. Errors: the system has no random numbers.
    pub fn random() -> Result<TicketSeed, getrandom::Error> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut secret[..])?;
        Ok(TicketSeed { secret, before: None, period: unix_ms() / PERIOD_MS })
    }

    /// Erases what later keys do not follow from.
    pub fn forget(&mut self) {
        self.advance_to(unix_ms() / PERIOD_MS);
    }

    /// For a successor of this process alone.
    pub fn to_bytes(&self) -> Vec<u8> {
        let before = self.before.as_ref().map_or(&[][..], |before| &before[..]);
        [&self.period.to_le_bytes()[..], &self.secret[..], before].concat()
    }

    /// `None`: that is no seed.
    pub fn from_bytes(bytes: &[u8]) -> Option<TicketSeed> {
        let (period, rest) = bytes.split_first_chunk()?;
        let (secret, before) = rest.split_first_chunk()?;
        let before = match before {
            [] => None,
            before => Some(Zeroizing::new(before.try_into().ok()?)),
        };
        Some(TicketSeed { secret: Zeroizing::new(*secret), before, period: u64::from_le_bytes(*period) })
    }

    /// A clock that goes back changes nothing.
    fn advance_to(&mut self, period: u64) {
        for _ in 0..period.saturating_sub(self.period).min(PERIODS_MAX) {
            let next = hash(b"next", &self.secret);
            self.before = Some(std::mem::replace(&mut self.secret, next));
        }
        self.period = self.period.max(period);
    }
}

impl fmt::Debug for TicketSeed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TicketSeed(..)")
    }
}

fn hash(purpose: &[u8], secret: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(Sha256::new().chain_update(secret).chain_update(purpose).finalize().into())
}

/// The secret on one core, for all its listeners.
#[derive(Debug)]
pub struct TicketChain(Mutex<TicketSeed>);

impl TicketChain {
    pub fn new(seed: TicketSeed) -> Arc<TicketChain> {
        Arc::new(TicketChain(Mutex::new(seed)))
    }
}

/// The tickets of one listener on one core. Those of listeners with another scope, such as one that asks for no client
/// certificate, are of no use here: a session that is resumed is not verified again.
pub(super) struct Tickets {
    chain: Arc<TicketChain>,
    scope: [u8; 32],
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    /// For which they were made.
    period: Option<u64>,
    current: Option<Key>,
    previous: Option<Key>,
}

struct Key {
    name: [u8; NAME_BYTES],
    aead: LessSafeKey,
}

impl Key {
    fn of(secret: &[u8; 32], scope: &[u8; 32]) -> Option<Key> {
        let secret = hash(scope, secret);
        let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &hash(b"key", &secret)[..]).ok()?);
        Some(Key { name: *hash(b"name", &secret).first_chunk()?, aead })
    }
}

impl Tickets {
    pub(super) fn new(chain: &Arc<TicketChain>, scope: [u8; 32]) -> Tickets {
        Tickets { chain: chain.clone(), scope, keys: Mutex::default() }
    }

    fn with<R>(&self, period: u64, act: impl FnOnce(&Keys) -> Option<R>) -> Option<R> {
        let mut seed = self.chain.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        seed.advance_to(period);
        if keys.period != Some(seed.period) {
            let previous = seed.before.as_ref().and_then(|before| Key::of(before, &self.scope));
            *keys = Keys { period: Some(seed.period), current: Key::of(&seed.secret, &self.scope), previous };
        }
        act(&keys)
    }

    fn seal(&self, period: u64, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        self.with(period, |keys| {
            let key = keys.current.as_ref()?;
            let mut sealed = plain.to_vec();
            let aad = Aad::from(key.name);
            key.aead.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
            Some([&key.name[..], &nonce, &sealed].concat())
        })
    }

    fn open(&self, period: u64, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        self.with(period, |keys| {
            let key = [&keys.current, &keys.previous].into_iter().flatten().find(|key| key.name == *name)?;
            let mut sealed = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let plain = key.aead.open_in_place(nonce, Aad::from(key.name), &mut sealed).ok()?;
            Some(plain.to_vec())
        })
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tickets(..)")
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(unix_ms() / PERIOD_MS, plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(unix_ms() / PERIOD_MS, ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(secret: u8, scope: u8) -> Tickets {
        let seed = TicketSeed { secret: Zeroizing::new([secret; 32]), before: None, period: 100 };
        Tickets::new(&TicketChain::new(seed), [scope; 32])
    }

    #[test]
    fn a_ticket_of_one_core_is_good_on_every_other_for_an_hour() {
        let [one, two] = [(); 2].map(|()| tickets(7, 0));
        let ticket = one.seal(100, b"session").unwrap();
        assert_eq!(two.open(100, &ticket).unwrap(), b"session");
        assert_eq!(two.open(101, &ticket).unwrap(), b"session", "the hour before's");
        assert_eq!(two.open(102, &ticket), None, "that key is erased");
        assert_eq!(one.open(102, &one.seal(102, b"x").unwrap()).unwrap(), b"x");
        assert_eq!(two.open(103, &one.seal(103, b"later").unwrap()).unwrap(), b"later", "they stay in step");
        assert_eq!(one.open(50, &one.seal(50, b"back").unwrap()).unwrap(), b"back");
        // A listener that is set up again later goes on.
        let renewed = Tickets::new(&one.chain, [0; 32]);
        assert_eq!(renewed.open(103, &two.seal(103, b"renewed").unwrap()).unwrap(), b"renewed");
        let far = PERIODS_MAX * 1000;
        assert_eq!(one.open(far, &one.seal(far, b"far").unwrap()).unwrap(), b"far", "bounded work");
    }

    #[test]
    fn a_successor_process_goes_on_with_the_same_keys() {
        let one = tickets(7, 0);
        let of_the_hour_before = one.seal(100, b"before").unwrap();
        let ticket = one.seal(101, b"session").unwrap();
        let bytes = one.chain.0.lock().unwrap().to_bytes();
        let successor = Tickets::new(&TicketChain::new(TicketSeed::from_bytes(&bytes).unwrap()), [0; 32]);
        assert_eq!(successor.open(101, &ticket).unwrap(), b"session");
        assert_eq!(successor.open(101, &of_the_hour_before).unwrap(), b"before");
        assert_eq!(one.open(102, &successor.seal(102, b"later").unwrap()).unwrap(), b"later");
        for length in (0..bytes.len()).filter(|length| *length != 40) {
            assert!(TicketSeed::from_bytes(&bytes[..length]).is_none(), "{length}");
        }
    }

    #[test]
    fn what_was_changed_or_made_elsewhere_is_refused() {
        let tickets_of_one = tickets(7, 0);
        let ticket = tickets_of_one.seal(100, b"session").unwrap();
        for place in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[place] ^= 1;
            assert_eq!(tickets_of_one.open(100, &changed), None, "byte {place}");
            assert_eq!(tickets_of_one.open(100, &ticket[..place]), None);
        }
        assert_eq!(tickets(8, 0).open(100, &ticket), None, "another process");
        assert_eq!(tickets(7, 1).open(100, &ticket), None, "another scope");
        assert_ne!(tickets_of_one.seal(100, b"session").unwrap(), ticket, "a fresh nonce");
    }
}
