//! Long conditions as balanced trees.
//!
//! The parser balances them, but DataFusion's rules take a condition apart at its ANDs and put it together again leaning to
//! the left: as deep as it is long, for the rules that follow and for each batch.

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::utils::iter_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::sql::balanced;

/// Depth from which a condition is balanced.
const DEEP: usize = 64;

/// Balances the conditions of filters and joins; has to run behind every rule that makes long ones.
#[derive(Debug)]
pub struct BalanceConditions;

impl OptimizerRule for BalanceConditions {
    fn name(&self) -> &str {
        "balance_conditions"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        // Nothing that other rules have to look at again.
        Ok(Transformed::no(match plan {
            LogicalPlan::Filter(mut filter) => {
                filter.predicate = balance(filter.predicate);
                LogicalPlan::Filter(filter)
            }
            LogicalPlan::Join(mut join) => {
                join.filter = join.filter.map(balance);
                LogicalPlan::Join(join)
            }
            other => other,
        }))
    }
}

fn balance(condition: Expr) -> Expr {
    let mut depth = 0;
    let mut rest = &condition;
    while let Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, .. }) = rest {
        depth += 1;
        rest = left;
    }
    if depth < DEEP {
        return condition;
    }
    let parts = iter_conjunction(&condition).cloned().collect();
    balanced(parts, Expr::and).unwrap_or(condition)
}

/// Keeps the physical planner from estimating how many rows long conditions let through: its interval arithmetic compares
/// each term with all before it, 20 s for 5,000 terms. It does not look into `IS TRUE`, which changes nothing in a filter.
///
/// # Errors
/// None.
pub fn unanalyzed(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let plan = plan.transform_down(|node| match node {
        LogicalPlan::Filter(mut filter) if iter_conjunction(&filter.predicate).count() > DEEP => {
            filter.predicate = filter.predicate.is_true();
            Ok(Transformed::yes(LogicalPlan::Filter(filter)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plan.data)
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::utils::conjunction;
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn depth(e: &Expr) -> usize {
        match e {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                1 + depth(left).max(depth(right))
            }
            _ => 0,
        }
    }

    #[test]
    fn a_long_condition_is_balanced_and_keeps_its_order() {
        let condition = |n: i32| conjunction((0..n).map(|i| col("a").not_eq(lit(i)))).unwrap();
        let balanced = balance(condition(5000));
        assert_eq!(depth(&balanced), 13);
        assert!(iter_conjunction(&balanced).eq(iter_conjunction(&condition(5000))));
        assert_eq!(balance(condition(20)), condition(20));
    }
}
