//! Batch: keys that UNNEST ends.
//!
//! A key of the rows below an Unnest no longer tells the rows above it apart: `GROUP BY k` makes `k` determine all columns, but
//! not an element of an array in that row. DataFusion keeps the key as it is, and drops the element from the
//! GROUP BY of a second aggregate above.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, FunctionalDependencies, Result as DfResult};
use datafusion::logical_expr::{LogicalPlan, Unnest};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// Takes functional dependencies from unnested rows; has to run before every rule that uses them.
#[derive(Debug)]
pub struct EndKeysAtUnnest;

impl OptimizerRule for EndKeysAtUnnest {
    fn name(&self) -> &str {
        "end_keys_at_unnest"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        None
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> DfResult<Transformed<LogicalPlan>> {
        if !plan.exists(|p| Ok(matches!(p, LogicalPlan::Unnest(_))))? {
            return Ok(Transformed::no(plan));
        }
        let ended = plan.transform_up(|node| {
            let LogicalPlan::Unnest(unnest) = node else {
                return Ok(Transformed::yes(node.recompute_schema()?));
            };
            let schema = DFSchema::clone(&unnest.schema)
                .with_functional_dependencies(FunctionalDependencies::empty())?;
            Ok(Transformed::yes(LogicalPlan::Unnest(Unnest { schema: Arc::new(schema), ..unnest })))
        })?;
        // Nothing that other rules have to look at again.
        Ok(Transformed::no(ended.data))
    }
}
