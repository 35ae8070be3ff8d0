//! What makes two requests the same: SHA-256 over the tenant's scope, the endpoint, the model and its version, and the
//! canonical form of every field that can change the answer. Field order, white space, escapes and the spelling of
//! numbers do not matter. Collisions that can be made on purpose would hand one tenant's answer to another: no
//! faster hash here.

use sha2::{Digest, Sha256};
use shards::Fingerprint;

use super::admit::Admission;
use super::authenticate::Principal;
use super::client::ClientConnection;
use super::generation::Generation;
use super::parse::{Request, body_bytes};
use super::scratch::Scratch;
use super::send::{CHANGING, forwarded};
use super::slices::Yields;
use super::variant::of_question;
use crate::config::snapshot::{CacheMode, CachePolicy, IncludeUsage, Scope, Target};
use crate::dialect::Reading;
use crate::dialect::facts::{Endpoint, NotStored, RequestFacts, Sampling, UsageEvent};
use crate::limits::SLICE_BYTES;
use crate::wire::http1::Method;
use crate::wire::json::CanonicalSlices;

/// The query by which Anthropic's clients ask for what is not released yet; what that is stands in a field that counts.
const BETA: &[u8] = b"beta=true";

/// Names the layout of the bytes that are hashed; a change of the layout changes it.
const LAYOUT: &[u8] = b"ringway fingerprint 1\0";

/// The request's fingerprint, or why its answer may not be shared. Needs `scratch` as the body's reading left it.
pub fn of(
    generation: &Generation,
    principal: &Principal,
    admission: &Admission,
    client: &ClientConnection<'_>,
    request: &Request,
    reading: &Reading,
    scratch: &mut Scratch,
) -> Result<Fingerprint, NotStored> {
    let facts = shared(generation, admission, client, request)?;
    begin(generation, principal, admission, client, request, scratch);
    let Scratch { tape, shapes, canonical: bytes, .. } = scratch;
    shapes.canonical(reading, body_bytes(client, &request.body), tape, facts, bytes);
    Ok(of_question(&Fingerprint(Sha256::digest(bytes).into())))
}

/// As `of`, for a large body, in slices. Needs the tape of the body.
pub async fn in_slices(
    generation: &Generation,
    principal: &Principal,
    admission: &Admission,
    client: &ClientConnection<'_>,
    request: &Request,
    scratch: &mut Scratch,
    yields: &mut Yields,
) -> Result<Fingerprint, NotStored> {
    let facts = shared(generation, admission, client, request)?;
    begin(generation, principal, admission, client, request, scratch);
    let Scratch { tape, canonical, text: piece, .. } = scratch;
    let (mut hash, mut pieces) = (Sha256::new_with_prefix(&canonical[..]), CanonicalSlices::default());
    let body = body_bytes(client, &request.body);
    loop {
        piece.clear();
        let is_last = pieces.step(body, tape, facts.not_in_key, SLICE_BYTES, piece);
        hash.update(&piece[..]);
        // Also where it brought nothing to hash: the text of a string is measured first.
        yields.done(SLICE_BYTES).await;
        if is_last {
            return Ok(of_question(&Fingerprint(hash.finalize().into())));
        }
    }
}

/// What is known of a request whose answer may be shared, or why it may not.
fn shared<'a>(
    generation: &Generation,
    admission: &Admission,
    client: &ClientConnection<'_>,
    request: &'a Request,
) -> Result<&'a RequestFacts, NotStored> {
    let cached = matches!(
        request.endpoint,
        Endpoint::ChatCompletions
            | Endpoint::Completions
            | Endpoint::Embeddings
            | Endpoint::Messages
            | Endpoint::Responses
    );
    if !cached || client.head.method != Method::Post {
        return Err(NotStored::Endpoint);
    }
    if generation.snapshot.cache.mode == CacheMode::Off {
        return Err(NotStored::Off);
    }
    // What a query says is the backend's own business: it may change the answer, so nothing is shared.
    let mut path = client.head.path.of(client.pending()).splitn(2, |&byte| byte == b'?');
    let query = path.nth(1);
    if query.is_some_and(|query| query != BETA || request.endpoint != Endpoint::Messages) {
        return Err(NotStored::Query);
    }
    if request.directives.no_store {
        return Err(NotStored::NoStore);
    }
    let facts = request.facts.as_ref().ok_or(NotStored::Unreadable)?;
    if facts.is_stateful {
        return Err(NotStored::Stateful);
    }
    let model = &generation.snapshot.models[admission.model];
    match model.cache {
        CachePolicy::All => {}
        CachePolicy::Off => return Err(NotStored::ModelOff),
        CachePolicy::Deterministic => {
            if facts.sampling == Sampling::Random && request.endpoint != Endpoint::Embeddings {
                return Err(NotStored::NotDeterministic);
            }
        }
    }
    Ok(facts)
}

/// Writes what comes before the body in what is hashed: whose answer it is, and all outside of the body that can change it.
pub fn begin(
    generation: &Generation,
    principal: &Principal,
    admission: &Admission,
    client: &ClientConnection<'_>,
    request: &Request,
    scratch: &mut Scratch,
) {
    let Scratch { canonical: bytes, canonical_head, .. } = scratch;
    let model = &generation.snapshot.models[admission.model];
    bytes.clear();
    bytes.extend_from_slice(LAYOUT);
    match (generation.snapshot.cache.scope, principal.tenant) {
        (Scope::Shared, _) | (_, None) => bytes.push(b'*'),
        (Scope::Tenant, Some(tenant)) => {
            bytes.push(b't');
            append(bytes, generation.snapshot.tenants[tenant].name.as_bytes());
        }
        (Scope::Key, Some(_)) => {
            bytes.push(b'k');
            bytes.extend_from_slice(&principal.credential);
        }
    }
    append(bytes, request.endpoint.label().as_bytes());
    append(bytes, model.name.as_bytes());
    append(bytes, model.version.as_bytes());
    if !model.upstream_identity.is_empty() {
        bytes.push(4);
        append(bytes, &model.upstream_identity);
    }
    if client.head.path.of(client.pending()).contains(&b'?') {
        bytes.push(3);
    }
    for name in CHANGING {
        for value in client.head.fields.get_all(client.pending(), name) {
            bytes.push(1);
            append(bytes, value);
        }
        bytes.push(0);
    }
    for target in &model.targets {
        let extra = &generation.snapshot.backends[target.backend].extra;
        if extra.forwards_any() {
            bytes.push(2);
            forwarded(&client.head, client.pending(), extra, &mut |name, value| {
                append(bytes, name.as_bytes());
                append(bytes, value);
            });
        }
    }
    // Where backends are not asked for usage, an answer has it only if its own client asked.
    let asks = |target: &Target| generation.snapshot.backends[target.backend].include_usage == IncludeUsage::Ask;
    if !model.targets.iter().all(asks) {
        bytes.push(u8::from(request.usage_event == UsageEvent::Asked));
    }
    *canonical_head = bytes.len();
}

/// A string with its length in front, so that two strings in a row cannot be cut elsewhere.
fn append(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text);
}
