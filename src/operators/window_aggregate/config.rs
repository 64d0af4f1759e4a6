//! What the planner hands to a window aggregate.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, Result};
use crate::operators::group_aggregate::AggregateCall;
use crate::operators::window_aggregate::window::{WindowKind, WindowSpec};

/// Which part of a window aggregation an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowPhase {
    /// Everything, from rows to results.
    Single,
    /// Before the exchange: rows to partial results per slice ([`WindowAggregateConfig::partial_schema`]). Stateless
    /// but for the current bundle.
    Local,
    /// After the exchange: partial results to results.
    Global,
}

/// One output column of a window aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowOutput {
    /// The key of that index.
    Key(usize),
    /// Start of the window: TIMESTAMP(3), wall clock of the session zone.
    Start,
    /// End of the window, exclusive: TIMESTAMP(3), wall clock of the session zone.
    End,
    /// End − 1 ms: TIMESTAMP(3), or TIMESTAMP_LTZ(3) (an instant) when the window has a zone.
    Time,
    /// The aggregate of that index.
    Aggregate(usize),
}

/// `GROUP BY window_start, window_end [, keys]` over a window TVF.
///
/// `Local` and `Global` get the same configuration as `Single` would, but for the phase: all expressions are over the
/// input of the local one. Between them the exchange hashes the first `keys.len()` columns.
#[derive(Debug, Clone)]
pub struct WindowAggregateConfig {
    /// Columns of the input (in phase `Global`: of the local operator's input).
    pub input_schema: SchemaRef,
    /// Columns of the result; types must be exactly those of the keys, window columns and calls.
    pub output_schema: SchemaRef,
    /// Where each column of the result comes from.
    pub output: Vec<WindowOutput>,
    /// The windows.
    pub window: WindowSpec,
    /// Index of the time attribute in the input: a timestamp column. Not used by attached windows.
    pub time_column: usize,
    /// Group keys over the input, without the window columns.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Aggregate calls over the input.
    pub aggregates: Vec<AggregateCall>,
    /// Which part of it.
    pub phase: WindowPhase,
    /// Whether the input may hold `-U` and `-D` (phase `Single` only).
    pub input_retracts: bool,
    /// Rows are of the processing time at which they come, and windows end by the clock (phase `Single` only).
    pub by_proctime: bool,
}

/// Name of the column that carries the slice end between the phases: wall-clock milliseconds.
pub const SLICE_END: &str = "__slice_end";

impl WindowAggregateConfig {
    /// What the local phase emits: keys, the slice end, the state columns of each call.
    ///
    /// # Errors
    /// When a key or a call has no type.
    pub fn partial_schema(&self) -> Result<SchemaRef> {
        let mut fields = self.key_fields()?;
        fields.push(Field::new(SLICE_END, DataType::Int64, false));
        fields.extend(self.state_fields()?);
        Ok(Arc::new(Schema::new(fields)))
    }

    /// Fields of the keys, named by position.
    pub(super) fn key_fields(&self) -> Result<Vec<Field>> {
        self.keys
            .iter()
            .enumerate()
            .map(|(i, k)| {
                let nullable = k.nullable(&self.input_schema)?;
                Ok(Field::new(format!("__key_{i}"), k.data_type(&self.input_schema)?, nullable))
            })
            .collect()
    }

    /// Fields of all state columns, named by call and position, nullable.
    pub(super) fn state_fields(&self) -> Result<Vec<Field>> {
        let mut fields = Vec::new();
        for (i, call) in self.aggregates.iter().enumerate() {
            for (j, f) in call.expr.state_fields()?.iter().enumerate() {
                fields.push(Field::new(format!("__state_{i}_{j}"), f.data_type().clone(), true));
            }
        }
        Ok(fields)
    }

    /// Whether it keeps the groups of each window, which may take rows back and cost least where values are DISTINCT,
    /// rather than partial aggregates of slices. As its state tells which, this does not depend on the parallelism:
    /// then all is done in phase `Single`.
    pub fn keeps_groups(&self) -> bool {
        let is_alone = matches!(self.window.kind, WindowKind::Tumble { .. } | WindowKind::Attached { .. });
        self.input_retracts || is_alone && self.aggregates.iter().any(|a| a.distinct)
    }

    /// Checks windows, phase and that the output schema has exactly the types that are produced.
    ///
    /// # Errors
    /// Validation for windows that make no sense; internal, naming the column, for a type that differs.
    pub fn validate(&self) -> Result<()> {
        self.window.validate_slices()?;
        self.validate_output()
    }

    /// The same for windows that need not be made of slices.
    ///
    /// # Errors
    /// As [`WindowAggregateConfig::validate`].
    pub(in crate::operators) fn validate_output(&self) -> Result<()> {
        self.window.validate()?;
        if !self.window.is_attached() {
            let zoned = match self.input_schema.fields().get(self.time_column).map(|f| f.data_type()) {
                Some(DataType::Timestamp(_, zone)) => zone.is_some(),
                other => {
                    return Err(Error::internal(format!("a window over a time column of type {other:?}")));
                }
            };
            if zoned != self.window.zone.is_some() {
                return Err(Error::internal(
                    "windows over TIMESTAMP_LTZ need the session zone, those over TIMESTAMP none",
                ));
            }
        }
        if self.phase != WindowPhase::Single {
            if self.by_proctime {
                return Err(Error::internal("windows by processing time are not pre-aggregated"));
            }
            if self.keeps_groups() {
                return Err(Error::internal("groups of windows cannot be pre-aggregated"));
            }
            if self.window.is_attached() {
                return Err(Error::internal("attached windows are not pre-aggregated"));
            }
        }
        if self.output.len() != self.output_schema.fields().len() {
            return Err(Error::internal(
                "window aggregate: output layout and output schema differ in length",
            ));
        }
        for (column, field) in self.output.iter().zip(self.output_schema.fields()) {
            let made = self.output_type(*column)?;
            if made != *field.data_type() {
                return Err(Error::internal(format!(
                    "window aggregate: column `{}` is planned as {} but computed as {made}",
                    field.name(),
                    field.data_type()
                )));
            }
        }
        Ok(())
    }

    pub(super) fn output_type(&self, column: WindowOutput) -> Result<DataType> {
        let made = match column {
            WindowOutput::Key(i) => self.keys.get(i).map(|k| k.data_type(&self.input_schema)).transpose()?,
            WindowOutput::Start | WindowOutput::End => Some(DataType::Timestamp(TimeUnit::Millisecond, None)),
            WindowOutput::Time => Some(self.window.time_type()),
            WindowOutput::Aggregate(i) => self.aggregates.get(i).map(|a| a.return_type().clone()),
        };
        made.ok_or_else(|| Error::internal(format!("window aggregate: there is no {column:?}")))
    }
}
