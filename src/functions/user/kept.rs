//! The rows of a group, for aggregates whose states cannot be merged: what their state columns are in batch and windows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::Accumulator;

use super::aggregate::{UserAggregate, UserState};
use crate::error::{Error, Result};

/// The rows of one group.
#[derive(Debug)]
pub(super) struct Kept {
    function: UserAggregate,
    pieces: Vec<Vec<ArrayRef>>,
}

impl Kept {
    pub(super) fn new(function: &UserAggregate) -> Self {
        let columns = function.kept_fields().len();
        Kept { function: function.clone(), pieces: vec![Vec::new(); columns] }
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        self.pieces.iter_mut().for_each(Vec::clear);
    }

    fn whole(&self, i: usize) -> Result<ArrayRef> {
        let pieces: Vec<&dyn Array> = self.pieces.get(i).into_iter().flatten().map(|p| p.as_ref()).collect();
        if pieces.is_empty() {
            let ty = self.function.signature.parameters.get(i).map_or(DataType::Null, |p| p.ty.to_arrow());
            return Ok(new_empty_array(&ty));
        }
        Ok(concat(&pieces)?)
    }
}

impl Accumulator for Kept {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let args = self.function.signature.arguments(values)?;
        for (pieces, values) in self.pieces.iter_mut().zip(args) {
            if !values.is_empty() {
                pieces.push(values);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        for rows in unnested(states)? {
            self.update_batch(&rows)?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let columns = (0..self.pieces.len()).map(|i| self.whole(i)).collect::<Result<Vec<_>>>()?;
        let rows = columns.first().map_or(0, |c| c.len());
        let mut states = UserState::new(&self.function, 1);
        for from in (0..rows).step_by(EVALUATED_ROWS) {
            let length = EVALUATED_ROWS.min(rows - from);
            let part: Vec<ArrayRef> = columns.iter().map(|c| c.slice(from, length)).collect();
            states.update(&vec![0; length], None, None, &part)?;
        }
        ScalarValue::try_from_array(&states.finish(&[0])?, 0)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        (0..self.pieces.len())
            .map(|i| {
                let all = self.whole(i)?;
                let item = Arc::new(Field::new_list_field(all.data_type().clone(), true));
                let offsets = OffsetBuffer::from_lengths([all.len()]);
                Ok(ScalarValue::List(Arc::new(ListArray::try_new(item, offsets, all, None)?)))
            })
            .collect()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.pieces.iter().flatten().map(|p| p.get_array_memory_size()).sum::<usize>()
    }
}

/// Rows that a script gets at a time.
const EVALUATED_ROWS: usize = 8192;

/// The rows of states that are lists of them.
pub(super) fn unnested(states: &[ArrayRef]) -> DfResult<Vec<Vec<ArrayRef>>> {
    let lists = states.iter().map(|s| s.as_list_opt::<i32>()).collect::<Option<Vec<_>>>();
    let lists = lists.ok_or_else(|| Error::internal("rows of an aggregate that are no lists"))?;
    let rows = lists.first().map_or(0, |l| l.len());
    let part = |i: usize| lists.iter().map(|l| l.value(i)).collect();
    Ok((0..rows).filter(|i| lists.iter().all(|l| l.is_valid(*i))).map(part).collect())
}
