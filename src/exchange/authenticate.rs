//! Who is asking. Runs before any byte of a body is waited for: a stranger costs nothing but a head.

use sha2::{Digest, Sha256};

use super::client::ClientConnection;
use super::core::Core;
use crate::config::snapshot::Access;
use crate::error::Failure;

/// Proof that the credential was checked.
#[derive(Clone, Copy, Debug)]
pub struct Principal {
    /// Index of the tenant; none where access is open.
    pub tenant: Option<usize>,
    /// SHA-256 of the credential; zeros where access is open.
    pub credential: [u8; 32],
}

/// Checks `Authorization: Bearer KEY` (RFC 6750 2.1).
pub fn principal(core: &Core, client: &ClientConnection<'_>) -> Result<Principal, Failure> {
    if core.snapshot.access == Access::Open {
        return Ok(Principal { tenant: None, credential: [0; 32] });
    }
    let mut values = client.head.fields.get_all(client.pending(), "authorization");
    let value = values.next().ok_or(Failure::NoCredential)?;
    // A proxy in front may have judged the other one (RFC 9110 11.6.2: it is no list).
    if values.next().is_some() {
        return Err(Failure::BadHead { status: 400, why: "The Authorization header field stands twice.".to_owned() });
    }
    let (scheme, key) = value.split_at_checked(7).ok_or(Failure::NoCredential)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") || key.trim_ascii().is_empty() {
        return Err(Failure::NoCredential);
    }
    let credential: [u8; 32] = Sha256::digest(key.trim_ascii()).into();
    let tenant = core.snapshot.credential(&credential).ok_or(Failure::UnknownCredential)?;
    Ok(Principal { tenant: Some(tenant), credential })
}
