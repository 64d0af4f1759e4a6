//! Grouping sets over no rows: Flink gives no row, also for the set without keys.
//!
//! ```text
//!  GROUP BY ROLLUP (a)  ─►  columns of the result ◄── rows > 0 ◄── GROUP BY ROLLUP (a), with rows = COUNT(1)
//! ```
//!
//! DataFusion gives the grand total that the standard asks for. Without keys at all (`GROUPING SETS (())`) so does
//! Flink; such an aggregate has no sets any more when it comes here.

use datafusion::common::Result as DfResult;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::utils::enumerate_grouping_sets;
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet, LogicalPlan, LogicalPlanBuilder, col, lit};

/// Rows of a group; of one that is there, at least one.
const ROWS: &str = "__rows";

/// The aggregate without groups that have no rows; `None` if it has none of them.
///
/// # Errors
/// From DataFusion's plan builder.
pub(super) fn without_empty_groups(aggregate: &Aggregate) -> DfResult<Option<LogicalPlan>> {
    if !has_set_without_keys(&aggregate.group_expr)? {
        return Ok(None);
    }
    // The number of the set is GROUPING's own affair: the rule that computes it adds what it needs below.
    let columns = aggregate.schema.columns().into_iter();
    let columns: Vec<Expr> =
        columns.filter(|c| c.name != Aggregate::INTERNAL_GROUPING_ID).map(Expr::Column).collect();
    let mut calls = aggregate.aggr_expr.clone();
    calls.push(count(lit(1_i64)).alias(ROWS));
    let counted = Aggregate::try_new(aggregate.input.clone(), aggregate.group_expr.clone(), calls)?;
    let plan = LogicalPlanBuilder::from(LogicalPlan::Aggregate(counted))
        .filter(col(ROWS).gt(lit(0_i64)))?
        .project(columns)?
        .build()?;
    Ok(Some(plan))
}

fn has_set_without_keys(groups: &[Expr]) -> DfResult<bool> {
    if !groups.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
        return Ok(false);
    }
    Ok(match enumerate_grouping_sets(groups.to_vec())?.as_slice() {
        [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => sets.iter().any(Vec::is_empty),
        [Expr::GroupingSet(GroupingSet::Rollup(_) | GroupingSet::Cube(_))] => true,
        _ => false,
    })
}
