//! The places of a query where sub-queries stand, one by one.

use std::sync::Arc;

use datafusion::common::{Column, JoinType, Result as DfResult};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder, Projection, Sort, Union,
};

use crate::error::Error;
use crate::plan::logical::nullability::settle_union;
use crate::plan::logical::subquery::carry::columns;
use crate::plan::logical::subquery::quantified::{Unknown, without_not};
use crate::plan::logical::subquery::{SubqueryJoiner, filter, has_subquery, join};

impl SubqueryJoiner {
    /// The node with the sub-queries of its expressions joined to its input. Has the same columns.
    pub(super) fn node(&mut self, node: LogicalPlan) -> DfResult<LogicalPlan> {
        match node {
            LogicalPlan::Filter(f) => self.filter_node(f),
            LogicalPlan::Projection(projection) => {
                let mut input = projection.input.as_ref().clone();
                let to = projection.schema.columns();
                let exprs = self.named_exprs(projection.expr, &to, &mut input)?;
                Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?))
            }
            LogicalPlan::Aggregate(aggregate) => {
                let mut input = aggregate.input.as_ref().clone();
                let mut exprs = |exprs: Vec<Expr>, input: &mut LogicalPlan| {
                    exprs
                        .into_iter()
                        .map(|e| self.expr(e, input, Unknown::Matters))
                        .collect::<DfResult<Vec<_>>>()
                };
                let groups = exprs(aggregate.group_expr, &mut input)?;
                let calls = exprs(aggregate.aggr_expr, &mut input)?;
                let to = aggregate.schema.columns();
                let aggregated = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), groups, calls)?);
                renamed(aggregated, &to)
            }
            LogicalPlan::Sort(sort) => {
                let to = columns(&sort.input);
                let mut input = sort.input.as_ref().clone();
                let mut order = sort.expr;
                for sort in &mut order {
                    sort.expr = self.expr(sort.expr.clone(), &mut input, Unknown::Matters)?;
                }
                let sorted =
                    LogicalPlan::Sort(Sort { expr: order, input: Arc::new(input), fetch: sort.fetch });
                only(sorted, to)
            }
            LogicalPlan::Values(values) => {
                let to = values.schema.columns();
                let mut rows = Vec::with_capacity(values.values.len());
                for row in values.values {
                    let mut input = LogicalPlanBuilder::empty(true).build()?;
                    let named = row.into_iter().zip(&to).map(|(e, to)| e.alias(&to.name)).collect();
                    let exprs = self.named_exprs(named, &to, &mut input)?;
                    rows.push(Arc::new(LogicalPlan::Projection(Projection::try_new(
                        exprs,
                        Arc::new(input),
                    )?)));
                }
                match rows.as_slice() {
                    [only] => Ok(only.as_ref().clone()),
                    _ => settle_union(Union::try_new(rows)?),
                }
            }
            LogicalPlan::Join(j) if j.join_type == JoinType::Inner => self.inner_join(j),
            LogicalPlan::Join(j) => Err(Error::unsupported(format!(
                "a sub-query in the ON of a {} JOIN is not supported",
                j.join_type.to_string().to_uppercase()
            ))
            .hint("join the sub-query to one of the two sides first, or move it to WHERE")
            .into()),
            other => Err(Error::unsupported(format!(
                "a sub-query in {} is not supported",
                other.display().to_string().split(':').next().unwrap_or_default()
            ))
            .hint("compute it in a select list below")
            .into()),
        }
    }

    fn filter_node(&mut self, f: Filter) -> DfResult<LogicalPlan> {
        let to = columns(&f.input);
        self.filtered(f.input.as_ref().clone(), f.predicate, to)
    }

    /// The rows of `input` that meet `predicate`, with the columns `to`.
    fn filtered(&mut self, input: LogicalPlan, predicate: Expr, to: Vec<Column>) -> DfResult<LogicalPlan> {
        let (mut embedded, mut own) = (Vec::new(), Vec::new());
        let mut open: Vec<Expr> = split_conjunction(&predicate).into_iter().rev().cloned().collect();
        while let Some(condition) = open.pop() {
            if !has_subquery(&condition) {
                own.push(condition);
                continue;
            }
            match without_not(condition) {
                condition @ Expr::BinaryExpr(_) => match split_conjunction(&condition).as_slice() {
                    [_] => embedded.push(condition),
                    parts => open.extend(parts.iter().rev().map(|p| (*p).clone())),
                },
                condition => embedded.push(condition),
            }
        }
        let mut input = filter(input, own)?;
        let mut left = Vec::new();
        for condition in embedded {
            match self.top_level(&condition, &mut input)? {
                Some(conditions) => left.extend(conditions),
                None => left.push(self.expr(condition, &mut input, Unknown::IsFalse)?),
            }
        }
        only(filter(input, left)?, to)
    }

    /// `ON` of an inner join says the same as a WHERE above it.
    fn inner_join(&mut self, j: Join) -> DfResult<LogicalPlan> {
        let to = j.schema.columns();
        let on = j.on.iter().map(|(l, r)| l.clone().eq(r.clone()));
        let (embedded, own): (Vec<Expr>, Vec<Expr>) =
            on.chain(j.filter.iter().flat_map(split_conjunction).cloned()).partition(has_subquery);
        let joined = join(j.left.as_ref().clone(), j.right.as_ref().clone(), JoinType::Inner, own, false)?;
        match datafusion::logical_expr::utils::conjunction(embedded) {
            Some(predicate) => self.filtered(joined, predicate, to),
            None => Ok(joined),
        }
    }

    /// Expressions of a select list, which keep their names.
    fn named_exprs(
        &mut self,
        exprs: Vec<Expr>,
        to: &[Column],
        input: &mut LogicalPlan,
    ) -> DfResult<Vec<Expr>> {
        exprs
            .into_iter()
            .zip(to)
            .map(|(expr, to)| {
                if !has_subquery(&expr) {
                    return Ok(expr);
                }
                let expr = self.expr(expr.unalias(), input, Unknown::Matters)?;
                Ok(expr.alias_qualified(to.relation.clone(), &to.name))
            })
            .collect()
    }
}

/// The columns `to` of a plan and no others.
fn only(plan: LogicalPlan, to: Vec<Column>) -> DfResult<LogicalPlan> {
    if columns(&plan) == to {
        return Ok(plan);
    }
    let exprs = to.into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?))
}

/// The columns of a plan under other names.
fn renamed(plan: LogicalPlan, to: &[Column]) -> DfResult<LogicalPlan> {
    let from = columns(&plan);
    if from == to {
        return Ok(plan);
    }
    let exprs = from
        .into_iter()
        .zip(to)
        .map(|(from, to)| Expr::Column(from).alias_qualified(to.relation.clone(), &to.name))
        .collect();
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?))
}
