//! Aggregates whose state is one value in the type of the argument or of the result: a state is added as a row is.

use arrow::array::{ArrayRef, BooleanArray};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::{first, masked};

/// A value per group.
pub(super) trait GroupValues: Send + 'static {
    /// Adds rows, or states.
    fn add(
        &mut self,
        values: &ArrayRef,
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()>;

    /// Takes out the values of groups, as states.
    fn take(&mut self, emit: EmitTo) -> DfResult<ArrayRef>;

    /// The results for states.
    fn finish(&self, states: ArrayRef) -> DfResult<ArrayRef> {
        Ok(states)
    }

    /// Rows as states.
    fn as_states(&self, rows: ArrayRef) -> ArrayRef {
        rows
    }

    /// Bytes held.
    fn size(&self) -> usize;
}

/// The accumulator of grouped input over [`GroupValues`].
pub(super) struct ValueGroups<V>(pub(super) V);

impl<V: GroupValues> GroupsAccumulator for ValueGroups<V> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()> {
        self.0.add(first(values)?, group_indices, filter, total)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()> {
        self.0.add(first(values)?, group_indices, filter, total)
    }

    fn evaluate(&mut self, emit: EmitTo) -> DfResult<ArrayRef> {
        let states = self.0.take(emit)?;
        self.0.finish(states)
    }

    fn state(&mut self, emit: EmitTo) -> DfResult<Vec<ArrayRef>> {
        Ok(vec![self.0.take(emit)?])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> DfResult<Vec<ArrayRef>> {
        Ok(vec![self.0.as_states(masked(first(values)?, filter)?)])
    }

    fn supports_convert_to_state(&self) -> bool {
        true
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

/// One value.
pub(super) trait Value: std::fmt::Debug + Send + Sync + 'static {
    /// Adds rows, or states.
    fn add(&mut self, values: &ArrayRef) -> DfResult<()>;

    /// The state, which is the result.
    fn get(&self) -> ScalarValue;

    /// Bytes held beside the value itself.
    fn heap_size(&self) -> usize;
}

/// The accumulator of input without groups over a [`Value`].
#[derive(Debug)]
pub(super) struct ValueOne<V>(pub(super) V);

impl<V: Value> Accumulator for ValueOne<V> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.0.add(first(values)?)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.0.add(first(states)?)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        Ok(self.0.get())
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![self.0.get()])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.heap_size()
    }
}
