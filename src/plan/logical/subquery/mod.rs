//! Sub-queries become joins, in batch and in streams alike, before anything else sees them.
//!
//! ```text
//!  WHERE EXISTS (…), x IN (…)       ─► LeftSemi          NOT EXISTS, NOT IN       ─► LeftAnti          `quantified`
//!  the same inside of expressions   ─► LeftMark, and CASE for what is neither true nor false
//!  (SELECT …) as a value            ─► Left, with SINGLE_VALUE where several rows are possible
//!  t, LATERAL (SELECT … t.k …)      ─► Inner or Left
//! ```
//!
//! A correlated sub-query is first pulled apart into a plan without references and the conditions that relate its rows
//! to those around it (`pull`). DataFusion's own rules do the same for simple shapes only, and lose unknown results.

pub(in crate::plan) mod carry;
mod node;
mod pull;
mod quantified;
pub mod rows;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, NullEquality, Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, Case};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Expr, ExprSchemable, Filter, Join, JoinConstraint, LogicalPlan,
    LogicalPlanBuilder, Operator, Projection, Subquery, SubqueryAlias, lit,
};

use crate::error::{Error, Result};
use crate::functions;
use crate::plan::nodes::view::ViewNode;
use pull::Pulled;
use quantified::Unknown;

/// Replaces every sub-query of a plan by joins.
///
/// # Errors
/// Unsupported for places where none can stand; from DataFusion, if a plan cannot be built.
pub fn join_subqueries(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut joiner = SubqueryJoiner { names: 0 };
    Ok(joiner.plan(plan)?)
}

/// Gives names that are unique within one query.
#[derive(Debug)]
struct SubqueryJoiner {
    names: usize,
}

/// A sub-query beside the rows around it.
struct Beside {
    /// Its rows, under a name of their own.
    plan: LogicalPlan,
    /// Its own columns.
    columns: Vec<Column>,
    /// What has to hold between a row around it and a row of it.
    conditions: Vec<Expr>,
    /// What its first column is where no row matches, if that is not NULL.
    empty: Option<Expr>,
    /// Never NULL in a row that matches.
    matched: Option<Column>,
}

impl SubqueryJoiner {
    fn name(&mut self, what: &str) -> String {
        self.names += 1;
        format!("__{what}_{}", self.names)
    }

    fn plan(&mut self, plan: LogicalPlan) -> DfResult<LogicalPlan> {
        let joined = plan.transform_up(|node| {
            if node.expressions().iter().any(has_subquery) {
                return Ok(Transformed::yes(self.node(node)?));
            }
            if let LogicalPlan::Join(join) = &node
                && let Some(subquery) = lateral(&join.right, &join.left)
            {
                return Ok(Transformed::yes(self.lateral(join, subquery)?));
            }
            // Columns became nullable or not below.
            Ok(Transformed::yes(settled(node)?))
        })?;
        Ok(joined.data)
    }

    /// A sub-query with its own sub-queries joined.
    fn inner(&mut self, subquery: &Subquery) -> DfResult<LogicalPlan> {
        self.plan(subquery.subquery.as_ref().clone())
    }

    /// Names the rows of a sub-query and relates them to `left`.
    fn beside(&mut self, pulled: Pulled, columns: &[Column], left: &LogicalPlan) -> DfResult<Beside> {
        let name = self.name("subquery");
        let mut exprs = Vec::new();
        let mut renamed: Vec<(Column, Column)> = Vec::new();
        // Under their own names where those are free: a projection that renames stays.
        let mut add = |exprs: &mut Vec<Expr>, from: &Column| {
            let known = renamed.iter().find(|(c, _)| c == from).map(|(_, to)| to.clone());
            known.unwrap_or_else(|| {
                let free = renamed.iter().all(|(_, c)| c.name != from.name);
                let to = if free { from.name.clone() } else { format!("__{}_{}", renamed.len(), from.name) };
                let column = Column::new(Some(name.clone()), &to);
                let own = Expr::Column(from.clone());
                exprs.push(if free { own } else { own.alias(to) });
                renamed.push((from.clone(), column.clone()));
                column
            })
        };
        let outside: Vec<Column> = columns.iter().map(|c| add(&mut exprs, c)).collect();
        let mut conditions = Vec::new();
        let mut matched = None;
        for key in &pulled.keys {
            let column = add(&mut exprs, &key.inner);
            let outer = resolved(key.outer.clone(), left)?;
            let nullable = has_outer_expr(&outer) || outer.nullable(left.schema())?;
            conditions.push(if pulled.null_safe && nullable {
                is_not_distinct(outer, Expr::Column(column))
            } else {
                matched.get_or_insert_with(|| column.clone());
                outer.eq(Expr::Column(column))
            });
        }
        for condition in &pulled.residual {
            let mut read: Vec<&Column> = condition.column_refs().into_iter().collect();
            read.sort();
            let mut moved: Vec<(&Column, Column)> = Vec::new();
            for column in read {
                moved.push((column, add(&mut exprs, column)));
            }
            let condition = condition.clone().transform(|e| {
                Ok(match &e {
                    Expr::Column(c) => match moved.iter().find(|(from, _)| *from == c) {
                        Some((_, to)) => Transformed::yes(Expr::Column(to.clone())),
                        None => Transformed::no(e),
                    },
                    _ => Transformed::no(e),
                })
            })?;
            conditions.push(resolved(condition.data, left)?);
        }
        let empty = match (&pulled.empty, columns.first()) {
            (Some(empty), Some(first)) => empty.get(first).filter(|e| !is_null(e)).cloned(),
            _ => None,
        };
        if empty.is_some() && matched.is_none() {
            exprs.push(lit(true).alias("__matched"));
            matched = Some(Column::new(Some(name.clone()), "__matched"));
        }
        if exprs.is_empty() {
            exprs.push(lit(true).alias("__row"));
        }
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(pulled.plan))?);
        let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(plan), name)?);
        Ok(Beside { plan, columns: outside, conditions, empty, matched })
    }

    /// A sub-query that is a value: joins it to `input` and gives the value.
    fn scalar(&mut self, subquery: &Subquery, input: &mut LogicalPlan) -> DfResult<Expr> {
        let mut plan = self.inner(subquery)?;
        let Some(column) = plan.schema().columns().into_iter().next() else {
            return Err(Error::internal("a scalar sub-query without a column").into());
        };
        let mut column = column;
        if !at_most_one_row(&plan) {
            let name = self.name("single");
            let value = single_value()?.call(vec![Expr::Column(column)]).alias(&name);
            plan = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(plan), Vec::new(), vec![value])?);
            column = Column::from_name(name);
        }
        let pulled = self.pull_apart(&plan, input, false, false)?;
        let beside = self.beside(pulled, std::slice::from_ref(&column), input)?;
        let Some(value) = beside.columns.into_iter().next().map(Expr::Column) else {
            return Err(Error::internal("a scalar sub-query lost its column").into());
        };
        *input = join(input.clone(), beside.plan, JoinType::Left, beside.conditions, false)?;
        Ok(match (beside.empty, beside.matched) {
            (Some(empty), Some(matched)) => Expr::Case(Case {
                expr: None,
                when_then_expr: vec![(Box::new(Expr::Column(matched).is_null()), Box::new(empty))],
                else_expr: Some(Box::new(value)),
            }),
            _ => value,
        })
    }

    /// `left, LATERAL (…)` and `left LEFT JOIN LATERAL (…) ON …`.
    fn lateral(&mut self, original: &Join, inner: &LogicalPlan) -> DfResult<LogicalPlan> {
        if !matches!(original.join_type, JoinType::Inner | JoinType::Left) {
            return Err(Error::unsupported(format!(
                "a {} JOIN with a LATERAL sub-query that reads the other side is not supported",
                original.join_type
            ))
            .hint("Flink has LATERAL in CROSS, INNER and LEFT joins")
            .into());
        }
        let left = original.left.as_ref().clone();
        let columns = inner.schema().columns();
        let pulled = self.pull_apart(inner, &left, true, true)?;
        let beside = self.beside(pulled, &columns, &left)?;
        // Under the names that the query knows.
        let to: Vec<Expr> = original
            .schema
            .iter()
            .skip(left.schema().fields().len())
            .zip(&beside.columns)
            .map(|((qualifier, field), column)| {
                Expr::Column(column.clone()).alias_qualified(qualifier.cloned(), field.name())
            })
            .collect();
        let right_names = original.right.schema().columns();
        let on = original.on.iter().map(|(l, r)| l.clone().eq(r.clone()));
        let mut conditions = beside.conditions;
        for condition in on.chain(original.filter.clone()) {
            let condition = condition.transform(|e| {
                Ok(match &e {
                    Expr::Column(c) => match right_names.iter().position(|r| r == c) {
                        Some(i) => Transformed::yes(Expr::Column(beside.columns[i].clone())),
                        None => Transformed::no(e),
                    },
                    _ => Transformed::no(e),
                })
            })?;
            conditions.push(condition.data);
        }
        let joined = join(left.clone(), beside.plan, original.join_type, conditions, false)?;
        let mut exprs: Vec<Expr> = left.schema().columns().into_iter().map(Expr::Column).collect();
        exprs.extend(to);
        Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(joined))?))
    }

    /// Replaces the sub-queries in an expression over `input`, which is joined with them.
    fn expr(&mut self, expr: Expr, input: &mut LogicalPlan, unknown: Unknown) -> DfResult<Expr> {
        if !has_subquery(&expr) {
            return Ok(expr);
        }
        match expr {
            Expr::ScalarSubquery(subquery) => self.scalar(&subquery, input),
            Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => {
                self.quantified(expr, input, unknown)
            }
            Expr::Case(Case { expr, when_then_expr, else_expr }) => {
                let when = if expr.is_some() { Unknown::Matters } else { Unknown::IsFalse };
                let mut part = |e: Box<Expr>, unknown| -> DfResult<Box<Expr>> {
                    Ok(Box::new(self.expr(*e, input, unknown)?))
                };
                Ok(Expr::Case(Case {
                    expr: expr.map(|e| part(e, Unknown::Matters)).transpose()?,
                    when_then_expr: when_then_expr
                        .into_iter()
                        .map(|(w, t)| Ok((part(w, when)?, part(t, unknown)?)))
                        .collect::<DfResult<_>>()?,
                    else_expr: else_expr.map(|e| part(e, unknown)).transpose()?,
                }))
            }
            other => {
                let inside = quantified::inside(&other, unknown);
                Ok(other.map_children(|e| Ok(Transformed::yes(self.expr(e, input, inside)?)))?.data)
            }
        }
    }
}

/// The sub-query on the right of a join that reads columns of the left.
fn lateral<'a>(right: &'a LogicalPlan, left: &LogicalPlan) -> Option<&'a LogicalPlan> {
    match right {
        LogicalPlan::Subquery(subquery) => Some(&subquery.subquery),
        LogicalPlan::SubqueryAlias(alias) if matches!(alias.input.as_ref(), LogicalPlan::Subquery(_)) => {
            lateral(&alias.input, left)
        }
        // Some come without the mark.
        other => any_node(other, |e| {
            e.exists(|e| {
                Ok(matches!(e, Expr::OuterReferenceColumn(_, c) if left.schema().maybe_index_of_column(c).is_some()))
            })
            .unwrap_or(true)
        })
        .then_some(other),
    }
}

/// Whether an expression has a sub-query.
pub(in crate::plan) fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|e| {
        Ok(matches!(
            e,
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_)
        ))
    })
    .unwrap_or(true)
}

/// Whether an expression reads columns of a query around it.
fn has_outer_expr(expr: &Expr) -> bool {
    expr.exists(|e| Ok(matches!(e, Expr::OuterReferenceColumn(..)))).unwrap_or(true)
}

/// References to columns of `left` as those columns; what is further out stays a reference.
fn resolved(expr: Expr, left: &LogicalPlan) -> DfResult<Expr> {
    let resolved = expr.transform(|e| {
        Ok(match e {
            Expr::OuterReferenceColumn(_, c) if left.schema().maybe_index_of_column(&c).is_some() => {
                Transformed::yes(Expr::Column(c))
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(resolved.data)
}

fn is_not_distinct(left: Expr, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), Operator::IsNotDistinctFrom, Box::new(right)))
}

/// Whether an expression is always NULL. A value over nothing that is no other than NULL needs no CASE, which would keep
/// an outer join from becoming an inner one.
fn is_null(expr: &Expr) -> bool {
    const STRICT: &[&str] = &["__add", "__subtract", "__multiply", "__divide", "__mod"];
    match expr {
        Expr::Literal(value, _) => value.is_null(),
        Expr::Alias(alias) => is_null(&alias.expr),
        Expr::Cast(cast) => is_null(&cast.expr),
        Expr::Negative(inner) | Expr::Not(inner) => is_null(inner),
        Expr::BinaryExpr(e) if compares(e.op) || e.op.is_numerical_operators() => {
            is_null(&e.left) || is_null(&e.right)
        }
        Expr::ScalarFunction(call) => STRICT.contains(&call.name()) && call.args.iter().any(is_null),
        _ => false,
    }
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

fn is_true(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Boolean(Some(true)), _))
}

/// A join on conditions.
fn join(
    left: LogicalPlan,
    right: LogicalPlan,
    join_type: JoinType,
    conditions: Vec<Expr>,
    null_aware: bool,
) -> DfResult<LogicalPlan> {
    let conditions: Vec<Expr> =
        conditions.iter().flat_map(split_conjunction).filter(|c| !is_true(c)).cloned().collect();
    let filter = match (conjunction(conditions), join_type) {
        (None, JoinType::Inner) => None,
        (None, _) => Some(lit(true)),
        (some, _) => some,
    };
    Ok(LogicalPlan::Join(Join::try_new(
        Arc::new(left),
        Arc::new(right),
        Vec::new(),
        filter,
        join_type,
        JoinConstraint::On,
        NullEquality::NullEqualsNothing,
        null_aware,
    )?))
}

fn filter(plan: LogicalPlan, conditions: Vec<Expr>) -> DfResult<LogicalPlan> {
    Ok(match conjunction(conditions) {
        Some(condition) => LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?),
        None => plan,
    })
}

/// The node with the types and the nullability that its inputs have now.
fn settled(node: LogicalPlan) -> DfResult<LogicalPlan> {
    match node {
        LogicalPlan::Union(union) => crate::plan::logical::nullability::settle_union(union),
        node => node.recompute_schema(),
    }
}

/// Whether a plan has no more than one row (per row around it), whatever the data.
fn at_most_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(a) => a.group_expr.is_empty(),
        LogicalPlan::Projection(p) => at_most_one_row(&p.input),
        LogicalPlan::SubqueryAlias(a) => at_most_one_row(&a.input),
        LogicalPlan::Filter(f) => at_most_one_row(&f.input),
        LogicalPlan::Sort(s) => at_most_one_row(&s.input),
        LogicalPlan::Distinct(d) => at_most_one_row(d.input()),
        LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Values(v) => v.values.len() <= 1,
        LogicalPlan::Limit(l) => {
            pull::number(l.fetch.as_deref()).is_some_and(|n| n <= 1) || at_most_one_row(&l.input)
        }
        LogicalPlan::Join(j) => {
            matches!(j.join_type, JoinType::Inner | JoinType::Left)
                && at_most_one_row(&j.left)
                && at_most_one_row(&j.right)
                || matches!(j.join_type, JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark)
                    && at_most_one_row(&j.left)
        }
        _ => ViewNode::of(plan).is_some_and(at_most_one_row),
    }
}

fn single_value() -> Result<Arc<datafusion::logical_expr::AggregateUDF>> {
    functions::aggregate_functions()
        .into_iter()
        .find(|f| f.name() == "single_value")
        .ok_or_else(|| Error::internal("SINGLE_VALUE is missing"))
}

/// What an aggregate gives over no rows.
fn over_no_rows(expr: &Expr, input: &LogicalPlan) -> DfResult<Option<Expr>> {
    Ok(match expr {
        Expr::Alias(alias) => over_no_rows(&alias.expr, input)?,
        Expr::AggregateFunction(AggregateFunction { func, .. }) => {
            Some(Expr::Literal(func.default_value(&expr.get_type(input.schema())?)?, None))
        }
        _ => None,
    })
}

/// Whether anything of a plan reads columns of a query around it, in a way that tree traversals see.
fn any_node(plan: &LogicalPlan, mut test: impl FnMut(&Expr) -> bool) -> bool {
    let mut found = false;
    let _ = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|e| {
            found |= test(e);
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    });
    found
}

/// The distinct values of `columns` in `plan`, under new names.
fn distinct_values(plan: &LogicalPlan, columns: &[(Column, String)]) -> DfResult<LogicalPlan> {
    let exprs = columns.iter().map(|(c, name)| Expr::Column(c.clone()).alias(name));
    LogicalPlanBuilder::from(plan.clone()).project(exprs)?.distinct()?.build()
}
