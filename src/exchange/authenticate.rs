//! Who is asking: by a key in the request, else by a certificate of the connection. Runs before any byte of a body is waited for:
//! an unauthenticated client costs nothing but a head.

use sha2::{Digest, Sha256};

use super::client::ClientConnection;
use super::endpoint::Answerer;
use super::generation::Generation;
use super::websocket::fields as websocket;
use crate::config::snapshot::{Access, OwnLimits, Standing};
use crate::error::Failure;
use crate::net::unix_ms;
use crate::wire::http1::Fields;

/// Proof that the credential was checked.
#[derive(Clone, Copy, Debug)]
pub struct Principal {
    /// Index of the tenant; none where access is open.
    pub tenant: Option<usize>,
    /// Which of the tenant's credentials it is.
    pub number: usize,
    pub own_limits: OwnLimits,
    /// SHA-256 of the credential; zeros where access is open.
    pub credential: [u8; 32],
}

/// Checks the credential that the head carries.
pub fn principal(
    generation: &Generation,
    client: &ClientConnection<'_>,
    answerer: Answerer,
) -> Result<Principal, Failure> {
    if generation.snapshot.access == Access::Open {
        return Ok(Principal { tenant: None, number: 0, own_limits: OwnLimits::None, credential: [0; 32] });
    }
    let mut key = sent(&client.head.fields, client.pending())?;
    if key.is_none() && answerer == Answerer::WebSocket {
        key = websocket::credential(&client.head.fields, client.pending());
    }
    let credentials = &generation.snapshot.known_credentials;
    let (sha256, known) = match (key, &client.peer.certificate) {
        (Some(key), _) => {
            let sha256: [u8; 32] = Sha256::digest(key).into();
            (sha256, credentials.find(&sha256).ok_or(Failure::UnknownCredential)?)
        }
        (None, Some(names)) => {
            let place = |name: &[u8; 32]| Some((*name, credentials.find(name)?));
            names.iter().find_map(place).ok_or(Failure::UnknownCertificate)?
        }
        (None, None) => return Err(Failure::NoCredential),
    };
    match known.standing(unix_ms) {
        Standing::Accepted => Ok(Principal {
            tenant: Some(known.tenant as usize),
            number: known.number as usize,
            own_limits: known.own_limits,
            credential: sha256,
        }),
        Standing::Expired => Err(Failure::ExpiredCredential),
        Standing::Disabled => Err(Failure::DisabledCredential),
    }
}

/// The key of a request: `Authorization: Bearer KEY` (RFC 6750 2.1), else `x-api-key` (Anthropic), else `api-key` (Azure).
/// A bearer credential wins, so that what a client adds to it for another gateway is not taken for its key. Errors: one of them
/// stands twice.
fn sent<'a>(fields: &Fields, head: &'a [u8]) -> Result<Option<&'a [u8]>, Failure> {
    let mut key = None;
    for field in ["authorization", "x-api-key", "api-key"] {
        let mut values = fields.get_all(head, field);
        let Some(value) = values.next() else { continue };
        // A proxy in front may have judged the other one (RFC 9110 11.6.2: it is no list).
        if values.next().is_some() {
            let why = format!("The header field {field} stands twice; send one credential.");
            return Err(Failure::BadHead { status: 400, why });
        }
        let value = match field {
            "authorization" => value
                .split_at_checked(7)
                .and_then(|(scheme, key)| scheme.eq_ignore_ascii_case(b"bearer ").then_some(key)),
            _ => Some(value),
        };
        key = key.or(value.map(<[u8]>::trim_ascii).filter(|key| !key.is_empty()));
    }
    Ok(key)
}
