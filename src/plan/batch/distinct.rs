//! Batch: DISTINCT aggregates by the streaming aggregate's sets, of which all calls over one argument share one.
//!
//! ```text
//!  AggregateExec[final] ─ AggregateExec[partial, COUNT(DISTINCT …) …]  ─►  GroupAggregateExec ─ Projection of the keys
//! ```
//!
//! DataFusion keeps a set for each group and call, and sends them from the first phase to the second.

use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};

use super::operator_exec::{OperatorExec, OperatorPlan, has_floats, with_columns};
use crate::operators::group_aggregate::{
    AggregateCall, FinalGroupAggregateOperator, GroupAggregateConfig, GroupOutput,
};

type Node = Arc<dyn ExecutionPlan>;

/// Functions whose states are our own, with DISTINCT and without.
const OWN: [&str; 5] = ["count", "sum", "min", "max", "avg"];

/// Puts the operator in the place of both phases, before any rule looks at partitions.
#[derive(Debug)]
pub struct DistinctByState;

impl PhysicalOptimizerRule for DistinctByState {
    fn optimize(&self, plan: Node, _config: &ConfigOptions) -> DfResult<Node> {
        plan.transform_down(|node| {
            let of_state = node.downcast_ref::<AggregateExec>().map(by_state).transpose()?.flatten();
            Ok(of_state.map_or(Transformed::no(node), Transformed::yes))
        })
        .data()
    }

    fn name(&self) -> &str {
        "distinct_by_state"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn by_state(last: &AggregateExec) -> DfResult<Option<Node>> {
    let Some(first) = last.input().downcast_ref::<AggregateExec>() else { return Ok(None) };
    let is_pair = matches!(last.mode(), AggregateMode::Final | AggregateMode::FinalPartitioned)
        && matches!(first.mode(), AggregateMode::Partial);
    let groups = first.group_expr();
    let calls = first.aggr_expr().iter().zip(first.filter_expr());
    let calls: Vec<AggregateCall> =
        calls.map(|(expr, filter)| AggregateCall::new(Arc::clone(expr), filter.clone())).collect();
    let is_own = |call: &AggregateCall| OWN.contains(&call.name.as_str()) && call.expr.order_bys().is_empty();
    let is_for_us = is_pair
        && !groups.is_empty()
        && !groups.has_grouping_set()
        && last.limit_options().is_none()
        && calls.iter().any(|call| call.distinct)
        && calls.iter().all(is_own);
    if !is_for_us {
        return Ok(None);
    }
    let exprs: Vec<_> = groups.expr().iter().map(|(expr, _)| Arc::clone(expr)).collect();
    let (input, keys) = with_columns(first.input(), &exprs)?;
    let (schema, output_schema) = (input.schema(), last.schema());
    if keys.iter().any(|key| has_floats(schema.field(*key).data_type())) {
        return Ok(None);
    }
    let text = format!(
        "gby=[{}], aggr=[{}]",
        groups.expr().iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", "),
        first.aggr_expr().iter().map(|a| a.name()).collect::<Vec<_>>().join(", ")
    );
    let aggregates = calls.len();
    let outputs = (0..keys.len()).map(GroupOutput::Key);
    let config = GroupAggregateConfig {
        output: outputs.chain((0..aggregates).map(GroupOutput::Aggregate)).collect(),
        output_schema: Arc::clone(&output_schema),
        keys: keys.iter().map(|at| Arc::new(Column::new(schema.field(*at).name(), *at)) as _).collect(),
        input_schema: schema,
        aggregates: calls,
        input_retracts: false,
        emit_update_before: false,
        bundle_rows: None,
        merges_partials: false,
        ttl_ms: None,
        emit_default_row_on_end: false,
    };
    // What it cannot keep stays with DataFusion.
    if FinalGroupAggregateOperator::new(config.clone()).is_err() {
        return Ok(None);
    }
    let plan = OperatorPlan {
        name: "GroupAggregateExec",
        text,
        schema: output_schema,
        input_columns: keys.iter().copied().map(Some).chain(std::iter::repeat_n(None, aggregates)).collect(),
        keys,
        make: Arc::new(move |_| Ok(Box::new(FinalGroupAggregateOperator::new(config.clone())?))),
    };
    Ok(Some(Arc::new(OperatorExec::over(plan, input))))
}
