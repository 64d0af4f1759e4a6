//! One set of partial aggregates: DataFusion's group table with one accumulator per call.
//!
//! ```text
//!  rows ─► update ─┐
//!                  ├─► GroupValues + GroupsAccumulators ─┬─► drain: keys + state columns (a partial batch)
//!  partials ─► merge                                     └─► finish: keys + results
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use crate::error::guard::within_columns;
use crate::error::{Error, Result, ResultExt};
use crate::operators::group_aggregate::AggregateCall;

#[cfg(test)]
thread_local! {
    /// Rows that the sets of this thread have merged.
    pub(super) static MERGED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// What all partial sets of an operator share.
pub(super) struct Shape {
    calls: Vec<AggregateCall>,
    key_schema: SchemaRef,
    /// Number of state columns of each call.
    state_widths: Vec<usize>,
    /// Keys, then all state columns.
    partial_schema: SchemaRef,
}

/// Evaluated columns of input rows.
pub(super) struct Columns {
    pub(super) keys: Vec<ArrayRef>,
    /// Arguments by call.
    pub(super) args: Vec<Vec<ArrayRef>>,
    pub(super) filters: Vec<Option<BooleanArray>>,
    pub(super) rows: usize,
}

impl Columns {
    /// The rows at `indices`.
    pub(super) fn take(&self, indices: &UInt32Array) -> Result<Columns> {
        let pick = |columns: &[ArrayRef]| -> Result<Vec<ArrayRef>> {
            columns.iter().map(|c| Ok(take(c, indices, None)?)).collect()
        };
        Ok(Columns {
            keys: pick(&self.keys)?,
            args: self.args.iter().map(|a| pick(a)).collect::<Result<_>>()?,
            filters: self
                .filters
                .iter()
                .map(|f| match f {
                    Some(f) => Ok(Some(BooleanArray::from(take(f, indices, None)?.to_data()))),
                    None => Ok(None),
                })
                .collect::<Result<_>>()?,
            rows: indices.len(),
        })
    }
}

impl Shape {
    pub(super) fn new(calls: Vec<AggregateCall>, keys: Vec<Field>, states: Vec<Field>) -> Result<Self> {
        if let Some(call) = calls.iter().find(|c| !c.expr.order_bys().is_empty()) {
            return Err(Error::unsupported(format!("ORDER BY inside {} is not supported", call.text())));
        }
        let state_widths =
            calls.iter().map(|c| Ok(c.expr.state_fields()?.len())).collect::<Result<Vec<_>>>()?;
        let key_schema = Arc::new(Schema::new(keys.clone()));
        let partial_schema = Arc::new(Schema::new([keys, states].concat()));
        Ok(Shape { calls, key_schema, state_widths, partial_schema })
    }

    pub(super) fn key_count(&self) -> usize {
        self.key_schema.fields().len()
    }
}

/// The table itself.
pub(super) struct PartialSet {
    shape: Arc<Shape>,
    /// `None` without keys: one group.
    keys: Option<Box<dyn GroupValues>>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    groups: Vec<usize>,
    /// Without keys: whether any row came.
    touched: bool,
}

impl PartialSet {
    pub(super) fn new(shape: &Arc<Shape>) -> Result<Self> {
        let keys = if shape.key_count() == 0 {
            None
        } else {
            Some(new_group_values(Arc::clone(&shape.key_schema), &GroupOrdering::None)?)
        };
        let accumulators = shape.calls.iter().map(AggregateCall::accumulator).collect::<Result<_>>()?;
        Ok(PartialSet { shape: Arc::clone(shape), keys, accumulators, groups: Vec::new(), touched: false })
    }

    /// Number of groups.
    pub(super) fn len(&self) -> usize {
        self.keys.as_ref().map_or(usize::from(self.touched), |k| k.len())
    }

    pub(super) fn size(&self) -> usize {
        self.keys.as_ref().map_or(0, |k| k.size()) + self.accumulators.iter().map(|a| a.size()).sum::<usize>()
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<()> {
        self.touched |= rows > 0;
        match &mut self.keys {
            Some(values) => values.intern(keys, &mut self.groups)?,
            None => {
                self.groups.clear();
                self.groups.resize(rows, 0);
            }
        }
        Ok(())
    }

    /// Adds input rows.
    pub(super) fn update(&mut self, columns: &Columns) -> Result<()> {
        within_columns(|| self.update_groups(columns))
    }

    fn update_groups(&mut self, columns: &Columns) -> Result<()> {
        self.intern(&columns.keys, columns.rows)?;
        let total = self.len();
        for (i, accumulator) in self.accumulators.iter_mut().enumerate() {
            accumulator
                .update_batch(&columns.args[i], &self.groups, columns.filters[i].as_ref(), total)
                .context(|| self.shape.calls[i].text())?;
        }
        Ok(())
    }

    /// Adds partial results: key columns, then state columns.
    pub(super) fn merge(&mut self, columns: &[ArrayRef], rows: usize) -> Result<()> {
        #[cfg(test)]
        MERGED.with(|merged| merged.set(merged.get() + rows));
        within_columns(|| self.merge_groups(columns, rows))
    }

    fn merge_groups(&mut self, columns: &[ArrayRef], rows: usize) -> Result<()> {
        let (keys, mut states) = columns.split_at(self.shape.key_count());
        self.intern(keys, rows)?;
        let total = self.len();
        for (i, accumulator) in self.accumulators.iter_mut().enumerate() {
            let (own, rest) = states.split_at(self.shape.state_widths[i]);
            states = rest;
            accumulator.merge_batch(own, &self.groups, None, total).context(|| self.shape.calls[i].text())?;
        }
        Ok(())
    }

    fn take_keys(&mut self) -> Result<Vec<ArrayRef>> {
        self.touched = false;
        Ok(match &mut self.keys {
            Some(keys) => {
                let groups = keys.len();
                let columns = keys.emit(EmitTo::All)?;
                // With several keys DataFusion leaves its hash table full of groups that are gone.
                keys.clear_shrink(groups);
                columns
            }
            None => Vec::new(),
        })
    }

    /// Empties it into a partial batch: keys, then state columns.
    pub(super) fn drain(&mut self) -> Result<RecordBatch> {
        let rows = self.len();
        let columns = within_columns(|| {
            let mut columns = self.take_keys()?;
            for accumulator in &mut self.accumulators {
                columns.extend(accumulator.state(EmitTo::All)?);
            }
            Ok(columns)
        })?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.shape.partial_schema), columns, &options)?)
    }

    /// Empties it into keys and results.
    pub(super) fn finish(&mut self) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>, usize)> {
        let rows = self.len();
        within_columns(|| {
            let keys = self.take_keys()?;
            let results = self
                .accumulators
                .iter_mut()
                .map(|a| a.evaluate(EmitTo::All))
                .collect::<Result<Vec<_>, _>>()?;
            Ok((keys, results, rows))
        })
    }
}
