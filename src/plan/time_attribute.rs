//! Which columns of a plan are time attributes.
//!
//! ```text
//!  WATERMARK FOR ts         ─► row time            kept by plain references to the column, through sub-queries, unions and
//!  pt AS PROCTIME()         ─► processing time     filters, and as `window_time` of a window; lost by computing
//! ```
//!
//! A processing time is a column of the batches, too: the clock of the moment when its rows were read or computed. Operators
//! that work by processing time take their own `now` instead.

use datafusion::logical_expr::{Expr, JoinType, LogicalPlan};

use crate::plan::nodes::lookup_join::LookupJoinNode;
use crate::plan::nodes::temporal_join::TemporalJoinNode;
use crate::plan::nodes::view::ViewNode;
use crate::plan::nodes::watermark::WatermarkNode;
use crate::plan::nodes::window_tvf::WindowTvfNode;
use crate::types::TimeAttribute;

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
        LogicalPlan::Join(j) if matches!(j.join_type, JoinType::Inner | JoinType::Left) => {
            // A row time does not outlive a regular join.
            let left = (i < j.left.schema().fields().len()).then(|| column_attribute(&j.left, i))??;
            (left == TimeAttribute::Processing).then_some(left)
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
