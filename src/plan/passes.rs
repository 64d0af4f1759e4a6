//! Every pass over a query, in its order, for both modes.
//!
//! ```text
//!  ast::Query      1 rewrite_syntax     names of columns, windows of GROUP BY, digits of VALUES, row sub-queries, Flink's calls and literals, set operations
//!                  2 SqlToRel           with the planners of `syntax` for table factors
//!  LogicalPlan       settle_group_windows  (`logical::group_window`), settle_exact_types (`logical::exact_types`)
//!                  3 settle_relations   types of unions, temporal joins, UNNESTs and sub-queries as joins
//!                    (views are leaves until here: `nodes::view`)
//!                  4 settle_grouping_sets
//!                  5 lower_to_batch     batch: watermarks go, windows become plain plans
//!                  6 analyzer_rules     Flink's semantics, DataFusion's type coercion; batch: the other own nodes become plain plans
//!                  7 logical_rules      DataFusion's optimizer without what is wrong or not for streams; long conditions balanced
//!                  8 settle_nullability
//!                  9 prune_unnests      streaming
//!  ExecutionPlan  10 physical_rules     batch: streaming operators where they do without sorts and sets per group, DataFusion's optimizer
//!  StreamGraph    10 `stream::StreamPlanner`: changelog kinds, keys, exchanges
//! ```

use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::analyzer::Analyzer;
use datafusion::optimizer::optimizer::Optimizer;
use datafusion::optimizer::{AnalyzerRule, ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::sql::sqlparser::ast;

use crate::error::{Error, Result};
use crate::functions::{self, FunctionContext};
use crate::plan::batch::distinct::DistinctByState;
use crate::plan::batch::forget_order::ForgetOrder;
use crate::plan::batch::lower::{LowerToPlainPlans, lower_to_batch};
use crate::plan::batch::push_filters::{KnownAggregates, PushConditions, PushDynamicFilters};
use crate::plan::batch::rank::RankByState;
use crate::plan::logical::balance::{BalanceConditions, unanalyzed};
use crate::plan::logical::grouping_sets::settle_grouping_sets;
use crate::plan::logical::join_unnests::{join_unnests, refuse_correlated_unnests};
use crate::plan::logical::lookup_filters::FilterBeforeLookup;
use crate::plan::logical::nullability::settle_nullability;
use crate::plan::logical::prune_unnests::prune_unnests;
use crate::plan::logical::push_filters::PushFilters;
use crate::plan::logical::subquery::join_subqueries;
use crate::plan::logical::temporal_join::settle_temporal_joins;
use crate::plan::logical::union_types::settle_union_types;
use crate::plan::logical::unnest_keys::EndKeysAtUnnest;
use crate::plan::syntax::group_window::rewrite_group_windows;
use crate::plan::syntax::row_subquery::rewrite_row_subqueries;
use crate::plan::syntax::select_names::name_columns;
use crate::plan::syntax::set_operation::rewrite_set_operations;
use crate::plan::syntax::values::settle_values;

/// The tree of a query as `SqlToRel` understands it.
///
/// # Errors
/// Validation for calls that Flink refuses.
pub fn rewrite_syntax(query: &mut ast::Query) -> Result<()> {
    name_columns(query);
    rewrite_group_windows(query)?;
    settle_values(query);
    rewrite_row_subqueries(query);
    functions::rewrite_query_ast(query)?;
    rewrite_set_operations(query);
    Ok(())
}

/// A plan of joins, without sub-queries, with the types of its unions.
///
/// # Errors
/// Validation or Unsupported for relations that cannot be.
pub fn settle_relations(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = settle_temporal_joins(settle_union_types(plan)?)?;
    let plan = join_subqueries(join_unnests(plan)?)?;
    refuse_correlated_unnests(&plan)?;
    Ok(plan)
}

/// Analyzes and optimizes with the rules of `state`: [`analyzer_rules`] and [`logical_rules`].
///
/// # Errors
/// Validation for type clashes.
pub fn optimize(plan: &LogicalPlan, state: &SessionState, batch: bool) -> Result<LogicalPlan> {
    let plan = settle_grouping_sets(plan.clone())?;
    let plan = if batch { lower_to_batch(plan)? } else { plan };
    let optimized = settle_nullability(state.optimize(&plan)?)?;
    if optimized.exists(|p| Ok(matches!(p, LogicalPlan::Subquery(_))))? {
        return Err(Error::unsupported("a LATERAL sub-query that cannot be made a join is not supported")
            .hint("relate it to the tables before it by conditions of its WHERE, or write a join"));
    }
    if batch { Ok(unanalyzed(optimized)?) } else { prune_unnests(optimized) }
}

/// Flink's semantics, then DataFusion's own rules.
pub fn analyzer_rules(functions: &FunctionContext, batch: bool) -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    // Before DataFusion's type coercion, so that only casts the user wrote are seen.
    let mut rules = functions::analyzer_rules(functions);
    rules.extend(Analyzer::new().rules);
    if batch {
        rules.push(Arc::new(LowerToPlainPlans));
    }
    rules
}

/// Rules that change the shape of a plan in ways the streaming lowering does not want: distinct aggregates stay
/// aggregates, and limits are not pushed into sources that never end.
const NOT_IN_STREAMS: &[&str] = &["single_distinct_aggregation_to_group_by", "push_down_limit"];

/// Rules of neither mode. The leaf rules move field accesses below renaming projections, where a field and a column of one
/// name collide (`bid.auction` beside a row `auction`); sources learn what is read of a row from `plan::nested`. Without its
/// constant keys an aggregate has a row where there are none: `COUNT(*) … GROUP BY 'x'` over no rows has none.
const NOT_USED: &[&str] =
    &["eliminate_group_by_constant", "extract_leaf_expressions", "push_down_leaf_projections"];

/// Rules that drop parts of a plan because of functional dependencies.
const USES_KEYS: &[&str] = &["optimize_projections", "replace_distinct_aggregate"];

/// Rules that put conditions together, as deep as they are long.
const MAKES_CONDITIONS: &[&str] = &["extract_equijoin_predicate", "push_down_filter"];

/// DataFusion's rules for logical plans, as far as they are used, and own ones.
pub fn logical_rules(batch: bool) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = Vec::new();
    for rule in Optimizer::new().rules {
        let name = rule.name().to_owned();
        if NOT_USED.contains(&name.as_str()) || (!batch && NOT_IN_STREAMS.contains(&name.as_str())) {
            continue;
        }
        if batch && USES_KEYS.contains(&name.as_str()) {
            rules.push(Arc::new(EndKeysAtUnnest));
        }
        if !batch && name == "push_down_filter" {
            rules.push(Arc::new(FilterBeforeLookup));
        }
        rules.push(match name.as_str() {
            "common_sub_expression_eliminate" => Arc::new(IfItCan(rule)),
            "push_down_filter" => Arc::new(PushFilters(rule)),
            _ => rule,
        });
        if MAKES_CONDITIONS.contains(&name.as_str()) {
            rules.push(Arc::new(BalanceConditions));
        }
    }
    rules.into_iter().map(node_by_node).collect()
}

fn node_by_node(rule: Arc<dyn OptimizerRule + Send + Sync>) -> Arc<dyn OptimizerRule + Send + Sync> {
    match rule.apply_order() {
        Some(order) => Arc::new(NodeByNode { rule, order }),
        None => rule,
    }
}

/// DataFusion's rules for batch plans behind our own, those that give wrong rows for some shapes kept from these.
pub fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> =
        vec![Arc::new(ForgetOrder), Arc::new(RankByState), Arc::new(DistinctByState)];
    for rule in PhysicalOptimizer::new().rules {
        // Run once more behind LimitPushdown, it loses the limit of a VALUES whose columns it cuts.
        if rule.name() == "ProjectionPushdown" && rules.iter().any(|r| r.name() == rule.name()) {
            continue;
        }
        rules.push(match rule.name() {
            "FilterPushdown" => Arc::new(PushConditions),
            "FilterPushdown(Post)" => Arc::new(PushDynamicFilters(rule)),
            "aggregate_statistics" => Arc::new(KnownAggregates(rule)),
            _ => rule,
        });
    }
    rules
}

/// A rule for single nodes, on each node of a plan. Left to itself, the optimizer also looks for sub-queries in every
/// expression, for every rule: a fifth of the time of a query with thousands of terms, of which none has a sub-query by now.
#[derive(Debug)]
struct NodeByNode {
    rule: Arc<dyn OptimizerRule + Send + Sync>,
    order: ApplyOrder,
}

impl OptimizerRule for NodeByNode {
    fn name(&self) -> &str {
        self.rule.name()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        match self.order {
            ApplyOrder::TopDown => plan.transform_down(|node| self.rule.rewrite(node, config)),
            ApplyOrder::BottomUp => plan.transform_up(|node| self.rule.rewrite(node, config)),
        }
    }
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
