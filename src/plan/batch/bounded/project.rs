//! Projections whose texts grow: in parts where all rows of a batch together would be too large.

use std::fmt;
use std::sync::Arc;

use datafusion::common::{Result as DfResult, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties};
use futures::TryStreamExt;

use super::{guarded, sendable, sliced};
use crate::functions::room::Parts;

/// The node.
#[derive(Debug)]
pub(super) struct ProjectExec {
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl ProjectExec {
    /// Instead of DataFusion's node.
    pub(super) fn over(projection: &ProjectionExec) -> Arc<dyn ExecutionPlan> {
        Arc::new(ProjectExec {
            exprs: projection.expr().iter().map(|e| Arc::clone(&e.expr)).collect(),
            input: Arc::clone(projection.input()),
            properties: Arc::clone(projection.properties()),
        })
    }
}

impl ProjectExec {
    pub(super) fn exprs(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.exprs
    }

    pub(super) fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }
}

impl DisplayAs for ProjectExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for ProjectExec {
    fn name(&self) -> &str {
        "ProjectExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => {
                let (exprs, properties) = (self.exprs.clone(), Arc::clone(&self.properties));
                Ok(Arc::new(ProjectExec { exprs, input, properties }))
            }
            Err(children) => internal_err!("ProjectExec over {} inputs", children.len()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let (exprs, schema) = (self.exprs.clone(), self.schema());
        let batches = guarded(self.input.execute(partition, context)?);
        let projected = batches.map_ok(move |batch| {
            let (exprs, schema, mut parts) =
                (exprs.clone(), Arc::clone(&schema), Parts::of(batch.num_rows()));
            let next = move || parts.project(&batch, &exprs, &schema, |_| false).transpose();
            futures::stream::iter(std::iter::from_fn(next))
        });
        Ok(sendable(self, sliced(projected.try_flatten())))
    }

    fn partition_statistics(&self, _partition: Option<usize>) -> DfResult<Arc<Statistics>> {
        Ok(Arc::new(Statistics::new_unknown(&self.schema())))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}
