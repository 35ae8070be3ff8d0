//! The record of an exchange whose client has left before its upstream call was over: it ends with the call, and says what that has
//! used.

use std::rc::Rc;

use super::answer::End;
use super::exchange_span;
use super::generation::Generation;
use super::record::{self, GoesOn, RequestRecord};
use super::used::Bill;
use crate::net::now_us;

/// Ends the record when the call is over. Until then the exchange counts as one of its tenant's that run, unless the call was given
/// up.
pub fn end(generation: &Rc<Generation>, mut record: RequestRecord, goes_on: GoesOn) {
    let GoesOn { flight, permit } = goes_on;
    if flight.bill() != Bill::Open {
        record.charge(&flight);
        return finish(generation, record);
    }
    let permit = permit.filter(|_| flight.goes_on());
    record.ended_us = Some(now_us());
    let generation = generation.clone();
    flight.at_end(Box::new(move |used, head, end| {
        if let Some(head) = head {
            (record.backend, record.price) = (Some(head.backend.clone()), Some(head.price));
            record.served = head.served.clone();
        }
        if let Some(End::Complete { tokens, not_stored, .. }) = end {
            (record.tokens, record.not_stored) = (*tokens, record.not_stored.or(*not_stored));
        }
        record.add_used(used);
        finish(&generation, record);
        drop(permit);
    }));
}

fn finish(generation: &Generation, mut record: RequestRecord) {
    exchange_span::end(generation, &mut record);
    record::end(generation, &record);
}
