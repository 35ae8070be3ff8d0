//! A request's body out of its content coding, before anything is read from it: what is fingerprinted, routed and sent on is
//! the decoded body. Must never give more than a body may have, nor let a body that is not looked into lose its coding.

use super::body::{BodyBuilder, BodyBytes};
use super::buffers::{BUFFER_BYTES, Lent};
use super::client::ClientConnection;
use super::generation::Generation;
use super::memory::Reserved;
use super::parse::{BodyPlace, body_bytes, replace_body};
use super::slices::Yields;
use crate::dialect::facts::Endpoint;
use crate::error::Failure;
use crate::limits::SLICE_BYTES;
use crate::wire::coding::{Coding, CodingFault, Decompressor, Output};
use crate::wire::format::{Format, FormatFault};

/// The coding that has to be taken off the body of the request in hand. Errors: one that is not understood.
pub fn coding(client: &ClientConnection<'_>, endpoint: Endpoint) -> Result<Option<Coding>, Failure> {
    let mut values = client.head.fields.get_all(client.pending(), "content-encoding");
    let Some(first) = values.next() else { return Ok(None) }; // nearly always
    if !is_looked_into(client, endpoint) {
        return Ok(None);
    }
    let listed = values.fold(first.to_vec(), |listed, value| [&listed, &b","[..], value].concat());
    Coding::of(&listed).map_err(|_| Failure::UnknownCoding)
}

/// Whether the gateway reads the body of the request in hand, as far as the head tells.
fn is_looked_into(client: &ClientConnection<'_>, endpoint: Endpoint) -> bool {
    let content_type = client.head.fields.get(client.pending(), "content-type");
    let is = |content_type: &[u8], name: &str| {
        content_type.get(..name.len()).is_some_and(|front| front.eq_ignore_ascii_case(name.as_bytes()))
    };
    endpoint != Endpoint::Other
        || content_type.is_none_or(|found| is(found, "application/json") || is(found, "multipart/form-data"))
}

/// Takes `coding` off `body`, which is then apart from the client, in slices.
pub async fn decode(
    generation: &Generation,
    client: &mut ClientConnection<'_>,
    body: BodyPlace,
    coding: Coding,
) -> Result<BodyPlace, Failure> {
    if body_bytes(client, &body).is_empty() {
        return Ok(body); // no body is not coded
    }
    let mut memory = client.memory.beside();
    let max = generation.snapshot.server.body_max_bytes as usize;
    let unpacked = unpack(generation, body_bytes(client, &body), coding, max, &mut memory).await;
    let unpacked = match unpacked {
        Ok(unpacked) => unpacked,
        Err(failure) => {
            if let BodyPlace::Apart { bytes } = body {
                bytes.release(&generation.memory.buffers);
            }
            return Err(failure);
        }
    };
    client.head.fields.remove(client.input.get(client.at..).unwrap_or(&[]), "content-encoding");
    Ok(replace_body(generation, client, body, unpacked, memory))
}

/// Makes JSON of a body in another format, where it is to be understood.
pub fn to_json(
    generation: &Generation,
    client: &mut ClientConnection<'_>,
    endpoint: Endpoint,
    body: BodyPlace,
) -> Result<BodyPlace, Failure> {
    let format = client.head.body_format;
    if format == Format::Json || endpoint == Endpoint::Other || body_bytes(client, &body).is_empty() {
        return Ok(body);
    }
    match converted(generation, client, format, &body) {
        Ok((bytes, memory)) => Ok(replace_body(generation, client, body, bytes, memory)),
        Err(failure) => {
            if let BodyPlace::Apart { bytes } = body {
                bytes.release(&generation.memory.buffers);
            }
            Err(failure)
        }
    }
}

fn converted(
    generation: &Generation,
    client: &ClientConnection<'_>,
    format: Format,
    body: &BodyPlace,
) -> Result<(BodyBytes, Reserved), Failure> {
    let mut json = Vec::new();
    let max = generation.snapshot.server.body_max_bytes as usize;
    format.to_json(body_bytes(client, body), max, &mut json).map_err(|fault| match fault {
        FormatFault::TooLarge => Failure::BodyTooLarge,
        fault => Failure::BadJson { why: format!("The request body is not {}: {fault}.", format.name()) },
    })?;
    let mut memory = client.memory.beside();
    memory.grow_to(json.len())?;
    Ok((BodyBytes::of(json, &generation.memory.buffers, max)?, memory))
}

async fn unpack(
    generation: &Generation,
    mut packed: &[u8],
    coding: Coding,
    max: usize,
    memory: &mut Reserved,
) -> Result<BodyBytes, Failure> {
    let refused = |fault: CodingFault| Failure::BadCoding {
        why: format!("The request body is not valid {}: {fault}.", coding.name()),
    };
    let mut decompressor = Decompressor::of_bounded(coding);
    let (mut out, mut yields) = (BodyBuilder::new(&generation.memory.buffers, max), Yields::default());
    let mut piece = Lent::new(&generation.memory.buffers);
    loop {
        // One byte more than there may be tells a body that is too large.
        let step = (max + 1).saturating_sub(out.len()).min(BUFFER_BYTES);
        // What is packed badly takes long to read, too.
        let input = &packed[..packed.len().min(SLICE_BYTES)];
        piece.clear();
        let progress = decompressor.decode(input, &mut piece, step).map_err(refused)?;
        packed = &packed[progress.consumed..];
        if out.len() + piece.len() > max {
            return Err(Failure::BodyTooLarge);
        }
        out.push(&piece)?;
        memory.grow_to(out.len())?;
        if progress.output == Output::Given && packed.is_empty() {
            decompressor.finish().map_err(refused)?;
            return Ok(out.finish());
        }
        yields.done(progress.consumed.max(piece.len())).await;
    }
}
