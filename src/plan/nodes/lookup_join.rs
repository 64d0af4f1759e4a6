//! Lookup joins in a plan: each row of the left side beside the rows that a table has for its key when the row goes by.
//!
//! ```text
//!  o JOIN t FOR SYSTEM_TIME AS OF o.proctime ON o.k = t.k
//!     └─► Join(o, VersionedTable(t, o.proctime))   planned by `syntax::temporal_table`
//!     └─► LookupJoinNode(o, t, o.k = t.k)          by `logical::temporal_join`
//!           streaming: an operator that asks the table, which is no source of the job;  batch: a join with the table
//! ```
//!
//! The time is not part of the node: it is the time at which the row is there, so that nobody has to compute it.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::{DFSchemaRef, JoinType, NullEquality, Result as DfResult};
use datafusion::logical_expr::builder::build_join_schema;
use datafusion::logical_expr::{Expr, Join, JoinConstraint, LogicalPlan, UserDefinedLogicalNodeCore};

/// A join of rows with what a table has for them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LookupJoinNode {
    /// Rows.
    pub left: LogicalPlan,
    /// The table, at most filtered and projected.
    pub right: LogicalPlan,
    /// Inner or left.
    pub kind: JoinType,
    /// The condition.
    pub condition: Expr,
    schema: DFSchemaRef,
}

impl LookupJoinNode {
    /// The node with its schema.
    ///
    /// # Errors
    /// From DataFusion, if columns of both sides have the same name.
    pub fn try_new(left: LogicalPlan, right: LogicalPlan, kind: JoinType, condition: Expr) -> DfResult<Self> {
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &kind)?);
        Ok(LookupJoinNode { left, right, kind, condition, schema })
    }

    /// The join with the table as it is.
    ///
    /// # Errors
    /// From DataFusion.
    pub fn as_join(&self) -> DfResult<Join> {
        Join::try_new(
            Arc::new(self.left.clone()),
            Arc::new(self.right.clone()),
            Vec::new(),
            Some(self.condition.clone()),
            self.kind,
            JoinConstraint::On,
            NullEquality::NullEqualsNothing,
            false,
        )
    }
}

impl PartialOrd for LookupJoinNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.left, &self.right, &self.condition).partial_cmp(&(&other.left, &other.right, &other.condition))
    }
}

impl UserDefinedLogicalNodeCore for LookupJoinNode {
    fn name(&self) -> &str {
        "LookupJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.condition.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "LookupJoin: {} {}", self.kind, self.condition)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        match (exprs.pop(), inputs.pop(), inputs.pop()) {
            (Some(condition), Some(right), Some(left)) => Self::try_new(left, right, self.kind, condition),
            _ => datafusion::common::internal_err!("a lookup join has two inputs and a condition"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        // Columns of its own expressions are added by the optimizer.
        let left = self.left.schema().fields().len();
        let (l, r): (Vec<usize>, Vec<usize>) = output_columns.iter().partition(|c| **c < left);
        Some(vec![l, r.into_iter().map(|c| c - left).collect()])
    }
}

/// The lookup join that a plan is, if it is one.
pub fn lookup_join_node(plan: &LogicalPlan) -> Option<&LookupJoinNode> {
    match plan {
        LogicalPlan::Extension(e) => e.node.as_any().downcast_ref::<LookupJoinNode>(),
        _ => None,
    }
}
