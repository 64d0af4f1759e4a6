//! Which columns can be NULL once the optimizer has done its work.
//!
//! A plan's UNION keeps the schema it was made with, also when a scalar sub-query below it has become an outer join. A
//! stream then meets NULLs, until the other side has come, in columns that have none; batch refuses the plan where an
//! aggregate of the union finds another schema than it was told.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result as DfResult};
use datafusion::logical_expr::{LogicalPlan, Union};

use crate::error::Result;

/// The plan with every schema as its inputs now are.
///
/// # Errors
/// From DataFusion, if a schema cannot be made again.
pub fn settle_nullability(plan: LogicalPlan) -> Result<LogicalPlan> {
    let settled = plan.transform_up(|node| {
        Ok(Transformed::yes(match node {
            LogicalPlan::Union(union) => settle_union(union)?,
            node => node.recompute_schema()?,
        }))
    })?;
    Ok(settled.data)
}

/// The union with columns that can be NULL where those of an input can.
pub(super) fn settle_union(union: Union) -> DfResult<LogicalPlan> {
    let Union { inputs, schema } = union;
    let fields = schema
        .iter()
        .enumerate()
        .map(|(i, (qualifier, field))| {
            let nullable = field.is_nullable() || inputs.iter().any(|p| p.schema().field(i).is_nullable());
            (qualifier.cloned(), Arc::new(field.as_ref().clone().with_nullable(nullable)))
        })
        .collect();
    let schema = Arc::new(DFSchema::new_with_metadata(fields, schema.metadata().clone())?);
    Ok(LogicalPlan::Union(Union { inputs, schema }))
}
