//! Grouping sets that DataFusion's aggregate does not take as SQL means them.
//!
//! ```text
//!  GROUPING SETS (())            ─►  no GROUP BY: one row also over no rows
//!  GROUPING SETS ((a), (a), ())  ─►  GROUPING SETS ((a), (a, always '__again_1'), ())
//! ```
//!
//! DataFusion tells sets apart by the keys they leave out, so that a set written twice would count its rows twice.
//! Keys that are computed become columns of a projection below: its optimizer loses their names inside sets.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result as DfResult};
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet, LogicalPlan, LogicalPlanBuilder, lit};

use crate::error::Result;

/// Rewrites a plan before it is analyzed.
///
/// # Errors
/// From DataFusion, if an aggregate cannot be made.
pub fn settle_grouping_sets(plan: LogicalPlan) -> Result<LogicalPlan> {
    let settled = plan.transform_up_with_subqueries(|node| {
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
    let groups = match sets.as_slice() {
        [only] => only.clone(),
        sets => match told_apart(sets, aggregate.input.schema()) {
            Some(sets) => vec![Expr::GroupingSet(GroupingSet::GroupingSets(sets))],
            None => return Ok(Transformed::no(node)),
        },
    };
    let settled = Aggregate::try_new(aggregate.input.clone(), groups, aggregate.aggr_expr.clone())?;
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

/// The sets with a key more in those that stood there before; `None` if all are different.
fn told_apart(sets: &[Vec<Expr>], schema: &DFSchema) -> Option<Vec<Vec<Expr>>> {
    let mut seen: HashMap<Vec<String>, usize> = HashMap::new();
    let mut repeated = false;
    let apart = sets
        .iter()
        .map(|set| {
            let mut names: Vec<String> = set.iter().map(ToString::to_string).collect();
            names.sort();
            names.dedup();
            let times = seen.entry(names).or_default();
            *times += 1;
            let mut set = set.clone();
            if *times > 1 {
                repeated = true;
                set.push(constant(&format!("__again_{}", *times - 1), schema));
            }
            set
        })
        .collect();
    repeated.then_some(apart)
}

/// A value that is always `text` without being a literal: of a literal key DataFusion believes that its column in the result is
/// constant, and so sorted, but it is NULL for the other sets.
fn constant(text: &str, schema: &DFSchema) -> Expr {
    match schema.columns().into_iter().next() {
        None => lit(text),
        Some(column) => Expr::Case(Case {
            expr: None,
            when_then_expr: vec![(Box::new(Expr::Column(column).is_null()), Box::new(lit(text)))],
            else_expr: Some(Box::new(lit(text))),
        }),
    }
}
