//! What an earlier process kept, back to the data cores: hottest first, each answer to the core that owns it by now, a slice per
//! core at a time. What is not whole, not ours or not to serve any more is left out, and counted.

use prost::Message as _;
use shards::{CoreId, Heat, placement};

use super::SNAPSHOT;
use super::file::Reader;
use super::snapshots::Snapshots;
use super::write::kind;
use crate::exchange::kept::Kept;
use crate::exchange::message::Message;
use crate::exchange::snapshot::decode;
use crate::exchange::value::Unusable;
use crate::limits::{SNAPSHOT_BLOCK_BYTES, SNAPSHOT_ENTRY_BYTES, SNAPSHOT_SLICE_BYTES, SNAPSHOT_TAKEN_BACK};
use crate::observe::snapshots::RestoreResult;
use crate::wire::blocks::{Fault, Head, PAGE_BYTES};

/// Kinds of blocks beside those of answers: the first, and the last.
pub(super) const HEAD: u8 = 8;
pub(super) const END: u8 = 9;

/// Largest block: one answer that ends it, and what was in it before.
const BLOCK_MOST_BYTES: u64 = SNAPSHOT_BLOCK_BYTES as u64 + 2 * SNAPSHOT_ENTRY_BYTES;

/// The record of the first block.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Opening {
    /// Of the table of purges that belongs to it.
    #[prost(bytes = "vec", tag = "1")]
    pub table: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub unix_ms: u64,
}

/// Slices on their way, by core.
struct Sending {
    slices: Vec<Vec<Kept>>,
    bytes: Vec<u64>,
    /// Cores that have a slice to answer.
    under_way: Vec<bool>,
    /// Cores that take no more.
    full: Vec<bool>,
}

impl Snapshots {
    /// When the snapshot was written; none if there is none. Errors: why it, or its rest, is not read.
    pub(super) async fn restore(&self) -> Result<Option<u64>, String> {
        let path = self.parts.directory.join(SNAPSHOT);
        let Some(reader) = Reader::open(path).await? else { return Ok(None) };
        let restored = self.restore_from(&reader).await;
        reader.close().await;
        restored.map(Some)
    }

    async fn restore_from(&self, reader: &Reader) -> Result<u64, String> {
        let told = |fault: Fault| fault.to_string();
        let first = Head::first(&reader.page(0).await?).map_err(told)?;
        if first.kind != HEAD || first.block_bytes() != PAGE_BYTES as u64 {
            return Err(told(Fault::Foreign));
        }
        let block = reader.block(0, &first).await?;
        let opening = first.records(&block).map_err(told)?.next();
        let opening = opening.and_then(|record| Opening::decode(record).ok()).ok_or_else(|| told(Fault::Foreign))?;
        if opening.table != self.parts.table {
            return Err("what was purged since it was written is not known".to_owned());
        }
        let blocks = self.blocks(reader, &first).await?;
        let cores = usize::from(self.parts.cores);
        let mut sending = Sending {
            slices: vec![Vec::new(); cores],
            bytes: vec![0; cores],
            under_way: vec![false; cores],
            full: vec![false; cores],
        };
        for heat in Heat::ALL {
            for (at, head) in blocks.iter().filter(|(_, head)| head.kind == kind(heat)) {
                if sending.full.iter().all(|is_full| *is_full) {
                    // What is colder has no room either.
                    self.count(RestoreResult::NoRoom, u64::from(head.records));
                    continue;
                }
                let block = reader.block(*at, head).await?;
                let Ok(records) = head.records(&block) else {
                    self.count(RestoreResult::DamagedBlock, 1);
                    continue;
                };
                for record in records {
                    self.restore_one(&mut sending, record, heat).await?;
                }
            }
        }
        for core in 0..cores {
            self.flush(&mut sending, core).await?;
        }
        while sending.under_way.contains(&true) {
            self.answered(&mut sending).await?;
        }
        Ok(opening.unix_ms)
    }

    /// Where each block of answers begins.
    async fn blocks(&self, reader: &Reader, first: &Head) -> Result<Vec<(u64, Head)>, String> {
        let (mut at, mut blocks, mut last) = (first.block_bytes(), Vec::new(), HEAD);
        let mut is_lost = false;
        while at < reader.bytes {
            let head = Head::next(&reader.page(at).await?, &first.id);
            let Some(head) = head.filter(|head| head.block_bytes() <= BLOCK_MOST_BYTES) else {
                if !std::mem::replace(&mut is_lost, true) {
                    self.count(RestoreResult::DamagedBlock, 1);
                }
                at += PAGE_BYTES as u64;
                continue;
            };
            is_lost = false;
            last = head.kind;
            blocks.push((at, head));
            at += head.block_bytes();
        }
        if last != END {
            let why = "its end is missing; what is there of it is read".to_owned();
            tracing::warn!("cache: the snapshot is torn: {why}");
            self.count(RestoreResult::DamagedBlock, 1);
            self.parts.observed.tell(|told| told.restore_fault = Some(why));
        }
        Ok(blocks)
    }

    async fn restore_one(&self, sending: &mut Sending, record: &[u8], heat: Heat) -> Result<(), String> {
        let (most_bytes, latest) = (self.parts.most_bytes, self.parts.latest);
        let kept = match decode(record, heat, most_bytes, latest, &self.parts.purges) {
            Ok(kept) => kept,
            Err(unusable) => {
                self.count(
                    match unusable {
                        Unusable::Expired => RestoreResult::Expired,
                        Unusable::Purged | Unusable::Ahead => RestoreResult::Purged,
                        Unusable::Damaged | Unusable::FromTheFuture => RestoreResult::Unusable,
                    },
                    1,
                );
                return Ok(());
            }
        };
        let core = usize::from(placement::owner(&kept.request, self.parts.cores).0);
        if sending.full[core] {
            self.count(RestoreResult::NoRoom, 1);
            return Ok(());
        }
        sending.bytes[core] += kept.entry.size_bytes();
        sending.slices[core].push(kept);
        if sending.slices[core].len() >= SNAPSHOT_TAKEN_BACK || sending.bytes[core] >= SNAPSHOT_SLICE_BYTES {
            self.flush(sending, core).await?;
        }
        Ok(())
    }

    /// Sends a core its slice, once it has answered the one before.
    async fn flush(&self, sending: &mut Sending, core: usize) -> Result<(), String> {
        while sending.under_way[core] {
            self.answered(sending).await?;
        }
        let kept = std::mem::take(&mut sending.slices[core]);
        sending.bytes[core] = 0;
        if !kept.is_empty() {
            self.tell(core as u16, Message::TakeBack { kept })?;
            sending.under_way[core] = true;
        }
        Ok(())
    }

    async fn answered(&self, sending: &mut Sending) -> Result<(), String> {
        let Message::TakenBack { from: CoreId(core), taken } = self.next().await? else { return Ok(()) };
        let core = usize::from(core);
        sending.under_way[core] = false;
        sending.full[core] |= taken.count(RestoreResult::NoRoom) > 0;
        RestoreResult::ALL.into_iter().for_each(|result| self.count(result, taken.count(result)));
        Ok(())
    }

    fn count(&self, result: RestoreResult, more: u64) {
        self.parts.observed.result(result).add(more);
    }
}
