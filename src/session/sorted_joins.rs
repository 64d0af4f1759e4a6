//! Another plan for joins that outgrow the memory: both sides sorted, which spills, and merged.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Fields, Schema};
use datafusion::common::JoinType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, SortMergeJoinExec};

use super::execution::physical_plan;
use crate::edges::Source;
use crate::edges::SourceMetrics;
use crate::error::Result;
use crate::plan::batch::bounded::bounded;
use crate::plan::table::ConnectorTable;
use crate::runtime::batch::{BatchPlan, Replan};
use crate::runtime::job::JobMetrics;

/// The plan to be run of an optimized plan, and what is done if the sides of its joins do not fit into the memory.
///
/// # Errors
/// Of sources that cannot be read, and of DataFusion's planner.
pub(super) async fn batch_plan(
    state: &SessionState,
    optimized: &LogicalPlan,
    metrics: &Arc<JobMetrics>,
) -> Result<BatchPlan> {
    let known = metrics.sources_so_far().len();
    let plan = physical_plan(state, optimized).await?;
    let joins = hash_joins(&plan);
    let sources = metrics.sources_so_far().split_off(known);
    let again = || replan(state.clone(), optimized.clone(), joins, metrics.clone(), sources);
    let replan = (joins > 0).then(again);
    Ok(BatchPlan { plan: bounded(plan, state.config().batch_size())?, replan })
}

/// `joins` and `sources` are those of the first plan, whose counters go with it.
fn replan(
    mut state: SessionState,
    optimized: LogicalPlan,
    joins: usize,
    metrics: Arc<JobMetrics>,
    sources: Vec<Arc<SourceMetrics>>,
) -> Replan {
    Box::new(move || {
        Box::pin(async move {
            let (tables, null_aware) = survey(&optimized)?;
            // DataFusion takes a merging join for NOT IN too, and would lose what is unknown.
            if null_aware {
                return Ok(None);
            }
            for table in tables {
                if !table.can_be_read_again().await? {
                    return Ok(None);
                }
            }
            let options = state.config_mut().options_mut();
            options.optimizer.prefer_hash_join = false;
            options.optimizer.repartition_joins = true;
            // It sorts for joins of several partitions only.
            options.execution.target_partitions = options.execution.target_partitions.max(2);
            let plan = with_nullable_filters(physical_plan(&state, &optimized).await?)?;
            if hash_joins(&plan) == joins || !can_compare(&plan) {
                return Ok(None);
            }
            metrics.forget_sources(&sources);
            bounded(plan, state.config().batch_size()).map(Some)
        })
    })
}

/// Whether the merging joins of a plan know all types of their keys: semi and anti joins compare rows of different batches
/// by themselves, and fail or panic over types that they have not been told of.
fn can_compare(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let known = |ty: &DataType| {
        ty.is_integer()
            || matches!(
                ty,
                DataType::Boolean
                    | DataType::Utf8
                    | DataType::Binary
                    | DataType::Date32
                    | DataType::Decimal128(..)
                    | DataType::Timestamp(_, None)
            )
    };
    let own = plan.downcast_ref::<SortMergeJoinExec>().is_none_or(|join| {
        let is_pair =
            matches!(join.join_type(), JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full);
        let schema = join.left().schema();
        is_pair || join.on().iter().all(|(key, _)| key.data_type(&schema).is_ok_and(|ty| known(&ty)))
    });
    own && plan.children().into_iter().all(can_compare)
}

fn hash_joins(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let own = usize::from(plan.downcast_ref::<HashJoinExec>().is_some());
    own + plan.children().into_iter().map(hash_joins).sum::<usize>()
}

/// Merging outer joins evaluate their conditions over rows without a match, too, in columns that are declared as those of
/// the input: never NULL, perhaps.
fn with_nullable_filters(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let changed = plan.transform_up(|node| {
        let Some(join) = node.downcast_ref::<SortMergeJoinExec>() else { return Ok(Transformed::no(node)) };
        let Some(filter) = join.filter() else { return Ok(Transformed::no(node)) };
        let nullable = |field: &FieldRef| field.as_ref().clone().with_nullable(true);
        let fields: Fields = filter.schema().fields().iter().map(nullable).collect();
        let filter = JoinFilter::new(
            filter.expression().clone(),
            filter.column_indices().to_vec(),
            Arc::new(Schema::new(fields)),
        );
        Ok(Transformed::yes(Arc::new(SortMergeJoinExec::try_new(
            join.left().clone(),
            join.right().clone(),
            join.on().to_vec(),
            Some(filter),
            join.join_type(),
            join.sort_options().to_vec(),
            join.null_equality(),
        )?)))
    });
    Ok(changed.data()?)
}

/// What a plan reads, and whether one of its joins is a NOT IN.
fn survey(plan: &LogicalPlan) -> Result<(Vec<Arc<dyn Source>>, bool)> {
    let (mut sources, mut null_aware) = (Vec::new(), false);
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => {
                let provider = source_as_provider(&scan.source)?;
                if let Some(table) = provider.downcast_ref::<ConnectorTable>() {
                    sources.push(table.source.clone());
                }
            }
            LogicalPlan::Join(join) => null_aware |= join.null_aware,
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok((sources, null_aware))
}
