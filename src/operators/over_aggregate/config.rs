//! What the planner hands to an OVER aggregate.

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;

use crate::error::{Error, Result};
use crate::operators::group_aggregate::AggregateCall;

/// The order of the rows of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverOrder {
    /// By the row time in that column, ascending; rows of one time as they came.
    RowTime(usize),
    /// As they come: by processing time.
    Arrival,
}

/// Where a frame begins; it ends with the current row, or with the last row of its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameBounds {
    /// So many rows before the current one, or all.
    Rows(Option<u64>),
    /// So many milliseconds before the current row, or all. Rows of one time see each other.
    Range(Option<i64>),
}

impl FrameBounds {
    /// Whether rows leave the frame again.
    pub fn is_bounded(self) -> bool {
        !matches!(self, FrameBounds::Rows(None) | FrameBounds::Range(None))
    }
}

/// Aggregates over one frame.
#[derive(Debug, Clone)]
pub struct OverFrame {
    /// The rows that they see.
    pub bounds: FrameBounds,
    /// The aggregates, over the input.
    pub calls: Vec<AggregateCall>,
}

/// `LAG(column, offset, default)`.
#[derive(Debug, Clone)]
pub struct LagCall {
    /// Input column.
    pub column: usize,
    /// Rows before the current one.
    pub offset: u64,
    /// What the first rows get, of the column's type.
    pub default: ScalarValue,
}

/// What a column behind those of the input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverOutput {
    /// A call of a frame.
    Aggregate {
        /// Which frame.
        frame: usize,
        /// Which of its calls.
        call: usize,
    },
    /// ROW_NUMBER.
    RowNumber,
    /// RANK.
    Rank,
    /// DENSE_RANK.
    DenseRank,
    /// That one of the LAGs.
    Lag(usize),
}

/// Functions over one partition and order.
#[derive(Debug, Clone)]
pub struct OverAggregateConfig {
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// The columns of the input, and one of each of `output`.
    pub output_schema: SchemaRef,
    /// Columns that rows are parted by.
    pub partition: Vec<usize>,
    /// Their order.
    pub order: OverOrder,
    /// Frames that differ, with their aggregates.
    pub frames: Vec<OverFrame>,
    /// LAG calls.
    pub lags: Vec<LagCall>,
    /// The columns that are added.
    pub output: Vec<OverOutput>,
    /// Milliseconds after its last row that a partition is forgotten.
    pub ttl_ms: Option<i64>,
}

impl OverAggregateConfig {
    /// Checks that the output schema has exactly the types that are made.
    ///
    /// # Errors
    /// Internal, naming the column that differs.
    pub fn validate(&self) -> Result<()> {
        let width = self.input_schema.fields().len();
        if self.output_schema.fields().len() != width + self.output.len() {
            return Err(Error::internal("OVER: output layout and output schema differ in length"));
        }
        for (output, field) in self.output.iter().zip(self.output_schema.fields().iter().skip(width)) {
            let made = match *output {
                OverOutput::Aggregate { frame, call } => {
                    self.frames.get(frame).and_then(|f| f.calls.get(call)).map(|c| c.return_type().clone())
                }
                OverOutput::RowNumber | OverOutput::Rank | OverOutput::DenseRank => Some(DataType::Int64),
                OverOutput::Lag(i) => {
                    self.lags.get(i).map(|lag| self.input_schema.field(lag.column).data_type().clone())
                }
            };
            if made.as_ref() != Some(field.data_type()) {
                return Err(Error::internal(format!(
                    "OVER: column `{}` is planned as {} but computed as {made:?}",
                    field.name(),
                    field.data_type()
                )));
            }
        }
        Ok(())
    }
}
