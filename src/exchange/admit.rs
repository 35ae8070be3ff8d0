//! Whether this principal may ask this request now. The admission it gives is held until the exchange is over.

use std::rc::Rc;

use super::authenticate::Principal;
use super::client::ClientConnection;
use super::core::Core;
use super::endpoint::{ModelPlace, Route};
use super::generation::Generation;
use super::parse::{Content, Request, body_bytes};
use super::scratch::Scratch;
use crate::config::snapshot::Allowed;
use crate::dialect::facts::model_in_path;
use crate::error::Failure;
use crate::wire::percent;

/// Proof of admission; counted while it lives.
pub struct Admission {
    core: Rc<Core>,
    /// Index of the model in the snapshot.
    pub model: usize,
}

/// Admits a request to a model that exists and that the principal may use.
pub fn admit(
    generation: &Rc<Generation>,
    principal: &Principal,
    client: &ClientConnection<'_>,
    route: &Route,
    request: &mut Request,
    scratch: &mut Scratch,
) -> Result<Admission, Failure> {
    let restricted = principal.tenant.is_some_and(|tenant| generation.snapshot.tenants[tenant].models != Allowed::All);
    if restricted && request.content == Content::Opaque {
        let why =
            "This key may use some models only, and which one this body names cannot be seen: it is no JSON object.";
        return Err(Failure::BadField { why: why.to_owned(), param: "model" });
    }
    let head = client.pending();
    let allows =
        |model: usize| principal.tenant.is_none_or(|tenant| generation.snapshot.tenants[tenant].models.allows(model));
    if restricted && route.model == ModelPlace::Path {
        let name: Vec<u8> = model_in_path(client.head.path.of(head)).map(percent::plain).unwrap_or_default();
        generation.snapshot.asked(&name).filter(|asked| allows(asked.model)).ok_or(Failure::UnknownModel)?;
    }
    let model = match &request.named {
        Some(named) => {
            let body = body_bytes(client, &request.body);
            let name = named.read(head, body, &mut scratch.text);
            let asked = generation.snapshot.asked(name).ok_or(Failure::UnknownModel)?;
            request.star = asked.star.map(Rc::from);
            asked.model
        }
        None => generation.snapshot.server.default_model.ok_or(Failure::NoModel)?,
    };
    if !allows(model) {
        return Err(Failure::UnknownModel);
    }
    generation.counters.permits.add(1);
    Ok(Admission { core: generation.core().clone(), model })
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.core.counters.permits.sub(1);
    }
}
