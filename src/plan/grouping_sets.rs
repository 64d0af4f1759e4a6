//! Grouping sets that DataFusion's aggregate does not take as SQL means them.
//!
//! ```text
//!  GROUPING SETS (())            ─►  no GROUP BY: one row also over no rows
//!  GROUPING SETS ((a), (a), ())  ─►  GROUPING SETS ((a), (a, '__again_1'), ())
//! ```
//!
//! DataFusion tells sets apart by the keys they leave out, so that a set written twice would count its rows twice.

use std::collections::HashMap;

use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet, LogicalPlan, lit};

use crate::error::Result;

/// Rewrites a plan before it is analyzed.
///
/// # Errors
/// From DataFusion, if an aggregate cannot be made.
pub fn settle_grouping_sets(plan: LogicalPlan) -> Result<LogicalPlan> {
    let settled = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Aggregate(aggregate) = &node else { return Ok(Transformed::no(node)) };
        let [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] = aggregate.group_expr.as_slice() else {
            return Ok(Transformed::no(node));
        };
        let groups = match sets.as_slice() {
            [only] => only.clone(),
            sets => match told_apart(sets) {
                Some(sets) => vec![Expr::GroupingSet(GroupingSet::GroupingSets(sets))],
                None => return Ok(Transformed::no(node)),
            },
        };
        let settled = Aggregate::try_new(aggregate.input.clone(), groups, aggregate.aggr_expr.clone())?;
        Ok(Transformed::yes(LogicalPlan::Aggregate(settled)))
    })?;
    Ok(settled.data)
}

/// The sets with a constant key more in those that stood there before; `None` if all are different.
fn told_apart(sets: &[Vec<Expr>]) -> Option<Vec<Vec<Expr>>> {
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
                set.push(lit(format!("__again_{}", *times - 1)));
            }
            set
        })
        .collect();
    repeated.then_some(apart)
}
