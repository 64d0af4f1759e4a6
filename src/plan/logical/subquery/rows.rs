//! Sub-queries whose columns `syntax::row_subquery` made one row of: taken apart again, and compared part by part.

use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};

use crate::error::Error;

use crate::plan::syntax::row_subquery::COLUMNS;

/// The columns that `RowSubqueryPlanner` made a row of; `None` for any other plan.
pub(super) fn taken_apart(plan: &LogicalPlan) -> Option<LogicalPlan> {
    let LogicalPlan::Projection(projection) = plan else { return None };
    match projection.expr.as_slice() {
        [Expr::Alias(alias)] if alias.name == COLUMNS => Some(projection.input.as_ref().clone()),
        [Expr::Column(column)] if column.name == COLUMNS => taken_apart(&projection.input),
        _ => None,
    }
}

/// The comparison of a row as those of its parts.
pub(super) fn paired(
    comparisons: Vec<(Expr, Operator)>,
    plan: &LogicalPlan,
) -> DfResult<Vec<(Expr, Operator)>> {
    let count = plan.schema().fields().len();
    match comparisons.as_slice() {
        [(Expr::ScalarFunction(row), op)] if row.name() == "row" && row.args.len() == count => {
            Ok(row.args.iter().map(|part| (part.clone(), *op)).collect())
        }
        _ => Err(Error::validation("Values passed to IN operator must have compatible types")
            .hint(format!("the sub-query has {count} columns; compare as many values with it"))
            .into()),
    }
}
