//! Batch: what DataFusion concludes about the order of rows where it is not so.
//!
//! ```text
//!  UnionExec, AggregateExec over grouping sets  ─►  ForgetOrderExec(…)
//! ```
//!
//! A key that is a constant below GROUPING SETS is NULL in the sets without it, and branches of a union may each be sorted, or
//! constant, in their own way. DataFusion takes what it knows of the inputs for the result and leaves out sorts that are needed:
//! wrong groups and wrong first rows, or a plan that its own check refuses. [`ForgetOrderExec`] passes the rows on and
//! claims nothing of them but their partitions.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result as DfResult, Statistics, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};

/// Puts the node where it is needed, before any rule looks at orders.
#[derive(Debug)]
pub struct ForgetOrder;

impl PhysicalOptimizerRule for ForgetOrder {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let any = node.as_any();
            let of_sets =
                any.downcast_ref::<AggregateExec>().is_some_and(|a| a.group_expr().has_grouping_set());
            Ok(if of_sets || any.is::<UnionExec>() {
                Transformed::yes(Arc::new(ForgetOrderExec::new(node)) as Arc<dyn ExecutionPlan>)
            } else {
                Transformed::no(node)
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "forget_order"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The rows of its input, in no known order.
#[derive(Debug)]
pub struct ForgetOrderExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl ForgetOrderExec {
    /// Over `input`.
    pub fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let of = input.properties();
        let partitioning = Partitioning::UnknownPartitioning(of.partitioning.partition_count());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            partitioning,
            of.emission_type,
            of.boundedness,
        );
        ForgetOrderExec { input, properties: Arc::new(properties) }
    }
}

impl DisplayAs for ForgetOrderExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for ForgetOrderExec {
    fn name(&self) -> &str {
        "ForgetOrderExec"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
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
            Ok([input]) => Ok(Arc::new(ForgetOrderExec::new(input))),
            Err(children) => internal_err!("ForgetOrderExec over {} inputs", children.len()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }

    fn partition_statistics(&self, partition: Option<usize>) -> DfResult<Statistics> {
        self.input.partition_statistics(partition)
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}
