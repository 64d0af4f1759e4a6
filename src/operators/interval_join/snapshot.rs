//! State of an interval join in snapshots: a table per side.
//!
//! | columns | where |
//! |---|---|
//! | join key | always |
//! | stored columns | always |
//! | row time, ms | always |
//! | whether it has had a match | where rows without one come out |

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::datatypes::Int64Type;

use super::IntervalJoinOperator;
use crate::error::{Error, Result};
use crate::state::anonymous;
use crate::stream::BATCH_ROWS;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};

const TABLES: [&str; 2] = ["left", "right"];

fn broken() -> Error {
    Error::internal("the state of an interval join has other columns than it should")
}

impl IntervalJoinOperator {
    pub(super) fn write(&self, writer: &mut SnapshotWriter) -> Result<()> {
        if self.work.is_some() || self.expiring {
            return Err(Error::internal("a barrier reached an interval join within a batch"));
        }
        for (side, table) in self.sides.iter().zip(TABLES) {
            let all: Vec<usize> = (0..side.store.types().len()).collect();
            let ids = side.ids();
            for run in side.store.runs(&ids) {
                let ids = &ids[run];
                let slots: Vec<u32> = ids.iter().map(|id| side.slots[*id as usize]).collect();
                // The key of a row comes as often as it has rows.
                for part in self.directory.cut(&slots, BATCH_ROWS) {
                    let (slots, ids) = (&slots[part.clone()], &ids[part]);
                    let mut columns = self.directory.keys(slots)?;
                    columns.extend(side.store.gather(&all, ids)?);
                    let times = ids.iter().map(|id| side.times[*id as usize]);
                    columns.push(Arc::new(Int64Array::from_iter_values(times)));
                    if let Some(matched) = &side.matched {
                        let matched: Vec<bool> = ids.iter().map(|id| matched[*id as usize]).collect();
                        columns.push(Arc::new(BooleanArray::from(matched)));
                    }
                    writer.keyed(table, anonymous(columns, ids.len())?, self.directory.key_groups(slots))?;
                }
            }
        }
        writer.watermark(self.watermark)
    }

    pub(super) fn read(&mut self, reader: &SnapshotReader) -> Result<()> {
        let key_types = self.directory.types().to_vec();
        for (at, table) in TABLES.into_iter().enumerate() {
            for batch in reader.table(table)? {
                let side = &mut self.sides[at];
                let types = side.store.types();
                let width = key_types.len() + types.len() + 1 + usize::from(side.matched.is_some());
                if batch.num_columns() != width {
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
                let matched = match side.matched.is_some() {
                    true => Some(rest.next().and_then(|c| c.as_boolean_opt()).ok_or_else(broken)?),
                    false => None,
                };
                let mut slots = Vec::new();
                self.directory.intern(&keys, batch.num_rows(), &mut slots)?;
                self.sides.iter_mut().for_each(|s| s.grow_slots(self.directory.capacity()));
                let side = &mut self.sides[at];
                for (row, (slot, time)) in slots.iter().zip(times.values()).enumerate() {
                    side.add(row as u32, *slot, *time, matched.is_some_and(|m| m.value(row)))?;
                }
                side.store.append_pending(&stored, batch.num_rows())?;
            }
        }
        self.watermark = reader.watermark()?.unwrap_or(i64::MIN);
        Ok(())
    }
}
