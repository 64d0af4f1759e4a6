//! Batch: plans whose batches are bounded in bytes. DataFusion counts rows: 8192 rows of 1 MB fit neither memory nor the
//! 32-bit offsets of a column.
//!
//! ```text
//!  FilterExec        ─►  BatchesExec(FilterExec that hands out every batch as it is)
//!  RepartitionExec   ─►  BatchesExec(RepartitionExec likewise)
//!  ProjectionExec    ─►  ProjectExec: in parts where texts grow, in slices where they are long
//!  UnnestExec        ─►  UnnestRowsExec: some rows at a time, however many one gives
//!  joins, sorts      ─►  FittedExec(join(PeekExec, PeekExec)): as many rows a batch as fit, by the first rows of the inputs
//!  the rest          ─►  SlicedExec(…): in slices
//!  all but projections, over rows that are known to be narrow ─► SlicedExec(…): as DataFusion has it
//! ```
//!
//! What DataFusion cannot hold in one column is an error here and no panic. Done last, for plans that run: EXPLAIN shows
//! the plan without.

mod batches;
mod fitted;
mod narrow;
mod project;
mod unnest;
mod wrap;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PiecewiseMergeJoinExec, SortMergeJoinExec,
};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use crate::connectors::filesystem::filter_on_views;
use crate::error::guard::stream_within_columns;
use crate::error::{Error, Result};
use crate::stream::BATCH_BYTES;
use crate::stream::bytes::slices;
use batches::{BatchRows, Batches, Sliced};
use fitted::{Fitted, PeekExec};
use narrow::is_narrow;
use project::ProjectExec;
use unnest::UnnestRowsExec;
use wrap::WrapExec;

/// The plan with batches bounded in bytes.
///
/// # Errors
/// From DataFusion, if a node does not take new inputs.
pub fn bounded(plan: Arc<dyn ExecutionPlan>, batch_rows: usize) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(plan.transform_up(|node| bound(node, batch_rows)).data()?)
}

type Node = Arc<dyn ExecutionPlan>;

fn bound(node: Node, batch_rows: usize) -> DfResult<Transformed<Node>> {
    if let Some(filter) = node.downcast_ref::<FilterExec>() {
        if is_narrow(filter.input(), batch_rows) {
            let node = filter_on_views(filter)?.unwrap_or(node);
            return Ok(Transformed::yes(WrapExec::over(node, Sliced)));
        }
        // With one row a batch, none is waited for.
        let filter: Node = Arc::new(filter.with_batch_size(1)?);
        return Ok(Transformed::yes(WrapExec::over(filter, Batches)));
    }
    if let Some(repartition) = node.downcast_ref::<RepartitionExec>().filter(|r| !r.preserve_order()) {
        if is_narrow(repartition.input(), batch_rows) {
            return Ok(Transformed::no(node));
        }
        let input = WrapExec::over(Arc::clone(repartition.input()), BatchRows(batch_rows));
        let repartition = WrapExec::over(node.with_new_children(vec![input])?, BatchRows(1));
        return Ok(Transformed::yes(WrapExec::over(repartition, Batches)));
    }
    if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        let schema = projection.schema();
        let mut made = projection.expr().iter().zip(schema.fields());
        let grows = made.any(|(e, field)| !e.expr.is::<Column>() && can_be_long(field.data_type()));
        return Ok(if grows {
            Transformed::yes(ProjectExec::over(projection))
        } else {
            Transformed::no(node)
        });
    }
    if let Some(unnest) = node.downcast_ref::<UnnestExec>() {
        return Ok(match UnnestRowsExec::over(unnest) {
            Some(unnest) => Transformed::yes(unnest),
            None => Transformed::yes(WrapExec::over(node, Sliced)),
        });
    }
    if makes_batches(&node) {
        // Inputs that are begun early do not yet know what filters a join will ask of them.
        if node.children().into_iter().all(|input| is_narrow(input, batch_rows)) {
            return Ok(Transformed::yes(WrapExec::over(node, Sliced)));
        }
        let inputs = node.children().into_iter().map(|input| PeekExec::over(Arc::clone(input)));
        let inputs = inputs.collect();
        return Ok(Transformed::yes(WrapExec::over(node.with_new_children(inputs)?, Fitted)));
    }
    if node.is::<AggregateExec>() || node.is::<WindowAggExec>() || node.is::<BoundedWindowAggExec>() {
        return Ok(Transformed::yes(WrapExec::over(node, Sliced)));
    }
    Ok(Transformed::no(node))
}

/// Whether a node puts together as many rows as a batch may have, whatever their width.
fn makes_batches(node: &Node) -> bool {
    node.is::<HashJoinExec>()
        || node.is::<NestedLoopJoinExec>()
        || node.is::<SortMergeJoinExec>()
        || node.is::<CrossJoinExec>()
        || node.is::<PiecewiseMergeJoinExec>()
        || node.is::<SortExec>()
        || node.is::<SortPreservingMergeExec>()
}

fn can_be_long(ty: &DataType) -> bool {
    *ty != DataType::Boolean && ty.primitive_width().is_none()
}

/// The same context but for the number of rows in a batch.
fn with_batch_rows(context: &TaskContext, rows: usize) -> Arc<TaskContext> {
    Arc::new(TaskContext::new(
        context.task_id(),
        context.session_id(),
        context.session_config().clone().with_batch_size(rows),
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        context.runtime_env(),
    ))
}

/// The batches of a stream, whose panics over columns are errors.
fn guarded(stream: SendableRecordBatchStream) -> BoxStream<'static, Result<RecordBatch>> {
    stream_within_columns(stream.map_err(Error::from)).boxed()
}

/// The batches of a stream in slices that are small in bytes.
fn sliced(
    batches: impl futures::Stream<Item = Result<RecordBatch>> + Send + 'static,
) -> BoxStream<'static, Result<RecordBatch>> {
    let slices = |batch| futures::stream::iter(slices(batch, BATCH_BYTES).into_iter().map(Ok));
    batches.map_ok(slices).try_flatten().boxed()
}

/// As DataFusion has streams.
fn sendable(
    node: &dyn ExecutionPlan,
    batches: BoxStream<'static, Result<RecordBatch>>,
) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(node.schema(), batches.map_err(Into::into)))
}

#[cfg(test)]
mod tests;
