//! A plan node over one input, of which it is told only what it does to the batches.

use std::fmt;
use std::sync::Arc;

use datafusion::common::{Result as DfResult, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// What a node does whose rows are those of its input, in their order and partitions.
pub(super) trait Wrap: fmt::Debug + Clone + Send + Sync + 'static {
    /// The node's name.
    const NAME: &'static str;

    /// The batches of a partition.
    fn run(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream>;
}

/// The node of a [`Wrap`].
#[derive(Debug)]
pub(super) struct WrapExec<W> {
    wrap: W,
    input: Arc<dyn ExecutionPlan>,
}

impl<W: Wrap> WrapExec<W> {
    /// The node over `input`.
    pub(super) fn over(input: Arc<dyn ExecutionPlan>, wrap: W) -> Arc<dyn ExecutionPlan> {
        Arc::new(WrapExec { wrap, input })
    }
}

impl<W: Wrap> DisplayAs for WrapExec<W> {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(W::NAME)
    }
}

impl<W: Wrap> ExecutionPlan for WrapExec<W> {
    fn name(&self) -> &str {
        W::NAME
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
            Ok([input]) => Ok(WrapExec::over(input, self.wrap.clone())),
            Err(children) => internal_err!("{} over {} inputs", W::NAME, children.len()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        self.wrap.run(&self.input, partition, context)
    }

    fn partition_statistics(&self, partition: Option<usize>) -> DfResult<Arc<Statistics>> {
        self.input.partition_statistics(partition)
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}
