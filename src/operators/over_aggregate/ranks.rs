//! ROW_NUMBER, RANK and DENSE_RANK of rows in the order of their time.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};

use super::config::OverOutput;
use super::frame::Chunk;
use crate::error::{Error, Result};
use crate::operators::keyed_rows::PART_ROWS;
use crate::state::ttl::TimeToLive;
use crate::state::{GroupDirectory, anonymous};
use crate::stream::Timestamp;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};

const RANKS: &str = "ranks";

/// Of the last row of a partition.
#[derive(Clone, Copy, Default)]
struct Last {
    number: i64,
    time: i64,
    rank: i64,
    dense: i64,
}

/// See the module.
pub(super) struct Ranks {
    directory: GroupDirectory,
    /// By slot.
    last: Vec<Last>,
    ttl: Option<TimeToLive>,
    slots: Vec<u32>,
}

impl Ranks {
    pub(super) fn new(partition: &[DataType], ttl_ms: Option<i64>) -> Result<Self> {
        Ok(Ranks {
            directory: GroupDirectory::new(partition)?,
            last: Vec::new(),
            ttl: TimeToLive::new(ttl_ms),
            slots: Vec::new(),
        })
    }

    /// The wanted numbers of the rows of a chunk.
    pub(super) fn take(
        &mut self,
        chunk: &Chunk<'_>,
        partition: &[ArrayRef],
        wanted: &[OverOutput],
    ) -> Result<Vec<ArrayRef>> {
        self.directory.intern(partition, chunk.times.len(), &mut self.slots)?;
        self.last.resize(self.directory.capacity(), Last::default());
        let mut all = Vec::with_capacity(chunk.times.len());
        for (slot, time) in self.slots.iter().zip(chunk.times) {
            let last = &mut self.last[*slot as usize];
            let is_peer = chunk.has_peers && last.number > 0 && last.time == *time;
            last.number += 1;
            if !is_peer {
                (last.rank, last.time) = (last.number, *time);
                last.dense += 1;
            }
            all.push(*last);
            if let Some(ttl) = &mut self.ttl {
                ttl.touch(*slot);
            }
        }
        let column =
            |f: fn(&Last) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(all.iter().map(f))) };
        Ok(wanted
            .iter()
            .map(|output| match output {
                OverOutput::Rank => column(|l| l.rank),
                OverOutput::DenseRank => column(|l| l.dense),
                _ => column(|l| l.number),
            })
            .collect())
    }

    pub(super) fn expire(&mut self, now: Timestamp) {
        let Some(ttl) = &mut self.ttl else { return };
        let directory = &self.directory;
        let gone = ttl.expired(now, || directory.slots());
        gone.iter().for_each(|slot| self.last[*slot as usize] = Last::default());
        self.directory.remove(&gone);
    }

    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        self.ttl.as_ref().map(TimeToLive::next_timer)
    }

    pub(super) fn snapshot(&self, writer: &mut SnapshotWriter) -> Result<()> {
        let slots = self.directory.slots();
        for run in self.directory.cut(&slots, PART_ROWS) {
            let slots = &slots[run];
            let mut columns = self.directory.keys(slots)?;
            for part in [|l: &Last| l.number, |l: &Last| l.time, |l: &Last| l.rank, |l: &Last| l.dense] {
                let values = slots.iter().map(|slot| part(&self.last[*slot as usize]));
                columns.push(Arc::new(Int64Array::from_iter_values(values)));
            }
            writer.keyed(RANKS, anonymous(columns, slots.len())?, self.directory.key_groups(slots))?;
        }
        Ok(())
    }

    pub(super) fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        let broken = || Error::internal("the state of OVER has other columns than it should");
        let width = self.directory.types().len();
        for batch in reader.table(RANKS)? {
            let (keys, numbers) = batch.columns().split_at_checked(width).ok_or_else(broken)?;
            let [number, time, rank, dense] = numbers else { return Err(broken()) };
            let of = |c: &ArrayRef| c.as_primitive_opt::<Int64Type>().cloned().ok_or_else(broken);
            let (number, time, rank, dense) = (of(number)?, of(time)?, of(rank)?, of(dense)?);
            self.directory.intern(keys, batch.num_rows(), &mut self.slots)?;
            self.last.resize(self.directory.capacity(), Last::default());
            for (row, slot) in self.slots.iter().enumerate() {
                self.last[*slot as usize] = Last {
                    number: number.value(row),
                    time: time.value(row),
                    rank: rank.value(row),
                    dense: dense.value(row),
                };
            }
        }
        Ok(())
    }

    pub(super) fn entries(&self) -> usize {
        self.directory.len()
    }

    pub(super) fn size(&self) -> usize {
        self.directory.size() + self.last.capacity() * size_of::<Last>() + self.slots.capacity() * 4
    }
}
