//! Which columns of a plan are time attributes.
//!
//! ```text
//!  WATERMARK FOR ts         ─► row time            kept by plain references to the column, through sub-queries, unions and
//!  pt AS PROCTIME()         ─► processing time     filters, and as `window_time` of a window; lost by computing
//! ```
//!
//! A processing time is a column of the batches, too: the clock of the moment when its rows were read or computed. Operators
//! that work by processing time take their own `now` instead.

use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, Operator};

use crate::plan::match_recognize::row_times;
use crate::plan::nodes::changelog::ChangelogNode;
use crate::plan::nodes::lookup_join::LookupJoinNode;
use crate::plan::nodes::match_recognize::MatchRecognizeNode;
use crate::plan::nodes::temporal_join::TemporalJoinNode;
use crate::plan::nodes::view::ViewNode;
use crate::plan::nodes::watermark::WatermarkNode;
use crate::plan::nodes::window_tvf::WindowTvfNode;
use crate::types::TimeAttribute;

/// Name of the time of a window of GROUP BY that is computed from a time attribute.
pub const SHIFTED_TIME: &str = "w$time";

/// The column that an expression is a constant interval beside, where it makes the time of a window of GROUP BY.
pub fn shifted_time(expr: &Expr) -> Option<&Expr> {
    let Expr::Alias(alias) = expr else { return None };
    let is_interval =
        |e: &Expr| matches!(e, Expr::Literal(v, _) if crate::plan::interval::milliseconds(v).is_some());
    match alias.expr.as_ref() {
        Expr::BinaryExpr(e) if alias.name == SHIFTED_TIME => {
            match (e.left.as_ref(), e.op, e.right.as_ref()) {
                (column @ Expr::Column(_), Operator::Plus | Operator::Minus, by) if is_interval(by) => {
                    Some(column)
                }
                (by, Operator::Plus, column @ Expr::Column(_)) if is_interval(by) => Some(column),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether an expression is the call `PROCTIME()`, aliases aside.
pub fn is_proctime_call(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(a) => is_proctime_call(&a.expr),
        Expr::ScalarFunction(f) => f.name().eq_ignore_ascii_case("proctime"),
        _ => false,
    }
}

/// The time attribute that an expression over `plan` is.
pub fn time_attribute(expr: &Expr, plan: &LogicalPlan) -> Option<TimeAttribute> {
    match expr {
        Expr::Alias(a) => time_attribute(&a.expr, plan),
        Expr::Column(column) => column_attribute(plan, plan.schema().maybe_index_of_column(column)?),
        _ => is_proctime_call(expr).then_some(TimeAttribute::Processing),
    }
}

/// The time attribute that column `i` of `plan` is.
pub fn column_attribute(plan: &LogicalPlan, i: usize) -> Option<TimeAttribute> {
    match plan {
        LogicalPlan::Projection(p) => time_attribute(p.expr.get(i)?, &p.input),
        LogicalPlan::SubqueryAlias(a) => column_attribute(&a.input, i),
        LogicalPlan::Filter(f) => column_attribute(&f.input, i),
        LogicalPlan::Sort(s) => column_attribute(&s.input, i),
        LogicalPlan::Limit(l) => column_attribute(&l.input, i),
        LogicalPlan::Union(u) => {
            let mut found = u.inputs.iter().map(|input| column_attribute(input, i));
            let first = found.next()??;
            found.all(|other| other == Some(first)).then_some(first)
        }
        // Only the time of a window is one, and `window_time` is the only one left of it.
        LogicalPlan::Aggregate(a) => time_attribute(a.group_expr.get(i)?, &a.input),
        LogicalPlan::Window(w) if i < w.input.schema().fields().len() => column_attribute(&w.input, i),
        LogicalPlan::Join(j) if matches!(j.join_type, JoinType::Inner | JoinType::Left | JoinType::Right) => {
            // A row time does not outlive a regular join, nor does a processing time that may be NULL.
            let (side, i, other) = match i.checked_sub(j.left.schema().fields().len()) {
                None => (&j.left, i, JoinType::Left),
                Some(i) => (&j.right, i, JoinType::Right),
            };
            let never_null = j.join_type == JoinType::Inner || j.join_type == other;
            let attribute = never_null.then(|| column_attribute(side, i))??;
            (attribute == TimeAttribute::Processing).then_some(attribute)
        }
        LogicalPlan::Extension(e) => {
            let node = e.node.as_any();
            if let Some(node) = node.downcast_ref::<WatermarkNode>() {
                let marked = match &node.column {
                    Expr::Column(c) => node.input.schema().maybe_index_of_column(c),
                    _ => None,
                };
                if marked == Some(i) {
                    return Some(TimeAttribute::Row);
                }
                column_attribute(&node.input, i)
            } else if let Some(node) = node.downcast_ref::<WindowTvfNode>() {
                let columns = node.input.schema().fields().len();
                if i == columns + 2 {
                    time_attribute(&node.time, &node.input)
                } else {
                    let attribute = (i < columns).then(|| column_attribute(&node.input, i))??;
                    (attribute == TimeAttribute::Processing).then_some(attribute)
                }
            } else if let Some(node) = node.downcast_ref::<ChangelogNode>() {
                column_attribute(&node.input, node.input_column(i)?)
            } else if let Some(node) = node.downcast_ref::<MatchRecognizeNode>() {
                let (_, of_match) = node.output().into_iter().nth(i)?;
                if is_proctime_call(&of_match) {
                    return Some(TimeAttribute::Processing);
                }
                let is_time = row_times(node).get(i).copied().unwrap_or(false);
                is_time.then(|| time_attribute(&node.order.first()?.expr, &node.input))?
            } else if let Some(node) = node.downcast_ref::<TemporalJoinNode>() {
                (i < node.left.schema().fields().len()).then(|| column_attribute(&node.left, i))?
            } else if let Some(node) = node.downcast_ref::<LookupJoinNode>() {
                (i < node.left.schema().fields().len()).then(|| column_attribute(&node.left, i))?
            } else {
                column_attribute(ViewNode::of(plan)?, i)
            }
        }
        _ => None,
    }
}
