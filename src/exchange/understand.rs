//! The steps of a request that need nothing but its head and its body: read it, admit it, find its fingerprint.

use std::rc::Rc;

use shards::Fingerprint;

use super::authenticate::Principal;
use super::batch::Batch;
use super::client::ClientConnection;
use super::endpoint::Route;
use super::generation::Generation;
use super::parse::{self, BodyPlace, Request};
use super::scratch::Scratch;
use super::slices::Yields;
use super::window::Combinable;
use super::{admit, fingerprint, prompt};
use crate::dialect::facts::{Endpoint, NotStored};
use crate::error::Failure;
use crate::wire::http1::Method;

/// A request, that it may be made, and by what its answer is known.
pub type Understood = (Request, admit::Admission, Result<Fingerprint, NotStored>);

/// The steps that need no waiting, over one scan of the body.
pub fn understand(
    generation: &Rc<Generation>,
    client: &mut ClientConnection<'_>,
    route: &Route,
    principal: &Principal,
    body: BodyPlace,
) -> Result<Understood, Failure> {
    let scratch = &mut *generation.memory.scratch.borrow_mut();
    let (mut request, mut reading) = parse::scan(client, route, body, scratch)?;
    if prompt::is_asked_for(generation, &request) {
        let (body, template) = prompt::render(generation, principal, client, request, scratch)?;
        (request, reading) = parse::scan(client, route, body, scratch)?;
        request.template = Some(template);
    }
    let admission = admit::admit(generation, principal, client, route, &mut request, scratch)?;
    let fingerprint = fingerprint::of(generation, principal, &admission, client, &request, &reading, scratch);
    find_batching(generation, client, principal, &mut request, &admission, &fingerprint, scratch);
    scratch.shrink();
    Ok((request, admission, fingerprint))
}

/// As `understand`, for a large body: others run in between, so its scratch is its own.
pub async fn understand_in_slices(
    generation: &Rc<Generation>,
    client: &mut ClientConnection<'_>,
    route: &Route,
    principal: &Principal,
    body: BodyPlace,
) -> Result<Understood, Failure> {
    let (mut scratch, mut yields) = (Scratch::default(), Yields::default());
    let mut request = parse::scan_in_slices(client, route, body, &mut scratch.tape, &mut yields).await?;
    if prompt::is_asked_for(generation, &request) {
        let (body, template) = prompt::render(generation, principal, client, request, &mut scratch)?;
        request = parse::scan_in_slices(client, route, body, &mut scratch.tape, &mut yields).await?;
        request.template = Some(template);
    }
    let admission = admit::admit(generation, principal, client, route, &mut request, &mut scratch)?;
    let fingerprint =
        fingerprint::in_slices(generation, principal, &admission, client, &request, &mut scratch, &mut yields).await;
    find_batching(generation, client, principal, &mut request, &admission, &fingerprint, &mut scratch);
    Ok((request, admission, fingerprint))
}

/// Finds out whether the request is for several embeddings, some of which may be known, and whether it may go upstream together with
/// others.
fn find_batching(
    generation: &Rc<Generation>,
    client: &ClientConnection<'_>,
    principal: &Principal,
    request: &mut Request,
    admission: &admit::Admission,
    fingerprint: &Result<Fingerprint, NotStored>,
    scratch: &mut Scratch,
) {
    let directives = &request.directives;
    let is_plain = !directives.no_cache && !directives.only_if_cached && directives.max_age_ms.is_none();
    if request.endpoint == Endpoint::Embeddings
        && is_plain
        && let (Ok(fingerprint), Some(facts)) = (fingerprint, &request.facts)
    {
        let tags = generation.tags.get(admission.model, principal.tenant);
        request.batch =
            Batch::of(generation, fingerprint, parse::body_bytes(client, &request.body), facts, tags, scratch);
    }
    let settings = &generation.snapshot.models[admission.model];
    // One that is kept from the cache by the configuration may still go with others; one that its client keeps out, may not.
    if settings.batch_window_ms > 0
        && matches!(request.endpoint, Endpoint::Embeddings | Endpoint::Completions)
        && matches!(fingerprint, Ok(_) | Err(NotStored::Off | NotStored::ModelOff))
        && !request.directives.no_cache
        && is_plain_post(client)
    {
        if fingerprint.is_err() {
            fingerprint::begin(generation, principal, admission, client, request, scratch);
        }
        let body = parse::body_bytes(client, &request.body);
        request.combinable = Combinable::of(request.endpoint, body, settings.batch_max_inputs, scratch);
    }
}

/// Whether nothing is asked for but what the body says.
fn is_plain_post(client: &ClientConnection<'_>) -> bool {
    client.head.method == Method::Post && !client.head.path.of(client.pending()).contains(&b'?')
}
