//! What operators with one visible row per key share: where a bundle ends, and how its changes become a batch.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::{Field, Schema};

use crate::error::Result;
use crate::stream::RowKind;

/// Rows of one part of a snapshot: keeps the text of a part far below what an array can hold.
pub(crate) const PART_ROWS: usize = 32_768;

/// State columns, named by position.
pub(crate) fn anonymous(columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let fields: Vec<Field> = columns
        .iter()
        .enumerate()
        .map(|(i, c)| Field::new(format!("c{i}"), c.data_type().clone(), true))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

/// Finds the ends of bundles.
#[derive(Debug, Default)]
pub(crate) struct Bundles {
    /// By slot; all false between calls.
    seen: Vec<bool>,
}

impl Bundles {
    /// Where the bundle that starts at row `from` ends. Row by row: as long as no key comes twice, a run of rows is as
    /// good as one row after the other.
    pub(crate) fn end(&mut self, slots: &[u32], from: usize, bundle_rows: Option<usize>) -> usize {
        match bundle_rows {
            None => slots.len(),
            Some(1) => {
                let mut to = from;
                while let Some(slot) = slots.get(to).map(|s| *s as usize) {
                    if slot >= self.seen.len() {
                        self.seen.resize(slot + 1, false);
                    }
                    if std::mem::replace(&mut self.seen[slot], true) {
                        break;
                    }
                    to += 1;
                }
                slots[from..to].iter().for_each(|s| self.seen[*s as usize] = false);
                to
            }
            Some(rows) => slots.len().min(from.saturating_add(rows)),
        }
    }
}

/// Changes in order: rows of the batch at hand (0) and of the old rows read from state (1).
#[derive(Debug, Default)]
pub(crate) struct RowChanges {
    picks: Vec<(usize, usize)>,
    pub(crate) kinds: Vec<u8>,
}

impl RowChanges {
    /// A row of the batch.
    pub(crate) fn new_row(&mut self, row: u32, kind: RowKind) {
        self.picks.push((0, row as usize));
        self.kinds.push(kind as u8);
    }

    /// An old row.
    pub(crate) fn old_row(&mut self, row: usize, kind: RowKind) {
        self.picks.push((1, row));
        self.kinds.push(kind as u8);
    }

    /// One column of the changes.
    pub(crate) fn column(&self, new: &ArrayRef, old: Option<&ArrayRef>) -> Result<ArrayRef> {
        Ok(match old {
            Some(old) if !old.is_empty() => interleave(&[new.as_ref(), old.as_ref()], &self.picks)?,
            _ => {
                let rows: UInt32Array = self.picks.iter().map(|(_, row)| *row as u32).collect();
                take(new, &rows, None)?
            }
        })
    }
}
