//! Whether this visitor may ask this question now. The permit it gives is held until the exchange is over.

use std::rc::Rc;

use super::authenticate::Visitor;
use super::core::{Core, Scratch};
use super::endpoint::{ModelPlace, Route};
use super::line::Line;
use super::parse::{Content, Question, body_bytes};
use crate::config::snapshot::Allowed;
use crate::dialect::facts::model_in_path;
use crate::error::Failure;
use crate::wire::percent;

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
    route: &Route,
    question: &Question,
    scratch: &mut Scratch,
) -> Result<Permit, Failure> {
    let restricted = visitor.tenant.is_some_and(|tenant| core.snapshot.tenants[tenant].models != Allowed::All);
    if restricted && question.content == Content::Opaque {
        let why =
            "This key may use some models only, and which one this body names cannot be seen: it is no JSON object.";
        return Err(Failure::BadField { why: why.to_owned(), param: "model" });
    }
    let head = line.pending();
    let allows = |model: usize| visitor.tenant.is_none_or(|tenant| core.snapshot.tenants[tenant].models.allows(model));
    if restricted && route.model == ModelPlace::Path {
        let name: Vec<u8> = model_in_path(line.head.path.of(head)).map(percent::plain).unwrap_or_default();
        core.snapshot.model(&name).filter(|&model| allows(model)).ok_or(Failure::UnknownModel)?;
    }
    let model = match &question.named {
        Some(named) => {
            let body = body_bytes(line, &question.body);
            core.snapshot.model(named.read(head, body, &mut scratch.text)).ok_or(Failure::UnknownModel)?
        }
        None => core.snapshot.server.default_model.ok_or(Failure::NoModel)?,
    };
    if !allows(model) {
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
