//! A request that names a prompt template becomes the request that it stands for, before anything else is known of it: cache,
//! limits and backends see what was rendered. Must never look at a request that names none.

use super::authenticate::Principal;
use super::body::BodyBytes;
use super::client::ClientConnection;
use super::generation::Generation;
use super::parse::{BodyPlace, Request, body_bytes, replace_body};
use super::scratch::Scratch;
use crate::dialect::Dialect;
use crate::dialect::facts::Text;
use crate::dialect::prompt::{PromptFault, asked};
use crate::error::Failure;
use crate::prompts::{RenderFault, Rendered};
use crate::wire::json;

/// Whether `request` is to be rendered. Without templates of its own the gateway leaves `prompt` to the backend.
pub fn is_asked_for(generation: &Generation, request: &Request) -> bool {
    request.facts.is_some_and(|facts| facts.names_template) && !generation.prompts.is_empty()
}

/// The body of `request` with the messages of its template, and which one that is.
pub fn render(
    generation: &Generation,
    principal: &Principal,
    client: &mut ClientConnection<'_>,
    request: Request,
    scratch: &mut Scratch,
) -> Result<(BodyPlace, u32), Failure> {
    let most = generation.snapshot.server.body_max_bytes as usize;
    let body = body_bytes(client, &request.body);
    json::parse(body, &mut scratch.tape).map_err(|_| Failure::Internal)?; // it was read before
    let asked = asked(body, &scratch.tape).map_err(bad_prompt)?;
    let mut place = Vec::new();
    let name = text(asked.id, body, &mut place).map_err(|()| bad_prompt(PromptFault::IdType))?.to_owned();
    let version = match asked.version {
        Some(version) => Some(text(version, body, &mut place).map_err(|()| bad_prompt(PromptFault::VersionType))?),
        None => None,
    };
    let variables = asked.variables.map(|span| span.of(body));
    if let Some(tenant) = principal.tenant {
        let templates = &generation.snapshot.tenants[tenant].templates;
        generation.prompts.first(&name, |first| templates.allows(first)).map_err(bad_variables)?;
    }
    let rendered = generation.prompts.render(&name, version, variables, most);
    let Rendered { template, messages } = rendered.map_err(bad_variables)?;
    let messages: Vec<(&str, &str)> = messages.iter().map(|(role, text)| (role.label(), text.as_str())).collect();
    let mut out = Vec::new();
    let dialect = Dialect::of_endpoint(request.endpoint);
    dialect.with_prompt(body, &scratch.tape, &messages, &mut out).map_err(bad_prompt)?;
    if out.len() > most {
        return Err(bad_variables(RenderFault::TooLong));
    }
    let mut memory = client.memory.beside();
    memory.grow_to(out.len())?;
    let bytes = BodyBytes::of(out, &generation.memory.buffers, most)?;
    Ok((replace_body(generation, client, request.body, bytes, memory), template as u32))
}

/// The text of a member; an error if it is none in Unicode.
fn text<'a>(text: Text, body: &'a [u8], place: &'a mut Vec<u8>) -> Result<&'a str, ()> {
    str::from_utf8(text.read(body, place)).map_err(|_| ())
}

fn bad_prompt(fault: PromptFault) -> Failure {
    Failure::BadPrompt { why: fault.to_string(), param: fault.param() }
}

fn bad_variables(fault: RenderFault) -> Failure {
    Failure::BadPrompt { why: fault.to_string(), param: fault.param() }
}
