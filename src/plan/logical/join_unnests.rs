//! Puts UNNESTs, and LATERAL sub-queries that read nothing but the row beside them, on top of the table they read.
//!
//! ```text
//!  Join(t, Subquery(UnnestNode(one row, outer_ref(t.a)))) ─► UnnestNode(t, t.a)
//!  FROM t, LATERAL (SELECT f(t.b, x) FROM UNNEST(t.a) AS u(x) WHERE …)
//!     └─► Projection[t.*, f(t.b, x)] (Filter (UnnestNode(t, t.a)))
//! ```

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result as DfResult, ScalarValue};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Extension, Filter, Join, LogicalPlan, Projection};

use crate::error::{Error, Result};

use crate::plan::nodes::unnest::unnest_node;

/// Puts UNNESTs, and LATERAL queries over nothing else, on top of the relation whose columns they read.
///
/// # Errors
/// From DataFusion, if a plan cannot be built again.
pub fn join_unnests(plan: LogicalPlan) -> Result<LogicalPlan> {
    let grafted = plan.transform_up_with_subqueries(|node| {
        if let LogicalPlan::Join(join) = &node
            && let Some(joined) = graft_join(join)?
        {
            return Ok(Transformed::yes(joined));
        }
        // Columns became nullable or not below.
        Ok(Transformed::yes(node.recompute_schema()?))
    })?;
    Ok(grafted.data)
}

/// Fails if an UNNEST still reads columns of a query around it.
///
/// # Errors
/// Unsupported, with the UNNEST.
pub fn refuse_correlated_unnests(plan: &LogicalPlan) -> Result<()> {
    let mut left_over = None;
    plan.apply_with_subqueries(|node| {
        if unnest_node(node).is_some_and(|u| has_outer_reference(&u.collection)) {
            left_over = unnest_node(node).map(|u| u.collection.to_string());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    match left_over {
        Some(what) => Err(Error::unsupported(format!(
            "UNNEST({what}) in a sub-query, of a column of the query around it, is not supported"
        ))
        .hint("join it beside its table: FROM t CROSS JOIN UNNEST(t.a) AS u(x)")),
        None => Ok(()),
    }
}

fn has_outer_reference(expr: &Expr) -> bool {
    expr.exists(|e| Ok(matches!(e, Expr::OuterReferenceColumn(..)))).unwrap_or(true)
}

fn graft_join(join: &Join) -> DfResult<Option<LogicalPlan>> {
    if !matches!(join.join_type, JoinType::Inner | JoinType::Left) || !is_local(&join.right) {
        return Ok(None);
    }
    let mut conditions: Vec<Expr> = join.on.iter().map(|(l, r)| l.clone().eq(r.clone())).collect();
    conditions.extend(join.filter.clone());
    conditions.retain(|c| !matches!(c, Expr::Literal(ScalarValue::Boolean(Some(true)), _)));
    if join.join_type == JoinType::Left {
        // Only bare: filters and projections of a sub-query would see the row of NULLs too.
        let mut right = join.right.as_ref();
        while let LogicalPlan::Subquery(subquery) = right {
            right = &subquery.subquery;
        }
        let Some(node) = unnest_node(right) else { return Ok(None) };
        if !conditions.is_empty() {
            return Ok(None);
        }
        let collection = resolve(&node.collection)?;
        let node = node.over(join.left.as_ref().clone(), collection, true)?;
        return Ok(Some(LogicalPlan::Extension(Extension { node: Arc::new(node) })));
    }
    let grafted = graft(&join.right, &join.left)?;
    Ok(Some(match conjunction(conditions) {
        Some(condition) => LogicalPlan::Filter(Filter::try_new(condition, Arc::new(grafted))?),
        None => grafted,
    }))
}

/// Whether a plan is made of UNNESTs, or of nothing but the columns around it, by filters and projections.
fn is_local(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(subquery) => is_chain(&subquery.subquery),
        // The planner sees no reference to the outer query in an UNNEST below a projection.
        _ => is_chain(plan) && plan.exists(|p| Ok(unnest_node(p).is_some())).unwrap_or(false),
    }
}

fn is_chain(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(subquery) => is_chain(&subquery.subquery),
        LogicalPlan::SubqueryAlias(alias) => is_chain(&alias.input),
        LogicalPlan::Filter(filter) => plain(&filter.predicate) && is_chain(&filter.input),
        LogicalPlan::Projection(projection) => {
            projection.expr.iter().all(plain) && is_chain(&projection.input)
        }
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        _ => unnest_node(plan).is_some_and(|u| is_chain(&u.input)),
    }
}

/// Whether an expression has no sub-query.
fn plain(expr: &Expr) -> bool {
    !expr
        .exists(|e| Ok(matches!(e, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_))))
        .unwrap_or(true)
}

/// References to the outer query as columns.
fn resolve(expr: &Expr) -> DfResult<Expr> {
    let resolved = expr.clone().transform(|e| {
        Ok(match e {
            Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
            other => Transformed::no(other),
        })
    })?;
    Ok(resolved.data)
}

/// The columns of `left`, then those of `plan` with its references to `left` resolved.
fn graft(plan: &LogicalPlan, left: &LogicalPlan) -> DfResult<LogicalPlan> {
    let columns = || left.schema().columns().into_iter().map(Expr::Column);
    Ok(match plan {
        LogicalPlan::Subquery(subquery) => graft(&subquery.subquery, left)?,
        LogicalPlan::SubqueryAlias(alias) => {
            let input = graft(&alias.input, left)?;
            let mut exprs: Vec<Expr> = columns().collect();
            let inner = alias.input.schema().columns();
            for (column, (qualifier, field)) in inner.into_iter().zip(alias.schema.iter()) {
                exprs.push(Expr::Column(column).alias_qualified(qualifier.cloned(), field.name()));
            }
            LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?)
        }
        LogicalPlan::Filter(filter) => {
            let input = graft(&filter.input, left)?;
            LogicalPlan::Filter(Filter::try_new(resolve(&filter.predicate)?, Arc::new(input))?)
        }
        LogicalPlan::Projection(projection) => {
            let input = graft(&projection.input, left)?;
            let mut exprs: Vec<Expr> = columns().collect();
            for expr in &projection.expr {
                exprs.push(resolve(expr)?);
            }
            LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?)
        }
        LogicalPlan::EmptyRelation(_) => left.clone(),
        _ => match unnest_node(plan) {
            Some(node) => {
                let node = node.over(graft(&node.input, left)?, resolve(&node.collection)?, false)?;
                LogicalPlan::Extension(Extension { node: Arc::new(node) })
            }
            None => return datafusion::common::internal_err!("{} cannot be unnested", plan.display()),
        },
    })
}
