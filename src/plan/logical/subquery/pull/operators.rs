//! What operators on the way do to a sub-query that is pulled apart; see the table of [`super`].

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, Result as DfResult};
use datafusion::logical_expr::expr::{Sort as SortExpr, WindowFunction};
use datafusion::logical_expr::utils::{enumerate_grouping_sets, split_conjunction};
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, Extension, GroupingSet, Join, Limit, LogicalPlan, LogicalPlanBuilder,
    Projection, Union, UserDefinedLogicalNodeCore, Values, Window, WindowFrame, cast, lit,
};

use super::{Key, Pull, Pulled, number, substituted};
use crate::error::Error;
use crate::functions;
use crate::plan::logical::subquery::carry::columns;
use crate::plan::logical::subquery::{filter, has_outer_expr, is_not_distinct, join, over_no_rows};
use crate::plan::nodes::set_operation::SetOperationNode;
use crate::plan::nodes::unnest::UnnestNode;

impl Pull<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate) -> DfResult<Option<Pulled>> {
        let own = || aggregate.group_expr.iter().chain(&aggregate.aggr_expr);
        let Some(mut pulled) = self.pull_whole(&aggregate.input, false)? else { return Ok(None) };
        let (mut groups, mut calls) = (aggregate.group_expr.clone(), aggregate.aggr_expr.clone());
        if own().any(|e| self.outer(e)) {
            if self.domain.is_none() {
                return Ok(None);
            }
            pulled = self.with_domain(pulled)?;
            let keys = &pulled.keys;
            let named = |e: Expr| -> DfResult<Expr> {
                if !has_outer_expr(&e) {
                    return Ok(e);
                }
                let name = e.schema_name().to_string();
                Ok(substituted(e.unalias(), keys)?.alias(name))
            };
            groups = groups.into_iter().map(named).collect::<DfResult<_>>()?;
            calls = calls.into_iter().map(named).collect::<DfResult<_>>()?;
        }
        let mut empty = None;
        if groups.is_empty() && !self.no_empty {
            let mut values = HashMap::new();
            for call in &calls {
                let Some(value) = over_no_rows(call, &pulled.plan)? else { return Ok(None) };
                values.insert(Column::from_name(call.schema_name().to_string()), value);
            }
            empty = Some(values);
        }
        let keys: Vec<Expr> = pulled.keys.iter().map(|k| Expr::Column(k.inner.clone())).collect();
        if let [Expr::GroupingSet(_)] = groups.as_slice() {
            if !self.no_empty && has_empty_set(&groups)? {
                return Ok(None);
            }
            groups.extend(keys);
            groups = enumerate_grouping_sets(groups)?;
        } else {
            for key in keys {
                if !groups.contains(&key) {
                    groups.push(key);
                }
            }
        }
        let plan = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(pulled.plan), groups, calls)?);
        Ok(Some(Pulled { plan, empty, ..pulled }))
    }

    pub(super) fn limit(&mut self, limit: &Limit) -> DfResult<Option<Pulled>> {
        let (Some(skip), Some(fetch)) = (
            limit.skip.as_deref().map_or(Some(0), |s| number(Some(s))),
            limit.fetch.as_deref().map_or(Some(None), |f| number(Some(f)).map(Some)),
        ) else {
            return Ok(None);
        };
        // The order may be by columns that are not selected.
        if let LogicalPlan::Projection(projection) = limit.input.as_ref() {
            let limited = Limit { input: projection.input.clone(), ..limit.clone() };
            let swapped = Projection::try_new_with_schema(
                projection.expr.clone(),
                Arc::new(LogicalPlan::Limit(limited)),
                projection.schema.clone(),
            )?;
            return self.projection(&swapped, false);
        }
        let (input, order) = match limit.input.as_ref() {
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => (sort.input.as_ref(), sort.expr.clone()),
            other => (other, Vec::new()),
        };
        let Some(mut pulled) = self.pull_whole(input, false)? else { return Ok(None) };
        let mut order = order;
        if order.iter().any(|s| self.outer(&s.expr)) {
            if self.domain.is_none() {
                return Ok(None);
            }
            pulled = self.with_domain(pulled)?;
            for sort in &mut order {
                sort.expr = substituted(sort.expr.clone(), &pulled.keys)?;
            }
        }
        if order.is_empty() {
            // Any row will do; the same one in every run.
            let any = columns(input).into_iter().map(|c| SortExpr::new(Expr::Column(c), true, true));
            order = any.collect();
        }
        let Some(function) = functions::window_functions().into_iter().find(|f| f.name() == "row_number")
        else {
            return Err(Error::internal("ROW_NUMBER is missing").into());
        };
        let kept: Vec<Expr> = columns(&pulled.plan).into_iter().map(Expr::Column).collect();
        let number = Column::from_name(self.joiner.name("row"));
        let mut call = WindowFunction::new(function, Vec::new());
        call.params.partition_by = pulled.keys.iter().map(|k| Expr::Column(k.inner.clone())).collect();
        call.params.window_frame = WindowFrame::new(Some(false));
        call.params.order_by = order;
        let call = Expr::from(call).alias(&number.name);
        let numbered = LogicalPlan::Window(Window::try_new(vec![call], Arc::new(pulled.plan))?);
        let mut conditions = Vec::new();
        if skip > 0 {
            conditions.push(Expr::Column(number.clone()).gt(lit(skip)));
        }
        if let Some(fetch) = fetch {
            conditions.push(Expr::Column(number).lt_eq(lit(skip.saturating_add(fetch))));
        }
        let limited = filter(numbered, conditions)?;
        let plan = LogicalPlan::Projection(Projection::try_new(kept, Arc::new(limited))?);
        Ok(Some(Pulled { plan, ..pulled }))
    }

    pub(super) fn window(&mut self, window: &Window) -> DfResult<Option<Pulled>> {
        if window.window_expr.iter().any(|e| self.outer(e)) {
            return Ok(None);
        }
        let Some(pulled) = self.pull_whole(&window.input, false)? else { return Ok(None) };
        let exprs = window
            .window_expr
            .iter()
            .map(|e| {
                let name = e.schema_name().to_string();
                let apart = e.clone().transform(|e| {
                    Ok(match e {
                        Expr::WindowFunction(mut call) => {
                            call.params
                                .partition_by
                                .extend(pulled.keys.iter().map(|k| Expr::Column(k.inner.clone())));
                            Transformed::yes(Expr::WindowFunction(call))
                        }
                        other => Transformed::no(other),
                    })
                })?;
                Ok(apart.data.unalias().alias(name))
            })
            .collect::<DfResult<Vec<_>>>()?;
        let plan = LogicalPlan::Window(Window::try_new(exprs, Arc::new(pulled.plan))?);
        Ok(Some(Pulled { plan, ..pulled }))
    }

    pub(super) fn join(&mut self, j: &Join, loose: bool) -> DfResult<Option<Pulled>> {
        let inner = j.join_type == JoinType::Inner;
        let keeps_left = matches!(
            j.join_type,
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark
        );
        if !inner && !keeps_left {
            return Ok(None);
        }
        let on = j.on.iter().map(|(l, r)| l.clone().eq(r.clone()));
        let conditions: Vec<Expr> = on.chain(j.filter.iter().flat_map(split_conjunction).cloned()).collect();
        let Some(mut left) = self.pull_whole(&j.left, loose)? else { return Ok(None) };
        let Some(right) = self.pull_whole(&j.right, loose && inner)? else { return Ok(None) };
        if inner {
            let mut between = Vec::new();
            if self.domain.is_some() && !left.keys.is_empty() {
                between = same_values(&left, &right);
            } else {
                left.keys.extend(right.keys);
            }
            left.residual.extend(right.residual);
            left.plan = join(left.plan, right.plan, JoinType::Inner, between, false)?;
            return self.conditions(left, conditions, loose);
        }
        let outer = conditions.iter().any(|c| self.outer(c));
        if outer || !right.keys.is_empty() {
            if self.domain.is_none() {
                return Ok(None);
            }
            left = self.with_domain(left)?;
        }
        let mut all = same_values(&left, &right);
        for condition in conditions {
            all.push(substituted(condition, &left.keys)?);
        }
        // Anti joins that know about NULLs compare one column only.
        let null_aware = j.null_aware && all.len() == 1;
        if j.null_aware && !null_aware {
            return Ok(None);
        }
        let plan = join(left.plan, right.plan, j.join_type, all, null_aware)?;
        Ok(Some(Pulled { plan, ..left }))
    }

    /// Every input with the same keys behind its columns.
    fn beside_each_other(
        &mut self,
        inputs: &[&LogicalPlan],
    ) -> DfResult<Option<(Vec<LogicalPlan>, Vec<Expr>)>> {
        let mut plans = Vec::new();
        let mut keys: Option<Vec<Expr>> = None;
        for input in inputs {
            let Some(pulled) = self.pull_whole(input, false)? else { return Ok(None) };
            let pulled = self.with_domain(pulled)?;
            let outer: Vec<Expr> = pulled.keys.iter().map(|k| k.outer.clone()).collect();
            if keys.get_or_insert_with(|| outer.clone()) != &outer {
                return Ok(None);
            }
            let mut exprs: Vec<Expr> = columns(input).into_iter().map(Expr::Column).collect();
            for (i, key) in pulled.keys.iter().enumerate() {
                exprs.push(Expr::Column(key.inner.clone()).alias(format!("__side_{i}")));
            }
            plans.push(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(pulled.plan))?));
        }
        Ok(keys.map(|keys| (plans, keys)))
    }

    /// The result of a set operation under the names that it had, with keys of their own.
    fn named(&mut self, plan: LogicalPlan, to: Vec<Column>, outer: Vec<Expr>) -> DfResult<Option<Pulled>> {
        let from = columns(&plan);
        let mut exprs: Vec<Expr> = from
            .iter()
            .zip(&to)
            .map(|(from, to)| Expr::Column(from.clone()).alias_qualified(to.relation.clone(), &to.name))
            .collect();
        let mut keys = Vec::new();
        for (from, outer) in from.iter().skip(to.len()).zip(outer) {
            let inner = Column::from_name(self.joiner.name("key"));
            exprs.push(Expr::Column(from.clone()).alias(&inner.name));
            keys.push(Key { outer, inner });
        }
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?);
        Ok(Some(Pulled { keys, ..self.plain(plan) }))
    }

    pub(super) fn union(&mut self, union: &Union) -> DfResult<Option<Pulled>> {
        let inputs: Vec<&LogicalPlan> = union.inputs.iter().map(AsRef::as_ref).collect();
        let Some((plans, outer)) = self.beside_each_other(&inputs)? else { return Ok(None) };
        let union_of = Union::try_new_with_loose_types(plans.into_iter().map(Arc::new).collect())?;
        self.named(LogicalPlan::Union(union_of), union.schema.columns(), outer)
    }

    /// Each row as a query without FROM.
    pub(super) fn values(&mut self, values: &Values, loose: bool) -> DfResult<Option<Pulled>> {
        if self.domain.is_none() {
            return Ok(None);
        }
        let mut rows = Vec::with_capacity(values.values.len());
        for row in &values.values {
            let exprs = row
                .iter()
                .zip(values.schema.fields())
                .map(|(e, field)| {
                    let e = e.clone();
                    let fits = e.get_type(&DFSchema::empty())? == *field.data_type();
                    let typed = if fits { e } else { cast(e, field.data_type().clone()) };
                    Ok(typed.alias(field.name()))
                })
                .collect::<DfResult<Vec<_>>>()?;
            let one = LogicalPlanBuilder::empty(true).build()?;
            rows.push(Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(one))?)));
        }
        let plan = match rows.as_slice() {
            [row] => row.as_ref().clone(),
            _ => LogicalPlan::Union(Union::try_new_with_loose_types(rows)?),
        };
        self.pull(&plan, loose)
    }

    pub(super) fn set_operation(&mut self, operation: &SetOperationNode) -> DfResult<Option<Pulled>> {
        let inputs = [&operation.left, &operation.right];
        let Some((mut plans, outer)) = self.beside_each_other(&inputs)? else { return Ok(None) };
        let (Some(right), Some(left)) = (plans.pop(), plans.pop()) else { return Ok(None) };
        let node = SetOperationNode::try_new(left, right, operation.kind)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        let to = UserDefinedLogicalNodeCore::schema(operation).columns();
        self.named(plan, to, outer)
    }

    pub(super) fn unnest(&mut self, unnest: &UnnestNode) -> DfResult<Option<Pulled>> {
        let Some(mut pulled) = self.pull_whole(&unnest.input, false)? else { return Ok(None) };
        let mut collection = unnest.collection.clone();
        if self.outer(&collection) {
            if self.domain.is_none() {
                return Ok(None);
            }
            pulled = self.with_domain(pulled)?;
            collection = substituted(collection, &pulled.keys)?;
        }
        let node = unnest.over(pulled.plan, collection, unnest.outer)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(Some(Pulled { plan, ..pulled }))
    }
}

/// That both sides are about the same values.
fn same_values(left: &Pulled, right: &Pulled) -> Vec<Expr> {
    let mut same = Vec::new();
    for key in &right.keys {
        if let Some(other) = left.keys.iter().find(|k| k.outer == key.outer) {
            same.push(is_not_distinct(Expr::Column(other.inner.clone()), Expr::Column(key.inner.clone())));
        }
    }
    same
}

fn has_empty_set(groups: &[Expr]) -> DfResult<bool> {
    Ok(match groups {
        [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => sets.iter().any(Vec::is_empty),
        _ => true,
    })
}
