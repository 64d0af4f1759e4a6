//! Streaming operators in batch plans, where they do without the sorts of DataFusion's nodes.
//!
//! ```text
//!  rows ══ by key ══► operator of a partition, in memory or on disk ─► at the end its results
//! ```
//!
//! The operator is one that has nothing to say before the end, and then at most a row for each that came. It takes part in the budget of `--memory` as it does in
//! streams: what outgrows it rests on disk by key group ([`SpillingOperator`]).

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{Result as DfResult, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, CardinalityEffect, EmissionType};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{StreamExt, TryStreamExt};

use crate::error::Result;
use crate::error::guard::within_columns;
use crate::runtime::operator::{Operator, Output, Progress, Spillable};
use crate::runtime::spilling::memory::StateMemory;
use crate::runtime::spilling::{PartitionFactory, SpillingConfig, SpillingOperator};
use crate::stream::key_group::KeyGroupRange;
use crate::stream::{ChangeBatch, Timestamp};

/// Which operator runs, and over what.
#[derive(Clone)]
pub(super) struct OperatorPlan {
    /// As plans call the node: `RankExec`.
    pub(super) name: &'static str,
    /// What it does, in plans.
    pub(super) text: String,
    /// Columns of the results.
    pub(super) schema: SchemaRef,
    /// Columns of the input whose equal values belong together; none: all rows do.
    pub(super) keys: Vec<usize>,
    /// The column of the input that each column of the results is, if it is one.
    pub(super) input_columns: Vec<Option<usize>>,
    /// Makes the operator.
    pub(super) make: PartitionFactory,
}

impl fmt::Debug for OperatorPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.name).field("text", &self.text).field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// The input with a column for each expression, behind its own where it is not one of them, and where these columns are:
/// rows are exchanged, and kept, by columns.
pub(super) fn with_columns(
    input: &Arc<dyn ExecutionPlan>,
    exprs: &[Arc<dyn PhysicalExpr>],
) -> DfResult<(Arc<dyn ExecutionPlan>, Vec<usize>)> {
    let schema = input.schema();
    let own = schema.fields().iter().enumerate().map(|(at, field)| {
        let expr = Arc::new(Column::new(field.name(), at)) as Arc<dyn PhysicalExpr>;
        ProjectionExpr { expr, alias: field.name().clone() }
    });
    let mut projected: Vec<ProjectionExpr> = own.collect();
    let mut columns = Vec::with_capacity(exprs.len());
    for expr in exprs {
        columns.push(match expr.downcast_ref::<Column>() {
            Some(column) => column.index(),
            None => {
                projected.push(ProjectionExpr { expr: Arc::clone(expr), alias: expr.to_string() });
                projected.len() - 1
            }
        });
    }
    if projected.len() == schema.fields().len() {
        return Ok((Arc::clone(input), columns));
    }
    Ok((Arc::new(ProjectionExec::try_new(projected, Arc::clone(input))?), columns))
}

/// Whether values of a type can be equal and differ in their bits, by which DataFusion exchanges rows: operators would find
/// one key in several partitions.
pub(super) fn has_floats(ty: &DataType) -> bool {
    match ty {
        DataType::Struct(fields) => fields.iter().any(|field| has_floats(field.data_type())),
        DataType::List(item) | DataType::Map(item, _) => has_floats(item.data_type()),
        ty => ty.is_floating(),
    }
}

/// The node; see the module.
#[derive(Debug)]
pub struct OperatorExec {
    plan: OperatorPlan,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl OperatorExec {
    pub(super) fn over(plan: OperatorPlan, input: Arc<dyn ExecutionPlan>) -> Self {
        // Where the keys stand at the same places, their rows are partitioned as they were.
        let partitioning = if plan.keys.iter().all(|key| plan.input_columns.get(*key) == Some(&Some(*key))) {
            input.output_partitioning().clone()
        } else {
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count())
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&plan.schema)),
            partitioning,
            EmissionType::Final,
            Boundedness::Bounded,
        );
        OperatorExec { plan, input, properties: Arc::new(properties) }
    }

    pub(super) fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// The column of the input that each column of the results is, if it is one.
    pub(super) fn input_columns(&self) -> &[Option<usize>] {
        &self.plan.input_columns
    }

    /// The operator of a partition.
    fn operator(&self, context: &TaskContext) -> Result<Box<dyn Operator>> {
        let range = KeyGroupRange::ALL;
        let operator = (self.plan.make)(range)?;
        let memory = context.session_config().get_extension::<StateMemory>();
        Ok(match memory {
            Some(memory) if !self.plan.keys.is_empty() && operator.spillable() != Spillable::No => {
                let factory = Arc::clone(&self.plan.make);
                let config = SpillingConfig { factory, keys: vec![self.plan.keys.clone()], range };
                Box::new(SpillingOperator::new(operator, config, memory.share()))
            }
            _ => operator,
        })
    }
}

impl DisplayAs for OperatorExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.plan.name, self.plan.text)
    }
}

impl ExecutionPlan for OperatorExec {
    fn name(&self) -> &str {
        self.plan.name
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        if self.plan.keys.is_empty() {
            return vec![Distribution::SinglePartition];
        }
        let schema = self.input.schema();
        let column = |at: &usize| Arc::new(Column::new(schema.field(*at).name(), *at)) as _;
        vec![Distribution::HashPartitioned(self.plan.keys.iter().map(column).collect())]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self::over(self.plan.clone(), input))),
            Err(children) => internal_err!("{} over {} inputs", self.plan.name, children.len()),
        }
    }

    fn partition_statistics(&self, partition: Option<usize>) -> DfResult<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        // At most as many as come in.
        statistics.num_rows = self.input.partition_statistics(partition)?.num_rows.to_inexact();
        Ok(Arc::new(statistics))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let operator = self.operator(&context)?;
        let run = Run { operator, rows: self.input.execute(partition, context)?, at: At::Rows, more: false };
        let batches = futures::stream::try_unfold(run, |mut run| async move {
            Ok::<_, datafusion::error::DataFusionError>(run.next().await?.map(|batches| (batches, run)))
        });
        let batches =
            batches.map_ok(|batches| futures::stream::iter(batches.into_iter().map(Ok))).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches.boxed())))
    }
}

/// What an operator hears of next.
#[derive(Debug, Clone, Copy)]
enum At {
    Rows,
    Time,
    End,
    Over,
}

/// One partition under way.
struct Run {
    operator: Box<dyn Operator>,
    rows: SendableRecordBatchStream,
    at: At,
    /// Whether the operator has more to say.
    more: bool,
}

impl Run {
    async fn next(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        let mut out = Output::new();
        loop {
            let rows = match self.at {
                At::Rows if !self.more => self.rows.next().await.transpose()?,
                _ => None,
            };
            let progress = within_columns(|| match (self.at, rows) {
                _ if self.more => self.operator.resume(&mut out),
                (At::Rows, Some(rows)) => self.operator.process(0, ChangeBatch::insert_only(rows), &mut out),
                (At::Rows, None) => {
                    self.at = At::Time;
                    self.operator.flush(&mut out)
                }
                (At::Time, _) => {
                    self.at = At::End;
                    self.operator.on_watermark(Timestamp::MAX, &mut out)
                }
                (At::End, _) => {
                    self.at = At::Over;
                    self.operator.on_end(&mut out)
                }
                (At::Over, _) => Ok(Progress::Done),
            })?;
            let is_over = matches!(self.at, At::Over) && !self.more && out.is_empty();
            self.more = progress == Progress::More;
            if !out.is_empty() {
                return Ok(Some(out.take().into_iter().map(|b| b.rows).collect()));
            }
            if is_over && !self.more {
                return Ok(None);
            }
        }
    }
}
