//! Columns that nobody reads end at their UNNEST.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result as DfResult};
use datafusion::logical_expr::{Extension, Filter, LogicalPlan, Projection};

use crate::error::Result;

use crate::plan::nodes::unnest::unnest_node;

/// Lets UNNESTs pass only columns that the projection above reads: an array beside each of its elements costs the
/// square of its length.
///
/// # Errors
/// From DataFusion, if a plan cannot be built again.
pub fn prune_unnests(plan: LogicalPlan) -> Result<LogicalPlan> {
    let pruned = plan.transform_down(|node| {
        let LogicalPlan::Projection(projection) = &node else { return Ok(Transformed::no(node)) };
        let mut used: HashSet<Column> = HashSet::new();
        projection.expr.iter().for_each(|e| used.extend(e.column_refs().into_iter().cloned()));
        let Some(input) = pruned(&projection.input, used)? else { return Ok(Transformed::no(node)) };
        let schema = Arc::clone(&projection.schema);
        let pruned = Projection::try_new_with_schema(projection.expr.clone(), Arc::new(input), schema)?;
        Ok(Transformed::yes(LogicalPlan::Projection(pruned)))
    })?;
    Ok(pruned.data)
}

fn pruned(plan: &LogicalPlan, mut used: HashSet<Column>) -> DfResult<Option<LogicalPlan>> {
    if let LogicalPlan::Filter(filter) = plan {
        used.extend(filter.predicate.column_refs().into_iter().cloned());
        let Some(input) = pruned(&filter.input, used)? else { return Ok(None) };
        return Ok(Some(LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), Arc::new(input))?)));
    }
    let Some(node) = unnest_node(plan) else { return Ok(None) };
    let kept: Vec<Column> = node.input.schema().columns().into_iter().filter(|c| used.contains(c)).collect();
    if kept.len() == node.passed().len() {
        return Ok(None);
    }
    Ok(Some(LogicalPlan::Extension(Extension { node: Arc::new(node.keeping(kept)?) })))
}
