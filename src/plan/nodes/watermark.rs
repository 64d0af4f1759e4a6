//! `WATERMARK FOR column AS expr` in a plan: rows pass unchanged, the row time column becomes a time attribute.
//!
//! Streaming merges it into the source; batch drops it.

use std::fmt;

use datafusion::common::{DFSchemaRef, Result as DfResult};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

/// Marks the row time of its input.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub struct WatermarkNode {
    /// A table with its computed columns.
    pub input: LogicalPlan,
    /// The row time column.
    pub column: Expr,
    /// The watermark, over the input's columns.
    pub watermark: Expr,
}

impl UserDefinedLogicalNodeCore for WatermarkNode {
    fn name(&self) -> &str {
        "WatermarkAssigner"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.column.clone(), self.watermark.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "WatermarkAssigner: rowtime={}, watermark={}", self.column, self.watermark)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        match (exprs.pop(), exprs.pop(), inputs.pop()) {
            (Some(watermark), Some(column), Some(input)) => Ok(WatermarkNode { input, column, watermark }),
            _ => datafusion::common::internal_err!("a watermark has two expressions and one input"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        // Columns of its own expressions are added by the optimizer.
        Some(vec![output_columns.to_vec()])
    }
}
