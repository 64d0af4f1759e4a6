//! Projections that only choose, merged into those above them, so that a view costs no operator of its own.
//!
//! ```text
//!  Projection: get_field(t.bid, 'price') AS price          Projection: get_field(t.bid, 'price') AS price
//!    SubqueryAlias: t                                ─►       Filter: t.event_type = 2
//!      Projection: t.bid                                        …
//!        Filter: t.event_type = 2
//! ```
//!
//! DataFusion merges projections that stand on each other, but not through the name of a view. Merged, the filter below
//! copies the fields that are read, not the whole row.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DataFusionError};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};

use crate::error::Result;

/// The same projection over what is below those that only choose columns; `None` if there is none.
///
/// # Errors
/// Internal, if the plan does not resolve.
pub(super) fn merged(projection: &Projection) -> Result<Option<Projection>> {
    let mut merged: Option<Projection> = None;
    loop {
        let above = merged.as_ref().unwrap_or(projection);
        let mut below = above.input.as_ref();
        while let LogicalPlan::SubqueryAlias(alias) = below {
            below = alias.input.as_ref();
        }
        let LogicalPlan::Projection(choice) = below else { break };
        let Some(chosen) = choice.expr.iter().map(chosen_column).collect::<Option<Vec<_>>>() else { break };
        // A name for a relation keeps the order of its columns.
        let names = above.input.schema();
        let exprs = above
            .expr
            .iter()
            .map(|expr| {
                let rewritten = expr.clone().transform(|e| {
                    let Expr::Column(column) = &e else { return Ok(Transformed::no(e)) };
                    let i = names.index_of_column(column)?;
                    let Some(chosen) = chosen.get(i) else {
                        return Err(DataFusionError::Internal(format!("no column {column} below")));
                    };
                    Ok(Transformed::yes(Expr::Column((*chosen).clone())))
                })?;
                Ok(rewritten.data)
            })
            .collect::<Result<Vec<_>>>()?;
        merged =
            Some(Projection::try_new_with_schema(exprs, choice.input.clone(), projection.schema.clone())?);
    }
    Ok(merged)
}

/// The column that an expression is, under whatever name.
fn chosen_column(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => chosen_column(&alias.expr),
        _ => None,
    }
}
