//! Joins and sorts with as many rows in a batch as fit: their inputs are begun first, and the first rows of these tell how
//! wide rows are.
//!
//! ```text
//!  PeekExec ─ first batch ─► width ─┐
//!  PeekExec ─ first batch ─► width ─┴─► rows per batch ─► join, which then reads the first batches and the rest
//! ```
//!
//! DataFusion's nodes take the number of rows when they begin and keep to it. Rows that get much wider later on are
//! still found: what does not fit a column is an error that says so.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::{Result as DfResult, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use futures::future::try_join_all;
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use tokio::sync::Mutex;

use super::wrap::Wrap;
use super::{guarded, sendable, sliced, with_batch_rows};
use crate::error::{Error, Result};
use crate::stream::BATCH_BYTES;
use crate::stream::bytes::{batch_bytes, row_bytes};

/// Bytes of a batch that is put together of average rows.
const AVERAGE: usize = 2 * BATCH_BYTES;

/// Bytes of a column of a batch that is put together of nothing but the widest row.
const WORST: usize = 1 << 29;

/// Wide rows as few as fit into a batch.
#[derive(Debug, Clone)]
pub(super) struct Fitted;

impl Wrap for Fitted {
    const NAME: &'static str = "FittedExec";

    fn run(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let node = Arc::clone(input);
        let begun = async move {
            let context = fit(&node, partition, context).await?;
            Ok::<_, Error>(guarded(node.execute(partition, context)?))
        };
        Ok(sendable(input.as_ref(), sliced(begun.into_stream().try_flatten())))
    }
}

/// The context for a node whose inputs have been looked at.
async fn fit(
    node: &Arc<dyn ExecutionPlan>,
    partition: usize,
    context: Arc<TaskContext>,
) -> Result<Arc<TaskContext>> {
    let mut peeks = Vec::new();
    for input in node.children() {
        let Some(peek) = input.downcast_ref::<PeekExec>() else { continue };
        let partitions = input.output_partitioning().partition_count();
        let wanted = match partitions {
            1 => 0..1,
            _ if node.output_partitioning().partition_count() == 1 => 0..partitions,
            _ => partition..partition + 1,
        };
        let widths = wanted.map(|p| peek.peek(p, &context));
        peeks.push(try_join_all(widths).map_ok(|all| all.into_iter().fold(Width::default(), Width::or)));
    }
    let most = context.session_config().batch_size();
    let rows = rows_that_fit(&try_join_all(peeks).await?, most);
    Ok(if rows < most { with_batch_rows(&context, rows) } else { context })
}

/// Rows per batch for inputs of these widths.
pub(super) fn rows_that_fit(inputs: &[Width], most: usize) -> usize {
    // A row that comes out has columns of all inputs.
    let average: usize = inputs.iter().map(|w| w.average).sum();
    let widest = inputs.iter().map(|w| w.widest).max().unwrap_or(0);
    most.min(AVERAGE / average.max(1)).min(WORST / widest.max(1)).max(1)
}

/// Bytes of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Width {
    pub(super) average: usize,
    pub(super) widest: usize,
}

impl Width {
    fn of(batch: &RecordBatch) -> Self {
        let rows = batch.num_rows();
        let widest = row_bytes(batch.columns(), rows).into_iter().max().unwrap_or(0);
        Width { average: batch_bytes(batch) / rows.max(1), widest }
    }

    fn or(self, other: Self) -> Self {
        Width { average: self.average.max(other.average), widest: self.widest.max(other.widest) }
    }
}

/// One partition of an input.
#[derive(Default)]
enum Begun {
    #[default]
    Not,
    /// Its first batch has been read; `None` once somebody has taken the rows.
    Peeked(Width, Option<(Option<RecordBatch>, SendableRecordBatchStream)>),
}

/// An input that can be looked at before it is read.
pub(super) struct PeekExec {
    input: Arc<dyn ExecutionPlan>,
    partitions: Arc<Vec<Mutex<Begun>>>,
}

impl fmt::Debug for PeekExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeekExec").field("input", &self.input).finish_non_exhaustive()
    }
}

impl PeekExec {
    /// Over `input`.
    pub(super) fn over(input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        let count = input.output_partitioning().partition_count();
        Arc::new(PeekExec { input, partitions: Arc::new((0..count).map(|_| Mutex::default()).collect()) })
    }

    /// How wide the rows of a partition are, by its first batch.
    async fn peek(&self, partition: usize, context: &Arc<TaskContext>) -> Result<Width> {
        let Some(begun) = self.partitions.get(partition) else { return Ok(Width::default()) };
        let mut begun = begun.lock().await;
        if let Begun::Peeked(width, _) = &*begun {
            return Ok(*width);
        }
        let mut rows = self.input.execute(partition, Arc::clone(context))?;
        let mut first = None;
        while let Some(batch) = rows.next().await.transpose()? {
            if batch.num_rows() > 0 {
                first = Some(batch);
                break;
            }
        }
        let width = first.as_ref().map_or_else(Width::default, Width::of);
        *begun = Begun::Peeked(width, Some((first, rows)));
        Ok(width)
    }
}

impl DisplayAs for PeekExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for PeekExec {
    fn name(&self) -> &str {
        "PeekExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(PeekExec::over(input)),
            Err(children) => internal_err!("PeekExec over {} inputs", children.len()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let (input, partitions) = (Arc::clone(&self.input), Arc::clone(&self.partitions));
        let rows = async move {
            if let Some(begun) = partitions.get(partition)
                && let Begun::Peeked(_, rows) = &mut *begun.lock().await
                && let Some((first, rest)) = rows.take()
            {
                return Ok(futures::stream::iter(first.map(Ok)).chain(rest).boxed());
            }
            Ok::<_, Error>(input.execute(partition, context)?.boxed())
        };
        let rows = rows.map_ok(|rows| rows.map_err(Error::from)).into_stream().try_flatten();
        Ok(sendable(self.input.as_ref(), rows.boxed()))
    }

    fn partition_statistics(&self, partition: Option<usize>) -> DfResult<Arc<Statistics>> {
        self.input.partition_statistics(partition)
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}
