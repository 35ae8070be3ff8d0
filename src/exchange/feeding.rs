//! The client's side of a body that flows: reads it as the call takes it, and no faster. Owned by the client's task.

use super::client::{ClientConnection, Filled};
use super::generation::Generation;
use super::named::bad_form;
use super::pace::Pace;
use super::pipe::{Closed, PipeWriter};
use crate::error::Failure;
use crate::net::now_ms;
use crate::net::watch::Wait;
use crate::wire::body::Decoder;
use crate::wire::multipart::FormReader;

/// The client's side of the rest of a body.
pub struct Feeding {
    pipe: PipeWriter,
    decoder: Decoder,
    form: Option<FormReader>,
    pace: Pace,
}

impl Feeding {
    pub fn new(pipe: PipeWriter, decoder: Decoder, form: Option<FormReader>, pace: Pace) -> Feeding {
        Feeding { pipe, decoder, form, pace }
    }
}

/// How the rest of a body went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    Whole,
    /// The call has ended, or answers already: the rest is not read.
    Part,
}

impl Feeding {
    /// Feeds the rest to the call as the client sends it. Errors: the client left or is too slow, or the rest is not what it has to
    /// be; the call learns that it broke off.
    pub async fn feed(mut self, generation: &Generation, client: &mut ClientConnection<'_>) -> Result<Fed, Failure> {
        loop {
            while !client.pending().is_empty() && !self.decoder.is_done() {
                if self.pipe.room().await == Err(Closed) {
                    return Ok(Fed::Part);
                }
                let rest = client.pending();
                let step = self.decoder.decode(rest).map_err(|fault| Failure::BadFraming { why: fault.to_string() })?;
                let piece = &rest[step.data.clone()];
                if let Some(form) = &mut self.form {
                    form.feed(piece).map_err(bad_form)?;
                }
                self.pipe.push(piece);
                client.consume(step.consumed);
            }
            if self.decoder.is_done() {
                if let Some(form) = &mut self.form {
                    form.finish().map_err(bad_form)?;
                }
                self.pipe.finish();
                return Ok(Fed::Whole);
            }
            let begun_ms = now_ms();
            let deadline_ms = begun_ms.saturating_add(self.pace.pause_left_ms());
            let Ok(filled) = self.pipe.unless_closed(client.fill(generation, deadline_ms, Wait::ForRest)).await else {
                return Ok(Fed::Part);
            };
            match filled {
                Ok(Filled::Some) => {}
                Ok(Filled::Quiet) => return Err(Failure::BodyTimeout),
                Ok(Filled::End) | Err(_) => return Err(Failure::ClientGone),
            }
            self.pace.note(now_ms().saturating_sub(begun_ms), client.pending().len());
        }
    }
}
