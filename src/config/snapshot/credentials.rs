//! Whose a credential is, found by its SHA-256. What a request costs more among a hundred thousand of them than with one is the
//! cold memory that it touches: here that is one cache line.

use super::tenant::{CredentialState, Moment, Standing, Tenant};

/// What a request has to know of its credential.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct KnownCredential {
    sha256: [u8; 32],
    /// `u64::MAX`: never.
    expires_unix_ms: u64,
    /// The index of its tenant, and its number there.
    pub tenant: u32,
    pub number: u32,
    state: CredentialState,
    pub own_limits: OwnLimits,
}

/// Whether a key has limits besides those of its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnLimits {
    None,
    Some,
}

impl KnownCredential {
    /// Whether it is accepted at `unix_ms`, which is read only if it expires.
    pub fn standing(&self, unix_ms: impl FnOnce() -> u64) -> Standing {
        Standing::of(self.state, self.expires_unix_ms, unix_ms)
    }

    fn is(&self, sha256: &[u8; 32]) -> bool {
        if prefix(&self.sha256) != prefix(sha256) {
            return false;
        }
        #[cfg(test)]
        super::tests::COMPARED.with(|compared| compared.set(compared.get() + 1));
        self.sha256 == *sha256
    }
}

/// An open table with room for twice as many. Its places are those of the hashes: whoever chooses a key cannot choose its place,
/// and one that is far from its place costs others nothing but a line.
#[derive(Debug)]
pub struct CredentialTable(Box<[Option<KnownCredential>]>);

impl CredentialTable {
    /// Of two that are equal, the first one.
    pub fn of(tenants: &[Tenant]) -> CredentialTable {
        let count: usize = tenants.iter().map(|tenant| tenant.credentials.len()).sum();
        let mut table = CredentialTable(vec![None; 2 * count].into());
        for (index, tenant) in tenants.iter().enumerate() {
            for (number, credential) in tenant.credentials.iter().enumerate() {
                let known = KnownCredential {
                    sha256: credential.sha256,
                    expires_unix_ms: credential.expires.as_ref().map_or(u64::MAX, |Moment { unix_ms, .. }| *unix_ms),
                    tenant: index as u32,
                    number: number as u32,
                    state: credential.state,
                    own_limits: if credential.limits.is_empty() { OwnLimits::None } else { OwnLimits::Some },
                };
                let place = table.walk(&credential.sha256).find(|place| match &table.0[*place] {
                    Some(other) => other.is(&credential.sha256),
                    None => true,
                });
                place.into_iter().for_each(|place| _ = table.0[place].get_or_insert(known));
            }
        }
        table
    }

    #[inline]
    pub fn find(&self, sha256: &[u8; 32]) -> Option<&KnownCredential> {
        for place in self.walk(sha256) {
            let known = self.0[place].as_ref()?;
            if known.is(sha256) {
                return Some(known);
            }
        }
        None
    }

    /// All places, beginning with that of this hash.
    fn walk(&self, sha256: &[u8; 32]) -> impl Iterator<Item = usize> + use<> {
        let places = self.0.len();
        let begin = ((u128::from(prefix(sha256)) * places as u128) >> 64) as usize;
        (begin..places).chain(0..begin)
    }
}

fn prefix(sha256: &[u8; 32]) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|at| sha256[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_one_line() {
        assert_eq!(size_of::<Option<KnownCredential>>(), 64);
    }
}
