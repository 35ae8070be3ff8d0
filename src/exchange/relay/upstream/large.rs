//! Reads a large answer in slices, once all of it has flowed, so that small requests of the core do not wait for it.

use super::{PendingResponse, Work};
use crate::dialect::Dialect;
use crate::dialect::facts::Endpoint;
use crate::exchange::slices::Yields;
use crate::limits::SLICE_BYTES;
use crate::wire::json::{Slices, Tape};

impl PendingResponse<'_> {
    /// Whether a large answer is to be read once it has flowed.
    pub fn is_large(&self, endpoint: Endpoint) -> bool {
        if matches!(endpoint, Endpoint::Messages | Endpoint::Responses) {
            return false; // they are text, of some tens of kilobytes
        }
        let is_unread = matches!(self.work, Work::Whole(None)) && self.status == 200;
        is_unread && !self.unframed && self.source.flight.received_bytes() > SLICE_BYTES as u64
    }

    /// Reads a large answer that has flowed to its end, in slices.
    pub async fn read_in_slices(&mut self, endpoint: Endpoint) {
        let (flight, mut tape, mut yields) = (self.source.flight, Tape::new(), Yields::default());
        let mut slices = Slices::of_outline(Dialect::OpenAi.answer_levels(endpoint));
        loop {
            let parsed = match flight.look_at_whole(|body| slices.step(body, &mut tape, SLICE_BYTES)) {
                Some(Ok(false)) => {
                    yields.done(SLICE_BYTES).await;
                    continue;
                }
                Some(Ok(true)) => Ok(()),
                Some(Err(fault)) => Err(fault),
                None => return, // too large to be kept
            };
            let facts = |body: &[u8]| Dialect::OpenAi.parsed_answer_facts(endpoint, body, &mut tape, parsed);
            self.work = Work::Whole(flight.look_at_whole(facts));
            return;
        }
    }
}
