//! Output of a join: pairs of row numbers, cut into batches.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::take;

use super::config::{JoinColumn, JoinConfig, JoinSide};
use super::rows::{NO_ROW, RowStore};
use crate::error::Result;
use crate::runtime::operator::Output;
use crate::stream::{ChangeBatch, RowKinds};

pub(in crate::operators) const INSERT: u8 = 0;
pub(in crate::operators) const UPDATE_BEFORE: u8 = 1;
pub(in crate::operators) const UPDATE_AFTER: u8 = 2;
pub(in crate::operators) const DELETE: u8 = 3;

/// Rows to come out: the row of the batch, the stored row of the other side, the kind.
#[derive(Default)]
pub(in crate::operators) struct Emitter {
    own: Vec<u32>,
    other: Vec<u32>,
    kinds: Vec<u8>,
    marks: Vec<bool>,
}

impl Emitter {
    #[inline]
    pub(in crate::operators) fn push(&mut self, own: u32, other: u32, kind: u8) {
        self.own.push(own);
        self.other.push(other);
        self.kinds.push(kind);
    }

    #[inline]
    pub(in crate::operators) fn push_marked(&mut self, own: u32, other: u32, kind: u8, mark: bool) {
        self.push(own, other, kind);
        self.marks.push(mark);
    }

    /// Pairs so far.
    #[inline]
    pub(in crate::operators) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Hands out what has gathered. `rows` came in at `side`, with `widest` the bytes of the widest; `store` and `stored`
    /// are those of the other side.
    pub(in crate::operators) fn flush(
        &mut self,
        config: &JoinConfig,
        side: JoinSide,
        (rows, widest): (&RecordBatch, usize),
        store: &RowStore,
        stored: &[usize],
        out: &mut Output,
    ) -> Result<()> {
        if self.kinds.is_empty() {
            return Ok(());
        }
        let joined = |row: usize| self.kinds[row] == UPDATE_BEFORE;
        for run in store.pair_runs(rows, widest, &self.own, &self.other, joined) {
            out.emit(self.batch(run, config, side, rows, store, stored)?);
        }
        self.own.clear();
        self.other.clear();
        self.kinds.clear();
        self.marks.clear();
        Ok(())
    }

    /// A run of what has gathered.
    fn batch(
        &self,
        run: Range<usize>,
        config: &JoinConfig,
        side: JoinSide,
        rows: &RecordBatch,
        store: &RowStore,
        stored: &[usize],
    ) -> Result<ChangeBatch> {
        let (n, own) = (run.len(), &self.own[run.clone()]);
        let mut wanted: Vec<usize> = Vec::new();
        for column in &config.output {
            if let JoinColumn::Input(s, c) = *column
                && s != side
                && let Some(i) = stored.iter().position(|x| *x == c)
                && !wanted.contains(&i)
            {
                wanted.push(i);
            }
        }
        let gathered = store.gather(&wanted, &self.other[run.clone()])?;
        let as_it_is = n == rows.num_rows() && own.iter().enumerate().all(|(i, o)| i == *o as usize);
        let no_own = own.iter().all(|o| *o == NO_ROW);
        let own: UInt32Array = if own.contains(&NO_ROW) {
            own.iter().map(|o| (*o != NO_ROW).then_some(*o)).collect()
        } else {
            UInt32Array::from(own.to_vec())
        };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(config.output.len());
        for column in &config.output {
            columns.push(match *column {
                JoinColumn::Mark => Arc::new(BooleanArray::from(self.marks[run.clone()].to_vec())),
                JoinColumn::Input(s, c) if s == side => {
                    let column = rows.column(c);
                    if no_own {
                        new_null_array(column.data_type(), n)
                    } else if as_it_is {
                        Arc::clone(column)
                    } else {
                        take(column, &own, None)?
                    }
                }
                JoinColumn::Input(_, c) => {
                    let i = wanted.iter().position(|w| stored[*w] == c);
                    let column = i.and_then(|i| gathered.get(i));
                    Arc::clone(column.ok_or_else(|| {
                        crate::error::Error::internal("a join does not store a column that it gives")
                    })?)
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(n));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&config.output_schema), columns, &options)?;
        Ok(ChangeBatch::with_kinds(batch, RowKinds::new(self.kinds[run].to_vec())))
    }
}
