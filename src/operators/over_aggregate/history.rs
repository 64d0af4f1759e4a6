//! The last rows of each partition, as far as a frame or a LAG may still look at them.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};

use crate::error::{Error, Result};
use crate::operators::keyed_rows::PART_ROWS;
use crate::state::{GroupDirectory, RowStore, anonymous};
use crate::stream::BATCH_ROWS;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};

const HISTORY: &str = "history";

/// See the module.
pub(super) struct History {
    types: Vec<DataType>,
    rows: RowStore,
    /// By id, in ms.
    times: Vec<i64>,
    free: Vec<u32>,
    /// By slot: ids, the oldest row first.
    queues: Vec<VecDeque<u32>>,
    entries: usize,
}

impl History {
    /// For rows of these columns.
    pub(super) fn new(types: Vec<DataType>) -> Result<Self> {
        Ok(History {
            rows: RowStore::new(&types)?,
            types,
            times: Vec::new(),
            free: Vec::new(),
            queues: Vec::new(),
            entries: 0,
        })
    }

    /// Makes room for slots.
    pub(super) fn grow(&mut self, slots: usize) {
        if slots > self.queues.len() {
            self.queues.resize_with(slots, VecDeque::new);
        }
    }

    /// Stores rows; they are in no queue yet.
    pub(super) fn put(&mut self, columns: &[ArrayRef], times: &[i64]) -> Result<Vec<u32>> {
        let ids: Vec<u32> = times
            .iter()
            .map(|time| {
                let id = self.free.pop().unwrap_or_else(|| {
                    self.times.push(0);
                    (self.times.len() - 1) as u32
                });
                self.times[id as usize] = *time;
                id
            })
            .collect();
        let rows: Vec<u32> = (0..times.len() as u32).collect();
        let source = self.rows.source(columns)?;
        self.rows.put(&ids, &source, &rows);
        self.entries += ids.len();
        Ok(ids)
    }

    /// The rows of a slot.
    pub(super) fn queue(&mut self, slot: u32) -> &mut VecDeque<u32> {
        &mut self.queues[slot as usize]
    }

    /// Takes the oldest row out of the queue of a slot if it is older than `time`.
    pub(super) fn pop_before(&mut self, slot: u32, time: i64) -> Option<u32> {
        let times = &self.times;
        self.queues[slot as usize].pop_front_if(|id| times[*id as usize] < time)
    }

    /// Time of the youngest row of a slot.
    pub(super) fn latest(&self, slot: u32) -> Option<i64> {
        self.queues[slot as usize].back().map(|id| self.times[*id as usize])
    }

    /// Columns of rows.
    pub(super) fn gather(&self, ids: &[u32]) -> Result<Vec<ArrayRef>> {
        self.rows.gather(ids)
    }

    /// Drops rows that are in no queue any more.
    pub(super) fn forget(&mut self, ids: &[u32]) {
        self.rows.free(ids);
        self.free.extend(ids);
        self.entries -= ids.len();
    }

    /// Drops all rows of slots.
    pub(super) fn clear(&mut self, slots: &[u32]) {
        for slot in slots {
            let ids: Vec<u32> = std::mem::take(&mut self.queues[*slot as usize]).into();
            self.forget(&ids);
        }
    }

    /// Rows held.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// Writes all rows, in their order within a partition: key, columns, time.
    pub(super) fn write(&self, writer: &mut SnapshotWriter, directory: &GroupDirectory) -> Result<()> {
        let (mut slots, mut ids) = (Vec::new(), Vec::new());
        for slot in directory.slots() {
            let queue = self.queues.get(slot as usize).into_iter().flatten();
            ids.extend(queue);
            slots.resize(ids.len(), slot);
        }
        for run in self.rows.cut(&ids, PART_ROWS) {
            // The key of a partition comes as often as it has rows.
            for part in directory.cut(&slots[run.clone()], BATCH_ROWS) {
                let (slots, ids) = (&slots[run.clone()][part.clone()], &ids[run.clone()][part]);
                let mut columns = directory.keys(slots)?;
                columns.extend(self.rows.gather(ids)?);
                let times = ids.iter().map(|id| self.times[*id as usize]);
                columns.push(Arc::new(Int64Array::from_iter_values(times)));
                writer.keyed(HISTORY, anonymous(columns, ids.len())?, directory.key_groups(slots))?;
            }
        }
        Ok(())
    }

    /// Inverse of [`History::write`]. `each` hears of slot and time of every row.
    pub(super) fn read(
        &mut self,
        reader: &SnapshotReader,
        directory: &mut GroupDirectory,
        mut each: impl FnMut(u32, i64),
    ) -> Result<()> {
        let broken = || Error::internal("the state of OVER has other columns than it should");
        let width = directory.types().len();
        let mut slots = Vec::new();
        for batch in reader.table(HISTORY)? {
            let (keys, rest) = batch.columns().split_at_checked(width).ok_or_else(broken)?;
            let (times, columns) = rest.split_last().ok_or_else(broken)?;
            let times = times.as_primitive_opt::<Int64Type>().ok_or_else(broken)?;
            if columns.len() != self.types.len()
                || columns.iter().zip(&self.types).any(|(c, t)| c.data_type() != t)
                || keys.iter().zip(directory.types()).any(|(k, t)| k.data_type() != t)
            {
                return Err(broken());
            }
            directory.intern(keys, batch.num_rows(), &mut slots)?;
            self.grow(directory.capacity());
            let ids = self.put(columns, times.values())?;
            for ((slot, id), time) in slots.iter().zip(ids).zip(times.values()) {
                self.queue(*slot).push_back(id);
                each(*slot, *time);
            }
        }
        Ok(())
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.rows.size()
            + self.times.capacity() * 8
            + self.free.capacity() * 4
            + self.queues.capacity() * size_of::<VecDeque<u32>>()
            // A queue has room for twice its rows at most.
            + self.entries * 8
    }
}
