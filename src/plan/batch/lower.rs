//! Own nodes become plain DataFusion plans.
//!
//! | node | where |
//! |---|---|
//! | `WatermarkNode` | it goes |
//! | `LookupJoinNode` | a join with the table as it is |
//! | `WindowTvfNode` | `batch::window_tvf` |
//! | `MatchRecognizeNode` | it stays, over rows that have a time: `batch::match_recognize` |
//! | `SetOperationNode` | `batch::set_operation` |
//! | `UnnestNode` | `batch::unnest` |
//! | an aggregate with a set without keys | `batch::grouping_sets` |

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{Expr, LogicalPlan};

use datafusion::optimizer::AnalyzerRule;

use crate::error::{Error, Result};
use crate::functions::CURRENT_WATERMARK;
use crate::plan::nodes::changelog::ChangelogNode;
use crate::plan::nodes::lookup_join::LookupJoinNode;
use crate::plan::nodes::match_recognize::MatchRecognizeNode;
use crate::plan::nodes::set_operation::SetOperationNode;
use crate::plan::nodes::temporal_join::TemporalJoinNode;
use crate::plan::nodes::unnest::UnnestNode;
use crate::plan::nodes::watermark::WatermarkNode;
use crate::plan::nodes::window_tvf::WindowTvfNode;

use crate::plan::batch::grouping_sets::without_empty_groups;
use crate::plan::batch::match_recognize::over_timed_rows;
use crate::plan::batch::set_operation::lower_set_operation;
use crate::plan::batch::unnest::lower_unnest;
use crate::plan::batch::window_tvf::lower_window;

/// Replaces own nodes by plain ones, and groups that DataFusion adds where no row is.
///
/// # Errors
/// From DataFusion's plan builder.
pub fn lower_to_batch(plan: LogicalPlan) -> Result<LogicalPlan> {
    let lowered = plan.transform_up(|node| {
        if let LogicalPlan::Extension(extension) = &node {
            let any = extension.node.as_any();
            if let Some(watermark) = any.downcast_ref::<WatermarkNode>() {
                return Ok(Transformed::yes(watermark.input.clone()));
            }
            if let Some(lookup) = any.downcast_ref::<LookupJoinNode>() {
                return Ok(Transformed::yes(LogicalPlan::Join(lookup.as_join()?)));
            }
            if any.is::<TemporalJoinNode>() {
                let e =
                    Error::unsupported("a temporal join (FOR SYSTEM_TIME AS OF) does not run in batch mode");
                return Err(e.hint("SET 'execution.runtime-mode' = 'streaming'").into());
            }
            if any.is::<ChangelogNode>() {
                let e = Error::unsupported(format!(
                    "{} does not run in batch mode, where rows have no kinds of changes",
                    if extension.node.name() == "ToChangelog" { "TO_CHANGELOG" } else { "FROM_CHANGELOG" }
                ));
                return Err(e.hint("SET 'execution.runtime-mode' = 'streaming'").into());
            }
            if let Some(window) = any.downcast_ref::<WindowTvfNode>() {
                return Ok(Transformed::yes(lower_window(window)?));
            }
            if let Some(matches) = any.downcast_ref::<MatchRecognizeNode>() {
                return Ok(Transformed::yes(over_timed_rows(matches)?));
            }
        }
        refuse_watermark_calls(&node)?;
        // Nullability below may have changed.
        let node = node.recompute_schema()?;
        if let LogicalPlan::Aggregate(aggregate) = &node
            && let Some(plan) = without_empty_groups(aggregate)?
        {
            return Ok(Transformed::yes(plan));
        }
        Ok(Transformed::yes(node))
    })?;
    Ok(lowered.data)
}

/// In batch nobody knows a watermark.
fn refuse_watermark_calls(node: &LogicalPlan) -> DfResult<()> {
    node.apply_expressions(|e| {
        e.apply(|e| match e {
            Expr::ScalarFunction(f) if f.name() == CURRENT_WATERMARK => Err(Error::validation(
                "The argument of CURRENT_WATERMARK() must be a rowtime attribute, and batch mode has none",
            )
            .hint("SET 'execution.runtime-mode' = 'streaming'")
            .into()),
            _ => Ok(TreeNodeRecursion::Continue),
        })
    })?;
    Ok(())
}

/// Replaces own nodes whose plain plans need settled types: an analyzer rule behind DataFusion's type coercion.
#[derive(Debug)]
pub struct LowerToPlainPlans;

impl AnalyzerRule for LowerToPlainPlans {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> DfResult<LogicalPlan> {
        let lowered = plan.transform_up(|node| {
            if let LogicalPlan::Extension(extension) = &node {
                let any = extension.node.as_any();
                if let Some(operation) = any.downcast_ref::<SetOperationNode>() {
                    return Ok(Transformed::yes(lower_set_operation(operation)?));
                }
                if let Some(unnest) = any.downcast_ref::<UnnestNode>() {
                    return Ok(Transformed::yes(lower_unnest(unnest)?));
                }
            }
            Ok(Transformed::yes(node.recompute_schema()?))
        })?;
        Ok(lowered.data)
    }

    fn name(&self) -> &str {
        "lower_to_plain_plans"
    }
}
