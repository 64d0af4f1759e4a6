//! Puts versioned tables together with the relations that they are joined to, as of a row time or a processing time.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, Result as DfResult};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Extension, Join, LogicalPlan, lit};

use crate::error::{Error, Result};
use crate::plan::logical::lookup_join::lookup_join;
use crate::plan::nodes::lookup_join::LookupJoinNode;
use crate::plan::nodes::temporal_join::{TemporalJoinNode, VersionedTableNode};
use crate::plan::nodes::view::ViewNode;
use crate::plan::nodes::watermark::WatermarkNode;
use crate::plan::time_attribute::column_attribute;
use crate::types::TimeAttribute;

/// Replaces every join with a versioned table by a temporal join.
///
/// # Errors
/// Unsupported for other places of versioned tables; Validation for times that are no column of the left side.
pub fn settle_temporal_joins(plan: LogicalPlan) -> Result<LogicalPlan> {
    let settled = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Join(join) = &node else { return Ok(Transformed::no(node)) };
        match versioned(&join.right) {
            Some(table) => Ok(Transformed::yes(joined(join, table)?)),
            None => Ok(Transformed::no(node)),
        }
    })?;
    let mut left_over = None;
    settled.data.apply_with_subqueries(|node| {
        left_over = versioned(node).map(|table| table.place);
        Ok(if left_over.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    match left_over {
        None => Ok(settled.data),
        Some(place) => Err(Error::unsupported("FOR SYSTEM_TIME AS OF belongs to the right side of a join")
            .hint("write o [LEFT] JOIN t FOR SYSTEM_TIME AS OF o.ts ON o.k = t.k")
            .at(place)),
    }
}

fn versioned(plan: &LogicalPlan) -> Option<&VersionedTableNode> {
    match plan {
        LogicalPlan::Extension(e) => e.node.as_any().downcast_ref::<VersionedTableNode>(),
        _ => None,
    }
}

fn joined(join: &Join, table: &VersionedTableNode) -> DfResult<LogicalPlan> {
    if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
        return Err(Error::unsupported(format!("a temporal join cannot be a {} join", join.join_type))
            .hint("[INNER] JOIN and LEFT JOIN are supported")
            .at(table.place)
            .into());
    }
    let mut conditions: Vec<Expr> = join.on.iter().map(|(l, r)| l.clone().eq(r.clone())).collect();
    conditions.extend(join.filter.clone());
    let condition = conjunction(conditions).unwrap_or_else(|| lit(true));
    let Some(at) = join.left.schema().maybe_index_of_column(&table.time) else {
        // As recipes write it: the processing time of a lookup is now, whichever side's it is.
        let own = table.input.schema().fields().iter().position(|f| *f.name() == table.time.name);
        if own.is_some_and(|i| column_attribute(&table.input, i) == Some(TimeAttribute::Processing)) {
            return lookup_join(join, table, condition);
        }
        return Err(Error::validation(format!("{} is no column of the table before", table.time))
            .hint("FOR SYSTEM_TIME AS OF takes a time attribute of the left side of the join")
            .at(table.place)
            .into());
    };
    let time = Expr::Column(join.left.schema().columns().swap_remove(at));
    if column_attribute(&join.left, at) == Some(TimeAttribute::Processing) {
        return lookup_join(join, table, condition);
    }
    let Some(valid_from) = row_time(&table.input) else {
        return Err(Error::validation(
            "an event-time temporal join needs a primary key and a row time of the versioned table, and no row time can be found",
        )
        .hint("declare WATERMARK FOR its time in CREATE TABLE, and read that column")
        .at(table.place)
        .into());
    };
    let (left, right) = (join.left.as_ref().clone(), table.input.clone());
    let times = [time, Expr::Column(valid_from)];
    let node = TemporalJoinNode::try_new(left, right, join.join_type, times, condition)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// The column of a plan that is the row time of the table below, as far as it is handed on as it is.
fn row_time(plan: &LogicalPlan) -> Option<Column> {
    let column_at = |at: usize| plan.schema().columns().get(at).cloned();
    match plan {
        LogicalPlan::Extension(e) => {
            let any = e.node.as_any();
            if let Some(watermark) = any.downcast_ref::<WatermarkNode>() {
                return match &watermark.column {
                    Expr::Column(column) => Some(column.clone()),
                    _ => None,
                };
            }
            let joined = any.downcast_ref::<TemporalJoinNode>().map(|join| &join.left);
            if let Some(left) = joined.or(any.downcast_ref::<LookupJoinNode>().map(|join| &join.left)) {
                return column_at(left.schema().maybe_index_of_column(&row_time(left)?)?);
            }
            ViewNode::of(plan).and_then(row_time)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            column_at(alias.input.schema().maybe_index_of_column(&row_time(&alias.input)?)?)
        }
        LogicalPlan::Projection(projection) => {
            let time = row_time(&projection.input)?;
            let is_time = |e: &Expr| matches!(e.clone().unalias(), Expr::Column(c) if c == time);
            column_at(projection.expr.iter().position(is_time)?)
        }
        LogicalPlan::Filter(filter) => row_time(&filter.input),
        LogicalPlan::Window(window) => row_time(&window.input),
        LogicalPlan::Union(union) => {
            let first = union.inputs.first()?;
            column_at(first.schema().maybe_index_of_column(&row_time(first)?)?)
        }
        _ => None,
    }
}
