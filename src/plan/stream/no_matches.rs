//! Joins with looked-up or versioned tables that find nothing: the optimizer knows it of their condition or their right
//! side, and has taken away what such a join needs of them (a table to ask, a key to compare).

use std::sync::Arc;

use datafusion::common::{DFSchemaRef, JoinType, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Projection, lit};

use super::{Relation, StreamPlanner};
use crate::error::Result;
use crate::plan::nodes::watermark::WatermarkNode;

impl StreamPlanner {
    /// Such a join: no rows, or those of the left side beside NULL. The right side is not read.
    ///
    /// # Errors
    /// What lowering the left side says.
    pub(super) fn lower_without_matches(
        &mut self,
        [left, right]: [&LogicalPlan; 2],
        kind: JoinType,
        schema: DFSchemaRef,
    ) -> Result<Relation> {
        let mut left = left.clone();
        let mut columns: Vec<Expr> = left.schema().columns().into_iter().map(Expr::Column).collect();
        for (qualifier, field) in right.schema().iter() {
            let null = Expr::Literal(ScalarValue::try_from(field.data_type())?, None);
            columns.push(null.alias_qualified(qualifier.cloned(), field.name()));
        }
        if kind != JoinType::Left {
            left = LogicalPlan::Filter(Filter::try_new(lit(false), Arc::new(left))?);
        }
        let projection = Projection::try_new_with_schema(columns, Arc::new(left), schema)?;
        self.lower(&LogicalPlan::Projection(projection))
    }
}

/// Whether no row of the right side can match: it is empty, or the condition is never true.
pub(super) fn never_matches(right: &LogicalPlan, condition: &Expr) -> bool {
    let is_never = |part: &Expr| match part {
        Expr::Literal(value, _) => value.is_null() || *value == ScalarValue::Boolean(Some(false)),
        _ => false,
    };
    is_empty(right) || split_conjunction(condition).into_iter().any(is_never)
}

fn is_empty(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::EmptyRelation(empty) => !empty.produce_one_row,
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::Projection(_) | LogicalPlan::Filter(_) => {
            plan.inputs().iter().all(|input| is_empty(input))
        }
        LogicalPlan::Extension(e) if e.node.as_any().is::<WatermarkNode>() => {
            plan.inputs().iter().all(|input| is_empty(input))
        }
        _ => false,
    }
}
