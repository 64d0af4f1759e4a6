//! Grouping sets that DataFusion's aggregate does not take as SQL means them.
//!
//! ```text
//!  GROUPING SETS (())     ─►  no GROUP BY: one row also over no rows
//!  GROUPING SETS ((a))    ─►  GROUP BY a
//!  ROLLUP (a + b)         ─►  ROLLUP (c) over a projection with a + b AS c
//! ```
//!
//! Keys that are computed become columns of a projection below: DataFusion's optimizer loses their names inside sets.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result as DfResult};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet, LogicalPlan, LogicalPlanBuilder};

use crate::error::Result;

/// Rewrites a plan before it is analyzed.
///
/// # Errors
/// From DataFusion, if an aggregate cannot be made.
pub fn settle_grouping_sets(plan: LogicalPlan) -> Result<LogicalPlan> {
    let settled = plan.transform_up(|node| {
        let LogicalPlan::Aggregate(aggregate) = &node else { return Ok(Transformed::no(node)) };
        if let [Expr::GroupingSet(_)] = aggregate.group_expr.as_slice()
            && let Some(over_columns) = with_key_columns(aggregate)?
        {
            return Ok(Transformed::yes(settle_node(LogicalPlan::Aggregate(over_columns))?.data));
        }
        settle_node(node)
    })?;
    Ok(settled.data)
}

fn settle_node(node: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let LogicalPlan::Aggregate(aggregate) = &node else { return Ok(Transformed::no(node)) };
    let [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] = aggregate.group_expr.as_slice() else {
        return Ok(Transformed::no(node));
    };
    let [only] = sets.as_slice() else { return Ok(Transformed::no(node)) };
    let settled = Aggregate::try_new(aggregate.input.clone(), only.clone(), aggregate.aggr_expr.clone())?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(settled)))
}

/// The aggregate over a projection that computes its keys, `None` if all of them are columns.
fn with_key_columns(aggregate: &Aggregate) -> DfResult<Option<Aggregate>> {
    let keys: Vec<Expr> = grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter().cloned().collect();
    let computed: Vec<Expr> = keys.into_iter().filter(|k| !matches!(k, Expr::Column(_))).collect();
    if computed.is_empty() {
        return Ok(None);
    }
    let column = |key: &Expr| Column::from_name(key.schema_name().to_string());
    let mut exprs: Vec<Expr> = aggregate.input.schema().columns().into_iter().map(Expr::Column).collect();
    exprs.extend(computed.iter().map(|k| k.clone().alias(column(k).name)));
    let input = LogicalPlanBuilder::from(aggregate.input.clone()).project(exprs)?.build()?;
    let to_columns = |e: Expr| {
        e.transform_down(|e| {
            Ok(if computed.contains(&e) {
                Transformed::new(Expr::Column(column(&e)), true, TreeNodeRecursion::Jump)
            } else {
                Transformed::no(e)
            })
        })
        .data()
    };
    let groups = aggregate.group_expr.iter().cloned().map(to_columns).collect::<DfResult<Vec<_>>>()?;
    let calls = aggregate.aggr_expr.iter().cloned().map(to_columns).collect::<DfResult<Vec<_>>>()?;
    Ok(Some(Aggregate::try_new(Arc::new(input), groups, calls)?))
}
