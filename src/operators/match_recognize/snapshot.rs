//! State in snapshots.
//!
//! | table | columns |
//! |---|---|
//! | rows | columns of the row, its arrival, whether the watermark has passed it |
//! | watermark | the watermark; for all subtasks |

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, Int64Array};
use arrow::datatypes::Int64Type;

use super::MatchRecognizeOperator;
use crate::error::{Error, Result};
use crate::operators::keyed_rows::{PART_ROWS, anonymous};
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};

const ROWS: &str = "rows";

fn broken() -> Error {
    Error::internal("the state of a MATCH_RECOGNIZE has other columns than it should")
}

impl MatchRecognizeOperator {
    pub(super) fn write(&self, writer: &mut SnapshotWriter) -> Result<()> {
        if !self.queue.is_empty() {
            return Err(Error::internal("a barrier reached a MATCH_RECOGNIZE within a watermark"));
        }
        let passed: Vec<u32> = self.partitions.iter().flat_map(|p| p.rows.iter().copied()).collect();
        let waiting: Vec<u32> = self.waiting.values().flatten().copied().collect();
        self.write_rows(&passed, true, writer)?;
        self.write_rows(&waiting, false, writer)?;
        writer.watermark(self.watermark)
    }

    fn write_rows(&self, ids: &[u32], passed: bool, writer: &mut SnapshotWriter) -> Result<()> {
        for run in self.store.cut(ids, PART_ROWS) {
            let ids = &ids[run];
            let mut columns = self.store.gather(ids)?;
            let arrivals = ids.iter().map(|id| self.keys.arrival(*id) as i64);
            columns.push(Arc::new(arrivals.collect::<Int64Array>()));
            columns.push(Arc::new(BooleanArray::from(vec![passed; ids.len()])));
            let slots: Vec<u32> = ids.iter().map(|id| self.slots[*id as usize]).collect();
            writer.keyed(ROWS, anonymous(columns, ids.len())?, self.directory.key_groups(&slots))?;
        }
        Ok(())
    }

    pub(super) fn read(&mut self, reader: &SnapshotReader) -> Result<()> {
        let mut all_passed = Vec::new();
        for batch in reader.table(ROWS)? {
            let (columns, own) =
                batch.columns().split_at_checked(self.config.input.fields().len()).ok_or_else(broken)?;
            let [arrivals, passed] = own else { return Err(broken()) };
            let arrivals = arrivals.as_primitive_opt::<Int64Type>().ok_or_else(broken)?;
            let passed = passed.as_boolean_opt().ok_or_else(broken)?;
            let arrival = |row: usize| Some(arrivals.value(row) as u64);
            let ids = self.keep(columns, batch.num_rows(), arrival, |_, _| false)?;
            if ids.len() != batch.num_rows() {
                return Err(broken());
            }
            let is_passed = |row: usize| passed.value(row);
            let waiting: Vec<u32> =
                ids.iter().enumerate().filter(|(row, _)| !is_passed(*row)).map(|(_, id)| *id).collect();
            self.wait(&waiting);
            all_passed.extend(ids.iter().enumerate().filter(|(row, _)| is_passed(*row)).map(|(_, id)| *id));
        }
        let keys = &self.keys;
        all_passed.sort_unstable_by(|a, b| {
            if a == b {
                std::cmp::Ordering::Equal
            } else if keys.is_before(*a, *b) {
                std::cmp::Ordering::Less
            } else {
                std::cmp::Ordering::Greater
            }
        });
        for id in all_passed {
            let slot = self.slots[id as usize];
            self.partitions[slot as usize].rows.push_back(id);
        }
        for slot in 0..self.partitions.len() {
            if !self.partitions[slot].rows.is_empty() {
                self.restored.push(slot as u32);
                self.settle(slot);
            }
        }
        if let Some(watermark) = reader.watermark()? {
            self.watermark = watermark;
        }
        Ok(())
    }
}
