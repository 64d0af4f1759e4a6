//! State of a temporal join in snapshots: a table per side.
//!
//! | table | columns |
//! |---|---|
//! | left | join key, stored columns, row time in ms, whether it takes a row back; in the order of arrival |
//! | right | join key, stored columns, row time in ms, whether it ends a version; in the order of time within a key |

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::datatypes::Int64Type;

use super::TemporalJoinOperator;
use crate::error::{Error, Result};
use crate::operators::timed_rows::TimedRows;
use crate::state::anonymous;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_ROWS, RowKind};

const LEFT: &str = "left";
const RIGHT: &str = "right";

fn broken() -> Error {
    Error::internal("the state of a temporal join has other columns than it should")
}

impl TemporalJoinOperator {
    pub(super) fn write(&self, writer: &mut SnapshotWriter) -> Result<()> {
        if !self.due.is_empty() {
            return Err(Error::internal("a barrier reached a temporal join within a watermark"));
        }
        let mut left = self.left.ids();
        left.sort_unstable_by_key(|id| self.arrivals[*id as usize]);
        let retracts = |id: u32| self.kinds.as_ref().is_some_and(|k| k[id as usize].is_retraction());
        self.write_rows(LEFT, &self.left, &left, retracts, writer)?;
        let ends = |id: u32| self.ends[id as usize];
        self.write_rows(RIGHT, &self.right, &self.right.ids(), ends, writer)?;
        writer.watermark(self.watermark)
    }

    fn write_rows(
        &self,
        table: &str,
        rows: &TimedRows,
        ids: &[u32],
        flag: impl Fn(u32) -> bool,
        writer: &mut SnapshotWriter,
    ) -> Result<()> {
        let all: Vec<usize> = (0..rows.store.types().len()).collect();
        for run in rows.store.runs(ids) {
            let ids = &ids[run];
            let slots: Vec<u32> = ids.iter().map(|id| rows.slots[*id as usize]).collect();
            // The key of a row comes as often as it has rows.
            for part in self.directory.cut(&slots, BATCH_ROWS) {
                let (slots, ids) = (&slots[part.clone()], &ids[part]);
                let mut columns = self.directory.keys(slots)?;
                columns.extend(rows.store.gather(&all, ids)?);
                columns.push(Arc::new(Int64Array::from_iter_values(
                    ids.iter().map(|i| rows.times[*i as usize]),
                )));
                columns
                    .push(Arc::new(BooleanArray::from(ids.iter().map(|id| flag(*id)).collect::<Vec<_>>())));
                writer.keyed(table, anonymous(columns, ids.len())?, self.directory.key_groups(slots))?;
            }
        }
        Ok(())
    }

    pub(super) fn read(&mut self, reader: &SnapshotReader) -> Result<()> {
        let key_types = self.directory.types().to_vec();
        for table in [LEFT, RIGHT] {
            for batch in reader.table(table)? {
                let is_left = table == LEFT;
                let types = if is_left { self.left.store.types() } else { self.right.store.types() };
                if batch.num_columns() != key_types.len() + types.len() + 2 {
                    return Err(broken());
                }
                let mut rest = batch.columns().iter();
                let keys: Vec<ArrayRef> = rest.by_ref().take(key_types.len()).cloned().collect();
                let stored: Vec<ArrayRef> = rest.by_ref().take(types.len()).cloned().collect();
                let mut fits = keys.iter().zip(&key_types).chain(stored.iter().zip(types));
                if fits.any(|(c, t)| c.data_type() != t) {
                    return Err(broken());
                }
                let times = rest.next().and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(broken)?;
                let flags = rest.next().and_then(|c| c.as_boolean_opt()).ok_or_else(broken)?;
                let mut slots = Vec::new();
                self.directory.intern(&keys, batch.num_rows(), &mut slots)?;
                self.left.grow_slots(self.directory.capacity());
                self.right.grow_slots(self.directory.capacity());
                for (row, (slot, time)) in slots.iter().zip(times.values()).enumerate() {
                    let (at, flag) = (row as u32, flags.value(row));
                    if is_left {
                        let kind = if flag { RowKind::Delete } else { RowKind::Insert };
                        self.keep_left(at, *slot, *time, kind)?;
                    } else {
                        self.keep_right(at, *slot, *time, flag)?;
                    }
                }
                let rows = if is_left { &mut self.left } else { &mut self.right };
                rows.store.append_pending(&stored, batch.num_rows())?;
            }
        }
        self.watermark = reader.watermark()?.unwrap_or(i64::MIN);
        Ok(())
    }
}
