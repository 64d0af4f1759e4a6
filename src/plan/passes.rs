//! Which of DataFusion's optimizer rules run, and own ones between them.

use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::optimizer::Optimizer;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

use crate::plan::batch::forget_order::ForgetOrder;
use crate::plan::logical::unnest_keys::EndKeysAtUnnest;

/// Rules that change the shape of a plan in ways the streaming lowering does not want: distinct aggregates stay
/// aggregates, and limits are not pushed into sources that never end.
const NOT_IN_STREAMS: &[&str] = &["single_distinct_aggregation_to_group_by", "push_down_limit"];

/// Rules of neither mode: they move field accesses below renaming projections, where a field and a column of one name
/// collide (`bid.auction` beside a row `auction`). Sources learn what is read of a row from `plan::nested`.
const NOT_USED: &[&str] = &["extract_leaf_expressions", "push_down_leaf_projections"];

/// Rules that drop parts of a plan because of functional dependencies.
const USES_KEYS: &[&str] = &["optimize_projections", "replace_distinct_aggregate"];

/// DataFusion's rules for logical plans, as far as they are used, and own ones.
pub fn logical_rules(batch: bool) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = Vec::new();
    for rule in Optimizer::new().rules {
        if NOT_USED.contains(&rule.name()) || (!batch && NOT_IN_STREAMS.contains(&rule.name())) {
            continue;
        }
        if batch && USES_KEYS.contains(&rule.name()) {
            rules.push(Arc::new(EndKeysAtUnnest));
        }
        rules.push(if rule.name() == "common_sub_expression_eliminate" {
            Arc::new(IfItCan(rule))
        } else {
            rule
        });
    }
    rules
}

/// Rules that physical plans do without. `FilterPushdown` pushes a condition on one side of an outer join to the other one that
/// has a column of that name; sources get their filters from the logical plan. `aggregate_statistics` refuses plans whose
/// aggregates were renamed; no source here knows counts before it is read.
const NOT_IN_BATCH: &[&str] = &["FilterPushdown", "FilterPushdown(Post)", "aggregate_statistics"];

/// DataFusion's rules for batch plans, without those that give wrong rows.
pub fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> = vec![Arc::new(ForgetOrder)];
    for rule in PhysicalOptimizer::new().rules {
        // Run once more behind LimitPushdown, it loses the limit of a VALUES whose columns it cuts.
        let again = rule.name() == "ProjectionPushdown" && rules.iter().any(|r| r.name() == rule.name());
        if !again && !NOT_IN_BATCH.contains(&rule.name()) {
            rules.push(rule);
        }
    }
    rules
}

/// A rule over a whole plan that some plans have to do without: where one aggregate is written twice over grouping sets, the
/// elimination of common expressions loses the id of the set and fails.
#[derive(Debug)]
struct IfItCan(Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for IfItCan {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        let before = plan.clone();
        Ok(self.0.rewrite(plan, config).unwrap_or_else(|_| Transformed::no(before)))
    }
}
