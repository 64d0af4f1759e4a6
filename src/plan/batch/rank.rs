//! Batch: the first rows of each partition by the streaming top-N, which keeps those alone, rather than by sorting all.
//!
//! ```text
//!  Filter[rn <= n …] ─ Projection* ─ BoundedWindowAggExec[row_number() AS rn]  ─►  Filter ─ Projection* ─ RankExec
//! ```
//!
//! The filter stays: it may ask for more than the number. Rows that are equal in the order are numbered as they come.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Result as DfResult;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::Operator as BinaryOperator;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal};
use datafusion::physical_expr::window::{StandardWindowExpr, WindowExpr};
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowUDFExpr};

use super::operator_exec::{OperatorExec, OperatorPlan, has_floats, with_columns};
use crate::operators::top_n::{RankEnd, RankFunction, RankOutput, SortColumn, TopNConfig, TopNOperator};

type Node = Arc<dyn ExecutionPlan>;

/// A partition of which more is wanted is sorted; and sooner where all rows are one, which cannot rest on disk.
const MOST_RANKS: u64 = 100_000;
const MOST_OF_ALL: u64 = 1_000;

/// Puts the operator in the place of the window, before any rule looks at orders and partitions.
#[derive(Debug)]
pub struct RankByState;

impl PhysicalOptimizerRule for RankByState {
    fn optimize(&self, plan: Node, _config: &ConfigOptions) -> DfResult<Node> {
        plan.transform_down(|node| {
            let Some(filter) = node.downcast_ref::<FilterExec>() else { return Ok(Transformed::no(node)) };
            match ranked(filter)? {
                Some(input) => Ok(Transformed::yes(node.with_new_children(vec![input])?)),
                None => Ok(Transformed::no(node)),
            }
        })
        .data()
    }

    fn name(&self) -> &str {
        "rank_by_state"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The input of a filter that bounds a row number, with the operator in it.
fn ranked(filter: &FilterExec) -> DfResult<Option<Node>> {
    let mut projections: Vec<&Node> = Vec::new();
    let mut node = filter.input();
    while let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        projections.push(node);
        node = projection.input();
    }
    let Some(window) = node.downcast_ref::<BoundedWindowAggExec>() else { return Ok(None) };
    let rank_at = window.input().schema().fields().len();
    // The column of the number in what the filter sees.
    let is_rank = |column: usize| {
        let mut at = column;
        for projection in projections.iter().filter_map(|p| p.downcast_ref::<ProjectionExec>()) {
            match projection.expr().get(at).and_then(|e| column_of(&e.expr)) {
                Some(below) => at = below,
                None => return false,
            }
        }
        at == rank_at
    };
    let bounds = split_conjunction(filter.predicate()).into_iter().filter_map(|c| bound(c, &is_rank));
    let Some(end) = bounds.min().filter(|end| *end <= MOST_RANKS) else { return Ok(None) };
    let Some(rank) = rank_exec(window, end)? else { return Ok(None) };
    let mut input: Node = Arc::new(rank);
    for projection in projections.into_iter().rev() {
        input = Arc::clone(projection).with_new_children(vec![input])?;
    }
    Ok(Some(input))
}

/// The operator for a window of nothing but ROW_NUMBER, of whose numbers those up to `end` are wanted.
fn rank_exec(window: &BoundedWindowAggExec, end: u64) -> DfResult<Option<OperatorExec>> {
    let [expr] = window.window_expr() else { return Ok(None) };
    if !is_row_number(expr) {
        return Ok(None);
    }
    let (partition_by, order_by) = (expr.partition_by(), expr.order_by());
    let exprs = partition_by.iter().chain(order_by.iter().map(|o| &o.expr)).cloned();
    let (input, columns) = with_columns(window.input(), &exprs.collect::<Vec<_>>())?;
    let (partition, order) = columns.split_at(partition_by.len());
    let schema = input.schema();
    if partition.iter().any(|column| has_floats(schema.field(*column).data_type()))
        || partition.is_empty() && end > MOST_OF_ALL
    {
        return Ok(None);
    }
    let order =
        order.iter().zip(order_by).map(|(column, o)| SortColumn { column: *column, options: o.options });
    let text = format!("first {end} of partition=[{}], order=[{}]", list(partition_by), list(order_by));
    let kept = window.input().schema().fields().len();
    let config = TopNConfig {
        output: (0..kept).map(RankOutput::Column).chain([RankOutput::Rank]).collect(),
        output_schema: window.schema(),
        input_schema: schema,
        partition: partition.to_vec(),
        order: order.collect(),
        latest_first: false,
        function: RankFunction::RowNumber,
        start: 1,
        end: RankEnd::Constant(end),
        input_retracts: false,
        emit_update_before: false,
        bundle_rows: None,
        ttl_ms: None,
    };
    // Columns that it cannot keep are left to the sort.
    if TopNOperator::at_end(config.clone()).is_err() {
        return Ok(None);
    }
    let plan = OperatorPlan {
        name: "RankExec",
        text,
        schema: window.schema(),
        keys: partition.to_vec(),
        input_columns: (0..kept).map(Some).chain([None]).collect(),
        make: Arc::new(move |_| Ok(Box::new(TopNOperator::at_end(config.clone())?))),
    };
    Ok(Some(OperatorExec::over(plan, input)))
}

fn is_row_number(expr: &Arc<dyn WindowExpr>) -> bool {
    let function = expr.as_any().downcast_ref::<StandardWindowExpr>().map(|e| e.get_standard_func_expr());
    let function = function.and_then(|f| f.as_any().downcast_ref::<WindowUDFExpr>());
    function.is_some_and(|f| f.fun().name() == "row_number")
}

fn list(of: &[impl ToString]) -> String {
    of.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The column that an expression is, at most as another integer.
fn column_of(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        let is_wide = matches!(cast.cast_type(), DataType::Int64 | DataType::UInt64);
        return column_of(cast.expr()).filter(|_| is_wide);
    }
    expr.downcast_ref::<Column>().map(Column::index)
}

/// The greatest number that a condition lets pass.
fn bound(condition: &Arc<dyn PhysicalExpr>, is_rank: &impl Fn(usize) -> bool) -> Option<u64> {
    let condition = condition.downcast_ref::<BinaryExpr>()?;
    let literal = |e: &Arc<dyn PhysicalExpr>| {
        e.downcast_ref::<Literal>().map(Literal::value).filter(|v| v.data_type().is_integer()).cloned()
    };
    let (column, operator, value) = match (column_of(condition.left()), literal(condition.right())) {
        (Some(column), Some(value)) => (column, *condition.op(), value),
        _ => (column_of(condition.right())?, condition.op().swap()?, literal(condition.left())?),
    };
    let ScalarValue::UInt64(Some(value)) = value.cast_to(&DataType::UInt64).ok()? else { return None };
    let end = match operator {
        BinaryOperator::LtEq | BinaryOperator::Eq => value,
        BinaryOperator::Lt => value.checked_sub(1)?,
        _ => return None,
    };
    (is_rank(column) && end > 0).then_some(end)
}
