//! `UNNEST`: a row for every element of an array, map or multiset, beside the columns of its row.
//!
//! ```text
//!  batch ─► collection ─► cursor: (row, element) pairs, a batch at a time ─► take columns by row, elements by place
//! ```
//!
//! | collection | columns |
//! |---|---|
//! | `ARRAY<t>` | the element; the fields of the element if `t` is a row |
//! | `MAP<k, v>` | key, value |
//! | `MULTISET<t>` | as an array, each element as often as it is in it |
//!
//! NULL and empty collections give no row, or with `LEFT JOIN` one row of NULLs. `WITH ORDINALITY` numbers the elements
//! of a row from 1.
//!
//! | | |
//! |---|---|
//! | state | none; between calls the rest of a batch that gives more rows than fit into one |
//! | changelog | any in, the same out; an update whose two rows do not give one row each becomes `-D` and `+I` |
//! | watermark, barrier, end | pass |

mod explode;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::PhysicalExpr;

use crate::error::Result;
use crate::functions::room::evaluate;
use crate::runtime::operator::{Operator, Output, Progress};
use crate::stream::bytes::row_bytes;
use crate::stream::{BATCH_BYTES, BATCH_ROWS, ChangeBatch, RowKind, RowKinds};
use explode::Cursor;
pub(crate) use explode::as_rows;
pub use explode::{Collections, Shape};

/// What the operator does.
#[derive(Debug, Clone)]
pub struct UnnestConfig {
    /// The array, map or multiset of each row.
    pub collection: Arc<dyn PhysicalExpr>,
    /// Columns of the input that go on.
    pub passed: Vec<usize>,
    /// Whether a row without elements gives a row of NULLs.
    pub outer: bool,
    /// Whether the number of the element is the last column.
    pub ordinality: bool,
    /// Passed columns, columns of the elements, ordinality.
    pub schema: SchemaRef,
}

/// A batch that has not been sent on whole.
struct Pending {
    batch: ChangeBatch,
    collections: Collections,
    kinds: Option<Vec<u8>>,
    cursor: Cursor,
    /// Bytes of the columns that go on, by row.
    widths: Vec<usize>,
}

/// The operator; see the module.
pub struct UnnestOperator {
    config: UnnestConfig,
    pending: Option<Pending>,
}

impl std::fmt::Debug for UnnestOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnnestOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl UnnestOperator {
    /// An operator.
    pub fn new(config: UnnestConfig) -> Self {
        UnnestOperator { config, pending: None }
    }

    /// The next rows of a batch.
    fn next_batch(&self, pending: &mut Pending) -> Result<ChangeBatch> {
        let Pending { batch, collections, kinds, cursor, widths } = pending;
        let kept = |row: usize| kinds.as_ref().is_some_and(|k| k[row] == RowKind::UpdateBefore as u8);
        let limit = (BATCH_ROWS, BATCH_BYTES);
        let bytes = |row: usize, place: Option<usize>| {
            widths.get(row).copied().unwrap_or(0) + place.map_or(0, |at| collections.element_bytes(at))
        };
        let part = cursor.next(collections, limit, bytes, kept);
        let codes = kinds.as_ref().map(|k| part.rows.iter().map(|r| k[*r as usize]).collect::<Vec<u8>>());
        let n = part.rows.len();
        let elements = collections.elements(&part, self.config.ordinality)?;
        let rows = UInt32Array::from(part.rows);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.config.schema.fields().len());
        for column in &self.config.passed {
            columns.push(take(batch.rows.column(*column), &rows, None)?);
        }
        columns.extend(elements);
        let options = RecordBatchOptions::new().with_row_count(Some(n));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.config.schema), columns, &options)?;
        Ok(match codes {
            Some(codes) => ChangeBatch::with_kinds(rows, RowKinds::new(codes)),
            None => ChangeBatch::insert_only(rows),
        })
    }
}

/// Kinds per input row: an update stays one only if both of its rows give exactly one.
fn kinds_of(kinds: &RowKinds, collections: &Collections) -> Vec<u8> {
    let mut codes = kinds.codes().to_vec();
    for row in 0..codes.len() {
        let pair = codes[row] == RowKind::UpdateBefore as u8
            && codes.get(row + 1) == Some(&(RowKind::UpdateAfter as u8));
        if pair && !(collections.rows_of(row) == 1 && collections.rows_of(row + 1) == 1) {
            codes[row] = RowKind::Delete as u8;
            codes[row + 1] = RowKind::Insert as u8;
        }
    }
    codes
}

impl Operator for UnnestOperator {
    fn name(&self) -> &'static str {
        "Unnest"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let array = evaluate(&self.config.collection, &batch.rows)?;
        let collections = Collections::try_new(&array, self.config.outer)?;
        let kinds = batch.kinds.as_ref().map(|k| kinds_of(k, &collections));
        let passed: Vec<ArrayRef> =
            self.config.passed.iter().map(|c| Arc::clone(batch.rows.column(*c))).collect();
        let widths = row_bytes(&passed, batch.num_rows());
        self.pending = Some(Pending { batch, collections, kinds, cursor: Cursor::default(), widths });
        self.resume(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        let Some(mut pending) = self.pending.take() else { return Ok(Progress::Done) };
        out.emit(self.next_batch(&mut pending)?);
        if pending.cursor.is_at_end(&pending.collections) {
            return Ok(Progress::Done);
        }
        self.pending = Some(pending);
        Ok(Progress::More)
    }
}

#[cfg(test)]
mod tests;
