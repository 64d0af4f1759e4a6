//! What the planner hands to a group aggregate.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, Result};
use crate::operators::group_aggregate::{AggregateCall, AggregateTable};

/// One output column of a group aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupOutput {
    /// The key of that index.
    Key(usize),
    /// The aggregate of that index.
    Aggregate(usize),
}

/// A non-windowed GROUP BY, or a global aggregate when there are no keys.
#[derive(Debug, Clone)]
pub struct GroupAggregateConfig {
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// Columns of the output; types must be exactly those of the keys and calls.
    pub output_schema: SchemaRef,
    /// Where each output column comes from.
    pub output: Vec<GroupOutput>,
    /// Group keys over the input.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Aggregate calls over the input.
    pub aggregates: Vec<AggregateCall>,
    /// Whether the input may hold `-U` and `-D`. When false the cheaper append-only states are used.
    pub input_retracts: bool,
    /// Whether a consumer needs `-U` before `+U`.
    pub emit_update_before: bool,
    /// Input rows per bundle: changes of a group are folded within one. `None`: one input batch; `Some(1)`: row by row.
    pub bundle_rows: Option<usize>,
    /// Whether the input is that of [`LocalGroupAggregateOperator`](super::LocalGroupAggregateOperator) over rows of
    /// `input_schema`, which this one merges.
    pub merges_partials: bool,
    /// Milliseconds after its last change that a group is forgotten.
    pub ttl_ms: Option<i64>,
    /// Global aggregates only: at the end of an input without rows, emit the row that batch gives (`COUNT` 0, others
    /// NULL). Flink's streaming mode emits nothing.
    pub emit_default_row_on_end: bool,
}

impl GroupAggregateConfig {
    /// Empty states for it.
    pub(super) fn table(&self) -> Result<AggregateTable> {
        AggregateTable::new(&self.input_schema, &self.keys, &[], &self.aggregates, self.input_retracts)
    }

    /// Checks that the output schema has exactly the types that the keys and calls produce.
    ///
    /// # Errors
    /// Internal, naming the column that differs.
    pub fn validate(&self) -> Result<()> {
        if self.output.len() != self.output_schema.fields().len() {
            return Err(Error::internal("group aggregate: output layout and output schema differ in length"));
        }
        for (column, field) in self.output.iter().zip(self.output_schema.fields()) {
            let made = match *column {
                GroupOutput::Key(i) => {
                    self.keys.get(i).map(|k| k.data_type(&self.input_schema)).transpose()?
                }
                GroupOutput::Aggregate(i) => self.aggregates.get(i).map(|a| a.return_type().clone()),
            };
            let Some(made) = made else {
                return Err(Error::internal(format!("group aggregate: there is no {column:?}")));
            };
            if made != *field.data_type() {
                return Err(Error::internal(format!(
                    "group aggregate: column `{}` is planned as {} but computed as {made}",
                    field.name(),
                    field.data_type()
                )));
            }
        }
        if self.bundle_rows == Some(0) {
            return Err(Error::validation("a bundle has at least one row"));
        }
        Ok(())
    }
}
