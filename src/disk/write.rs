//! A snapshot: core by core and slice by slice, into blocks by heat. It replaces the one before when it is whole and on the disk,
//! so that a process that is killed meanwhile loses nothing but this one.

use prost::Message as _;
use shards::Heat;

use super::file::Writer;
use super::purged::new_id;
use super::restore::{END, HEAD, Opening};
use super::snapshots::Snapshots;
use super::{NEW_SNAPSHOT, SNAPSHOT};
use crate::exchange::kept::Kept;
use crate::exchange::message::Message;
use crate::exchange::snapshot::encode;
use crate::limits::SNAPSHOT_BLOCK_BYTES;
use crate::wire::blocks::{Block, Id};

/// What was written.
pub struct Written {
    pub answers: u64,
    pub bytes: u64,
}

/// A file that is being written.
struct Writing {
    file: Writer,
    id: Id,
    blocks: [Block; 4],
    answers: u64,
}

impl Snapshots {
    pub(super) async fn write(&self, number: u64, unix_ms: u64) -> Result<Written, String> {
        let directory = &self.parts.directory;
        let file = Writer::create(directory.join(NEW_SNAPSHOT)).await?;
        let blocks = Heat::ALL.map(|heat| Block::new(kind(heat)));
        let mut writing = Writing { file, id: new_id(), blocks, answers: 0 };
        let written = self.fill(&mut writing, number, unix_ms).await;
        let saved = written.and_then(|()| match self.has_saved_purges() {
            true => Ok(()),
            false => Err("what was purged could not be written down".to_owned()),
        });
        match saved {
            Ok(()) => {
                let Writing { file, answers, .. } = writing;
                Ok(Written { answers, bytes: file.replace(&directory.join(SNAPSHOT)).await? })
            }
            Err(why) => {
                writing.file.give_up().await;
                Err(why)
            }
        }
    }

    async fn fill(&self, writing: &mut Writing, number: u64, unix_ms: u64) -> Result<(), String> {
        let opening = Opening { table: self.parts.table.to_vec(), unix_ms };
        let mut head = Block::new(HEAD);
        head.push(&opening.encode_to_vec());
        writing.file.append(&mut head, &writing.id).await?;
        for core in 0..self.parts.cores {
            let mut at = None;
            loop {
                self.tell(core, Message::SnapshotAsk { number, at })?;
                let slice = loop {
                    match self.next().await? {
                        Message::SnapshotSlice { from, slice } if from.0 == core && slice.number == number => {
                            break slice;
                        }
                        // Of one that was given up.
                        _ => {}
                    }
                };
                for kept in &slice.kept {
                    writing.push(kept).await?;
                }
                at = slice.next;
                if at.is_none() {
                    break;
                }
            }
        }
        for block in writing.blocks.iter_mut().filter(|block| !block.is_empty()) {
            writing.file.append(block, &writing.id).await?;
        }
        writing.file.append(&mut Block::new(END), &writing.id).await
    }
}

impl Writing {
    async fn push(&mut self, kept: &Kept) -> Result<(), String> {
        let block = &mut self.blocks[kept.heat as usize];
        block.push(&encode(kept));
        self.answers += 1;
        if block.len() >= SNAPSHOT_BLOCK_BYTES {
            self.file.append(block, &self.id).await?;
        }
        Ok(())
    }
}

/// Of a block of answers.
pub(super) fn kind(heat: Heat) -> u8 {
    heat as u8
}
