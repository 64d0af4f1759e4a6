//! Batch: what DataFusion concludes about the order of rows where it is not so.
//!
//! ```text
//!  UnionExec, outer joins, AggregateExec over grouping sets  ─►  ForgetOrderExec(…)
//! ```
//!
//! A key that is a constant below GROUPING SETS is NULL in the sets without it, a constant of one side of an outer join is NULL
//! where nothing matched, and branches of a union may each be sorted, or constant, in their own way. DataFusion takes what it knows of the inputs for the result and leaves out sorts that are needed:
//! wrong groups and wrong first rows, or a plan that its own check refuses. [`ForgetOrderExec`] passes the rows on and
//! claims nothing of them but their partitions.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, Result as DfResult, Statistics, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};

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
            let partitioning = node.output_partitioning().clone();
            let claimed = if is_over_grouping_sets(&node) {
                // A partition by a key does not hold its rows of other sets together.
                Partitioning::UnknownPartitioning(partitioning.partition_count())
            } else if pads(&node) || node.is::<UnionExec>() {
                partitioning
            } else {
                return Ok(Transformed::no(node));
            };
            Ok(Transformed::yes(Arc::new(ForgetOrderExec::new(node, claimed)) as Arc<dyn ExecutionPlan>))
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

fn is_over_grouping_sets(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.downcast_ref::<AggregateExec>().is_some_and(|a| a.group_expr().has_grouping_set())
}

/// Whether the node is a join that fills columns with NULL.
fn pads(node: &Arc<dyn ExecutionPlan>) -> bool {
    let hash = node.downcast_ref::<HashJoinExec>().map(|j| *j.join_type());
    let nested = node.downcast_ref::<NestedLoopJoinExec>().map(|j| *j.join_type());
    let merge = node.downcast_ref::<SortMergeJoinExec>().map(SortMergeJoinExec::join_type);
    hash.or(nested).or(merge).is_some_and(|t| matches!(t, JoinType::Left | JoinType::Right | JoinType::Full))
}

/// The rows of its input, in no known order.
#[derive(Debug)]
pub struct ForgetOrderExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl ForgetOrderExec {
    /// Over `input`, whose rows are in partitions as `partitioning` says.
    pub fn new(input: Arc<dyn ExecutionPlan>, partitioning: Partitioning) -> Self {
        let of = input.properties();
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
            Ok([input]) => {
                let partitioning = match &self.properties.partitioning {
                    Partitioning::UnknownPartitioning(_) => {
                        Partitioning::UnknownPartitioning(input.output_partitioning().partition_count())
                    }
                    _ => input.output_partitioning().clone(),
                };
                Ok(Arc::new(ForgetOrderExec::new(input, partitioning)))
            }
            Err(children) => internal_err!("ForgetOrderExec over {} inputs", children.len()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }

    fn partition_statistics(&self, partition: Option<usize>) -> DfResult<Arc<Statistics>> {
        self.input.partition_statistics(partition)
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}
