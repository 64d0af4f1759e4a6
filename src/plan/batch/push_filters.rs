//! Batch: DataFusion's push-down of filters in physical plans, kept from the shapes where it gives wrong rows.
//!
//! ```text
//!  join, top-N ─► what the rows of the other side, or the rows so far, ask for ─► … ─► scan, which leaves out row groups
//!                                    FenceExec: not further ─┘
//! ```
//!
//! DataFusion finds columns again by name where a filter passes a node. Fences stand, while it works, where
//!
//! | shape | what went wrong |
//! |---|---|
//! | rows with two columns of one name | the condition of one is put on the other |
//! | the side of a semi join that is only asked, with a column named like a key of the other side | likewise |
//! | the side of an anti join that is only asked | the condition is put there alone |
//! | keys that are equal when NULL, and NOT IN | NULLs are left out |
//! | keys and orders of floats | bounds know no NaN |
//! | a key of GROUP BY named like another column below, no GROUP BY at all | the condition is put on a column that is not the key |
//! | limits | rows are left out before they are counted |
//!
//! Conditions of WHERE have been pushed down in the logical plan: of them only those right above a scan are told to it.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, NullEquality, Result as DfResult, Statistics, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::split_conjunction;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::filter_pushdown::PushedDown;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// Tells scans of the conditions right above them, which they may use to read less. DataFusion's own rule takes all
/// conditions apart and puts them together again, as deep as they are many.
#[derive(Debug)]
pub struct PushConditions;

/// Expressions of a condition that are told at most: no statistics answer thousands of questions.
const MOST_EXPRESSIONS: usize = 500;

impl PhysicalOptimizerRule for PushConditions {
    fn optimize(&self, plan: Node, config: &ConfigOptions) -> DfResult<Node> {
        plan.transform_up(|node| {
            let Some(filter) = node.downcast_ref::<FilterExec>() else { return Ok(Transformed::no(node)) };
            let Some(scan) = filter.input().downcast_ref::<DataSourceExec>() else {
                return Ok(Transformed::no(node));
            };
            let mut expressions = 0;
            filter.predicate().apply(|_| {
                expressions += 1;
                let is_long = expressions > MOST_EXPRESSIONS;
                Ok(if is_long { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })?;
            if expressions > MOST_EXPRESSIONS {
                return Ok(Transformed::no(node));
            }
            let conditions = split_conjunction(filter.predicate()).into_iter().cloned().collect();
            let told = scan.data_source().try_pushdown_filters(conditions, config)?;
            // A source that would do the filtering by itself is not asked to: the filter stays.
            let asked = told.filters.iter().all(|pushed| matches!(pushed, PushedDown::No));
            match told.updated_node {
                Some(source) if asked => {
                    let scan: Node = Arc::new(DataSourceExec::new(source));
                    Ok(Transformed::yes(node.with_new_children(vec![scan])?))
                }
                _ => Ok(Transformed::no(node)),
            }
        })
        .data()
    }

    fn name(&self) -> &str {
        "push_conditions"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// DataFusion's rule for filters that become known while a plan runs, with fences around it.
#[derive(Debug)]
pub struct PushDynamicFilters(pub Arc<dyn PhysicalOptimizerRule + Send + Sync>);

type Node = Arc<dyn ExecutionPlan>;

impl PhysicalOptimizerRule for PushDynamicFilters {
    fn optimize(&self, plan: Node, config: &ConfigOptions) -> DfResult<Node> {
        let fenced = plan.transform_up(|node| {
            let fences = fences(&node);
            if !fences.contains(&true) {
                return Ok(Transformed::no(node));
            }
            let inputs = node.children().into_iter().zip(fences);
            let inputs = inputs.map(|(input, fence)| {
                let input = Arc::clone(input);
                if fence { Arc::new(FenceExec { input }) } else { input }
            });
            let inputs = inputs.collect();
            Ok(Transformed::yes(node.with_new_children(inputs)?))
        });
        let pushed = self.0.optimize(fenced.data()?, config)?;
        pushed
            .transform_up(|node| match node.downcast_ref::<FenceExec>() {
                Some(fence) => Ok(Transformed::yes(Arc::clone(&fence.input))),
                None => Ok(Transformed::no(node)),
            })
            .data()
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Before which inputs of a node fences have to stand.
fn fences(node: &Node) -> Vec<bool> {
    let inputs = node.children();
    let mut fences: Vec<bool> = inputs.iter().map(|i| has_twins(&i.schema())).collect();
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        for (fence, more) in fences.iter_mut().zip(fences_of_join(join)) {
            *fence |= more;
        }
    }
    let fence_all = if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        !keeps_key_names(aggregate) || node.fetch().is_some() || aggregate.limit_options().is_some()
    } else if let Some(sort) = node.downcast_ref::<SortExec>() {
        let schema = sort.input().schema();
        sort.expr().iter().any(|e| !e.expr.data_type(&schema).is_ok_and(|t| has_bounds(&t)))
    } else {
        node.fetch().is_some()
    };
    if fence_all {
        fences.fill(true);
    }
    fences
}

fn has_twins(schema: &Schema) -> bool {
    let mut names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| matches!(pair, [a, b] if a == b))
}

/// Whether all values of a type that are not NULL lie between their least and their greatest one.
fn has_bounds(ty: &DataType) -> bool {
    ty.is_integer()
        || matches!(
            ty,
            DataType::Boolean
                | DataType::Utf8
                | DataType::Binary
                | DataType::Date32
                | DataType::Time32(_)
                | DataType::Decimal128(..)
                | DataType::Timestamp(..)
        )
}

fn fences_of_join(join: &HashJoinExec) -> [bool; 2] {
    let schema = join.right().schema();
    let is_bounded = join.null_equality() == NullEquality::NullEqualsNothing
        && !join.null_aware
        && join.on().iter().all(|(_, key)| key.data_type(&schema).is_ok_and(|t| has_bounds(&t)));
    let [left, right] = match join.join_type() {
        JoinType::LeftAnti => [false, true],
        JoinType::RightAnti => [true, false],
        JoinType::LeftSemi => {
            let pairs = join.on().iter().map(|(kept, asked)| (kept, asked));
            [false, is_mistaken(pairs, &join.right().schema())]
        }
        JoinType::RightSemi => {
            let pairs = join.on().iter().map(|(asked, kept)| (kept, asked));
            [is_mistaken(pairs, &join.left().schema()), false]
        }
        _ => [false, false],
    };
    [left, right || !is_bounded]
}

type Key = Arc<dyn datafusion::physical_expr::PhysicalExpr>;

/// Whether the side that is asked has a column with the name of a key of the other side that is not the key itself.
fn is_mistaken<'a>(mut pairs: impl Iterator<Item = (&'a Key, &'a Key)>, asked: &Schema) -> bool {
    pairs.any(|(kept, key)| {
        let Some(kept) = kept.downcast_ref::<Column>() else { return false };
        let is_key = key.downcast_ref::<Column>().is_some_and(|key| key.name() == kept.name());
        !is_key && asked.column_with_name(kept.name()).is_some()
    })
}

/// Whether the keys of an aggregate are columns that keep their names.
fn keeps_key_names(aggregate: &AggregateExec) -> bool {
    let keys = aggregate.group_expr();
    let schema = aggregate.schema();
    !keys.is_empty()
        && !keys.has_grouping_set()
        && keys.expr().iter().zip(schema.fields()).all(|((key, _), field)| {
            key.downcast_ref::<Column>().is_some_and(|column| column.name() == field.name())
        })
}

/// The rows of its input; no filter passes.
#[derive(Debug)]
struct FenceExec {
    input: Node,
}

impl DisplayAs for FenceExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for FenceExec {
    fn name(&self) -> &str {
        "FenceExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Node> {
        vec![&self.input]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Node>) -> DfResult<Node> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(FenceExec { input })),
            Err(children) => internal_err!("FenceExec over {} inputs", children.len()),
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

/// `COUNT(*)` and the like from what a scan knows of its rows. Where DataFusion's rule changes what the plan gives, the plan
/// stays as it is. So it does where a value is asked for: a page that cannot be read is an error, whatever the footer says
/// of it.
#[derive(Debug)]
pub struct KnownAggregates(pub Arc<dyn PhysicalOptimizerRule + Send + Sync>);

/// Whether an aggregate without groups is more than a count.
fn asks_for_values(plan: &Node) -> bool {
    let own = plan.downcast_ref::<AggregateExec>().is_some_and(|aggregate| {
        aggregate.group_expr().is_empty() && aggregate.aggr_expr().iter().any(|f| f.fun().name() != "count")
    });
    own || plan.children().into_iter().any(asks_for_values)
}

impl PhysicalOptimizerRule for KnownAggregates {
    fn optimize(&self, plan: Node, config: &ConfigOptions) -> DfResult<Node> {
        if asks_for_values(&plan) {
            return Ok(plan);
        }
        let Ok(known) = self.0.optimize(Arc::clone(&plan), config) else { return Ok(plan) };
        let (before, after) = (plan.schema(), known.schema());
        let same = before.fields().len() == after.fields().len()
            && before.fields().iter().zip(after.fields()).all(|(a, b)| {
                a.name() == b.name()
                    && a.data_type() == b.data_type()
                    && (a.is_nullable() || !b.is_nullable())
            });
        Ok(if same { known } else { plan })
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}
