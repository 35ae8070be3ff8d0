//! The record of an exchange whose client has left while its upstream call goes on: it ends with the call, and says what that has used.

use std::rc::Rc;

use super::answer::End;
use super::generation::Generation;
use super::record::{self, GoesOn, RequestRecord};
use crate::net::now_us;

/// Ends the record, at once or when the call is over. Until then the exchange counts as one of its tenant's that run.
pub fn end(generation: &Rc<Generation>, mut record: RequestRecord, goes_on: GoesOn) {
    let GoesOn { flight, permit } = goes_on;
    if !flight.goes_on() {
        return record::end(generation, &record);
    }
    record.ended_us = Some(now_us());
    let generation = generation.clone();
    flight.at_end(Box::new(move |head, end| {
        if let Some(head) = head {
            (record.backend, record.price) = (Some(head.backend.clone()), Some(head.price));
            record.served = head.served.clone();
        }
        if let Some(End::Complete { tokens, not_stored, .. }) = end {
            (record.tokens, record.not_stored) = (*tokens, record.not_stored.or(*not_stored));
        }
        record::end(&generation, &record);
        drop(permit);
    }));
}
