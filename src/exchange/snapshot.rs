//! What of the cache outlives the process, as the data cores see it: they hand their answers to the I/O core in slices, and take
//! those of an earlier process back. Only the I/O core turns them into bytes. No file here, and no slice without a bound.

use std::sync::Arc;

use prost::Message as _;
use shards::{Heat, Restored};

use super::core::Core;
use super::kept::{Kept, Slice, TakenBack};
use super::message::Message;
use super::purges::Purges;
use super::tags::Tags;
use super::value::{self, Unusable};
use super::variant::{of_form, of_question, of_younger};
use crate::dialect::facts::Form;
use crate::limits::{SNAPSHOT_ENTRY_BYTES, SNAPSHOT_SLICE_BYTES, SNAPSHOT_SLICE_SLOTS};
use crate::observe::snapshots::RestoreResult;

/// Hands the next slice to the I/O core: from slot `at` down, or from the last one.
pub fn give(core: &Core, number: u64, at: Option<u32>) {
    let shard = core.cache.shard.borrow();
    let at = at.unwrap_or(shard.cache().len() as u32);
    let now = core.now();
    let (mut kept, mut bytes) = (Vec::new(), 0);
    let next = shard.visit(at, SNAPSHOT_SLICE_SLOTS, |fingerprint, entry, heat| {
        // What it was converted to is made again when it is asked for.
        let is_question = of_question(fingerprint) == *fingerprint;
        let size_bytes = entry.size_bytes();
        if is_question
            && size_bytes <= SNAPSHOT_ENTRY_BYTES
            && entry.left_ms(now) > 0
            && core.cache.purges.is_current(entry, fingerprint)
        {
            kept.push(Kept { request: *fingerprint, heat, entry: entry.clone() });
            bytes += size_bytes;
        }
        bytes < SNAPSHOT_SLICE_BYTES
    });
    let slice = Slice { number, kept, next: (next > 0).then_some(next) };
    core.post_io(Message::SnapshotSlice { from: core.id, slice: Box::new(slice) });
}

/// Takes back what an earlier process kept, and tells the I/O core what became of it.
pub fn take_back(core: &Core, all: Vec<Kept>) {
    let mut taken = TakenBack::default();
    for kept in all {
        taken.add(take_one(core, kept));
    }
    core.post_io(Message::TakenBack { from: core.id, taken: Box::new(taken) });
}

fn take_one(core: &Core, Kept { request, heat, entry }: Kept) -> RestoreResult {
    let now = core.now();
    let left_ms = entry.left_ms(now);
    if left_ms == 0 {
        return RestoreResult::Expired;
    }
    if !core.cache.purges.is_current(&entry, &request) {
        return RestoreResult::Purged;
    }
    let forms = [Form::NonStreaming, Form::Streaming].map(|form| of_form(&request, form));
    let flights = [request, of_younger(&request), forms[0], forms[1]];
    let size_bytes = entry.size_bytes();
    let restored = core.cache.shard.borrow_mut().restore(request, &flights, (entry, size_bytes), now, left_ms, heat);
    match restored {
        Restored::Stored => RestoreResult::Restored,
        Restored::Present => RestoreResult::Newer,
        Restored::Full => RestoreResult::NoRoom,
    }
}

/// An answer in a file.
#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    /// As for other nodes.
    #[prost(bytes = "vec", tag = "1")]
    value: Vec<u8>,
    #[prost(uint32, repeated, tag = "2")]
    groups: Vec<u32>,
    /// How many purges there had been, in the numbers that outlive a process.
    #[prost(uint64, tag = "3")]
    born: u64,
}

/// The bytes of an answer.
pub fn encode(kept: &Kept) -> Vec<u8> {
    let value = value::encode(&kept.request, &kept.entry, &[]);
    let groups = kept.entry.tags.groups().map(u32::from).to_vec();
    Record { value, groups, born: kept.entry.born }.encode_to_vec()
}

/// The answer in `bytes`, if it may serve: `latest` is the number of the last purge when this process began, beyond which nothing
/// can have been born.
pub fn decode(bytes: &[u8], heat: Heat, most_bytes: u64, latest: u64, purges: &Purges) -> Result<Kept, Unusable> {
    let record = Record::decode(bytes).map_err(|_| Unusable::Damaged)?;
    let [Ok(model), Ok(version), Ok(tenant)] =
        record.groups[..].try_into().map(|all: [u32; 3]| all.map(u16::try_from)).map_err(|_| Unusable::Damaged)?
    else {
        return Err(Unusable::Damaged);
    };
    let tags = Tags::of_groups([model, version, tenant]).ok_or(Unusable::Damaged)?;
    let born = record.born.min(latest);
    let (request, entry) = value::decode_any(&record.value, &[], most_bytes, (tags, born))?;
    if !purges.is_current(&entry, &request) {
        return Err(Unusable::Purged);
    }
    if of_question(&request) != request {
        return Err(Unusable::Damaged);
    }
    Ok(Kept { request, heat, entry: Arc::new(entry) })
}
