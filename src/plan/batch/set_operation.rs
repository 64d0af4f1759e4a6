//! INTERSECT and EXCEPT in batch: how often a row stands on either side, counted.
//!
//! ```text
//!  SetOperationNode(a, b) ─► Projection[row] ([Unnest[copies]] (Filter[copies > 0] (Projection[row, copies(l, r)]
//!     (Aggregate[row; sum(l), sum(r)] (Union (Projection[row, 1 l, 0 r] (a), Projection[row, 0 l, 1 r] (b))))))
//! ```

use datafusion::common::{Column, Result as DfResult};
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::functions_nested::expr_fn::array_repeat;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore, lit, when,
};

use crate::operators::set_operation::SetOperationKind;

use crate::plan::nodes::set_operation::SetOperationNode;

/// The node as a plain plan.
pub(super) fn lower_set_operation(operation: &SetOperationNode) -> DfResult<LogicalPlan> {
    const LEFT: &str = "__left";
    const RIGHT: &str = "__right";
    const COPIES: &str = "__copies";
    let names: Vec<String> = (0..operation.schema().fields().len()).map(|i| format!("__{i}")).collect();
    let side = |plan: &LogicalPlan, left: i64, right: i64| -> DfResult<LogicalPlan> {
        let mut exprs: Vec<Expr> =
            operation.casts(plan).into_iter().zip(&names).map(|(e, name)| e.alias(name.as_str())).collect();
        exprs.push(lit(left).alias(LEFT));
        exprs.push(lit(right).alias(RIGHT));
        LogicalPlanBuilder::from(plan.clone()).project(exprs)?.build()
    };
    let column = |name: &str| Expr::Column(Column::from_name(name));
    let rows: Vec<Expr> = names.iter().map(|n| column(n)).collect();
    let (l, r) = (column(LEFT), column(RIGHT));
    let kind = operation.kind;
    let copies = match kind {
        SetOperationKind::Intersect | SetOperationKind::IntersectAll => {
            when(l.clone().lt(r.clone()), l.clone()).otherwise(r.clone())?
        }
        SetOperationKind::Except => when(r.clone().eq(lit(0_i64)), l.clone()).otherwise(lit(0_i64))?,
        SetOperationKind::ExceptAll => l.clone() - r.clone(),
    };
    let mut counted = rows.clone();
    counted.push(copies.alias(COPIES));
    let mut plan = LogicalPlanBuilder::from(side(&operation.left, 1, 0)?)
        .union(side(&operation.right, 0, 1)?)?
        .aggregate(rows.clone(), vec![sum(l).alias(LEFT), sum(r).alias(RIGHT)])?
        .project(counted)?
        .filter(column(COPIES).gt(lit(0_i64)))?;
    if kind.is_all() {
        let mut repeated = rows.clone();
        repeated.push(array_repeat(lit(true), column(COPIES)).alias(COPIES));
        plan = plan.project(repeated)?.unnest_column(Column::from_name(COPIES))?;
    }
    let result = rows.into_iter().zip(operation.schema().fields()).map(|(e, f)| e.alias(f.name().as_str()));
    plan.project(result)?.build()
}
