//! Conditions on the left side of a lookup join go below it: what they drop is not looked up.
//!
//! DataFusion hands a condition to every input of a node that it does not know, or to none.

use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Extension, Filter, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::plan::nodes::lookup_join::{LookupJoinNode, lookup_join_node};

/// Pushes conditions below lookup joins.
#[derive(Debug)]
pub struct FilterBeforeLookup;

impl OptimizerRule for FilterBeforeLookup {
    fn name(&self) -> &str {
        "filter_before_lookup"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> DfResult<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
        let Some(join) = lookup_join_node(&filter.input) else { return Ok(Transformed::no(plan)) };
        let of_left = |c: &&datafusion::common::Column| join.left.schema().maybe_index_of_column(c).is_some();
        let (below, above): (Vec<_>, Vec<_>) = split_conjunction_owned(filter.predicate.clone())
            .into_iter()
            .partition(|part| !part.is_volatile() && part.column_refs().iter().all(of_left));
        let Some(below) = conjunction(below) else { return Ok(Transformed::no(plan)) };
        let left = LogicalPlan::Filter(Filter::try_new(below, Arc::new(join.left.clone()))?);
        let node = LookupJoinNode::try_new(left, join.right.clone(), join.kind, join.condition.clone())?;
        let joined = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(Transformed::yes(match conjunction(above) {
            Some(above) => LogicalPlan::Filter(Filter::try_new(above, Arc::new(joined))?),
            None => joined,
        }))
    }
}
