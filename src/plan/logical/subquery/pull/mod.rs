//! A correlated sub-query pulled apart: a plan without references to the query around it, and conditions between the two.
//!
//! ```text
//!  SELECT MAX(w) FROM r WHERE r.k = t.k  ─► SELECT MAX(w), r.k FROM r GROUP BY r.k      on t.k = r.k
//!  SELECT COUNT(*) FROM r WHERE r.w < t.v
//!    ─► SELECT COUNT(*), d FROM r, (SELECT DISTINCT v AS d FROM t) WHERE r.w < d GROUP BY d      on t.v = d, also if NULL
//! ```
//!
//! The first way moves equalities up, so that the columns of the sub-query stand for those around it; every operator on the
//! way keeps rows of different values apart. Where that is not possible, the second way computes the sub-query for each
//! distinct combination of the values around it (Neumann and Kemper, "Unnesting Arbitrary Queries", 2015).
//!
//! | operator | keeps apart by |
//! |---|---|
//! | aggregate | more keys; without keys of its own also the row over nothing: `empty` |
//! | DISTINCT | the columns themselves |
//! | `LIMIT` | ROW_NUMBER() OVER (PARTITION BY keys) |
//! | window | PARTITION BY |
//! | set operations | more columns |
//! | VALUES | a query of one row for each of its rows |
//! | outer, semi and anti joins | the left side holds the keys |

mod operators;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, JoinType, Result as DfResult, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    BinaryExpr, Distinct, Expr, Filter, LogicalPlan, Operator, Projection, SubqueryAlias, lit,
};

use crate::error::Error;
use crate::plan::logical::subquery::carry::columns;
use crate::plan::logical::subquery::{
    SubqueryJoiner, any_node, distinct_values, filter, has_outer_expr, is_not_distinct, join,
};
use crate::plan::nodes::set_operation::SetOperationNode;
use crate::plan::nodes::unnest::UnnestNode;

/// A value around a sub-query and the column of the sub-query that stands for it.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// Of the query around, its columns as references.
    pub(super) outer: Expr,
    /// Of the sub-query.
    pub(super) inner: Column,
}

/// A sub-query without references to the query around it.
#[derive(Debug)]
pub(super) struct Pulled {
    /// Has the columns of the sub-query, and more.
    pub(super) plan: LogicalPlan,
    pub(super) keys: Vec<Key>,
    /// Whether NULL is a value like others in the keys.
    pub(super) null_safe: bool,
    /// Other conditions between references and columns of `plan`.
    pub(super) residual: Vec<Expr>,
    /// For an aggregate of everything: its columns where there is nothing to aggregate.
    pub(super) empty: Option<HashMap<Column, Expr>>,
}

/// The values around a sub-query that it reads.
struct Domain<'a> {
    left: &'a LogicalPlan,
    columns: Vec<Column>,
}

/// How a sub-query is pulled apart.
struct Pull<'a> {
    joiner: &'a mut SubqueryJoiner,
    /// The second way.
    domain: Option<Domain<'a>>,
    /// Aggregates over nothing give no row: what Flink does in LATERAL.
    no_empty: bool,
}

impl SubqueryJoiner {
    /// Pulls `plan` apart, which stands beside the rows of `left`. `loose`: its rows may be related by any condition.
    pub(super) fn pull_apart(
        &mut self,
        plan: &LogicalPlan,
        left: &LogicalPlan,
        loose: bool,
        no_empty: bool,
    ) -> DfResult<Pulled> {
        let mut first = Pull { joiner: self, domain: None, no_empty };
        if let Some(pulled) = first.pull(plan, loose)? {
            return Ok(pulled);
        }
        let mut read: Vec<Column> = Vec::new();
        any_node(plan, |expr| {
            let _ = expr.exists(|e| {
                if let Expr::OuterReferenceColumn(_, c) = e
                    && left.schema().maybe_index_of_column(c).is_some()
                    && !read.contains(c)
                {
                    read.push(c.clone());
                }
                Ok(false)
            });
            false
        });
        read.sort();
        let mut second = Pull { joiner: self, domain: Some(Domain { left, columns: read }), no_empty };
        match second.pull(plan, false)? {
            Some(pulled) => Ok(pulled),
            None => Err(refused(plan)),
        }
    }
}

/// Whether a plan reads columns of a query around it.
pub(super) fn has_outer(plan: &LogicalPlan) -> bool {
    any_node(plan, has_outer_expr)
}

fn refused(plan: &LogicalPlan) -> datafusion::error::DataFusionError {
    Error::unsupported(format!(
        "a sub-query that reads the query around it below {} is not supported",
        plan.display().to_string().split(':').next().unwrap_or_default()
    ))
    .hint("relate the two by conditions of its WHERE, or write a join")
    .into()
}

impl Pull<'_> {
    /// Whether an expression has references that are to be replaced.
    fn outer(&self, expr: &Expr) -> bool {
        match &self.domain {
            None => has_outer_expr(expr),
            Some(domain) => expr
                .exists(|e| Ok(matches!(e, Expr::OuterReferenceColumn(_, c) if domain.columns.contains(c))))
                .unwrap_or(true),
        }
    }

    fn plain(&self, plan: LogicalPlan) -> Pulled {
        let null_safe = self.domain.is_some();
        Pulled { plan, keys: Vec::new(), null_safe, residual: Vec::new(), empty: None }
    }

    /// `None` if this way does not lead anywhere.
    fn pull(&mut self, plan: &LogicalPlan, loose: bool) -> DfResult<Option<Pulled>> {
        if !any_node(plan, |e| self.outer(e)) {
            return Ok(Some(self.plain(plan.clone())));
        }
        match plan {
            LogicalPlan::Subquery(s) => self.pull(&s.subquery, loose),
            LogicalPlan::SubqueryAlias(alias) => self.alias(alias, loose),
            LogicalPlan::Projection(projection) => self.projection(projection, loose),
            LogicalPlan::Filter(f) => self.filter(f, loose),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let Some(pulled) = self.pull_whole(input, false)? else { return Ok(None) };
                let plan = LogicalPlan::Distinct(Distinct::All(Arc::new(pulled.plan)));
                Ok(Some(Pulled { plan, ..pulled }))
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.pull(&sort.input, loose),
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Join(j) => self.join(j, loose),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Values(values) => self.values(values, loose),
            LogicalPlan::Extension(extension) => {
                let any = extension.node.as_any();
                if let Some(operation) = any.downcast_ref::<SetOperationNode>() {
                    self.set_operation(operation)
                } else if let Some(unnest) = any.downcast_ref::<UnnestNode>() {
                    self.unnest(unnest)
                } else {
                    Ok(None)
                }
            }
            _ => Ok(None),
        }
    }

    /// As `pull`; an aggregate of everything has its row over nothing.
    fn pull_whole(&mut self, plan: &LogicalPlan, loose: bool) -> DfResult<Option<Pulled>> {
        let Some(pulled) = self.pull(plan, loose)? else { return Ok(None) };
        let (Some(empty), Some(domain)) = (&pulled.empty, &self.domain) else {
            return Ok(pulled.empty.is_none().then_some(pulled));
        };
        // Every value, with what belongs to it.
        let (values, keys) = instance(self.joiner, domain)?;
        let conditions = keys.iter().zip(&pulled.keys).map(|(value, key)| {
            is_not_distinct(Expr::Column(value.inner.clone()), Expr::Column(key.inner.clone()))
        });
        let conditions = conditions.collect();
        let mark = self.joiner.name("matched");
        let mut exprs: Vec<Expr> = columns(&pulled.plan).into_iter().map(Expr::Column).collect();
        exprs.push(lit(true).alias(&mark));
        let marked = Projection::try_new(exprs, Arc::new(pulled.plan.clone()))?;
        let joined = join(values, LogicalPlan::Projection(marked), JoinType::Left, conditions, false)?;
        let missing = Expr::Column(Column::from_name(mark)).is_null();
        let mut exprs: Vec<Expr> = keys.iter().map(|k| Expr::Column(k.inner.clone())).collect();
        for (column, value) in sorted(empty) {
            let otherwise = Expr::Column(column.clone());
            let whole =
                datafusion::logical_expr::when(missing.clone(), value.clone()).otherwise(otherwise)?;
            exprs.push(whole.alias_qualified(column.relation.clone(), &column.name));
        }
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(joined))?);
        Ok(Some(Pulled { plan, keys, empty: None, ..pulled }))
    }

    fn alias(&mut self, alias: &SubqueryAlias, loose: bool) -> DfResult<Option<Pulled>> {
        let Some(pulled) = self.pull(&alias.input, loose)? else { return Ok(None) };
        let from = columns(&alias.input);
        let to = alias.schema.columns();
        let mut exprs: Vec<Expr> = from
            .iter()
            .zip(&to)
            .map(|(from, to)| Expr::Column(from.clone()).alias_qualified(to.relation.clone(), &to.name))
            .collect();
        let carried = self.joiner.carry(&pulled, &mut exprs, &to)?;
        let empty = pulled.empty.map(|empty| {
            from.iter().zip(&to).filter_map(|(f, t)| Some((t.clone(), empty.get(f)?.clone()))).collect()
        });
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(pulled.plan))?);
        let (keys, residual) = (carried.keys, carried.residual);
        Ok(Some(Pulled { plan, keys, residual, empty, null_safe: pulled.null_safe }))
    }

    fn projection(&mut self, projection: &Projection, loose: bool) -> DfResult<Option<Pulled>> {
        let Some(mut pulled) = self.pull(&projection.input, loose)? else { return Ok(None) };
        let mut exprs = projection.expr.clone();
        let outputs = projection.schema.columns();
        if exprs.iter().any(|e| self.outer(e)) {
            if self.domain.is_none() {
                return Ok(None);
            }
            if pulled.empty.is_some() {
                let Some(whole) = self.pull_whole(&projection.input, loose)? else { return Ok(None) };
                pulled = whole;
            }
            pulled = self.with_domain(pulled)?;
            exprs = exprs
                .into_iter()
                .zip(&outputs)
                .map(|(e, to)| {
                    if !has_outer_expr(&e) {
                        return Ok(e);
                    }
                    Ok(substituted(e.unalias(), &pulled.keys)?.alias_qualified(to.relation.clone(), &to.name))
                })
                .collect::<DfResult<_>>()?;
        }
        let mut empty = None;
        if let Some(below) = &pulled.empty {
            let mut values = HashMap::new();
            for (e, to) in exprs.iter().zip(&outputs) {
                let mut known = true;
                let value = e.clone().unalias_nested().data.transform(|e| {
                    Ok(match e {
                        Expr::Column(c) => match below.get(&c) {
                            Some(value) => Transformed::yes(value.clone()),
                            None => {
                                known = false;
                                Transformed::no(Expr::Column(c))
                            }
                        },
                        other => Transformed::no(other),
                    })
                })?;
                if !known {
                    return Ok(None);
                }
                values.insert(to.clone(), value.data);
            }
            empty = Some(values);
        }
        let carried = self.joiner.carry(&pulled, &mut exprs, &outputs)?;
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(pulled.plan))?);
        let (keys, residual) = (carried.keys, carried.residual);
        Ok(Some(Pulled { plan, keys, residual, empty, null_safe: pulled.null_safe }))
    }

    fn filter(&mut self, f: &Filter, loose: bool) -> DfResult<Option<Pulled>> {
        let Some(pulled) = self.pull_whole(&f.input, loose)? else { return Ok(None) };
        let conditions = split_conjunction(&f.predicate).into_iter().cloned().collect();
        self.conditions(pulled, conditions, loose)
    }

    /// Rows that meet conditions, of which some have references.
    fn conditions(
        &mut self,
        mut pulled: Pulled,
        conditions: Vec<Expr>,
        loose: bool,
    ) -> DfResult<Option<Pulled>> {
        let (outer, own): (Vec<Expr>, Vec<Expr>) = conditions.into_iter().partition(|c| self.outer(c));
        if self.domain.is_some() {
            if !outer.is_empty() {
                pulled = self.with_domain(pulled)?;
            }
            let mut all = own;
            for condition in outer {
                all.push(substituted(condition, &pulled.keys)?);
            }
            pulled.plan = filter(pulled.plan, all)?;
            return Ok(Some(pulled));
        }
        pulled.plan = filter(pulled.plan, own)?;
        for condition in outer {
            match equality(&condition) {
                Some((outer, inner)) => {
                    let inner = self.as_column(&mut pulled.plan, inner)?;
                    pulled.keys.push(Key { outer, inner });
                }
                None if loose => pulled.residual.push(condition),
                None => return Ok(None),
            }
        }
        Ok(Some(pulled))
    }

    /// An expression as a column of the plan, which may get one more.
    fn as_column(&mut self, plan: &mut LogicalPlan, expr: Expr) -> DfResult<Column> {
        if let Expr::Column(column) = expr {
            return Ok(column);
        }
        let column = Column::from_name(self.joiner.name("key"));
        let mut exprs: Vec<Expr> = columns(plan).into_iter().map(Expr::Column).collect();
        exprs.push(expr.alias(&column.name));
        *plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan.clone()))?);
        Ok(column)
    }

    /// The rows once for every value around, unless they already belong to one.
    fn with_domain(&mut self, pulled: Pulled) -> DfResult<Pulled> {
        let Some(domain) = self.domain.as_ref().filter(|_| pulled.keys.is_empty()) else { return Ok(pulled) };
        let (values, keys) = instance(self.joiner, domain)?;
        let plan = join(pulled.plan, values, JoinType::Inner, Vec::new(), false)?;
        Ok(Pulled { plan, keys, ..pulled })
    }
}

/// The values around a sub-query as a relation of its own.
fn instance(joiner: &mut SubqueryJoiner, domain: &Domain<'_>) -> DfResult<(LogicalPlan, Vec<Key>)> {
    let named: Vec<(Column, String)> =
        domain.columns.iter().map(|c| (c.clone(), joiner.name("value"))).collect();
    let mut keys = Vec::new();
    for (column, name) in &named {
        let (_, field) = domain.left.schema().qualified_field_from_column(column)?;
        let outer = Expr::OuterReferenceColumn(field.clone(), column.clone());
        keys.push(Key { outer, inner: Column::from_name(name) });
    }
    Ok((distinct_values(domain.left, &named)?, keys))
}

/// References as the columns that stand for them.
fn substituted(expr: Expr, keys: &[Key]) -> DfResult<Expr> {
    let done = expr.transform(|e| {
        Ok(match &e {
            Expr::OuterReferenceColumn(_, c) => {
                let key = keys
                    .iter()
                    .find(|k| matches!(&k.outer, Expr::OuterReferenceColumn(_, outer) if outer == c));
                match key {
                    Some(key) => Transformed::yes(Expr::Column(key.inner.clone())),
                    None => Transformed::no(e),
                }
            }
            _ => Transformed::no(e),
        })
    })?;
    Ok(done.data)
}

/// `reference = own`: something of the query around and something of the sub-query.
fn equality(condition: &Expr) -> Option<(Expr, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return None };
    let around = |e: &Expr| has_outer_expr(e) && e.column_refs().is_empty();
    let own = |e: &Expr| !has_outer_expr(e) && !e.column_refs().is_empty();
    if around(left) && own(right) {
        Some((left.as_ref().clone(), right.as_ref().clone()))
    } else if around(right) && own(left) {
        Some((right.as_ref().clone(), left.as_ref().clone()))
    } else {
        None
    }
}

/// In a fixed order.
fn sorted(values: &HashMap<Column, Expr>) -> Vec<(&Column, &Expr)> {
    let mut all: Vec<_> = values.iter().collect();
    all.sort_by(|a, b| a.0.cmp(b.0));
    all
}

/// A number that is written down.
pub(super) fn number(expr: Option<&Expr>) -> Option<i64> {
    match expr? {
        Expr::Literal(ScalarValue::Int64(n), _) => *n,
        Expr::Literal(ScalarValue::Int32(n), _) => n.map(i64::from),
        Expr::Cast(cast) => number(Some(&cast.expr)),
        _ => None,
    }
}
