//! How wide the rows of a plan are, as far as its leaves know it: where they are narrow, batches need no bounds but those
//! that DataFusion has.
//!
//! ```text
//!  scan: bytes of columns ÷ rows ─► columns through filters, joins, projections, … ─► bytes of a row, or unknown
//! ```

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::JoinType;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};

use super::super::operator_exec::OperatorExec;
use super::Node;
use super::project::ProjectExec;
use crate::connectors::filesystem::row_widths;
use crate::stream::BATCH_BYTES;

/// Whether as many rows as a batch may have are sure to fit into one.
pub(super) fn is_narrow(node: &Node, batch_rows: usize) -> bool {
    let widths: Option<Vec<usize>> = widths(node).into_iter().collect();
    widths.is_some_and(|w| w.iter().sum::<usize>().saturating_mul(batch_rows) <= BATCH_BYTES)
}

type Widths = Vec<Option<usize>>;

/// Bytes of each column of a row, on average where they are most.
fn widths(node: &Node) -> Widths {
    let schema = node.schema();
    let known = known(node);
    let fields = schema.fields().iter().enumerate();
    fields.map(|(i, f)| fixed(f.data_type()).or_else(|| known.get(i).copied().flatten())).collect()
}

fn fixed(ty: &DataType) -> Option<usize> {
    if *ty == DataType::Boolean || *ty == DataType::Null { Some(1) } else { ty.primitive_width() }
}

/// The widths that a node has from its inputs or knows by itself.
fn known(node: &Node) -> Widths {
    if schema_is_fixed(&node.schema()) {
        return Vec::new();
    }
    if node.children().is_empty() {
        return of_leaf(node);
    }
    if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        return of_exprs(projection.expr().iter().map(|e| &e.expr), projection.input());
    }
    if let Some(projection) = node.downcast_ref::<ProjectExec>() {
        return of_exprs(projection.exprs().iter(), projection.input());
    }
    if let Some(filter) = node.downcast_ref::<FilterExec>() {
        return projected(widths(filter.input()), filter.projection().as_deref());
    }
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        return of_exprs(aggregate.group_expr().expr().iter().map(|(key, _)| key), aggregate.input());
    }
    if let Some(own) = node.downcast_ref::<OperatorExec>() {
        let input = widths(own.input());
        return own.input_columns().iter().map(|column| input.get((*column)?).copied().flatten()).collect();
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        let all = joined(widths(join.left()), widths(join.right()), *join.join_type());
        return projected(all, join.projection.as_deref());
    }
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        let all = joined(widths(join.left()), widths(join.right()), *join.join_type());
        return projected(all, join.projection().as_deref());
    }
    if let Some(join) = node.downcast_ref::<SortMergeJoinExec>() {
        return joined(widths(join.left()), widths(join.right()), join.join_type());
    }
    if let Some(join) = node.downcast_ref::<CrossJoinExec>() {
        return joined(widths(join.left()), widths(join.right()), JoinType::Inner);
    }
    match node.children()[..] {
        // What windows add stands behind.
        [input] if node.is::<WindowAggExec>() || node.is::<BoundedWindowAggExec>() => widths(input),
        [input] if has_same_columns(&input.schema(), &node.schema()) => widths(input),
        _ => Vec::new(),
    }
}

fn schema_is_fixed(schema: &Schema) -> bool {
    schema.fields().iter().all(|f| fixed(f.data_type()).is_some())
}

fn has_same_columns(a: &Schema, b: &Schema) -> bool {
    let (a, b) = (a.fields(), b.fields());
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type())
}

fn of_leaf(leaf: &Node) -> Widths {
    if let Some(widths) = row_widths(leaf.as_ref()) {
        return widths;
    }
    let Ok(statistics) = leaf.partition_statistics(None) else { return Vec::new() };
    let Some(rows) = statistics.num_rows.get_value().copied() else { return Vec::new() };
    let columns = statistics.column_statistics.iter();
    columns.map(|c| c.byte_size.get_value().map(|bytes| bytes.div_ceil(rows.max(1)))).collect()
}

fn of_exprs<'a>(exprs: impl Iterator<Item = &'a Arc<dyn PhysicalExpr>>, input: &Node) -> Widths {
    let (widths, schema) = (widths(input), input.schema());
    exprs
        .map(|e| uncast(e, &schema))
        .map(|e| match (e.downcast_ref::<Column>(), e.downcast_ref::<Literal>()) {
            (Some(column), _) => widths.get(column.index()).copied().flatten(),
            (_, Some(literal)) => literal.value().try_as_str().map(|text| text.map_or(0, str::len)),
            _ => None,
        })
        .collect()
}

/// What a cast from text to text is over, which leaves texts as long as they are.
fn uncast<'a>(expr: &'a Arc<dyn PhysicalExpr>, input: &Schema) -> &'a Arc<dyn PhysicalExpr> {
    let is_text = |ty: &DataType| matches!(ty, DataType::Utf8 | DataType::Utf8View);
    match expr.downcast_ref::<CastExpr>() {
        Some(cast)
            if is_text(cast.cast_type()) && cast.expr().data_type(input).is_ok_and(|t| is_text(&t)) =>
        {
            cast.expr()
        }
        _ => expr,
    }
}

fn projected(widths: Widths, projection: Option<&[usize]>) -> Widths {
    match projection {
        None => widths,
        Some(columns) => columns.iter().map(|i| widths.get(*i).copied().flatten()).collect(),
    }
}

fn joined(left: Widths, right: Widths, join: JoinType) -> Widths {
    match join {
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => left,
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => right,
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
            left.into_iter().chain(right).collect()
        }
    }
}
