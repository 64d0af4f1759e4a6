//! Temporal joins in a plan: each left row beside the row of its key that the right table had at the time of the left row.
//!
//! ```text
//!  o JOIN r FOR SYSTEM_TIME AS OF o.ts ON o.k = r.k
//!     └─► Join(o, VersionedTable(r, o.ts))        planned by `syntax::temporal_table`
//!     └─► TemporalJoinNode(o, r, o.ts, o.k = r.k)  by `logical::temporal_join`
//!           streaming: an operator;  batch: refused, as in Flink
//! ```

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::{Column, DFSchemaRef, JoinType, Result as DfResult};
use datafusion::logical_expr::builder::build_join_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::error::Location;

/// A table with the time of another relation that its rows are to be of; only until it is joined.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub struct VersionedTableNode {
    /// The table.
    pub input: LogicalPlan,
    /// The time, a column of the relation that it is joined to.
    pub time: Column,
    /// Where the time stands.
    pub place: Location,
}

impl UserDefinedLogicalNodeCore for VersionedTableNode {
    fn name(&self) -> &str {
        "VersionedTable"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "VersionedTable: {}", self.time)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        match inputs.pop() {
            Some(input) => Ok(VersionedTableNode { input, ..self.clone() }),
            None => datafusion::common::internal_err!("a versioned table has one input"),
        }
    }
}

/// A join of rows with the versions of their time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TemporalJoinNode {
    /// Rows with a time.
    pub left: LogicalPlan,
    /// The versioned table.
    pub right: LogicalPlan,
    /// Inner or left.
    pub kind: JoinType,
    /// The time of the left rows.
    pub time: Expr,
    /// The time from which on a row of the right side is valid.
    pub valid_from: Expr,
    /// The condition.
    pub condition: Expr,
    schema: DFSchemaRef,
}

impl TemporalJoinNode {
    /// The node with its schema.
    ///
    /// # Errors
    /// From DataFusion, if columns of both sides have the same name.
    pub fn try_new(
        left: LogicalPlan,
        right: LogicalPlan,
        kind: JoinType,
        [time, valid_from]: [Expr; 2],
        condition: Expr,
    ) -> DfResult<Self> {
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &kind)?);
        Ok(TemporalJoinNode { left, right, kind, time, valid_from, condition, schema })
    }
}

impl PartialOrd for TemporalJoinNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.left, &self.right, &self.time, &self.valid_from, &self.condition).partial_cmp(&(
            &other.left,
            &other.right,
            &other.time,
            &other.valid_from,
            &other.condition,
        ))
    }
}

impl UserDefinedLogicalNodeCore for TemporalJoinNode {
    fn name(&self) -> &str {
        "TemporalJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.time.clone(), self.valid_from.clone(), self.condition.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "TemporalJoin: {} {}, {} as of {}", self.kind, self.condition, self.valid_from, self.time)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        match (<[Expr; 3]>::try_from(std::mem::take(&mut exprs)), inputs.pop(), inputs.pop()) {
            (Ok([time, valid_from, condition]), Some(right), Some(left)) => {
                Self::try_new(left, right, self.kind, [time, valid_from], condition)
            }
            _ => datafusion::common::internal_err!("a temporal join has two inputs and three expressions"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        // Columns of its own expressions are added by the optimizer.
        let left = self.left.schema().fields().len();
        let (l, r): (Vec<usize>, Vec<usize>) = output_columns.iter().partition(|c| **c < left);
        Some(vec![l, r.into_iter().map(|c| c - left).collect()])
    }
}

/// The temporal join that a plan is, if it is one.
pub fn temporal_join_node(plan: &LogicalPlan) -> Option<&TemporalJoinNode> {
    match plan {
        LogicalPlan::Extension(e) => e.node.as_any().downcast_ref::<TemporalJoinNode>(),
        _ => None,
    }
}
