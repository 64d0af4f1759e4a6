//! A view in a query, while that is planned: a leaf, whose plan takes its place in the end.
//!
//! The passes over relations and sub-queries went over the plan of a view when that was planned. If they saw it again in
//! every view and query above it, views that stand on each other would cost the cube of their number.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchemaRef, Result as DfResult};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::error::Result;

/// A view.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ViewNode {
    plan: Arc<LogicalPlan>,
}

impl ViewNode {
    /// The view with a plan, in which views may stand again.
    ///
    /// # Errors
    /// From DataFusion, if the plan cannot be built again.
    pub fn leaf(plan: LogicalPlan) -> Result<LogicalPlan> {
        let plan = Arc::new(without_order(plan)?);
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(ViewNode { plan }) }))
    }

    /// The view that a node is.
    pub fn of(plan: &LogicalPlan) -> Option<&LogicalPlan> {
        match plan {
            LogicalPlan::Extension(e) => e.node.as_any().downcast_ref::<ViewNode>().map(|v| v.plan.as_ref()),
            _ => None,
        }
    }
}

/// A plan with the plans of its views in their places.
///
/// # Errors
/// From DataFusion, if the plan cannot be built again.
pub fn open_views(plan: LogicalPlan) -> Result<LogicalPlan> {
    let opened = plan.transform_down_with_subqueries(|mut node| {
        let mut opened = false;
        while let Some(view) = ViewNode::of(&node) {
            node = view.clone();
            opened = true;
        }
        Ok(if opened { Transformed::yes(node) } else { Transformed::no(node) })
    })?;
    Ok(opened.data)
}

/// The rows of a view have no order, unless it limits them: what DataFusion does with sub-queries in FROM.
fn without_order(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let mut limited = false;
    let unordered = plan.transform_down(|node| {
        limited |= matches!(node, LogicalPlan::Limit(_));
        Ok(match node {
            LogicalPlan::Sort(sort) if !limited => Transformed::yes(Arc::unwrap_or_clone(sort.input)),
            other => Transformed::no(other),
        })
    })?;
    Ok(unordered.data)
}

impl PartialOrd for ViewNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.plan.partial_cmp(&other.plan)
    }
}

impl UserDefinedLogicalNodeCore for ViewNode {
    fn name(&self) -> &str {
        "View"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        self.plan.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "View")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, _: Vec<LogicalPlan>) -> DfResult<Self> {
        Ok(self.clone())
    }
}
