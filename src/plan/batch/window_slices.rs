//! Batch: aggregates by window over windows that overlap, by the streaming aggregate's slices rather than by a row for each
//! window that a row is in.
//!
//! ```text
//!  AggregateExec[final] ─ AggregateExec[partial, by w.end …] ─ Projection[w.end …] ─ Unnest[w] ─ Projection[…, windows(ts) AS w]
//!     ─►  WindowAggregateExec ─ Projection[…, ts]
//! ```
//!
//! Of HOP and CUMULATE; rows of other keys meet nowhere, so there has to be a key beside the window.

use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::unnest::UnnestExec;

use super::distinct::own_calls;
use super::operator_exec::{OperatorExec, OperatorPlan, with_columns};
use super::window_tvf::{Part, WindowField, WindowFunction};
use crate::operators::group_aggregate::AggregateCall;
use crate::operators::window_aggregate::{
    WindowAggregateConfig, WindowAggregateOperator, WindowKind, WindowOutput, WindowPhase, WindowSpec,
};
use crate::stream::key_group::KeyGroupRange;

type Node = Arc<dyn ExecutionPlan>;

/// Puts the operator in the place of both phases, before any rule looks at partitions.
#[derive(Debug)]
pub struct WindowsBySlices;

impl PhysicalOptimizerRule for WindowsBySlices {
    fn optimize(&self, plan: Node, _config: &ConfigOptions) -> DfResult<Node> {
        plan.transform_down(|node| {
            let by_slices = node.downcast_ref::<AggregateExec>().map(by_slices).transpose()?.flatten();
            Ok(by_slices.map_or(Transformed::no(node), Transformed::yes))
        })
        .data()
    }

    fn name(&self) -> &str {
        "windows_by_slices"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Rows with all their windows, and the columns that are read of them.
struct Expanded<'a> {
    read: &'a ProjectionExec,
    rows: &'a ProjectionExec,
    /// The column of `rows` with the windows.
    at: usize,
    window: WindowSpec,
    time: Arc<dyn PhysicalExpr>,
}

impl<'a> Expanded<'a> {
    fn below(node: &'a Node) -> Option<Self> {
        let read = node.downcast_ref::<ProjectionExec>()?;
        let unnest = read.input().downcast_ref::<UnnestExec>()?;
        let rows = unnest.input().downcast_ref::<ProjectionExec>()?;
        let [list] = unnest.list_column_indices() else { return None };
        let at = list.index_in_input_schema;
        let call = rows.expr().get(at)?.expr.downcast_ref::<ScalarFunctionExpr>()?;
        let function = call.fun().inner().downcast_ref::<WindowFunction>()?;
        let time = call.args().first()?;
        let is_ours =
            function.part == Part::All && unnest.struct_column_indices().is_empty() && list.depth == 1;
        is_ours.then(|| Expanded { read, rows, at, window: function.window, time: Arc::clone(time) })
    }

    /// The part of the window that an expression over `read` is.
    fn part(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<Part> {
        let column = expr.downcast_ref::<Column>()?;
        let call = self.read.expr().get(column.index())?.expr.downcast_ref::<ScalarFunctionExpr>()?;
        Some(call.fun().inner().downcast_ref::<WindowField>()?.0.part)
    }

    /// An expression over `read` as one over the columns of `rows`; `None` if it needs the window.
    fn over_rows(&self, expr: &Arc<dyn PhysicalExpr>) -> DfResult<Option<Arc<dyn PhysicalExpr>>> {
        let mut needs_window = false;
        let over_rows = Arc::clone(expr).transform_up(|e| {
            let Some(column) = e.downcast_ref::<Column>() else { return Ok(Transformed::no(e)) };
            let below = self.read.expr().get(column.index()).map(|p| &p.expr);
            match below.filter(|e| e.downcast_ref::<Column>().is_some_and(|c| c.index() != self.at)) {
                Some(below) => Ok(Transformed::yes(Arc::clone(below))),
                None => {
                    needs_window = true;
                    Ok(Transformed::no(e))
                }
            }
        })?;
        Ok((!needs_window).then_some(over_rows.data))
    }

    /// The rows with their time in the place of their windows.
    fn timed(&self) -> DfResult<Node> {
        let mut exprs: Vec<ProjectionExpr> = self.rows.expr().to_vec();
        if let Some(windows) = exprs.get_mut(self.at) {
            windows.expr = Arc::clone(&self.time);
        }
        Ok(Arc::new(ProjectionExec::try_new(exprs, Arc::clone(self.rows.input()))?))
    }
}

fn by_slices(last: &AggregateExec) -> DfResult<Option<Node>> {
    let Some((first, calls)) = own_calls(last) else { return Ok(None) };
    let Some(expanded) = Expanded::below(first.input()) else { return Ok(None) };
    let mut output = Vec::new();
    let mut keys = Vec::new();
    for (expr, _) in first.group_expr().expr() {
        output.push(match expanded.part(expr) {
            Some(Part::Start) => WindowOutput::Start,
            Some(Part::End) => WindowOutput::End,
            Some(Part::Time) => WindowOutput::Time,
            Some(_) => return Ok(None),
            None => {
                let Some(key) = expanded.over_rows(expr)? else { return Ok(None) };
                keys.push(key);
                WindowOutput::Key(keys.len() - 1)
            }
        });
    }
    // Windows of CUMULATE have their start in common.
    let starts_differ = matches!(expanded.window.kind, WindowKind::Hop { .. });
    let names_window = output.iter().any(|column| match column {
        WindowOutput::End | WindowOutput::Time => true,
        WindowOutput::Start => starts_differ,
        _ => false,
    });
    if keys.is_empty() || !names_window {
        return Ok(None);
    }
    let mut aggregates = Vec::with_capacity(calls.len());
    for call in calls {
        let Some(call) = over_rows(&expanded, call)? else { return Ok(None) };
        output.push(WindowOutput::Aggregate(aggregates.len()));
        aggregates.push(call);
    }
    let (input, columns) = with_columns(&expanded.timed()?, &keys)?;
    let (schema, output_schema) = (input.schema(), last.schema());
    let window = match expanded.window.kind {
        WindowKind::Hop { size, slide } => format!("HOP(slide={slide} ms, size={size} ms)"),
        WindowKind::Cumulate { size, step } => format!("CUMULATE(step={step} ms, size={size} ms)"),
        _ => return Ok(None),
    };
    let text = format!(
        "{window}, gby=[{}], aggr=[{}]",
        first.group_expr().expr().iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", "),
        first.aggr_expr().iter().map(|a| a.name()).collect::<Vec<_>>().join(", ")
    );
    let config = WindowAggregateConfig {
        output_schema: Arc::clone(&output_schema),
        output,
        window: expanded.window,
        time_column: expanded.at,
        keys: columns.iter().map(|at| Arc::new(Column::new(schema.field(*at).name(), *at)) as _).collect(),
        input_schema: schema,
        aggregates,
        phase: WindowPhase::Single,
        input_retracts: false,
        by_proctime: false,
    };
    // What it cannot keep stays with DataFusion.
    if WindowAggregateOperator::new(config.clone(), KeyGroupRange::ALL).is_err() {
        return Ok(None);
    }
    let plan = OperatorPlan {
        name: "WindowAggregateExec",
        text,
        schema: output_schema,
        keys: columns,
        keeps_columns: false,
        make: Arc::new(move |range| Ok(Box::new(WindowAggregateOperator::new(config.clone(), range)?))),
    };
    Ok(Some(Arc::new(OperatorExec::over(plan, input))))
}

/// A call over the columns of the rows.
fn over_rows(expanded: &Expanded<'_>, call: AggregateCall) -> DfResult<Option<AggregateCall>> {
    let args = call.args.iter().map(|arg| expanded.over_rows(arg)).collect::<DfResult<Option<Vec<_>>>>()?;
    let Some(args) = args else { return Ok(None) };
    let filter = match &call.filter {
        Some(filter) => match expanded.over_rows(filter)? {
            Some(filter) => Some(filter),
            None => return Ok(None),
        },
        None => None,
    };
    Ok(Some(AggregateCall { args, filter, ..call }))
}
