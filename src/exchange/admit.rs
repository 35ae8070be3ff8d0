//! Whether this visitor may ask this question now. The permit it gives is held until the exchange is over.

use std::rc::Rc;

use super::authenticate::Visitor;
use super::core::{Core, Scratch};
use super::line::Line;
use super::parse::{Question, body_bytes};
use crate::config::snapshot::Allowed;
use crate::error::Failure;

/// Proof of admission; counted while it lives.
pub struct Permit {
    core: Rc<Core>,
    /// Index of the model in the snapshot.
    pub model: usize,
}

/// Admits a question to a model that exists and that the visitor may use.
pub fn permit(
    core: &Rc<Core>,
    visitor: &Visitor,
    line: &Line<'_>,
    question: &Question,
    scratch: &mut Scratch,
) -> Result<Permit, Failure> {
    let restricted = visitor.tenant.filter(|&tenant| core.snapshot.tenants[tenant].models != Allowed::All);
    if restricted.is_some() && question.facts.is_none() && !body_bytes(line, &question.body).is_empty() {
        let why =
            "This key may use some models only, and which one this body names cannot be seen: it is no JSON object.";
        return Err(Failure::BadField { why: why.to_owned(), param: "model" });
    }
    let named = question.facts.as_ref().and_then(|facts| facts.model);
    let model = match named {
        Some(name) => {
            let bytes = body_bytes(line, &question.body);
            core.snapshot.model(name.read(bytes, &mut scratch.text)).ok_or(Failure::UnknownModel)?
        }
        None => core.snapshot.server.passthrough_model.ok_or(Failure::NoModel)?,
    };
    let allowed = visitor.tenant.is_none_or(|tenant| core.snapshot.tenants[tenant].models.allows(model));
    if !allowed {
        return Err(Failure::UnknownModel);
    }
    core.counters.permits.add(1);
    Ok(Permit { core: core.clone(), model })
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.core.counters.permits.sub(1);
    }
}
