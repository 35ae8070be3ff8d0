//! Bodies that are passed through and larger than what is held: they flow to the backend as the client sends them, with flat
//! memory. Reads as much in advance as tells the model. What is found behind, and would have changed that, ends the request.

use super::body::BodyBuilder;
use super::client::ClientConnection;
use super::endpoint::{ModelPlace, Route};
use super::feeding::Feeding;
use super::generation::Generation;
use super::named::{self, bad_form};
use super::parse::{self, BodyPlace, Seen};
use super::pipe::{UploadRest, pipe};
use crate::dialect::facts::Endpoint;
use crate::error::Failure;
use crate::wire::body::Decoder;
use crate::wire::http1::Framing;
use crate::wire::multipart::FormReader;

/// A body of which the first part is here.
pub struct Upload {
    pub body: BodyPlace,
    pub seen: Seen,
    pub rest: UploadRest,
    pub feeding: Feeding,
}

/// What has come of a body.
pub enum Begun {
    Whole(BodyPlace),
    Part(Box<Upload>),
}

/// Whether the body of the request in hand may be one that flows.
pub fn may_flow(generation: &Generation, client: &ClientConnection<'_>, route: &Route) -> bool {
    let is_large = match client.head.framing {
        Framing::Length(length) => length > generation.snapshot.server.body_max_bytes,
        Framing::Chunked => true,
        Framing::Empty | Framing::UntilClose => false,
    };
    is_large && route.endpoint == Endpoint::Other && !parse::is_said_to_be_json(client)
}

/// Reads the first part of the body. Errors: as of `parse::receive`; also of one that has to be held and is too large for it.
pub async fn begin(
    generation: &Generation,
    client: &mut ClientConnection<'_>,
    route: &Route,
) -> Result<Begun, Failure> {
    let framing = client.head.framing;
    let max = generation.snapshot.server.body_max_bytes as usize;
    let content_type = client.head.fields.get(client.pending(), "content-type").unwrap_or(b"");
    let mut form = named::boundary(content_type)?.map(|boundary| FormReader::new(boundary, "model"));
    let in_query = route.model == ModelPlace::QueryOrBody && named::in_query(client)?.is_some();
    let is_long = matches!(framing, Framing::Length(_));
    let (mut body, mut decoder) =
        (BodyBuilder::new(&generation.memory.buffers, max.saturating_add(PIECE_BYTES)), Decoder::new(framing));
    let (mut pace, mut fault) = (parse::pace(generation), None);
    parse::answer_expectation(generation, client).await?;
    loop {
        let start = client.at + client.head.length;
        let mut done = start;
        while done < client.input.len() && body.len() <= max && !decoder.is_done() {
            let rest = &client.input[done..];
            let step = decoder.decode(rest).map_err(|fault| Failure::BadFraming { why: fault.to_string() })?;
            let piece = &rest[step.data.clone()];
            client.memory.grow_to(body.len() + piece.len())?;
            body.push(piece)?;
            // What is wrong with a form that is here whole is found when it is read.
            if let (Some(form), None) = (&mut form, fault) {
                fault = form.feed(piece).err();
            }
            done += step.consumed;
        }
        client.input.drain(start..done);
        // What is longer than its bound may be over all the same: then it has no rest.
        if decoder.is_done() && body.len() <= max {
            client.take_out_body(0);
            return Ok(Begun::Whole(BodyPlace::Apart { bytes: body.finish() }));
        }
        let front = body.bytes().trim_ascii_start();
        if front.starts_with(b"{") && (is_long || body.len() > max) {
            return Err(Failure::BodyTooLarge); // JSON is looked into
        }
        let is_known = in_query || form.as_ref().map_or(!front.is_empty(), |form| form.found().is_some());
        let is_full = body.len() > max || is_long && fault.is_some();
        if body.len() > max && !is_known && generation.snapshot.server.default_model.is_none() {
            return Err(Failure::BodyTooLarge); // the model may still come, and it has to be known
        }
        if is_full || is_long && is_known {
            break;
        }
        parse::fill(generation, client, &mut pace).await?;
    }
    if let Some(form) = &mut form {
        fault.map_or(Ok(()), Err).and_then(|()| form.close_search()).map_err(bad_form)?;
    }
    let length = match framing {
        Framing::Length(length) => Some(length - body.len() as u64),
        _ => None,
    };
    let seen = match &form {
        None => Seen::OPAQUE,
        Some(form) => Seen::in_form(body.bytes(), form.found())?,
    };
    let (writer, reader) = pipe();
    let feeding = Feeding::new(writer, decoder, form, pace);
    let rest = UploadRest { pipe: reader, length };
    Ok(Begun::Part(Box::new(Upload { body: BodyPlace::Apart { bytes: body.finish() }, seen, rest, feeding })))
}

/// A buffer of the client's may be read beyond the bound.
const PIECE_BYTES: usize = 1 << 20;
