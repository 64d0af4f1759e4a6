//! Windows of GROUP BY as window functions below the aggregate.
//!
//! ```text
//!  Projection[k, bound start(w), n] (Aggregate[k, w = TUMBLE(ts, i); n] (t))
//!     ─► Projection[k, w$start, n] (Aggregate[k, w$start, w$end; n] (WindowTvf[ts, i] (t)))
//! ```
//!
//! The window of SESSION is partitioned by the other keys. Keys and times that are computed become columns below it.

use std::sync::Arc;

use arrow::datatypes::DataType;
use chrono_tz::Tz;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result as DfResult};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder, ScalarUDFImpl,
};

use crate::error::{Error, Result};
use crate::operators::window_aggregate::{WindowKind, WindowSpec};
use crate::plan::nodes::window_tvf::{WindowColumns, WindowTvfNode};
use crate::plan::syntax::group_window::{GroupFunction, GroupWindow};
use crate::plan::syntax::window_tvf::milliseconds;
use crate::plan::time_attribute::{SHIFTED_TIME, time_attribute};
use crate::types::TimeAttribute;

/// Settles all windows of GROUP BY in a plan. Those over instants are in the zone of the session.
///
/// # Errors
/// Validation for windows that cannot be, or stand elsewhere.
pub fn settle_group_windows(plan: LogicalPlan, zone: Tz) -> Result<LogicalPlan> {
    let (mut any, mut row_times) = (false, false);
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|e| {
            e.apply(|e| {
                if let Some((f, _)) = group_function(e) {
                    any = true;
                    row_times |= f.kind == GroupFunction::RowTime;
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    if !any {
        return Ok(plan);
    }
    let settled = plan.transform_up_with_subqueries(|node| {
        if let LogicalPlan::Aggregate(aggregate) = &node
            && let Some(at) = aggregate.group_expr.iter().position(|e| group_function(e).is_some())
        {
            return Ok(Transformed::yes(settle(aggregate, at, row_times, zone)?));
        }
        let names = NamePreserver::new(&node);
        let replaced = node.map_expressions(|e| {
            let name = names.save(&e);
            let replaced = e.transform_up(|e| Ok(bound(e)))?;
            Ok(replaced.update_data(|e| name.restore(e)))
        })?;
        // Those above an aggregate with a window have its columns, too.
        replaced.map_data(LogicalPlan::recompute_schema)
    })?;
    settled.data.apply_with_subqueries(|node| {
        node.apply_expressions(|e| refuse_group_functions(e).map(|()| TreeNodeRecursion::Continue))
    })?;
    Ok(settled.data)
}

/// Refuses windows of GROUP BY in an expression.
///
/// # Errors
/// Validation if there is one.
pub fn refuse_group_functions(e: &Expr) -> DfResult<()> {
    e.apply(|e| match group_function(e) {
        Some((f, _)) => {
            let name = f.name().to_uppercase();
            let e = Error::validation(format!("Group function '{name}' can only appear in GROUP BY clause"));
            Err(e.hint("it stands there by itself, and not inside of another call").into())
        }
        None => Ok(TreeNodeRecursion::Continue),
    })?;
    Ok(())
}

/// The call of a window, or of a bound, that an expression is.
fn group_function(e: &Expr) -> Option<(&GroupWindow, &[Expr])> {
    match e {
        Expr::ScalarFunction(f) => {
            let function = f.func.inner().downcast_ref::<GroupWindow>()?;
            Some((function, &f.args))
        }
        _ => None,
    }
}

/// A bound as the column that holds it.
fn bound(e: Expr) -> Transformed<Expr> {
    let [start, end, time] = WindowColumns::Group.names();
    let column = match group_function(&e).map(|(f, _)| f.kind) {
        Some(GroupFunction::Start) => start,
        Some(GroupFunction::End) => end,
        Some(GroupFunction::RowTime) => time,
        Some(GroupFunction::Window(_)) | None => return Transformed::no(e),
    };
    Transformed::yes(Expr::Column(Column::from_name(column)))
}

/// An aggregate by a window, its group expression `at`.
fn settle(aggregate: &Aggregate, at: usize, row_times: bool, zone: Tz) -> DfResult<LogicalPlan> {
    let Some((GroupWindow { kind: GroupFunction::Window(name), .. }, args)) =
        aggregate.group_expr.get(at).and_then(group_function)
    else {
        return datafusion::common::internal_err!("a bound of a window among the keys");
    };
    let input = aggregate.input.as_ref();
    let [time, lengths @ ..] = args else {
        return datafusion::common::internal_err!("{name} without arguments");
    };
    let millis = |i: usize, what: &str| match lengths.get(i) {
        Some(e) => milliseconds(e.clone(), name, what),
        None => datafusion::common::internal_err!("{name} without {what}"),
    };
    let kind = match *name {
        "TUMBLE" => WindowKind::Tumble { size: millis(0, "size")? },
        "HOP" => WindowKind::Hop { slide: millis(0, "slide")?, size: millis(1, "size")? },
        _ => WindowKind::Session { gap: millis(0, "gap")? },
    };
    let zone = match time.get_type(input.schema())? {
        DataType::Timestamp(_, Some(_)) => Some(zone),
        _ => None,
    };
    let window = WindowSpec { kind, offset: 0, zone };
    window.validate()?;
    if row_times && time_attribute(time, input) == Some(TimeAttribute::Processing) {
        return Err(Error::validation("A proctime window cannot provide a rowtime attribute")
            .hint(format!("{name}_PROCTIME is the time of a window by processing time"))
            .into());
    }
    let mut keys: Vec<Expr> =
        aggregate.group_expr.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, e)| e.clone()).collect();
    let mut computed: Vec<Expr> = Vec::new();
    let time = match time {
        Expr::Column(_) => time.clone(),
        // As in Flink, the time of a window may lie a constant interval beside the attribute, whose watermark it keeps.
        e => {
            computed.push(e.clone().alias(SHIFTED_TIME));
            Expr::Column(Column::from_name(SHIFTED_TIME))
        }
    };
    let mut column_of = |e: &Expr| match e {
        Expr::Column(_) => e.clone(),
        e => {
            let name = e.schema_name().to_string();
            computed.push(e.clone().alias(name.clone()));
            Expr::Column(Column::from_name(name))
        }
    };
    let mut partition = Vec::new();
    if window.is_session() {
        keys.iter_mut().for_each(|key| *key = column_of(key));
        partition = keys.clone();
    }
    let input = if computed.is_empty() {
        input.clone()
    } else {
        let mut exprs: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
        exprs.extend(computed);
        LogicalPlanBuilder::from(input.clone()).project(exprs)?.build()?
    };
    let node = WindowTvfNode::try_new(input, time, partition, window, WindowColumns::Group)?;
    let [start, end, time] = WindowColumns::Group.names();
    keys.extend([start, end].map(|name| Expr::Column(Column::from_name(name))));
    if row_times {
        keys.push(Expr::Column(Column::from_name(time)));
    }
    let input = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    Ok(LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), keys, aggregate.aggr_expr.clone())?))
}
