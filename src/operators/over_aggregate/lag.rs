//! LAG: the value of the row so many rows before.

use arrow::array::{Array, ArrayRef};
use arrow::compute::interleave;
use arrow::datatypes::DataType;
use hashbrown::HashMap;

use super::config::{LagCall, OverAggregateConfig};
use super::frame::Chunk;
use super::history::History;
use crate::error::Result;
use crate::state::GroupDirectory;
use crate::state::ttl::TimeToLive;
use crate::stream::Timestamp;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};

/// All LAGs of an operator.
pub(super) struct Lags {
    calls: Vec<LagCall>,
    /// By call: its column among those that are kept.
    kept: Vec<usize>,
    /// Input columns that are kept.
    columns: Vec<usize>,
    /// By call: its default, once.
    defaults: Vec<ArrayRef>,
    /// Rows that are looked back at.
    most: u64,
    directory: GroupDirectory,
    history: History,
    ttl: Option<TimeToLive>,
    slots: Vec<u32>,
}

impl Lags {
    pub(super) fn new(config: &OverAggregateConfig, partition: &[DataType]) -> Result<Self> {
        let mut columns: Vec<usize> = Vec::new();
        let mut kept = Vec::new();
        for call in &config.lags {
            let at = columns.iter().position(|c| *c == call.column).unwrap_or_else(|| {
                columns.push(call.column);
                columns.len() - 1
            });
            kept.push(at);
        }
        let types = columns.iter().map(|c| config.input_schema.field(*c).data_type().clone()).collect();
        let defaults = config.lags.iter().map(|c| Ok(c.default.to_array()?)).collect::<Result<_>>()?;
        Ok(Lags {
            kept,
            columns,
            defaults,
            most: config.lags.iter().map(|c| c.offset).max().unwrap_or(0),
            calls: config.lags.clone(),
            directory: GroupDirectory::new(partition)?,
            history: History::new(types)?,
            ttl: TimeToLive::new(config.ttl_ms),
            slots: Vec::new(),
        })
    }

    /// Results of all calls for the rows of a chunk.
    pub(super) fn take(&mut self, chunk: &Chunk<'_>, partition: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        let rows = chunk.times.len();
        self.directory.intern(partition, rows, &mut self.slots)?;
        self.history.grow(self.directory.capacity());
        let columns: Vec<ArrayRef> =
            self.columns.iter().map(|c| ArrayRef::clone(chunk.rows.column(*c))).collect();
        let ids = self.history.put(&columns, chunk.times)?;
        let row_of: HashMap<u32, usize> = ids.iter().copied().zip(0..).collect();
        // Where each value is: in the chunk, in the rows before it, or nowhere.
        let mut places: Vec<Vec<(usize, usize)>> =
            self.calls.iter().map(|_| Vec::with_capacity(rows)).collect();
        let (mut before, mut left) = (Vec::new(), Vec::new());
        for (slot, id) in self.slots.iter().zip(&ids) {
            let queue = self.history.queue(*slot);
            queue.push_back(*id);
            for (call, places) in self.calls.iter().zip(&mut places) {
                let at = (queue.len() as u64 - 1).checked_sub(call.offset);
                places.push(match at.and_then(|at| queue.get(at as usize)) {
                    None => (2, 0),
                    Some(id) => match row_of.get(id) {
                        Some(row) => (0, *row),
                        None => {
                            before.push(*id);
                            (1, before.len() - 1)
                        }
                    },
                });
            }
            if queue.len() as u64 > self.most {
                left.extend(queue.pop_front());
            }
            if let Some(ttl) = &mut self.ttl {
                ttl.touch(*slot);
            }
        }
        let before = self.history.gather(&before)?;
        self.history.forget(&left);
        places
            .iter()
            .zip(&self.kept)
            .zip(&self.defaults)
            .map(|((places, kept), default)| {
                let sources: [&dyn Array; 3] = [&columns[*kept], &before[*kept], default];
                Ok(interleave(&sources, places)?)
            })
            .collect()
    }

    pub(super) fn expire(&mut self, now: Timestamp) {
        let Some(ttl) = &mut self.ttl else { return };
        let directory = &self.directory;
        let gone = ttl.expired(now, || directory.slots());
        self.history.clear(&gone);
        self.directory.remove(&gone);
    }

    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        self.ttl.as_ref().map(TimeToLive::next_timer)
    }

    pub(super) fn snapshot(&self, writer: &mut SnapshotWriter) -> Result<()> {
        self.history.write(writer, &self.directory)
    }

    pub(super) fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        self.history.read(reader, &mut self.directory, |_, _| {})
    }

    pub(super) fn entries(&self) -> usize {
        self.history.entries()
    }

    pub(super) fn size(&self) -> usize {
        self.directory.size() + self.history.size() + self.slots.capacity() * 4
    }
}
