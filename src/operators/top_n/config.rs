//! What the planner hands to a top-N.

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};

use crate::error::{Error, Result};

/// A column that rows are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortColumn {
    /// Input column.
    pub column: usize,
    /// Direction, and where NULLs stand.
    pub options: SortOptions,
}

/// The last rank that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankEnd {
    /// A number.
    Constant(u64),
    /// What an input column says; it must be one of the partition columns.
    Column(usize),
}

/// How rows are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankFunction {
    /// `ROW_NUMBER`: rows that are equal in the order have numbers of their own, by arrival.
    RowNumber,
    /// `RANK`: they share the number of the first of them, and the next number is left out as often.
    Rank,
    /// `DENSE_RANK`: they share a number, and none is left out.
    DenseRank,
}

/// One output column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankOutput {
    /// An input column.
    Column(usize),
    /// The rank of the row.
    Rank,
}

/// Ranks `start..=end` of every partition.
#[derive(Debug, Clone)]
pub struct TopNConfig {
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// Columns of the output.
    pub output_schema: SchemaRef,
    /// Where each output column comes from.
    pub output: Vec<RankOutput>,
    /// Partition columns of the input; none: one partition.
    pub partition: Vec<usize>,
    /// Order within a partition; rows that are equal in it stand in the order of their arrival.
    pub order: Vec<SortColumn>,
    /// Rows that are equal in the order stand in the order of their arrival the other way round: the latest first.
    pub latest_first: bool,
    /// What a rank is. Ties need `input_retracts`.
    pub function: RankFunction,
    /// First rank, from 1.
    pub start: u64,
    /// Last rank.
    pub end: RankEnd,
    /// Whether the input may hold `-U` and `-D`: then all rows of a partition are kept.
    pub input_retracts: bool,
    /// Whether a consumer needs `-U` before `+U`.
    pub emit_update_before: bool,
    /// Input rows per bundle: the changes of a partition are folded within one. `None`: one input batch.
    pub bundle_rows: Option<usize>,
    /// How long an untouched partition is kept.
    pub ttl_ms: Option<i64>,
}

impl TopNConfig {
    /// Checks that columns exist and types fit.
    ///
    /// # Errors
    /// Internal for a plan that does not fit together.
    pub fn validate(&self) -> Result<()> {
        let inputs = self.input_schema.fields().len();
        let wrong = |what: &str| Err(Error::internal(format!("top-N: {what}")));
        if self.partition.iter().chain(self.order.iter().map(|o| &o.column)).any(|c| *c >= inputs) {
            return wrong("a key is no input column");
        }
        if self.output.len() != self.output_schema.fields().len() {
            return wrong("output layout and output schema differ in length");
        }
        for (output, field) in self.output.iter().zip(self.output_schema.fields()) {
            let fits = match output {
                RankOutput::Rank => matches!(field.data_type(), DataType::Int64 | DataType::UInt64),
                RankOutput::Column(c) => {
                    *c < inputs && self.input_schema.field(*c).data_type() == field.data_type()
                }
            };
            if !fits {
                return wrong(&format!("column `{}` is planned as {}", field.name(), field.data_type()));
            }
        }
        if matches!(self.end, RankEnd::Column(c) if !self.partition.contains(&c)) {
            return wrong("the rank end is no partition column");
        }
        if self.function != RankFunction::RowNumber && !self.input_retracts {
            return wrong("rows that share a rank are not all kept");
        }
        if self.start == 0 || self.bundle_rows == Some(0) {
            return wrong("ranks and bundles start at 1");
        }
        Ok(())
    }
}
