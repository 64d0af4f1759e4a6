//! Rows once per grouping set: `GROUPING SETS`, `CUBE`, `ROLLUP`.
//!
//! ```text
//!  SELECT a, b, SUM(x) … GROUP BY ROLLUP (a, b)
//!
//!              x  a  b                x  a  b │ a'  b'  $e
//!  +I          1  k  m     ─►         1  k  m │ k   m   0      set (a, b)
//!                                     1  k  m │ k   –   1      set (a)
//!                                     1  k  m │ –   –   3      set ()
//! ```
//!
//! The aggregate behind it groups by the new columns. `$e`, the expand id, has a bit for each key that a set leaves
//! out, the first key in the highest one, so that NULL as a value and NULL as "all" stay apart. Arguments of the aggregates
//! read the old columns, which keep their values.
//!
//! | | |
//! |---|---|
//! | state | none |
//! | changelog | any in, the same kinds out for every set |
//! | watermark, barrier, end | pass |
//!
//! By default each set is one batch that shares the columns of the input: nothing but keys is made, and those by
//! reference or as one run of NULLs. Flink sends the copies of a row one after the other; `row_by_row` does so too, for
//! changelogs that are compared change by change. It tears the halves of updates apart, which become `-D` and `+I`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, RecordBatch, UInt8Array, UInt16Array, UInt32Array, UInt64Array, new_null_array,
};
use arrow::compute::{interleave_record_batch, take};
use arrow::datatypes::{DataType, SchemaRef};

use crate::error::{Error, Result};
use crate::runtime::operator::{Operator, Output, Progress};
use crate::stream::bytes::batch_bytes;
use crate::stream::{BATCH_BYTES, BATCH_ROWS, ChangeBatch, RowKind, RowKinds};

/// One grouping set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpandSet {
    /// For each key: whether the set has it.
    pub kept: Vec<bool>,
    /// The expand id.
    pub id: u64,
}

/// What an expand does.
#[derive(Debug, Clone)]
pub struct ExpandConfig {
    /// Input columns that are keys of some set.
    pub keys: Vec<usize>,
    /// The sets.
    pub sets: Vec<ExpandSet>,
    /// The input's columns, then the keys, then the expand id.
    pub schema: SchemaRef,
    /// Whether the copies of a row follow each other.
    pub row_by_row: bool,
}

/// The operator; see the module.
#[derive(Debug)]
pub struct ExpandOperator {
    config: ExpandConfig,
    /// A batch whose sets from that number on are still to be sent.
    pending: Option<(ChangeBatch, usize)>,
}

impl ExpandOperator {
    /// An instance.
    ///
    /// # Errors
    /// Internal if the parts of the configuration do not fit together.
    pub fn new(config: ExpandConfig) -> Result<Self> {
        if config.sets.iter().any(|s| s.kept.len() != config.keys.len()) {
            return Err(Error::internal("expand: a grouping set with another number of keys"));
        }
        Ok(ExpandOperator { config, pending: None })
    }

    /// The rows of one set.
    fn copy(&self, rows: &RecordBatch, set: usize) -> Result<RecordBatch> {
        let ExpandSet { kept, id } = &self.config.sets[set];
        let n = rows.num_rows();
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        for (key, kept) in self.config.keys.iter().zip(kept) {
            let column = rows.column(*key);
            columns.push(if *kept { Arc::clone(column) } else { new_null_array(column.data_type(), n) });
        }
        let id_type = self.config.schema.fields().last().map(|f| f.data_type());
        columns.push(constants(*id, n, id_type.unwrap_or(&DataType::Null))?);
        Ok(RecordBatch::try_new(Arc::clone(&self.config.schema), columns)?)
    }

    /// Every row of `rows` in all sets before the next one.
    fn interleaved(&self, batch: &ChangeBatch) -> Result<ChangeBatch> {
        let sets = self.config.sets.len();
        let copies = (0..sets).map(|s| self.copy(&batch.rows, s)).collect::<Result<Vec<_>>>()?;
        let copies: Vec<&RecordBatch> = copies.iter().collect();
        let places: Vec<(usize, usize)> =
            (0..batch.num_rows()).flat_map(|row| (0..sets).map(move |set| (set, row))).collect();
        let rows = interleave_record_batch(&copies, &places)?;
        let Some(kinds) = &batch.kinds else { return Ok(ChangeBatch::insert_only(rows)) };
        let source: UInt32Array = places.iter().map(|(_, row)| *row as u32).collect();
        let kinds = take(&kinds.to_array(), &source, None)?;
        let codes = kinds.as_any().downcast_ref::<UInt8Array>().map(|k| k.values().to_vec());
        let mut codes = codes.ok_or_else(|| Error::internal("expand: row kinds of another type"))?;
        if sets > 1 {
            let single = |code: u8| {
                if code & 1 == 1 { RowKind::Delete as u8 } else { RowKind::Insert as u8 }
            };
            codes.iter_mut().for_each(|c| *c = single(*c));
        }
        Ok(ChangeBatch::with_kinds(rows, RowKinds::new(codes)))
    }
}

/// `value` in every one of `rows` rows.
fn constants(value: u64, rows: usize, ty: &DataType) -> Result<ArrayRef> {
    Ok(match ty {
        DataType::UInt8 => Arc::new(UInt8Array::from_value(value as u8, rows)),
        DataType::UInt16 => Arc::new(UInt16Array::from_value(value as u16, rows)),
        DataType::UInt32 => Arc::new(UInt32Array::from_value(value as u32, rows)),
        DataType::UInt64 => Arc::new(UInt64Array::from_value(value, rows)),
        other => return Err(Error::internal(format!("an expand id of type {other}"))),
    })
}

impl Operator for ExpandOperator {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        self.pending = Some((batch, 0));
        self.resume(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        let Some((batch, mut at)) = self.pending.take() else { return Ok(Progress::Done) };
        let mut sent = 0;
        if self.config.row_by_row {
            let sets = self.config.sets.len().max(1);
            let room = BATCH_BYTES / (batch_bytes(&batch.rows) / batch.num_rows().max(1)).max(1);
            let step = (BATCH_ROWS.min(room) / sets).max(1);
            while at < batch.num_rows() && sent < 4 * BATCH_ROWS && !out.is_full(usize::MAX) {
                let part = self.interleaved(&batch.slice(at, step.min(batch.num_rows() - at)))?;
                sent += part.num_rows();
                out.emit(part);
                at += step;
            }
            if at < batch.num_rows() {
                self.pending = Some((batch, at));
                return Ok(Progress::More);
            }
            return Ok(Progress::Done);
        }
        while at < self.config.sets.len() && sent < 4 * BATCH_ROWS && !out.is_full(usize::MAX) {
            out.emit(ChangeBatch { rows: self.copy(&batch.rows, at)?, kinds: batch.kinds.clone() });
            sent += batch.num_rows();
            at += 1;
        }
        if at < self.config.sets.len() {
            self.pending = Some((batch, at));
            return Ok(Progress::More);
        }
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests;
