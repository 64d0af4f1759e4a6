//! MATCH_RECOGNIZE in batch: the streaming operator over rows that come sorted, key by key.
//!
//! ```text
//!  rows with a time ══ partition ══► sorted by partition and order ─► MatchRecognizeExec
//! ```
//!
//! A key is done with when the next one begins, so memory holds the rows of one key that are undecided.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use async_trait::async_trait;
use datafusion::common::{DFSchemaRef, Result as DfResult, internal_err};
use datafusion::execution::context::{ExecutionProps, SessionState};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::{StreamExt, TryStreamExt};

use crate::error::{Error, Result};
use crate::operators::match_recognize::{MatchRecognizeConfig, MatchRecognizeOperator};
use crate::operators::top_n::SortColumn;
use crate::plan::match_recognize::{MatchColumns, match_config};
use crate::plan::nodes::match_recognize::MatchRecognizeNode;
use crate::plan::time_attribute::time_attribute;
use crate::runtime::operator::{Operator, Output, Progress};
use crate::types::TimeAttribute;

/// The node over the rows that have a time: others have no place in the order.
///
/// # Errors
/// From DataFusion's plan builder.
pub(super) fn over_timed_rows(node: &MatchRecognizeNode) -> DfResult<LogicalPlan> {
    let Some(first) = node.order.first() else { return internal_err!("MATCH_RECOGNIZE without an order") };
    if time_attribute(&first.expr, &node.input) == Some(TimeAttribute::Processing) {
        return Err(Error::validation(
            "rows have no processing time in batch mode that MATCH_RECOGNIZE could order them by",
        )
        .hint("ORDER BY a row time, or SET 'execution.runtime-mode' = 'streaming'")
        .into());
    }
    let timed =
        LogicalPlanBuilder::from(node.input.clone()).filter(first.expr.clone().is_not_null())?.build()?;
    let exprs = UserDefinedLogicalNodeCore::expressions(node);
    let node = UserDefinedLogicalNodeCore::with_exprs_and_inputs(node, exprs, vec![timed])?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// Plans the execution of [`MatchRecognizeNode`]s.
#[derive(Debug)]
pub struct MatchRecognizeExecPlanner;

#[async_trait]
impl ExtensionPlanner for MatchRecognizeExecPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &SessionState,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<MatchRecognizeNode>() else { return Ok(None) };
        let ([logical], [input]) = (logical_inputs, physical_inputs) else {
            return internal_err!("MATCH_RECOGNIZE over several inputs");
        };
        let exec = MatchRecognizeExec::try_new(node, logical.schema(), input, session.execution_props())?;
        Ok(Some(Arc::new(exec)))
    }
}

/// Matches rows; see the module.
#[derive(Debug)]
pub struct MatchRecognizeExec {
    config: MatchRecognizeConfig,
    /// As it reads in plans.
    text: String,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl MatchRecognizeExec {
    fn try_new(
        node: &MatchRecognizeNode,
        schema: &DFSchemaRef,
        input: &Arc<dyn ExecutionPlan>,
        props: &ExecutionProps,
    ) -> Result<Self> {
        let place = |e: &Expr| match e {
            Expr::Column(c) => Ok(schema.index_of_column(c)?),
            other => Err(Error::unsupported(format!("MATCH_RECOGNIZE by {other}, which is no column"))
                .hint("compute it below: FROM (SELECT *, … AS k FROM t) MATCH_RECOGNIZE (…)")),
        };
        let partition = node.partition.iter().map(place).collect::<Result<Vec<_>>>()?;
        let order = node.order.iter().map(|o| place(&o.expr)).collect::<Result<Vec<_>>>()?;
        let Some((time, then)) = order.split_first() else {
            return Err(Error::internal("MATCH_RECOGNIZE without an order"));
        };
        let then = then.iter().zip(node.order.iter().skip(1)).map(|(column, sort)| SortColumn {
            column: *column,
            options: SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first },
        });
        let (input_schema, then) = (input.schema(), then.collect());
        let columns = MatchColumns { input: input_schema, partition, time: *time, then, by_proctime: false };
        let config = match_config(node, schema, columns, props)?;
        Ok(Self::over(config, node.describe(), Arc::clone(input)))
    }

    fn over(config: MatchRecognizeConfig, text: String, input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&config.output.schema)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        MatchRecognizeExec { config, text, input, properties: Arc::new(properties) }
    }

    fn column(&self, at: usize) -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new(self.config.input.field(at).name(), at))
    }

    /// By key, then by time and what follows it.
    fn ordering(&self) -> Option<LexOrdering> {
        let ascending = SortOptions::default();
        let keys = self.config.partition.iter().map(|c| (*c, ascending));
        let order = std::iter::once((self.config.time, ascending))
            .chain(self.config.then.iter().map(|o| (o.column, o.options)));
        LexOrdering::new(
            keys.chain(order).map(|(at, options)| PhysicalSortExpr { expr: self.column(at), options }),
        )
    }
}

impl DisplayAs for MatchRecognizeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MatchRecognizeExec: {}", self.text)
    }
}

impl ExecutionPlan for MatchRecognizeExec {
    fn name(&self) -> &str {
        "MatchRecognizeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        if self.config.partition.is_empty() {
            return vec![Distribution::SinglePartition];
        }
        vec![Distribution::HashPartitioned(self.config.partition.iter().map(|c| self.column(*c)).collect())]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![self.ordering().map(OrderingRequirements::from)]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self::over(self.config.clone(), self.text.clone(), input))),
            Err(children) => internal_err!("MatchRecognizeExec over {} inputs", children.len()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let operator = MatchRecognizeOperator::new(self.config.clone())?;
        let run = Run { operator, rows: self.input.execute(partition, context)?, more: false, ended: false };
        let batches = futures::stream::try_unfold(run, |mut run| async move {
            Ok::<_, datafusion::error::DataFusionError>(run.next().await?.map(|batches| (batches, run)))
        });
        let batches =
            batches.map_ok(|batches| futures::stream::iter(batches.into_iter().map(Ok))).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches.boxed())))
    }
}

/// One partition under way.
struct Run {
    operator: MatchRecognizeOperator,
    rows: SendableRecordBatchStream,
    /// Whether the operator has more to say.
    more: bool,
    ended: bool,
}

impl Run {
    async fn next(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        let mut out = Output::new();
        loop {
            let progress = if self.more {
                self.operator.resume(&mut out)?
            } else if self.ended {
                return Ok(None);
            } else {
                match self.rows.next().await.transpose()? {
                    Some(rows) => self.operator.process_sorted(&rows, &mut out)?,
                    None => {
                        self.ended = true;
                        self.operator.finish_sorted(&mut out)?
                    }
                }
            };
            self.more = progress == Progress::More;
            if !out.is_empty() {
                return Ok(Some(out.take().into_iter().map(|b| b.rows).collect()));
            }
        }
    }
}
